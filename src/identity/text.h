// SPDX-License-Identifier: Apache-2.0
// Bytes as hexadecimal and base32 digits.
#ifndef WAXVM_SRC_IDENTITY_TEXT_H_
#define WAXVM_SRC_IDENTITY_TEXT_H_

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace waxvm::identity {

/// Two lower-case digits a byte.
std::string ToHex(std::string_view bytes);
/// Empty where `digits` is no even number of hexadecimal digits, of any case.
std::optional<std::string> FromHex(std::string_view digits);

/// Lower case, without padding. Spec: RFC 4648 section 6.
std::string ToBase32(std::string_view bytes);
/// Letters of any case. Empty for other digits, for a length that no bytes have, and where bits are
/// set that stand for nothing: two texts never mean the same bytes.
std::optional<std::string> FromBase32(std::string_view digits);

inline std::string_view AsView(std::span<const unsigned char> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline const unsigned char* Raw(std::string_view bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}
inline unsigned char* Raw(char* bytes) { return reinterpret_cast<unsigned char*>(bytes); }

}  // namespace waxvm::identity

#endif  // WAXVM_SRC_IDENTITY_TEXT_H_
