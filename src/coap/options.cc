// SPDX-License-Identifier: Apache-2.0
#include "waxvm/coap_options.h"

#include "src/coap/message.h"

namespace waxvm::coap {

std::optional<std::uint64_t> OptionView::AsUint() const {
  if (value.size() > 8) return std::nullopt;
  std::uint64_t sum = 0;
  for (const std::byte b : value) sum = sum << 8 | static_cast<std::uint64_t>(b);
  return sum;
}

OptionsView::Iterator& OptionsView::Iterator::operator++() {
  auto number = static_cast<std::uint32_t>(option_.number);
  const std::byte* value = nullptr;
  std::uint32_t length = 0;
  if (at_ == end_ || !TakeOption(at_, end_, number, value, length)) {
    done_ = true;
    return *this;
  }
  option_ = {static_cast<OptionNumber>(number), Bytes(value, length)};
  return *this;
}

std::optional<OptionView> OptionsView::Find(OptionNumber number) const {
  for (const OptionView& option : *this) {
    if (option.number > number) break;
    if (option.number == number && option.HasLegalLength()) return option;
  }
  return std::nullopt;
}

std::optional<std::string_view> OptionsView::Text(OptionNumber number) const {
  const std::optional<OptionView> option = Find(number);
  if (!option) return std::nullopt;
  return option->text();
}

std::optional<std::uint32_t> OptionsView::Uint(OptionNumber number) const {
  const std::optional<OptionView> option = Find(number);
  if (!option || option->value.size() > 4) return std::nullopt;
  return static_cast<std::uint32_t>(*option->AsUint());
}

std::optional<Block> OptionsView::BlockOf(OptionNumber number) const {
  const std::optional<std::uint32_t> value = Uint(number);
  if (!value) return std::nullopt;
  return Block::FromUint(*value);
}

std::optional<std::uint16_t> OptionsView::uri_port() const {
  const std::optional<std::uint32_t> value = Uint(OptionNumber::kUriPort);
  if (!value) return std::nullopt;
  return static_cast<std::uint16_t>(*value);
}

std::optional<ContentFormat> OptionsView::content_format() const {
  const std::optional<std::uint32_t> value = Uint(OptionNumber::kContentFormat);
  if (!value) return std::nullopt;
  return static_cast<ContentFormat>(*value);
}

std::optional<ContentFormat> OptionsView::accept() const {
  const std::optional<std::uint32_t> value = Uint(OptionNumber::kAccept);
  if (!value) return std::nullopt;
  return static_cast<ContentFormat>(*value);
}

bool OptionsView::PathIs(std::string_view path) const {
  if (path == "/") path = {};
  for (const OptionView& option : *this) {
    if (option.number > OptionNumber::kUriPath) break;
    if (option.number != OptionNumber::kUriPath) continue;
    const std::string_view segment = option.text();
    if (path.empty() || path.front() != '/') return false;
    path.remove_prefix(1);
    if (!path.starts_with(segment)) return false;
    path.remove_prefix(segment.size());
    // A slash inside of a segment parts nothing.
    if (segment.find('/') != segment.npos) return false;
  }
  return path.empty();
}

}  // namespace waxvm::coap
