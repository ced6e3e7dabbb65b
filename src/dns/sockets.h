// SPDX-License-Identifier: Apache-2.0
// Where the server listens.
#ifndef WAXVM_SRC_DNS_SOCKETS_H_
#define WAXVM_SRC_DNS_SOCKETS_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "src/base/unique_fd.h"

namespace waxvm::dns {

/// An address and port of IPv4 or IPv6.
struct Endpoint {
  sockaddr_storage address = {};
  socklen_t size = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&address); }
  bool is_ipv6() const { return address.ss_family == AF_INET6; }
  std::uint16_t port() const;
  void set_port(std::uint16_t port);
  bool is_loopback() const;
  bool is_any() const;
  /// "[::1]:53", "127.0.0.1:53".
  std::string ToText() const;
};

/// Errors: kInvalidArgument.
absl::StatusOr<Endpoint> ParseEndpoint(const std::string& text);

/// Who counts as one peer: an address on loopback and of IPv4, otherwise a network of 64 bits,
/// which one host has all of.
using PeerKey = std::array<std::uint8_t, 16>;
PeerKey PeerOf(const Endpoint& endpoint);

/// Both sockets of one address, with the same port.
struct Listener {
  Endpoint endpoint;
  UniqueFd udp;
  UniqueFd tcp;
};

/// Errors: as socket, bind and listen, with the address.
absl::StatusOr<Listener> Listen(const Endpoint& endpoint);

}  // namespace waxvm::dns

#endif  // WAXVM_SRC_DNS_SOCKETS_H_
