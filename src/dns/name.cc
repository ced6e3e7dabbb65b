// SPDX-License-Identifier: Apache-2.0
#include "src/dns/name.h"

#include <algorithm>

#include "src/base/status.h"

namespace waxvm::dns {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

/// What zone files give a meaning of their own.
constexpr std::string_view kSpecial = ".;()\\\"@$";

}  // namespace

bool EqualIgnoringCase(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(),
                    [](std::uint8_t x, std::uint8_t y) { return Lower(x) == Lower(y); });
}

std::optional<std::uint8_t> TakeCharacter(std::string_view& text) {
  if (text.empty()) return std::nullopt;
  const char first = text.front();
  text.remove_prefix(1);
  if (first != '\\') return static_cast<std::uint8_t>(first);
  if (text.empty()) return std::nullopt;
  if (!IsDigit(text[0])) {
    const char escaped = text.front();
    text.remove_prefix(1);
    return static_cast<std::uint8_t>(escaped);
  }
  if (text.size() < 3 || !IsDigit(text[1]) || !IsDigit(text[2])) return std::nullopt;
  const int value = (text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0');
  text.remove_prefix(3);
  if (value > 255) return std::nullopt;
  return static_cast<std::uint8_t>(value);
}

bool Name::Append(std::span<const std::uint8_t> label) {
  if (label.empty() || label.size() > kMaxLabelBytes || size_ + 1 + label.size() > kMaxNameBytes)
    return false;
  bytes_[size_ - 1u] = static_cast<std::uint8_t>(label.size());
  std::copy(label.begin(), label.end(), bytes_.begin() + size_);
  size_ = static_cast<std::uint8_t>(size_ + 1 + label.size());
  bytes_[size_ - 1u] = 0;
  return true;
}

absl::StatusOr<Name> Name::FromText(std::string_view text, const Name& origin) {
  if (text == "@") return origin;
  Name name;
  if (text == ".") return name;
  if (text.empty()) return InvalidArgument("a name is empty");
  const auto refuse = [whole = text](std::string_view why) {
    return InvalidArgument("the name '%s' %s", whole.substr(0, 300), why);
  };
  std::array<std::uint8_t, kMaxLabelBytes> label;
  std::size_t length = 0;
  bool absolute = false;
  while (!text.empty()) {
    if (text.front() == '.') {
      text.remove_prefix(1);
      if (!name.Append({label.data(), length}))
        return refuse(length == 0 ? "has an empty label" : "has more than 255 bytes");
      length = 0;
      absolute = text.empty();
      continue;
    }
    const std::optional<std::uint8_t> c = TakeCharacter(text);
    if (!c) return refuse("has an escape that is none");
    if (length == kMaxLabelBytes) return refuse("has a label of more than 63 bytes");
    label[length++] = *c;
  }
  if (absolute) return name;
  if (!name.Append({label.data(), length})) return refuse("has more than 255 bytes");
  for (std::span<const std::uint8_t> rest = origin.bytes(); rest[0] != 0;
       rest = rest.subspan(1u + rest[0]))
    if (!name.Append(rest.subspan(1, rest[0])))
      return refuse("has more than 255 bytes with the suffix");
  return name;
}

void AppendLabelText(std::span<const std::uint8_t> label, std::string& text) {
  for (const std::uint8_t c : label) {
    if (c <= ' ' || c >= 0x7f) {
      text.push_back('\\');
      text.push_back(static_cast<char>('0' + c / 100));
      text.push_back(static_cast<char>('0' + c / 10 % 10));
      text.push_back(static_cast<char>('0' + c % 10));
      continue;
    }
    if (kSpecial.find(static_cast<char>(c)) != kSpecial.npos) text.push_back('\\');
    text.push_back(static_cast<char>(c));
  }
}

std::string Name::ToText() const {
  if (is_root()) return ".";
  std::string text;
  for (std::span<const std::uint8_t> rest = bytes(); rest[0] != 0;
       rest = rest.subspan(1u + rest[0])) {
    AppendLabelText(rest.subspan(1, rest[0]), text);
    text.push_back('.');
  }
  return text;
}

std::size_t Name::labels() const {
  std::size_t count = 0;
  for (std::size_t at = 0; bytes_[at] != 0; at += 1u + bytes_[at]) ++count;
  return count;
}

Name Name::Parent() const {
  Name parent;
  if (is_root()) return parent;
  const std::size_t skip = 1u + bytes_[0];
  parent.size_ = static_cast<std::uint8_t>(size_ - skip);
  std::copy(bytes_.begin() + static_cast<std::ptrdiff_t>(skip), bytes_.begin() + size_,
            parent.bytes_.begin());
  return parent;
}

void Name::MakeLower() {
  std::transform(bytes_.begin(), bytes_.begin() + size_, bytes_.begin(), Lower);
}

bool Name::IsWithin(const Name& other) const {
  std::size_t at = 0;
  while (size_ - at > other.size()) at += 1u + bytes_[at];
  return EqualIgnoringCase(bytes().subspan(at), other.bytes());
}

}  // namespace waxvm::dns
