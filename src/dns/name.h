// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_DNS_NAME_H_
#define WAXVM_SRC_DNS_NAME_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace waxvm::dns {

inline constexpr std::size_t kMaxNameBytes = 255;
inline constexpr std::size_t kMaxLabelBytes = 63;

/// DNS compares names without regard to the case of ASCII letters, and of nothing else.
inline constexpr std::array<std::uint8_t, 256> kLowerTable = [] {
  std::array<std::uint8_t, 256> table = {};
  for (std::size_t i = 0; i < 256; ++i)
    table[i] = static_cast<std::uint8_t>(i >= 'A' && i <= 'Z' ? i + 'a' - 'A' : i);
  return table;
}();
constexpr std::uint8_t Lower(std::uint8_t c) { return kLowerTable[c]; }

/// Whether the bytes are the same but for the case of letters. Length octets of labels are below
/// 'A', so that whole names may be compared.
bool EqualIgnoringCase(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b);

/// An absolute name in its uncompressed wire form, the root's zero included; its case is kept.
/// Thread safety: none; distinct objects may be used from distinct threads.
/// Spec: RFC 1035 sections 2.3 and 3.1, RFC 4343.
class Name {
 public:
  /// The root.
  Name() { bytes_[0] = 0; }

  /// A name in presentation form. One that does not end in a dot is below `origin`; "@" is `origin`
  /// itself, "." the root. Errors: kInvalidArgument.
  static absl::StatusOr<Name> FromText(std::string_view text, const Name& origin);
  /// Where every name is absolute, with its last dot or without.
  static absl::StatusOr<Name> FromText(std::string_view text) { return FromText(text, Name()); }

  /// With the last dot. What is no printable ASCII, and what means something in a zone file, is
  /// escaped.
  std::string ToText() const;

  std::span<const std::uint8_t> bytes() const { return {bytes_.data(), size_}; }
  std::size_t size() const { return size_; }
  bool is_root() const { return size_ == 1; }
  /// The root has none.
  std::size_t labels() const;

  /// The name without its first label; of the root, the root.
  Name Parent() const;
  void MakeLower();
  /// Whether it is `other` or below it.
  bool IsWithin(const Name& other) const;

  /// Puts a label before the root. False: it is empty or too long, or the name would be.
  bool Append(std::span<const std::uint8_t> label);

  friend bool operator==(const Name& a, const Name& b) {
    return EqualIgnoringCase(a.bytes(), b.bytes());
  }

 private:
  std::array<std::uint8_t, kMaxNameBytes> bytes_;
  std::uint8_t size_ = 1;
};

/// Appends a label as it stands in presentation form.
void AppendLabelText(std::span<const std::uint8_t> label, std::string& text);

/// Takes one character, or an escape (\DDD, \X), from the front of `text`. Nothing: an escape that
/// is none.
std::optional<std::uint8_t> TakeCharacter(std::string_view& text);

}  // namespace waxvm::dns

#endif  // WAXVM_SRC_DNS_NAME_H_
