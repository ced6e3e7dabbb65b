// SPDX-License-Identifier: Apache-2.0
#include "src/coap/option_rules.h"

#include <array>

#include "src/base/strings.h"

namespace waxvm::coap {
namespace {

struct Definition {
  OptionNumber number;
  std::uint16_t min_bytes;
  std::uint16_t max_bytes;
  OptionFormat format;
  bool repeatable;
};

constexpr Definition kDefinitions[] = {
    {OptionNumber::kIfMatch, 0, 8, OptionFormat::kOpaque, true},
    {OptionNumber::kUriHost, 1, 255, OptionFormat::kString, false},
    {OptionNumber::kETag, 1, 8, OptionFormat::kOpaque, true},
    {OptionNumber::kIfNoneMatch, 0, 0, OptionFormat::kEmpty, false},
    {OptionNumber::kObserve, 0, 3, OptionFormat::kUint, false},
    {OptionNumber::kUriPort, 0, 2, OptionFormat::kUint, false},
    {OptionNumber::kLocationPath, 0, 255, OptionFormat::kString, true},
    {OptionNumber::kOscore, 0, 255, OptionFormat::kOpaque, false},
    {OptionNumber::kUriPath, 0, 255, OptionFormat::kString, true},
    {OptionNumber::kContentFormat, 0, 2, OptionFormat::kUint, false},
    {OptionNumber::kMaxAge, 0, 4, OptionFormat::kUint, false},
    {OptionNumber::kUriQuery, 0, 255, OptionFormat::kString, true},
    {OptionNumber::kHopLimit, 1, 1, OptionFormat::kUint, false},
    {OptionNumber::kAccept, 0, 2, OptionFormat::kUint, false},
    {OptionNumber::kQBlock1, 0, 3, OptionFormat::kUint, false},
    {OptionNumber::kLocationQuery, 0, 255, OptionFormat::kString, true},
    {OptionNumber::kBlock2, 0, 3, OptionFormat::kUint, false},
    {OptionNumber::kBlock1, 0, 3, OptionFormat::kUint, false},
    {OptionNumber::kSize2, 0, 4, OptionFormat::kUint, false},
    {OptionNumber::kQBlock2, 0, 3, OptionFormat::kUint, true},
    {OptionNumber::kProxyUri, 1, 1034, OptionFormat::kString, false},
    {OptionNumber::kProxyScheme, 1, 255, OptionFormat::kString, false},
    {OptionNumber::kSize1, 0, 4, OptionFormat::kUint, false},
    {OptionNumber::kEcho, 1, 40, OptionFormat::kOpaque, false},
    {OptionNumber::kNoResponse, 0, 1, OptionFormat::kUint, false},
    {OptionNumber::kRequestTag, 0, 8, OptionFormat::kOpaque, true},
};

constexpr OptionRule RuleFrom(const Definition& definition) {
  return {definition.min_bytes, definition.max_bytes, definition.format, definition.repeatable,
          true};
}

/// The rules of numbers below 64, which are asked for with every message.
constexpr std::array<OptionRule, 64> MakeLowRules() {
  std::array<OptionRule, 64> rules{};
  for (const Definition& definition : kDefinitions) {
    const auto number = static_cast<std::size_t>(definition.number);
    if (number < rules.size()) rules[number] = RuleFrom(definition);
  }
  return rules;
}
constexpr std::array<OptionRule, 64> kLowRules = MakeLowRules();

constexpr std::uint64_t Bit(OptionNumber number) {
  return std::uint64_t{1} << static_cast<unsigned>(number);
}

constexpr std::uint64_t Understood() {
  std::uint64_t bits = 0;
  for (std::size_t number = 0; number < kLowRules.size(); ++number)
    if (kLowRules[number].defined) bits |= std::uint64_t{1} << number;
  return bits &
         ~(Bit(OptionNumber::kOscore) | Bit(OptionNumber::kQBlock1) | Bit(OptionNumber::kQBlock2));
}

constexpr std::uint64_t kCriticalBits = 0xaaaaaaaaaaaaaaaau;

bool IsLegal(const OptionRule& rule, std::size_t bytes) {
  return !rule.defined || (bytes >= rule.min_bytes && bytes <= rule.max_bytes);
}

OptionFault FaultOf(const OptionView& option, bool repeated, std::uint64_t understood) {
  const auto number = static_cast<unsigned>(option.number);
  if (number >= 64 || (understood >> number & 1) == 0) return OptionFault::kUnrecognized;
  const OptionRule& rule = kLowRules[number];
  if (!IsLegal(rule, option.value.size())) return OptionFault::kLength;
  if (repeated && rule.defined && !rule.repeatable) return OptionFault::kRepeated;
  // Attack: a path out of the folder that a server serves.
  if (option.number == OptionNumber::kUriPath && (option.text() == "." || option.text() == ".."))
    return OptionFault::kDotSegment;
  return OptionFault::kNone;
}

}  // namespace

const std::uint64_t kUnderstoodOptions = Understood();

OptionRule RuleOf(OptionNumber number) {
  if (static_cast<unsigned>(number) < kLowRules.size())
    return kLowRules[static_cast<unsigned>(number)];
  for (const Definition& definition : kDefinitions)
    if (definition.number == number) return RuleFrom(definition);
  return {};
}

bool OptionView::HasLegalLength() const { return IsLegal(RuleOf(number), value.size()); }

std::string OptionCheck::ToText() const {
  static constexpr const char* kWhat[] = {"is well", "is not understood", "has a wrong length",
                                          "is there more than once", "is a dot segment"};
  const std::string_view name = NameOf(number);
  return absl::StrFormat("option %d%s%s%s %s", static_cast<int>(number), name.empty() ? "" : " (",
                         name, name.empty() ? "" : ")", kWhat[static_cast<std::size_t>(fault)]);
}

OptionCheck CheckOptions(const MessageView& message, std::uint64_t understood) {
  // Most messages have no critical option, or only one.
  if ((message.present() & kCriticalBits) == 0 && !message.has_high_critical()) return {};
  OptionNumber last{};
  bool first = true;
  for (const OptionView& option : message.options()) {
    const bool repeated = !first && option.number == last;
    first = false;
    last = option.number;
    if (!IsCritical(option.number)) continue;
    const OptionFault fault = FaultOf(option, repeated, understood);
    if (fault != OptionFault::kNone) return {fault, option.number};
  }
  return {};
}

Hop NextHop(std::optional<std::uint32_t> hop_limit) {
  constexpr std::uint8_t kDefault = 16;
  if (!hop_limit) return {Code::kEmpty, kDefault};
  if (*hop_limit == 0 || *hop_limit > 255) return {Code::kBadRequest, 0};
  if (*hop_limit == 1) return {Code::kHopLimitReached, 0};
  return {Code::kEmpty, static_cast<std::uint8_t>(*hop_limit - 1)};
}

}  // namespace waxvm::coap
