// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SOCKET_ADDRESS_H_
#define WAXVM_SOCKET_ADDRESS_H_

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "waxvm/address.h"

namespace waxvm {

/// Where a datagram comes from or goes to. IPv4 peers have their v4-mapped address (RFC 4291
/// section 2.5.5.2).
struct SocketAddress {
  Address address;
  std::uint16_t port = 0;
  /// The interface's index for a link-local or multicast address; 0 says nothing of it.
  std::uint32_t zone = 0;

  /// As in [::1]:5683, with a zone as in [fe80::1%2]:5683. Spec: RFC 5952 section 6, RFC 4007
  /// section 11.
  std::string ToText() const;
  /// What ToText writes, and an IPv4 address as in 127.0.0.1:5683. Errors: kInvalidArgument.
  static absl::StatusOr<SocketAddress> Parse(std::string_view text);

  bool is_multicast() const { return address.bytes[0] == 0xff; }
  auto operator<=>(const SocketAddress&) const = default;
};

}  // namespace waxvm

#endif  // WAXVM_SOCKET_ADDRESS_H_
