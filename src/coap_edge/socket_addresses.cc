// SPDX-License-Identifier: Apache-2.0
#include "src/coap_edge/socket_addresses.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace waxvm::coap::edge {
namespace {

constexpr std::array<std::uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
// Descriptors are given out from below: after so many that are not open there are hardly others.
constexpr int kLongestGap = 128;
// Attack: connections that are gone before they are looked for, in a process with many descriptors.
constexpr int kMaxSearched = 16'384;

bool IsMapped(const SocketAddress& address) {
  return std::equal(kMapped.begin(), kMapped.end(), address.address.bytes.begin());
}

SocketAddress FromKernel(const sockaddr_storage& from) {
  SocketAddress address;
  if (from.ss_family == AF_INET) {
    sockaddr_in in;
    std::memcpy(&in, &from, sizeof in);
    std::copy(kMapped.begin(), kMapped.end(), address.address.bytes.begin());
    std::memcpy(address.address.bytes.data() + kMapped.size(), &in.sin_addr, sizeof in.sin_addr);
    address.port = ntohs(in.sin_port);
  } else if (from.ss_family == AF_INET6) {
    sockaddr_in6 in;
    std::memcpy(&in, &from, sizeof in);
    std::memcpy(address.address.bytes.data(), &in.sin6_addr, sizeof in.sin6_addr);
    address.port = ntohs(in.sin6_port);
    address.zone = in.sin6_scope_id;
  }
  return address;
}

/// Of a socket; port 0 where it has none. Sets errno to EBADF where there is no descriptor.
SocketAddress NameOf(int descriptor, bool remote) {
  sockaddr_storage name = {};
  socklen_t bytes = sizeof name;
  auto* const to = reinterpret_cast<sockaddr*>(&name);
  const int failed =
      remote ? getpeername(descriptor, to, &bytes) : getsockname(descriptor, to, &bytes);
  if (failed) return {};
  SocketAddress address = FromKernel(name);
  address.zone = 0;
  return address;
}

template <typename IsIt>
int FindDescriptor(IsIt is_it) {
  int gap = 0;
  for (int descriptor = 0; descriptor < kMaxSearched && gap < kLongestGap; ++descriptor) {
    errno = 0;
    if (is_it(descriptor)) return descriptor;
    gap = errno == EBADF ? gap + 1 : 0;
  }
  return -1;
}

}  // namespace

coap_address_t ToLibcoap(const SocketAddress& address) {
  coap_address_t to;
  coap_address_init(&to);
  if (IsMapped(address)) {
    sockaddr_in in = {};
    in.sin_family = AF_INET;
    in.sin_port = htons(address.port);
    std::memcpy(&in.sin_addr, address.address.bytes.data() + kMapped.size(), sizeof in.sin_addr);
    to.addr.sin = in;
    to.size = sizeof in;
  } else {
    sockaddr_in6 in = {};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(address.port);
    in.sin6_scope_id = address.zone;
    std::memcpy(&in.sin6_addr, address.address.bytes.data(), sizeof in.sin6_addr);
    to.addr.sin6 = in;
    to.size = sizeof in;
  }
  return to;
}

SocketAddress FromLibcoap(const coap_address_t& address) {
  sockaddr_storage from = {};
  std::memcpy(&from, &address.addr, std::min<std::size_t>(sizeof address.addr, sizeof from));
  return FromKernel(from);
}

std::string SourceOf(const SocketAddress& address) {
  const std::string bytes(address.address.view());
  return IsMapped(address) ? bytes : bytes.substr(0, 8);
}

int FindConnection(const SocketAddress& local, const SocketAddress& remote) {
  SocketAddress near = local;
  SocketAddress far = remote;
  near.zone = far.zone = 0;
  return FindDescriptor([&](int descriptor) {
    return NameOf(descriptor, true) == far && NameOf(descriptor, false) == near;
  });
}

int FindListener(const SocketAddress& local) {
  SocketAddress near = local;
  near.zone = 0;
  return FindDescriptor([&](int descriptor) {
    int listens = 0;
    socklen_t bytes = sizeof listens;
    return NameOf(descriptor, false) == near &&
           getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) == 0 && listens != 0;
  });
}

}  // namespace waxvm::coap::edge
