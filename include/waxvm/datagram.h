// SPDX-License-Identifier: Apache-2.0
// Datagrams in batches, over UDP or over whatever else carries them.
#ifndef WAXVM_DATAGRAM_H_
#define WAXVM_DATAGRAM_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "waxvm/address.h"
#include "waxvm/socket_address.h"

namespace waxvm {

/// One datagram, as it came or as it is to be sent.
struct Datagram {
  /// Who sent it; to whom it goes.
  SocketAddress peer;
  /// Received: which address (a multicast group, perhaps) and interface it came to. To be sent:
  /// from which address and interface; all zero lets the network choose, and so does a multicast
  /// address, so that what came in can be answered by handing both addresses back.
  SocketAddress local;
  std::span<const std::byte> bytes;
  /// Received, longer than the socket takes: `bytes` is only its beginning.
  bool truncated = false;
};

/// A datagram that the network says it did not deliver.
struct DatagramError {
  SocketAddress peer;
  absl::Status status;
};

/// Sums since the socket was made.
struct DatagramStats {
  std::uint64_t received = 0;
  std::uint64_t sent = 0;
  std::uint64_t truncated = 0;      ///< received
  std::uint64_t foreign = 0;        ///< dropped: to a group that this socket has not joined
  std::uint64_t unsent = 0;         ///< refused by the network; see TakeErrors
  std::uint64_t overflows = 0;      ///< dropped by the network, since they were not taken in time
  std::uint64_t receive_calls = 0;  ///< system calls
  std::uint64_t send_calls = 0;
  std::uint64_t wait_calls = 0;
};

/// Where datagrams are sent from and received at.
/// Thread safety: none, but for Wake, descriptor and, of UDP sockets, stats.
class DatagramSocket {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  virtual ~DatagramSocket() = default;

  /// What has come, `most` at the utmost; nothing where nothing has. The bytes are valid until the
  /// next call of Receive. Errors: what the network says where the socket cannot be used any more.
  virtual absl::StatusOr<std::span<const Datagram>> Receive(std::size_t most) = 0;
  /// Takes the datagrams in their order, and returns how many it took; fewer than there are: no
  /// more can be taken before it is writable. One that was taken may still be refused or lost, the
  /// former as TakeErrors says. Errors: as Receive.
  virtual absl::StatusOr<std::size_t> Send(std::span<const Datagram> datagrams) = 0;
  /// Moves what the network said of datagrams that were sent to the front of `errors`, and returns
  /// how many that are. Who can forge them is up to the network: take them for a hint. Those that
  /// nobody takes are dropped, the oldest first.
  virtual std::size_t TakeErrors(std::span<DatagramError> errors) = 0;

  /// Until something has come (or an error, or Wake was called), with `or_writable` until Send
  /// would take something as well. Blocks: until `deadline` at the utmost.
  virtual absl::Status Wait(TimePoint deadline, bool or_writable) = 0;
  /// Ends the Wait of another thread, or else the next one. Thread safety: any thread.
  virtual void Wake() = 0;
  /// Is readable for poll(2) when a Wait would end. -1: there is none, or none left to make. Stays
  /// the socket's.
  virtual int descriptor() const = 0;

  virtual SocketAddress local_address() const = 0;
  /// Takes datagrams to this multicast group as well, from then on; an interface of 0 lets the
  /// network choose. Errors: kInvalidArgument for what is no group; kAlreadyExists; what the
  /// network says. Spec: RFC 3493 section 5.2.
  virtual absl::Status Join(const Address& group, std::uint32_t interface) = 0;
  /// Errors: kNotFound where it was not joined.
  virtual absl::Status Leave(const Address& group, std::uint32_t interface) = 0;

  virtual DatagramStats stats() const = 0;
};

/// How the kernel is asked to move datagrams.
enum class UdpBackend {
  kDefault,  ///< what was measured to be faster: kMmsg
  kMmsg,     ///< recvmmsg and sendmmsg
  /// io_uring: one request that goes on receiving, into buffers that are registered with the
  /// kernel; what is sent is submitted at once. The first thread that uses the socket is the one
  /// that must go on to, and a Wait of it ends early when it has a signal. Needs Linux 6.1.
  kIoUring,
};

struct UdpOptions {
  /// Port 0 picks one. [::] is every address.
  SocketAddress local = {};
  UdpBackend backend = UdpBackend::kDefault;
  /// Whether [::] is every IPv4 address as well; their peers have v4-mapped addresses.
  bool ipv4 = true;
  /// Longer datagrams arrive truncated. No more than 65,535.
  std::size_t max_datagram_bytes = 2048;
  /// Datagrams of one system call, and of one Receive. From 1 to 1,024.
  std::size_t batch = 64;
  /// What waits in the kernel to be taken; it may allow less.
  std::size_t kernel_buffer_bytes = std::size_t{4} << 20;
  /// Whether what is longer than the path carries is sent in fragments, which are lost more often,
  /// or refused. Without fragments the kernel also has less to do for each datagram of IPv4.
  /// Spec: RFC 8085 section 3.2.
  bool fragments = true;
  /// Whether others may have the same port, and each gets what comes to the groups that it joined.
  /// Attack: any process of this host can then take what was sent to this address alone.
  bool shared = false;
  /// How far what is sent to a group goes. Spec: RFC 3493 section 5.2.
  int multicast_hops = 1;
};

/// A UDP socket. Errors: kInvalidArgument for options that cannot be; kUnimplemented, with what is
/// missing, where the kernel is too old for the backend, and never another one in its place;
/// otherwise what the kernel says, with the address. Spec: RFC 768, RFC 3542 section 6.
absl::StatusOr<std::unique_ptr<DatagramSocket>> NewUdpSocket(const UdpOptions& options = {});

}  // namespace waxvm

#endif  // WAXVM_DATAGRAM_H_
