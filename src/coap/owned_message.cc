// SPDX-License-Identifier: Apache-2.0
#include "waxvm/coap_owned_message.h"

#include "src/base/status.h"
#include "src/coap/message.h"
#include "src/coap/option_rules.h"

namespace waxvm::coap {
namespace {

/// Appends one option to `encoded`, the last of which has number `last`. A value that no message
/// can hold is cut to the longest that one can, which Check refuses.
void Append(std::string& encoded, std::uint32_t& last, OptionNumber number,
            std::string_view value) {
  value = value.substr(0, kMaxOptionBytes);
  std::byte head[5];
  std::byte* at = head + 1;
  const std::uint32_t delta = PutExtended(static_cast<std::uint32_t>(number) - last, at);
  const std::uint32_t length = PutExtended(value.size(), at);
  head[0] = static_cast<std::byte>(delta << 4 | length);
  encoded += ToText(Bytes(head, at));
  encoded += value;
  last = static_cast<std::uint32_t>(number);
}

/// The options of `encoded` with `value` put after those of its number; `instead` of them.
std::string With(const std::string& encoded, OptionNumber number, const std::string_view* value,
                 bool instead) {
  std::string result;
  result.reserve(encoded.size() + 5 + (value != nullptr ? value->size() : 0));
  std::uint32_t last = 0;
  bool placed = value == nullptr;
  for (const OptionView& option : OptionsView(ToBytes(encoded))) {
    if (!placed && option.number > number) {
      Append(result, last, number, *value);
      placed = true;
    }
    if (instead && option.number == number) continue;
    Append(result, last, option.number, option.text());
  }
  if (!placed) Append(result, last, number, *value);
  return result;
}

/// `add` for each segment of "/a/b".
template <typename Add>
void ForEachSegment(std::string_view path, Add&& add) {
  if (path.starts_with('/')) path.remove_prefix(1);
  if (path.empty()) return;
  while (true) {
    const std::size_t slash = path.find('/');
    add(path.substr(0, slash));
    if (slash == path.npos) return;
    path.remove_prefix(slash + 1);
  }
}

}  // namespace

Message Message::From(const MessageView& view) {
  Message message(view.code(), std::string(ToText(view.payload())));
  message.options_ = ToText(view.options().encoded());
  return message;
}

Message& Message::SetCode(Code code) {
  code_ = code;
  return *this;
}

Message& Message::SetPayload(std::string payload) {
  payload_ = std::move(payload);
  return *this;
}

Message& Message::SetPayload(ContentFormat format, std::string payload) {
  return SetContentFormat(format).SetPayload(std::move(payload));
}

Message& Message::Set(OptionNumber number, std::string_view value) {
  options_ = With(options_, number, &value, true);
  return *this;
}

Message& Message::SetUint(OptionNumber number, std::uint64_t value) {
  char bytes[8];
  std::size_t begin = sizeof bytes;
  for (; value != 0; value >>= 8) bytes[--begin] = static_cast<char>(value & 0xff);
  return Set(number, std::string_view(bytes, sizeof bytes).substr(begin));
}

Message& Message::Add(OptionNumber number, std::string_view value) {
  options_ = With(options_, number, &value, false);
  return *this;
}

Message& Message::Remove(OptionNumber number) {
  options_ = With(options_, number, nullptr, true);
  return *this;
}

Message& Message::SetPath(std::string_view path) {
  Remove(OptionNumber::kUriPath);
  ForEachSegment(path, [&](std::string_view segment) { Add(OptionNumber::kUriPath, segment); });
  return *this;
}

Message& Message::SetLocation(std::string_view path) {
  Remove(OptionNumber::kLocationPath);
  ForEachSegment(path,
                 [&](std::string_view segment) { Add(OptionNumber::kLocationPath, segment); });
  return *this;
}

Message& Message::SetContentFormat(ContentFormat format) {
  return SetUint(OptionNumber::kContentFormat, static_cast<std::uint16_t>(format));
}

Message& Message::SetAccept(ContentFormat format) {
  return SetUint(OptionNumber::kAccept, static_cast<std::uint16_t>(format));
}

Message& Message::SetObserve(std::uint32_t value) {
  return SetUint(OptionNumber::kObserve, value & 0xffffff);
}

absl::Status Message::Check() const {
  OptionNumber last{};
  for (const OptionView& option : options()) {
    OptionFault fault = OptionFault::kNone;
    const OptionRule rule = RuleOf(option.number);
    // Responses have one ETag. Spec: RFC 7252 section 5.10.6.1.
    const bool once =
        !rule.repeatable || (option.number == OptionNumber::kETag && IsResponse(code_));
    if (!option.HasLegalLength() || option.value.size() == kMaxOptionBytes)
      fault = OptionFault::kLength;
    else if (rule.defined && once && option.number == last)
      fault = OptionFault::kRepeated;
    else if ((option.number == OptionNumber::kUriPath ||
              option.number == OptionNumber::kLocationPath) &&
             (option.text() == "." || option.text() == ".."))
      fault = OptionFault::kDotSegment;
    if (fault != OptionFault::kNone)
      return InvalidArgument("%s", OptionCheck{fault, option.number}.ToText());
    last = option.number;
  }
  return absl::OkStatus();
}

void Message::WriteTo(MessageWriter& writer) const {
  writer.Options(options());
  writer.Payload(ToBytes(payload_));
}

}  // namespace waxvm::coap
