// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_BASE_UTF8_H_
#define WAXVM_SRC_BASE_UTF8_H_

#include <cstddef>
#include <string_view>

namespace waxvm {

/// The length of the well-formed UTF-8 sequence that `text` starts with; 0 where there is none.
/// Spec: RFC 3629 section 4 (no overlong forms, no surrogates, nothing above U+10FFFF).
constexpr std::size_t Utf8SequenceBytes(std::string_view text) {
  const auto byte = [&](std::size_t at) -> unsigned {
    return at < text.size() ? static_cast<unsigned char>(text[at]) : 0u;
  };
  const auto in = [&](std::size_t at, unsigned low, unsigned high) {
    return byte(at) >= low && byte(at) <= high;
  };
  const unsigned first = byte(0);
  if (text.empty()) return 0;
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return in(1, 0x80, 0xbf) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const unsigned low = first == 0xe0 ? 0xa0 : 0x80;
    const unsigned high = first == 0xed ? 0x9f : 0xbf;
    return in(1, low, high) && in(2, 0x80, 0xbf) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const unsigned low = first == 0xf0 ? 0x90 : 0x80;
    const unsigned high = first == 0xf4 ? 0x8f : 0xbf;
    return in(1, low, high) && in(2, 0x80, 0xbf) && in(3, 0x80, 0xbf) ? 4 : 0;
  }
  return 0;
}

/// Whether all of `text` is well-formed UTF-8.
constexpr bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t bytes = Utf8SequenceBytes(text);
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
}

}  // namespace waxvm

#endif  // WAXVM_SRC_BASE_UTF8_H_
