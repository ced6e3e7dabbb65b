// SPDX-License-Identifier: Apache-2.0
// What a UDP socket is apart from how datagrams are moved through it.
#ifndef WAXVM_SRC_DATAGRAM_KERNEL_SOCKET_H_
#define WAXVM_SRC_DATAGRAM_KERNEL_SOCKET_H_

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/base/unique_fd.h"
#include "waxvm/datagram.h"

namespace waxvm {

sockaddr_in6 ToKernel(const SocketAddress& address);
SocketAddress FromKernel(const sockaddr_in6& address);

/// Room for the control message that tells, or chooses, a datagram's local address.
struct alignas(cmsghdr) LocalControl {
  static constexpr std::size_t kBytes = CMSG_SPACE(sizeof(in6_pktinfo));
  std::array<std::byte, kBytes> bytes;
};

/// Everything that the kernel keeps a pointer to while one datagram is sent.
struct OutgoingSlot {
  sockaddr_in6 peer;
  iovec part;
  LocalControl control;
};

/// Counted by one thread, and read by any.
class Counter {
 public:
  Counter() = default;
  Counter(Counter&& other) noexcept : value_(other.get()) {}
  void operator+=(std::uint64_t more) { value_.store(get() + more, std::memory_order_relaxed); }
  void operator++() { *this += 1; }
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_ = 0;
};

/// What DatagramStats tells.
struct KernelCounts {
  Counter received, sent, truncated, foreign, unsent, receive_calls, send_calls, wait_calls;
};

/// Thread safety: as DatagramSocket.
class KernelSocket {
 public:
  static absl::StatusOr<KernelSocket> Open(const UdpOptions& options);

  int fd() const { return fd_.get(); }
  int wake_fd() const { return wake_.get(); }
  const SocketAddress& local() const { return local_; }
  /// Whether datagrams come with their destination; otherwise it is always local().
  bool tells_destination() const { return tells_destination_; }

  absl::Status Join(const Address& group, std::uint32_t interface);
  absl::Status Leave(const Address& group, std::uint32_t interface);
  /// False for a group that others on this host have joined, and this socket has not: the kernel
  /// hands its datagrams to every socket that is bound to [::].
  bool Expects(const SocketAddress& destination) const {
    return !destination.is_multicast() || IsJoined(destination);
  }

  /// Puts the destination of a received datagram into `local`.
  void ReadDestination(const std::byte* control, std::size_t bytes, SocketAddress& local) const;
  /// Fills the message that sends a datagram from the slot, which the message points into then.
  void Prepare(const Datagram& datagram, OutgoingSlot& slot, msghdr& message) const;

  /// What to do after a system call failed.
  enum class After {
    kAgain,   ///< it told of something that came before: try the same once more
    kFull,    ///< there is no room now
    kRefused  ///< this datagram cannot be sent
  };
  /// For a send that failed with `error`, for the `attempt`th time, from 1. Takes what the kernel
  /// has to tell about earlier datagrams.
  After Classify(int error, int attempt);
  /// Sends one datagram whose message is ready, after a first attempt failed with `error`. False:
  /// there is no room now.
  bool SendAgain(const msghdr& message, const SocketAddress& peer, int error);
  /// Whether a failed receive tells of datagrams that were sent, so that the next one may go well.
  bool IsAboutSending(int error);

  /// Takes what the kernel says of datagrams that were sent. A bounded number.
  void ReadErrors();
  void AddError(const SocketAddress& peer, int error);
  std::size_t TakeErrors(std::span<DatagramError> errors);

  void Wake() const;
  void TakeWake() const;

  /// Thread safety: any thread.
  DatagramStats stats() const;

  KernelCounts counts;

 private:
  bool IsJoined(const SocketAddress& group) const;

  UniqueFd fd_;
  UniqueFd wake_;
  SocketAddress local_;
  bool tells_destination_ = false;
  std::vector<std::pair<Address, std::uint32_t>> groups_;
  std::deque<DatagramError> errors_;
};

absl::StatusOr<std::unique_ptr<DatagramSocket>> NewMmsgSocket(const UdpOptions& options);
absl::StatusOr<std::unique_ptr<DatagramSocket>> NewUringSocket(const UdpOptions& options);

}  // namespace waxvm

#endif  // WAXVM_SRC_DATAGRAM_KERNEL_SOCKET_H_
