// SPDX-License-Identifier: Apache-2.0
// A UDP socket by io_uring: one request receives for as long as there are buffers, which the kernel
// picks from a ring of its own; sends are done by the time that they have been submitted.
#include <liburing.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "src/base/mapping.h"
#include "src/base/status.h"
#include "src/datagram/kernel_socket.h"

namespace waxvm {
namespace {

constexpr int kBufferGroup = 0;
// For each datagram of a batch: what arrives while a batch is handled has buffers as well.
constexpr std::size_t kBuffersPerDatagram = 4;
constexpr std::size_t kHeadBytes =
    sizeof(io_uring_recvmsg_out) + sizeof(sockaddr_in6) + LocalControl::kBytes;

// Of requests; sends have their slot's number added.
enum : std::uint64_t { kReceive = 1, kWake = 2, kSend = 16 };

class UringSocket final : public DatagramSocket {
 public:
  static absl::StatusOr<std::unique_ptr<DatagramSocket>> Create(KernelSocket socket,
                                                                const UdpOptions& options) {
    std::unique_ptr<UringSocket> made(new UringSocket(std::move(socket), options));
    WAXVM_RETURN_IF_ERROR(made->SetUp());
    return made;
  }

  ~UringSocket() override {
    if (has_ring_) io_uring_queue_exit(&ring_);
  }

  absl::StatusOr<std::span<const Datagram>> Receive(std::size_t most) override {
    Recycle();
    WAXVM_RETURN_IF_ERROR(Arm());
    if (next_ == came_.size() && io_uring_cq_ready(&ring_) == 0 && HasWork()) {
      ++socket_.counts.receive_calls;
      const int result = io_uring_get_events(&ring_);
      if (result < 0) return Failed(result, "receive datagrams");
    }
    TakeCompletions();
    std::size_t kept = 0;
    most = std::min(most, batch_);
    while (kept < most && next_ < came_.size()) kept += Read(came_[next_++], kept);
    if (next_ == came_.size()) {
      came_.clear();
      next_ = 0;
    }
    socket_.counts.received += kept;
    return std::span<const Datagram>(datagrams_.data(), kept);
  }

  absl::StatusOr<std::size_t> Send(std::span<const Datagram> datagrams) override {
    WAXVM_RETURN_IF_ERROR(Arm());
    std::size_t taken = 0;
    while (taken < datagrams.size()) {
      const std::size_t count = std::min(datagrams.size() - taken, batch_);
      for (std::size_t i = 0; i < count; ++i) {
        socket_.Prepare(datagrams[taken + i], slots_[i], outgoing_[i]);
        io_uring_sqe* entry = io_uring_get_sqe(&ring_);
        io_uring_prep_sendmsg(entry, socket_.fd(), &outgoing_[i], MSG_DONTWAIT | MSG_NOSIGNAL);
        io_uring_sqe_set_flags(entry, IOSQE_CQE_SKIP_SUCCESS);
        io_uring_sqe_set_data64(entry, kSend + i);
      }
      ++socket_.counts.send_calls;
      const int submitted = io_uring_submit(&ring_);
      if (submitted < 0) return Failed(submitted, "send datagrams");
      TakeCompletions();
      socket_.counts.sent += count - failed_.size();
      for (const auto& [slot, error] : failed_)
        if (!socket_.SendAgain(outgoing_[slot], datagrams[taken + slot].peer, error))
          socket_.AddError(datagrams[taken + slot].peer, EAGAIN);
      failed_.clear();
      taken += count;
    }
    return taken;
  }

  std::size_t TakeErrors(std::span<DatagramError> errors) override {
    return socket_.TakeErrors(errors);
  }

  absl::Status Wait(TimePoint deadline, bool or_writable) override {
    WAXVM_RETURN_IF_ERROR(Arm());
    if (next_ != came_.size() || io_uring_cq_ready(&ring_) != 0) {
      TakeCompletions();
      return absl::OkStatus();
    }
    // Send takes whatever it gets.
    if (or_writable) return absl::OkStatus();
    const auto left = deadline - std::chrono::steady_clock::now();
    __kernel_timespec time = {};
    if (left.count() > 0) {
      time.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(left).count();
      time.tv_nsec = (left - std::chrono::seconds(time.tv_sec)).count();
    }
    ++socket_.counts.wait_calls;
    io_uring_cqe* first = nullptr;
    const int result = io_uring_submit_and_wait_timeout(
        &ring_, &first, 1, deadline == TimePoint::max() ? nullptr : &time, nullptr);
    if (result < 0 && result != -ETIME && result != -EINTR && result != -EAGAIN)
      return Failed(result, "wait for datagrams");
    TakeCompletions();
    return absl::OkStatus();
  }

  void Wake() override { socket_.Wake(); }
  int descriptor() const override { return ring_.ring_fd; }
  SocketAddress local_address() const override { return socket_.local(); }
  absl::Status Join(const Address& group, std::uint32_t interface) override {
    return socket_.Join(group, interface);
  }
  absl::Status Leave(const Address& group, std::uint32_t interface) override {
    return socket_.Leave(group, interface);
  }
  DatagramStats stats() const override { return socket_.stats(); }

 private:
  /// A datagram that came, in a buffer.
  struct Came {
    std::uint16_t buffer;
    std::int32_t bytes;
  };

  UringSocket(KernelSocket socket, const UdpOptions& options)
      : socket_(std::move(socket)),
        batch_(options.batch),
        buffer_count_(std::bit_ceil(options.batch * kBuffersPerDatagram)),
        buffer_bytes_(kHeadBytes + options.max_datagram_bytes),
        stride_((buffer_bytes_ + 63) / 64 * 64 + 64),
        datagrams_(batch_),
        slots_(batch_),
        outgoing_(batch_) {
    came_.reserve(buffer_count_);
    used_.reserve(buffer_count_);
    failed_.reserve(batch_);
    template_.msg_namelen = sizeof(sockaddr_in6);
    template_.msg_controllen = socket_.tells_destination() ? LocalControl::kBytes : 0;
  }

  absl::Status SetUp() {
    io_uring_params params = {};
    // The last three let completions happen when this thread asks for them, and not in the middle
    // of whatever else it does.
    params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
                   IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    params.cq_entries = static_cast<unsigned>(std::bit_ceil(2 * (buffer_count_ + batch_)));
    const auto entries = static_cast<unsigned>(std::bit_ceil(batch_ + 8));
    if (const int result = io_uring_queue_init_params(entries, &ring_, &params); result < 0) {
      if (result == -EINVAL || result == -ENOSYS)
        return absl::UnimplementedError(
            "this kernel has no io_uring with IORING_SETUP_DEFER_TASKRUN, which came with Linux "
            "6.1; UdpBackend::kMmsg needs none");
      return ErrnoStatus(-result, "cannot make an io_uring for UDP");
    }
    has_ring_ = true;
    return SetUpBuffers();
  }

  absl::Status SetUpBuffers() {
    WAXVM_ASSIGN_OR_RETURN(buffers_, Mapping::Map(buffer_count_ * stride_, PROT_READ | PROT_WRITE,
                                                  MAP_PRIVATE | MAP_ANONYMOUS));
    WAXVM_ASSIGN_OR_RETURN(buffer_ring_memory_,
                           Mapping::Map(buffer_count_ * sizeof(io_uring_buf),
                                        PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS));
    buffer_ring_ = reinterpret_cast<io_uring_buf_ring*>(buffer_ring_memory_.data());
    io_uring_buf_reg registration = {};
    registration.ring_addr = reinterpret_cast<std::uint64_t>(buffer_ring_);
    registration.ring_entries = static_cast<unsigned>(buffer_count_);
    registration.bgid = kBufferGroup;
    if (const int result = io_uring_register_buf_ring(&ring_, &registration, 0); result < 0)
      return ErrnoStatus(-result, "cannot register buffers of an io_uring");
    io_uring_buf_ring_init(buffer_ring_);
    for (std::size_t i = 0; i < buffer_count_; ++i) used_.push_back(static_cast<std::uint16_t>(i));
    Recycle();
    return absl::OkStatus();
  }

  std::byte* Buffer(std::uint16_t id) const { return buffers_.data() + id * stride_; }

  /// Gives buffers back whose datagrams nobody looks at any more.
  void Recycle() {
    if (used_.empty()) return;
    const int mask = io_uring_buf_ring_mask(static_cast<unsigned>(buffer_count_));
    int offset = 0;
    for (const std::uint16_t id : used_)
      io_uring_buf_ring_add(buffer_ring_, Buffer(id), static_cast<unsigned>(buffer_bytes_), id,
                            mask, offset++);
    io_uring_buf_ring_advance(buffer_ring_, offset);
    used_.clear();
  }

  /// Sees to it that the requests that stay are there.
  absl::Status Arm() {
    if (!enabled_) {
      // liburing 2.3's shared library leaves out the function for it.
      if (syscall(SYS_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) !=
          0)
        return Failed(-errno, "enable an io_uring");
      enabled_ = true;
    }
    if (receiving_ && waking_) return absl::OkStatus();
    if (!receiving_) {
      io_uring_sqe* entry = io_uring_get_sqe(&ring_);
      io_uring_prep_recvmsg_multishot(entry, socket_.fd(), &template_, 0);
      entry->flags |= IOSQE_BUFFER_SELECT;
      entry->buf_group = kBufferGroup;
      io_uring_sqe_set_data64(entry, kReceive);
      receiving_ = true;
    }
    if (!waking_) {
      io_uring_sqe* entry = io_uring_get_sqe(&ring_);
      io_uring_prep_poll_multishot(entry, socket_.wake_fd(), POLLIN);
      io_uring_sqe_set_data64(entry, kWake);
      waking_ = true;
    }
    ++socket_.counts.receive_calls;
    const int result = io_uring_submit(&ring_);
    return result < 0 ? Failed(result, "receive datagrams") : absl::OkStatus();
  }

  bool HasWork() const {
    return (__atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED) &
            (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
  }

  void TakeCompletions() {
    unsigned head = 0;
    unsigned count = 0;
    io_uring_cqe* entry = nullptr;
    io_uring_for_each_cqe(&ring_, head, entry) {
      ++count;
      TakeCompletion(*entry);
    }
    io_uring_cq_advance(&ring_, count);
  }

  void TakeCompletion(const io_uring_cqe& entry) {
    const bool more = (entry.flags & IORING_CQE_F_MORE) != 0;
    if (entry.user_data == kReceive) {
      receiving_ = receiving_ && more;
      if ((entry.flags & IORING_CQE_F_BUFFER) != 0) {
        came_.push_back(
            {static_cast<std::uint16_t>(entry.flags >> IORING_CQE_BUFFER_SHIFT), entry.res});
      } else if (entry.res < 0 && entry.res != -ENOBUFS && entry.res != -ECANCELED) {
        socket_.IsAboutSending(-entry.res);
      }
    } else if (entry.user_data == kWake) {
      waking_ = waking_ && more;
      socket_.TakeWake();
    } else if (entry.user_data >= kSend && entry.res < 0) {
      failed_.emplace_back(static_cast<std::size_t>(entry.user_data - kSend), -entry.res);
    }
  }

  /// Reads what came as the datagram `to`. False: it is none of ours.
  bool Read(const Came& came, std::size_t to) {
    used_.push_back(came.buffer);
    std::byte* const buffer = Buffer(came.buffer);
    io_uring_recvmsg_out* const out = io_uring_recvmsg_validate(buffer, came.bytes, &template_);
    if (out == nullptr || out->namelen < sizeof(sockaddr_in6)) return false;
    Datagram& datagram = datagrams_[to];
    sockaddr_in6 peer;
    std::memcpy(&peer, io_uring_recvmsg_name(out), sizeof peer);
    datagram.peer = FromKernel(peer);
    const auto* const control = buffer + sizeof(io_uring_recvmsg_out) + template_.msg_namelen;
    socket_.ReadDestination(control, out->controllen, datagram.local);
    datagram.bytes = {static_cast<const std::byte*>(io_uring_recvmsg_payload(out, &template_)),
                      io_uring_recvmsg_payload_length(out, came.bytes, &template_)};
    datagram.truncated = (out->flags & MSG_TRUNC) != 0;
    if (!socket_.Expects(datagram.local)) {
      ++socket_.counts.foreign;
      return false;
    }
    socket_.counts.truncated += datagram.truncated;
    return true;
  }

  static absl::Status Failed(int result, std::string_view what) {
    if (result == -EEXIST)
      return FailedPrecondition(
          "cannot %s: a socket of this backend belongs to the thread that "
          "used it first",
          what);
    return ErrnoStatus(-result, absl::StrFormat("cannot %s", what));
  }

  KernelSocket socket_;
  const std::size_t batch_;
  const std::size_t buffer_count_;
  const std::size_t buffer_bytes_;
  const std::size_t stride_;
  io_uring ring_ = {};
  bool has_ring_ = false;
  bool enabled_ = false;
  bool receiving_ = false;
  bool waking_ = false;
  Mapping buffers_;
  Mapping buffer_ring_memory_;
  io_uring_buf_ring* buffer_ring_ = nullptr;
  msghdr template_ = {};    ///< the sizes of names and control messages
  std::vector<Came> came_;  ///< that Receive has not handed out, from next_ on
  std::size_t next_ = 0;
  std::vector<std::uint16_t> used_;  ///< buffers of what the last Receive handed out
  std::vector<std::pair<std::size_t, int>> failed_;  ///< slots that were not sent, and why
  std::vector<Datagram> datagrams_;
  std::vector<OutgoingSlot> slots_;
  std::vector<msghdr> outgoing_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DatagramSocket>> NewUringSocket(const UdpOptions& options) {
  WAXVM_ASSIGN_OR_RETURN(KernelSocket socket, KernelSocket::Open(options));
  return UringSocket::Create(std::move(socket), options);
}

absl::StatusOr<std::unique_ptr<DatagramSocket>> NewUdpSocket(const UdpOptions& options) {
  return options.backend == UdpBackend::kIoUring ? NewUringSocket(options) : NewMmsgSocket(options);
}

}  // namespace waxvm
