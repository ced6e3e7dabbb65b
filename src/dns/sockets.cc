// SPDX-License-Identifier: Apache-2.0
#include "src/dns/sockets.h"

#include <arpa/inet.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "src/base/status.h"
#include "src/dns/rdata.h"

namespace waxvm::dns {
namespace {

// A port that is free for UDP may be taken for TCP.
constexpr int kPortAttempts = 64;
constexpr int kBacklog = 1024;
// What arrives while a batch is answered. The kernel may give less.
constexpr int kReceiveBufferBytes = 4 << 20;

sockaddr_in& As4(Endpoint& e) { return reinterpret_cast<sockaddr_in&>(e.address); }
const sockaddr_in& As4(const Endpoint& e) {
  return reinterpret_cast<const sockaddr_in&>(e.address);
}
sockaddr_in6& As6(Endpoint& e) { return reinterpret_cast<sockaddr_in6&>(e.address); }
const sockaddr_in6& As6(const Endpoint& e) {
  return reinterpret_cast<const sockaddr_in6&>(e.address);
}

bool SetOption(int fd, int level, int option, int value) {
  return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

absl::StatusOr<UniqueFd> Bind(const Endpoint& endpoint, int type) {
  UniqueFd fd(socket(endpoint.address.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const auto fail = [&](std::string_view what) {
    return ErrnoStatus(errno, absl::StrFormat("cannot %s %s over %s", what, endpoint.ToText(),
                                              type == SOCK_DGRAM ? "UDP" : "TCP"));
  };
  if (!fd) return fail("make a socket for");
  if (endpoint.is_ipv6() && !SetOption(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1))
    return fail("set up");
  if (type == SOCK_STREAM) {
    // The port of connections that were closed a moment ago may be used again.
    SetOption(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  } else {
    SetOption(fd.get(), SOL_SOCKET, SO_RCVBUF, kReceiveBufferBytes);
    // Where it listens on every address, an answer comes from that which was asked.
    if (endpoint.is_any() &&
        !(endpoint.is_ipv6() ? SetOption(fd.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
                             : SetOption(fd.get(), IPPROTO_IP, IP_PKTINFO, 1)))
      return fail("set up");
  }
  if (bind(fd.get(), endpoint.get(), endpoint.size) != 0) return fail("listen on");
  if (type == SOCK_STREAM && listen(fd.get(), kBacklog) != 0) return fail("listen on");
  return fd;
}

absl::StatusOr<Listener> ListenOnce(const Endpoint& endpoint) {
  Listener listener;
  listener.endpoint = endpoint;
  WAXVM_ASSIGN_OR_RETURN(listener.udp, Bind(endpoint, SOCK_DGRAM));
  if (getsockname(listener.udp.get(), listener.endpoint.get(), &listener.endpoint.size) != 0)
    return ErrnoStatus(errno, "getsockname");
  WAXVM_ASSIGN_OR_RETURN(listener.tcp, Bind(listener.endpoint, SOCK_STREAM));
  return listener;
}

}  // namespace

std::uint16_t Endpoint::port() const {
  return ntohs(is_ipv6() ? As6(*this).sin6_port : As4(*this).sin_port);
}

void Endpoint::set_port(std::uint16_t port) {
  (is_ipv6() ? As6(*this).sin6_port : As4(*this).sin_port) = htons(port);
}

bool Endpoint::is_loopback() const {
  if (!is_ipv6()) return ntohl(As4(*this).sin_addr.s_addr) >> 24 == 127;
  return IN6_IS_ADDR_LOOPBACK(&As6(*this).sin6_addr);
}

bool Endpoint::is_any() const {
  if (!is_ipv6()) return As4(*this).sin_addr.s_addr == INADDR_ANY;
  return IN6_IS_ADDR_UNSPECIFIED(&As6(*this).sin6_addr);
}

std::string Endpoint::ToText() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (!is_ipv6()) {
    inet_ntop(AF_INET, &As4(*this).sin_addr, text, sizeof text);
    return absl::StrFormat("%s:%d", text, port());
  }
  inet_ntop(AF_INET6, &As6(*this).sin6_addr, text, sizeof text);
  char scope[IF_NAMESIZE + 1] = "";
  if (As6(*this).sin6_scope_id != 0) {
    scope[0] = '%';
    if (if_indextoname(As6(*this).sin6_scope_id, scope + 1) == nullptr) scope[0] = '\0';
  }
  return absl::StrFormat("[%s%s]:%d", text, scope, port());
}

absl::StatusOr<Endpoint> ParseEndpoint(const std::string& text) {
  const auto refuse = [&] {
    return InvalidArgument("'%s' is no address to listen on, like [::1]:53 or 127.0.0.1:53", text);
  };
  const std::size_t colon = text.rfind(':');
  if (colon == text.npos || colon == 0) return refuse();
  const auto port = ParseNumber(std::string_view(text).substr(colon + 1), 65535);
  if (!port) return refuse();
  Endpoint endpoint;
  if (text.front() != '[') {
    endpoint.size = sizeof(sockaddr_in);
    As4(endpoint).sin_family = AF_INET;
    if (inet_pton(AF_INET, text.substr(0, colon).c_str(), &As4(endpoint).sin_addr) != 1)
      return refuse();
  } else {
    if (text[colon - 1] != ']') return refuse();
    std::string host = text.substr(1, colon - 2);
    endpoint.size = sizeof(sockaddr_in6);
    As6(endpoint).sin6_family = AF_INET6;
    if (const std::size_t percent = host.find('%'); percent != host.npos) {
      As6(endpoint).sin6_scope_id = if_nametoindex(host.substr(percent + 1).c_str());
      if (As6(endpoint).sin6_scope_id == 0) return refuse();
      host.resize(percent);
    }
    if (inet_pton(AF_INET6, host.c_str(), &As6(endpoint).sin6_addr) != 1) return refuse();
  }
  endpoint.set_port(static_cast<std::uint16_t>(*port));
  return endpoint;
}

PeerKey PeerOf(const Endpoint& endpoint) {
  PeerKey key = {};
  if (!endpoint.is_ipv6()) {
    key[10] = key[11] = 0xff;
    std::memcpy(&key[12], &As4(endpoint).sin_addr, 4);
    return key;
  }
  std::memcpy(key.data(), &As6(endpoint).sin6_addr, endpoint.is_loopback() ? 16 : 8);
  return key;
}

absl::StatusOr<Listener> Listen(const Endpoint& endpoint) {
  absl::StatusOr<Listener> listener = ListenOnce(endpoint);
  for (int i = 1; i < kPortAttempts && endpoint.port() == 0 && !listener.ok(); ++i)
    listener = ListenOnce(endpoint);
  return listener;
}

}  // namespace waxvm::dns
