// SPDX-License-Identifier: Apache-2.0
// A UDP socket by recvmmsg and sendmmsg.
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <mutex>
#include <vector>

#include "src/base/status.h"
#include "src/datagram/kernel_socket.h"

namespace waxvm {
namespace {

// As often as a receive is tried while it only tells of what was sent.
constexpr int kReceiveAttempts = 8;
// So that the beginnings of datagrams do not fall into one set of the cache.
constexpr std::size_t kStagger = 64;

timespec Until(DatagramSocket::TimePoint deadline) {
  const auto left = deadline - std::chrono::steady_clock::now();
  const auto wait = std::max(left, std::chrono::nanoseconds::zero());
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(wait);
  return {.tv_sec = whole.count(), .tv_nsec = (wait - whole).count()};
}

class MmsgSocket final : public DatagramSocket {
 public:
  MmsgSocket(KernelSocket socket, const UdpOptions& options)
      : socket_(std::move(socket)),
        batch_(options.batch),
        slot_bytes_((options.max_datagram_bytes + 63) / 64 * 64 + kStagger),
        bytes_(new std::byte[batch_ * slot_bytes_]),
        peers_(batch_),
        parts_(batch_),
        controls_(batch_),
        messages_(batch_),
        datagrams_(batch_),
        slots_(batch_),
        outgoing_(batch_) {
    for (std::size_t i = 0; i < batch_; ++i) {
      parts_[i] = {&bytes_[i * slot_bytes_], options.max_datagram_bytes};
      msghdr& header = messages_[i].msg_hdr;
      header.msg_iov = &parts_[i];
      header.msg_iovlen = 1;
      header.msg_name = &peers_[i];
      if (socket_.tells_destination()) header.msg_control = controls_[i].bytes.data();
      Reset(i);
    }
  }

  absl::StatusOr<std::span<const Datagram>> Receive(std::size_t most) override {
    const auto count = static_cast<unsigned>(std::min(most, batch_));
    int received = 0;
    for (int attempt = 1;; ++attempt) {
      ++socket_.counts.receive_calls;
      received = recvmmsg(socket_.fd(), messages_.data(), count, MSG_DONTWAIT, nullptr);
      if (received >= 0) break;
      if (errno == EAGAIN || attempt == kReceiveAttempts) return std::span<const Datagram>();
      if (errno != EINTR && !socket_.IsAboutSending(errno))
        return ErrnoStatus(errno, "cannot receive datagrams");
    }
    std::size_t kept = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(received); ++i) kept += Read(i, kept);
    socket_.counts.received += kept;
    return std::span<const Datagram>(datagrams_.data(), kept);
  }

  absl::StatusOr<std::size_t> Send(std::span<const Datagram> datagrams) override {
    std::size_t taken = 0;
    while (taken < datagrams.size()) {
      const std::size_t count = std::min(datagrams.size() - taken, batch_);
      for (std::size_t i = 0; i < count; ++i)
        socket_.Prepare(datagrams[taken + i], slots_[i], outgoing_[i].msg_hdr);
      WAXVM_ASSIGN_OR_RETURN(const std::size_t sent, SendBatch(datagrams.subspan(taken, count)));
      taken += sent;
      if (sent < count) break;
    }
    return taken;
  }

  std::size_t TakeErrors(std::span<DatagramError> errors) override {
    return socket_.TakeErrors(errors);
  }

  absl::Status Wait(TimePoint deadline, bool or_writable) override {
    pollfd polled[2] = {
        {socket_.fd(), static_cast<short>(or_writable ? POLLIN | POLLOUT : POLLIN), 0},
        {socket_.wake_fd(), POLLIN, 0}};
    const bool forever = deadline == TimePoint::max();
    const timespec left = forever ? timespec{} : Until(deadline);
    ++socket_.counts.wait_calls;
    if (ppoll(polled, 2, forever ? nullptr : &left, nullptr) < 0)
      return errno == EINTR ? absl::OkStatus() : ErrnoStatus(errno, "cannot wait for datagrams");
    if ((polled[0].revents & POLLERR) != 0) socket_.ReadErrors();
    if ((polled[0].revents & POLLNVAL) != 0) return ErrnoStatus(EBADF, "cannot wait for datagrams");
    if (polled[1].revents != 0) socket_.TakeWake();
    return absl::OkStatus();
  }

  void Wake() override { socket_.Wake(); }
  int descriptor() const override {
    // Made when it is wanted: while there is one, each datagram that comes costs a callback.
    std::call_once(poll_made_, [this] { poll_ = MakePoll(); });
    return poll_.get();
  }
  SocketAddress local_address() const override { return socket_.local(); }
  absl::Status Join(const Address& group, std::uint32_t interface) override {
    return socket_.Join(group, interface);
  }
  absl::Status Leave(const Address& group, std::uint32_t interface) override {
    return socket_.Leave(group, interface);
  }
  DatagramStats stats() const override { return socket_.stats(); }

 private:
  /// Readable when the socket or the event is. Empty: there are no descriptors left.
  UniqueFd MakePoll() const {
    UniqueFd poll(epoll_create1(EPOLL_CLOEXEC));
    for (const int fd : {socket_.fd(), socket_.wake_fd()}) {
      epoll_event event = {};
      event.events = EPOLLIN;
      if (poll && epoll_ctl(poll.get(), EPOLL_CTL_ADD, fd, &event) != 0) return UniqueFd();
    }
    return poll;
  }
  void Reset(std::size_t slot) {
    msghdr& header = messages_[slot].msg_hdr;
    header.msg_namelen = sizeof(sockaddr_in6);
    header.msg_controllen = header.msg_control == nullptr ? 0 : LocalControl::kBytes;
  }

  /// Reads what came into `slot` as the datagram `to`. False: it is none of ours.
  bool Read(std::size_t slot, std::size_t to) {
    const msghdr& header = messages_[slot].msg_hdr;
    Datagram& datagram = datagrams_[to];
    datagram.peer = FromKernel(peers_[slot]);
    socket_.ReadDestination(controls_[slot].bytes.data(), header.msg_controllen, datagram.local);
    datagram.bytes = {&bytes_[slot * slot_bytes_], messages_[slot].msg_len};
    datagram.truncated = (header.msg_flags & MSG_TRUNC) != 0;
    Reset(slot);
    if (!socket_.Expects(datagram.local)) {
      ++socket_.counts.foreign;
      return false;
    }
    socket_.counts.truncated += datagram.truncated;
    return true;
  }

  /// Sends what is prepared for these datagrams; how many were taken.
  absl::StatusOr<std::size_t> SendBatch(std::span<const Datagram> datagrams) {
    std::size_t taken = 0;
    while (taken < datagrams.size()) {
      ++socket_.counts.send_calls;
      const int sent =
          sendmmsg(socket_.fd(), &outgoing_[taken], static_cast<unsigned>(datagrams.size() - taken),
                   MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent > 0) {
        taken += static_cast<std::size_t>(sent);
        socket_.counts.sent += static_cast<std::size_t>(sent);
        continue;
      }
      const int error = errno;
      if (error == EBADF || error == ENOTSOCK) return ErrnoStatus(error, "cannot send datagrams");
      // One that cannot be sent must not take the rest with it.
      if (!socket_.SendAgain(outgoing_[taken].msg_hdr, datagrams[taken].peer, error)) break;
      ++taken;
    }
    return taken;
  }

  KernelSocket socket_;
  mutable std::once_flag poll_made_;
  mutable UniqueFd poll_;
  const std::size_t batch_;
  const std::size_t slot_bytes_;
  std::unique_ptr<std::byte[]> bytes_;
  std::vector<sockaddr_in6> peers_;
  std::vector<iovec> parts_;
  std::vector<LocalControl> controls_;
  std::vector<mmsghdr> messages_;
  std::vector<Datagram> datagrams_;
  std::vector<OutgoingSlot> slots_;
  std::vector<mmsghdr> outgoing_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DatagramSocket>> NewMmsgSocket(const UdpOptions& options) {
  WAXVM_ASSIGN_OR_RETURN(KernelSocket socket, KernelSocket::Open(options));
  return std::make_unique<MmsgSocket>(std::move(socket), options);
}

}  // namespace waxvm
