// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_ADDRESS_H_
#define WAXVM_ADDRESS_H_

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace waxvm {

inline constexpr std::size_t kAddressBytes = 16;

/// An IPv6 address, in network order.
struct Address {
  std::array<std::uint8_t, kAddressBytes> bytes{};

  /// Spec: RFC 5952.
  std::string ToText() const;
  /// Any way to write one, without zone, brackets and prefix length. Errors: kInvalidArgument.
  static absl::StatusOr<Address> Parse(std::string_view text);
  /// The 16 bytes themselves. Errors: kInvalidArgument.
  static absl::StatusOr<Address> FromBytes(std::string_view bytes);

  std::string_view view() const {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  /// Without a call: each datagram asks.
  bool operator==(const Address& other) const {
    std::uint64_t mine[2];
    std::uint64_t others[2];
    std::memcpy(mine, bytes.data(), sizeof mine);
    std::memcpy(others, other.bytes.data(), sizeof others);
    return ((mine[0] ^ others[0]) | (mine[1] ^ others[1])) == 0;
  }
  auto operator<=>(const Address&) const = default;
};

}  // namespace waxvm

#endif  // WAXVM_ADDRESS_H_
