// SPDX-License-Identifier: Apache-2.0
#include "src/datagram/kernel_socket.h"

#include <linux/errqueue.h>
#include <linux/sock_diag.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "src/base/status.h"

#ifndef IPV6_MULTICAST_ALL
#define IPV6_MULTICAST_ALL 29
#endif

namespace waxvm {
namespace {

// Of errors that nobody has taken. Whoever makes this host send to ports that are closed, or forges
// the messages that say so, must not make it remember more.
constexpr std::size_t kMaxErrors = 256;
// Of the error queue, at once, for the same reason.
constexpr int kMaxErrorReads = 64;
// As often as one datagram is tried while the kernel tells of others.
constexpr int kSendAttempts = 4;

bool SetOption(int fd, int level, int option, int value) {
  return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

bool IsV4Mapped(const Address& address) {
  static constexpr std::array<std::uint8_t, 12> kPrefix = {0, 0, 0, 0, 0,    0,
                                                           0, 0, 0, 0, 0xff, 0xff};
  return std::equal(kPrefix.begin(), kPrefix.end(), address.bytes.begin());
}

// RFC 4007: the same address can be somebody else on another interface.
bool NeedsZone(const Address& address) {
  const bool link_local = address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0) == 0x80;
  return link_local || address.bytes[0] == 0xff;
}

absl::Status Check(const UdpOptions& options) {
  if (options.local.is_multicast())
    return InvalidArgument("cannot listen on the group %s; join it", options.local.ToText());
  if (options.max_datagram_bytes < 1 || options.max_datagram_bytes > 65535)
    return InvalidArgument("max_datagram_bytes is %d, and must be from 1 to 65535",
                           options.max_datagram_bytes);
  if (options.batch < 1 || options.batch > 1024)
    return InvalidArgument("batch is %d, and must be from 1 to 1024", options.batch);
  if (options.multicast_hops < 0 || options.multicast_hops > 255)
    return InvalidArgument("multicast_hops is %d, and must be from 0 to 255",
                           options.multicast_hops);
  return absl::OkStatus();
}

/// A status for what the network said of a datagram.
absl::Status NetworkStatus(int error) {
  const char* text = strerrordesc_np(error);
  const std::string_view what = text == nullptr ? "unknown error" : text;
  switch (error) {
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
      return Unavailable("not delivered: %s", what);
    case EMSGSIZE:
      return absl::OutOfRangeError("not sent: longer than the network carries");
    case ENOBUFS:
    case EAGAIN:
      return absl::ResourceExhaustedError("not sent: the kernel has no room");
    default:
      return ErrnoStatus(error, "not sent");
  }
}

bool SetUp(int fd, const UdpOptions& options, bool any, bool only6) {
  const int buffer = static_cast<int>(std::min<std::size_t>(options.kernel_buffer_bytes, 1 << 30));
  SetOption(fd, SOL_SOCKET, SO_RCVBUF, buffer);
  SetOption(fd, SOL_SOCKET, SO_SNDBUF, buffer);
  // Not of every kernel; what is not there cannot do harm.
  SetOption(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
  if (!only6) SetOption(fd, IPPROTO_IP, IP_RECVERR, 1);
  if (!options.fragments) {
    SetOption(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO);
    SetOption(fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
    if (!only6) SetOption(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
  }
  return (!options.shared || SetOption(fd, SOL_SOCKET, SO_REUSEADDR, 1)) &&
         SetOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, only6 ? 1 : 0) &&
         SetOption(fd, IPPROTO_IPV6, IPV6_RECVERR, 1) &&
         SetOption(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, options.multicast_hops) &&
         (!any || SetOption(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1));
}

}  // namespace

sockaddr_in6 ToKernel(const SocketAddress& address) {
  sockaddr_in6 out = {};
  out.sin6_family = AF_INET6;
  out.sin6_port = htons(address.port);
  std::memcpy(&out.sin6_addr, address.address.bytes.data(), kAddressBytes);
  if (NeedsZone(address.address)) out.sin6_scope_id = address.zone;
  return out;
}

SocketAddress FromKernel(const sockaddr_in6& address) {
  SocketAddress out;
  std::memcpy(out.address.bytes.data(), &address.sin6_addr, kAddressBytes);
  out.port = ntohs(address.sin6_port);
  out.zone = address.sin6_scope_id;
  return out;
}

absl::StatusOr<KernelSocket> KernelSocket::Open(const UdpOptions& options) {
  WAXVM_RETURN_IF_ERROR(Check(options));
  const auto fail = [&](std::string_view what) {
    return ErrnoStatus(errno, absl::StrFormat("cannot %s UDP %s", what, options.local.ToText()));
  };
  KernelSocket made;
  made.fd_ = UniqueFd(socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!made.fd_) return fail("make a socket for");
  made.wake_ = UniqueFd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!made.wake_) return fail("make an event for");
  const bool any = options.local.address == Address();
  const bool only6 = any ? !options.ipv4 : !IsV4Mapped(options.local.address);
  if (!SetUp(made.fd_.get(), options, any, only6)) return fail("set up");
  const sockaddr_in6 address = ToKernel(options.local);
  if (bind(made.fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail("listen on");
  sockaddr_in6 bound = {};
  socklen_t size = sizeof bound;
  if (getsockname(made.fd_.get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0)
    return fail("find the port of");
  made.local_ = FromKernel(bound);
  made.tells_destination_ = any;
  return made;
}

bool KernelSocket::IsJoined(const SocketAddress& group) const {
  return std::any_of(groups_.begin(), groups_.end(), [&](const auto& joined) {
    return joined.first == group.address && (joined.second == 0 || joined.second == group.zone);
  });
}

absl::Status KernelSocket::Join(const Address& group, std::uint32_t interface) {
  if (group.bytes[0] != 0xff) return InvalidArgument("%s is no multicast group", group.ToText());
  if (std::count(groups_.begin(), groups_.end(), std::pair(group, interface)) != 0)
    return absl::AlreadyExistsError("the group is joined already");
  ipv6_mreq request = {};
  std::memcpy(&request.ipv6mr_multiaddr, group.bytes.data(), kAddressBytes);
  request.ipv6mr_interface = interface;
  if (setsockopt(fd(), IPPROTO_IPV6, IPV6_JOIN_GROUP, &request, sizeof request) != 0)
    return ErrnoStatus(errno, absl::StrFormat("cannot join %s", group.ToText()));
  groups_.emplace_back(group, interface);
  return absl::OkStatus();
}

absl::Status KernelSocket::Leave(const Address& group, std::uint32_t interface) {
  const auto found = std::find(groups_.begin(), groups_.end(), std::pair(group, interface));
  if (found == groups_.end()) return absl::NotFoundError("the group was not joined");
  groups_.erase(found);
  ipv6_mreq request = {};
  std::memcpy(&request.ipv6mr_multiaddr, group.bytes.data(), kAddressBytes);
  request.ipv6mr_interface = interface;
  if (setsockopt(fd(), IPPROTO_IPV6, IPV6_LEAVE_GROUP, &request, sizeof request) != 0)
    return ErrnoStatus(errno, absl::StrFormat("cannot leave %s", group.ToText()));
  return absl::OkStatus();
}

void KernelSocket::ReadDestination(const std::byte* control, std::size_t bytes,
                                   SocketAddress& local) const {
  local = local_;
  if (bytes < CMSG_LEN(sizeof(in6_pktinfo))) return;
  cmsghdr header;
  std::memcpy(&header, control, sizeof header);
  if (header.cmsg_level != IPPROTO_IPV6 || header.cmsg_type != IPV6_PKTINFO) return;
  in6_pktinfo info;
  std::memcpy(&info, control + CMSG_LEN(0), sizeof info);
  std::memcpy(local.address.bytes.data(), &info.ipi6_addr, kAddressBytes);
  local.zone = info.ipi6_ifindex;
}

void KernelSocket::Prepare(const Datagram& datagram, OutgoingSlot& slot, msghdr& message) const {
  slot.peer = ToKernel(datagram.peer);
  slot.part.iov_base = const_cast<std::byte*>(datagram.bytes.data());
  slot.part.iov_len = datagram.bytes.size();
  message.msg_name = &slot.peer;
  message.msg_namelen = sizeof slot.peer;
  message.msg_iov = &slot.part;
  message.msg_iovlen = 1;
  message.msg_control = nullptr;
  message.msg_controllen = 0;
  message.msg_flags = 0;
  in6_pktinfo info = {};
  const bool from = tells_destination_ && !datagram.local.is_multicast();
  if (from) std::memcpy(&info.ipi6_addr, datagram.local.address.bytes.data(), kAddressBytes);
  // The interface matters where the address alone does not say which way to go.
  if (NeedsZone(datagram.peer.address))
    info.ipi6_ifindex = datagram.peer.zone != 0 ? datagram.peer.zone : datagram.local.zone;
  if (info.ipi6_ifindex == 0 && (!from || datagram.local.address == Address())) return;
  cmsghdr header = {};
  header.cmsg_level = IPPROTO_IPV6;
  header.cmsg_type = IPV6_PKTINFO;
  header.cmsg_len = CMSG_LEN(sizeof info);
  std::memcpy(slot.control.bytes.data(), &header, sizeof header);
  std::memcpy(slot.control.bytes.data() + CMSG_LEN(0), &info, sizeof info);
  message.msg_control = slot.control.bytes.data();
  message.msg_controllen = LocalControl::kBytes;
}

KernelSocket::After KernelSocket::Classify(int error, int attempt) {
  if (error == EINTR) return After::kAgain;
  if (error == EAGAIN) return After::kFull;
  if (error == EMSGSIZE || error == EINVAL || error == EADDRNOTAVAIL || error == ENOBUFS)
    return After::kRefused;
  // Most others may be about this datagram or about an earlier one, which the queue tells apart.
  ReadErrors();
  return attempt < kSendAttempts ? After::kAgain : After::kRefused;
}

bool KernelSocket::SendAgain(const msghdr& message, const SocketAddress& peer, int error) {
  for (int attempt = 1;; ++attempt) {
    switch (Classify(error, attempt)) {
      case After::kFull:
        return false;
      case After::kRefused:
        AddError(peer, error);
        return true;
      case After::kAgain:
        break;
    }
    ++counts.send_calls;
    if (sendmsg(fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
      ++counts.sent;
      return true;
    }
    error = errno;
  }
}

bool KernelSocket::IsAboutSending(int error) {
  switch (error) {
    case EBADF:
    case ENOTSOCK:
    case EFAULT:
    case EINVAL:
    case ENOMEM:
      return false;
    default:
      ReadErrors();
      return true;
  }
}

void KernelSocket::ReadErrors() {
  alignas(cmsghdr) std::array<std::uint8_t, 512> control;
  for (int reads = 0; reads < kMaxErrorReads; ++reads) {
    sockaddr_in6 peer = {};
    std::uint8_t nothing = 0;
    iovec part = {&nothing, 1};
    msghdr message = {};
    message.msg_name = &peer;
    message.msg_namelen = sizeof peer;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    if (recvmsg(fd(), &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return;
    for (cmsghdr* item = CMSG_FIRSTHDR(&message); item != nullptr;
         item = CMSG_NXTHDR(&message, item)) {
      const bool v6 = item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_RECVERR;
      const bool v4 = item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_RECVERR;
      if (!v6 && !v4) continue;
      sock_extended_err error;
      std::memcpy(&error, CMSG_DATA(item), sizeof error);
      if (message.msg_namelen >= sizeof peer && peer.sin6_family == AF_INET6)
        AddError(FromKernel(peer), static_cast<int>(error.ee_errno));
    }
  }
}

void KernelSocket::AddError(const SocketAddress& peer, int error) {
  ++counts.unsent;
  if (errors_.size() == kMaxErrors) errors_.pop_front();
  errors_.push_back({peer, NetworkStatus(error)});
}

std::size_t KernelSocket::TakeErrors(std::span<DatagramError> errors) {
  const std::size_t count = std::min(errors.size(), errors_.size());
  for (std::size_t i = 0; i < count; ++i) {
    errors[i] = std::move(errors_.front());
    errors_.pop_front();
  }
  return count;
}

void KernelSocket::Wake() const {
  const std::uint64_t one = 1;
  // It fails where the count is at its highest, which wakes as well.
  [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof one);
}

void KernelSocket::TakeWake() const {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t taken = read(wake_.get(), &count, sizeof count);
}

DatagramStats KernelSocket::stats() const {
  DatagramStats result;
  result.received = counts.received.get();
  result.sent = counts.sent.get();
  result.truncated = counts.truncated.get();
  result.foreign = counts.foreign.get();
  result.unsent = counts.unsent.get();
  result.receive_calls = counts.receive_calls.get();
  result.send_calls = counts.send_calls.get();
  result.wait_calls = counts.wait_calls.get();
  std::array<std::uint32_t, SK_MEMINFO_VARS> memory = {};
  socklen_t size = sizeof memory;
  if (getsockopt(fd(), SOL_SOCKET, SO_MEMINFO, memory.data(), &size) == 0)
    result.overflows = memory[SK_MEMINFO_DROPS];
  return result;
}

}  // namespace waxvm
