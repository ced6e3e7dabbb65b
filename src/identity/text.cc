// SPDX-License-Identifier: Apache-2.0
#include "src/identity/text.h"

namespace waxvm::identity {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";
constexpr std::string_view kBase32Digits = "abcdefghijklmnopqrstuvwxyz234567";

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

std::string ToHex(std::string_view bytes) {
  std::string digits;
  digits.reserve(2 * bytes.size());
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    digits.push_back(kHexDigits[byte >> 4]);
    digits.push_back(kHexDigits[byte & 15]);
  }
  return digits;
}

std::optional<std::string> FromHex(std::string_view digits) {
  if (digits.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  bytes.reserve(digits.size() / 2);
  for (std::size_t i = 0; i < digits.size(); i += 2) {
    const std::size_t high = kHexDigits.find(Lower(digits[i]));
    const std::size_t low = kHexDigits.find(Lower(digits[i + 1]));
    if (high == kHexDigits.npos || low == kHexDigits.npos) return std::nullopt;
    bytes.push_back(static_cast<char>(high << 4 | low));
  }
  return bytes;
}

std::string ToBase32(std::string_view bytes) {
  std::string digits;
  unsigned pending = 0;
  unsigned bits = 0;
  for (const char c : bytes) {
    pending = (pending << 8 | static_cast<unsigned char>(c)) & 0xfffu;
    bits += 8;
    for (; bits >= 5; bits -= 5) digits.push_back(kBase32Digits[pending >> (bits - 5) & 31]);
  }
  if (bits > 0) digits.push_back(kBase32Digits[pending << (5 - bits) & 31]);
  return digits;
}

std::optional<std::string> FromBase32(std::string_view digits) {
  std::string bytes;
  unsigned pending = 0;
  unsigned bits = 0;
  for (const char c : digits) {
    const std::size_t value = kBase32Digits.find(Lower(c));
    if (value == kBase32Digits.npos) return std::nullopt;
    pending = (pending << 5 | static_cast<unsigned>(value)) & 0xfffu;
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push_back(static_cast<char>(pending >> bits & 0xff));
  }
  if (bits >= 5 || (pending & ((1u << bits) - 1)) != 0) return std::nullopt;
  return bytes;
}

}  // namespace waxvm::identity
