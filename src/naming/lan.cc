// SPDX-License-Identifier: Apache-2.0
#include "waxvm/lan.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "src/base/status.h"
#include "src/base/unique_fd.h"

namespace waxvm {
namespace {

// Neighbours whose rate is remembered; a link has no more, and addresses can be made up.
constexpr std::size_t kMaxNeighbours = 1'024;
constexpr std::size_t kMaxAnnounced = 64;

sockaddr_in6 SocketAddress(const Address& address, std::uint16_t port, unsigned scope) {
  sockaddr_in6 to = {};
  to.sin6_family = AF_INET6;
  to.sin6_port = htons(port);
  to.sin6_scope_id = scope;
  std::memcpy(&to.sin6_addr, address.bytes.data(), kAddressBytes);
  return to;
}

template <typename Value>
absl::Status SetOption(int fd, int level, int name, const Value& value, std::string_view what) {
  if (setsockopt(fd, level, name, &value, sizeof value) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, what);
}

absl::StatusOr<UniqueFd> OpenSocket(const LanOptions& options, unsigned scope) {
  UniqueFd fd(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return ErrnoStatus(errno, "a socket for the link");
  const int on = 1;
  const int off = 0;
  const int one_hop = 1;
  WAXVM_RETURN_IF_ERROR(SetOption(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, on, "IPV6_V6ONLY"));
  WAXVM_RETURN_IF_ERROR(SetOption(fd.get(), SOL_SOCKET, SO_REUSEADDR, on, "SO_REUSEADDR"));
  WAXVM_RETURN_IF_ERROR(
      SetOption(fd.get(), IPPROTO_IPV6, IPV6_MULTICAST_IF, scope, "IPV6_MULTICAST_IF"));
  WAXVM_RETURN_IF_ERROR(
      SetOption(fd.get(), IPPROTO_IPV6, IPV6_MULTICAST_HOPS, one_hop, "IPV6_MULTICAST_HOPS"));
  // Otherwise it also gets what other sockets of this host have joined.
  WAXVM_RETURN_IF_ERROR(
      SetOption(fd.get(), IPPROTO_IPV6, IPV6_MULTICAST_ALL, off, "IPV6_MULTICAST_ALL"));
  ipv6_mreq membership = {};
  std::memcpy(&membership.ipv6mr_multiaddr, options.group.bytes.data(), kAddressBytes);
  membership.ipv6mr_interface = scope;
  WAXVM_RETURN_IF_ERROR(
      SetOption(fd.get(), IPPROTO_IPV6, IPV6_JOIN_GROUP, membership, "joining the group"));
  // Bound to the group itself: nothing that was sent to one of our own addresses comes in.
  const sockaddr_in6 local = SocketAddress(options.group, options.port, scope);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) != 0)
    return ErrnoStatus(errno, absl::StrFormat("port %d of the group", options.port));
  return fd;
}

class LinkLocal final : public Lan {
 public:
  LinkLocal(Directory* directory, const LanOptions& options, unsigned scope, UniqueFd receive,
            UniqueFd send)
      : directory_(*directory),
        options_(options),
        group_(SocketAddress(options.group, options.port, scope)),
        receive_(std::move(receive)),
        send_(std::move(send)) {}

  void Announce(std::vector<Advert> adverts) override {
    if (adverts.size() > kMaxAnnounced)
      adverts.erase(adverts.begin() + kMaxAnnounced, adverts.end());
    announced_ = std::move(adverts);
    next_ = 0;
  }

  void Poll(std::uint64_t now) override {
    Receive(now);
    if (now < next_ || announced_.empty()) return;
    next_ = now + std::max(options_.announce_every, 1u);
    for (const Advert& advert : announced_) {
      if (advert.fields().expires <= now) continue;
      const ssize_t sent =
          sendto(send_.get(), advert.bytes().data(), advert.bytes().size(), MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&group_), sizeof group_);
      // A datagram that is lost is sent again the next time.
      if (sent == static_cast<ssize_t>(advert.bytes().size())) ++stats_.sent;
    }
  }

  int descriptor() const override { return receive_.get(); }
  LanStats stats() const override { return stats_; }

 private:
  void Receive(std::uint64_t now) {
    if (now != second_) {
      second_ = now;
      seen_ = 0;
      neighbours_.clear();
    }
    char buffer[kMaxAdvertBytes + 1];
    for (std::uint32_t i = 0; i < std::max(options_.per_second, 1u); ++i) {
      sockaddr_in6 from = {};
      socklen_t size = sizeof from;
      const ssize_t bytes = recvfrom(receive_.get(), buffer, sizeof buffer, 0,
                                     reinterpret_cast<sockaddr*>(&from), &size);
      if (bytes < 0 && errno == EINTR) continue;
      if (bytes < 0) return;
      if (!IsWithinRate(from)) {
        ++stats_.dropped;
        continue;
      }
      const std::string_view datagram(buffer, static_cast<std::size_t>(bytes));
      const bool own = std::any_of(announced_.begin(), announced_.end(), [&](const Advert& advert) {
        return advert.bytes() == datagram;
      });
      if (own) continue;
      const auto accepted = Accept(directory_, datagram, now);
      ++(accepted.ok() ? stats_.accepted : stats_.refused);
    }
  }

  bool IsWithinRate(const sockaddr_in6& from) {
    Address source;
    std::memcpy(source.bytes.data(), &from.sin6_addr, kAddressBytes);
    if (neighbours_.size() >= kMaxNeighbours && neighbours_.count(source) == 0) return false;
    if (++neighbours_[source] > options_.per_neighbour) return false;
    return ++seen_ <= options_.per_second;
  }

  Directory& directory_;
  const LanOptions options_;
  const sockaddr_in6 group_;
  const UniqueFd receive_;
  const UniqueFd send_;
  std::vector<Advert> announced_;
  std::uint64_t next_ = 0;
  std::uint64_t second_ = 0;
  std::uint32_t seen_ = 0;                       ///< in this second
  std::map<Address, std::uint32_t> neighbours_;  ///< in this second
  LanStats stats_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Lan>> Lan::Open(Directory* directory, const LanOptions& options) {
  const unsigned scope = if_nametoindex(options.interface_name.c_str());
  if (scope == 0)
    return absl::NotFoundError(
        absl::StrFormat("there is no interface '%s'", options.interface_name.substr(0, 80)));
  if (options.group.bytes[0] != 0xff || (options.group.bytes[1] & 0x0f) != 2)
    return InvalidArgument("%s is no group of link-local scope", options.group.ToText());
  WAXVM_ASSIGN_OR_RETURN(UniqueFd receive, OpenSocket(options, scope));
  // A socket that is bound to a group cannot send from an address of ours.
  UniqueFd send(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!send) return ErrnoStatus(errno, "a socket for the link");
  const int one_hop = 1;
  WAXVM_RETURN_IF_ERROR(
      SetOption(send.get(), IPPROTO_IPV6, IPV6_MULTICAST_IF, scope, "IPV6_MULTICAST_IF"));
  WAXVM_RETURN_IF_ERROR(
      SetOption(send.get(), IPPROTO_IPV6, IPV6_MULTICAST_HOPS, one_hop, "IPV6_MULTICAST_HOPS"));
  return std::make_unique<LinkLocal>(directory, options, scope, std::move(receive),
                                     std::move(send));
}

}  // namespace waxvm
