// SPDX-License-Identifier: Apache-2.0
// Sending to and receiving from sockets.
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "src/base/checked.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/socket_message.h"
#include "src/linux_abi/syscall_table.h"
#include "src/linux_abi/vfs/file_system.h"
#include "src/linux_abi/wait.h"

namespace waxvm::linux_abi {
namespace {

// sendmmsg and recvmmsg: as on Linux, where it is UIO_MAXIOV.
constexpr std::uint64_t kMaxMessages = 1024;

std::uint64_t Total(const std::vector<GuestRange>& ranges) {
  std::uint64_t total = 0;
  for (const GuestRange& range : ranges) total += range.bytes;
  return std::min(total, kMaxTransferBytes);
}

// Linux looks at the whole range before it cuts the length.
ErrnoOr<std::vector<GuestRange>> OneRange(std::uint64_t address, std::uint64_t bytes) {
  const auto end = CheckedAdd(address, bytes);
  if (!end || *end > kUserEnd) return Errno{EFAULT};
  return std::vector<GuestRange>{{address, std::min(bytes, kMaxTransferBytes)}};
}

struct Sending {
  UnixSocket& socket;
  std::vector<GuestRange> ranges;
  Ancillary ancillary = {};
  std::shared_ptr<UnixSocket> target = {};
  int flags = 0;
};

/// What a message carries while its sender sleeps. It is as much in flight as what is queued: a
/// guest whose threads all sleep could else hold many times the files it may have open.
struct KeptFiles {
  KeptFiles(VfsContext& vfs, Ancillary carried) : context(vfs), ancillary(std::move(carried)) {
    context.files_in_flight += ancillary.files.size();
  }
  ~KeptFiles() { context.files_in_flight -= ancillary.files.size(); }
  KeptFiles(const KeptFiles&) = delete;
  KeptFiles& operator=(const KeptFiles&) = delete;

  VfsContext& context;
  Ancillary ancillary;
};

// The files of a message are those at the time of the call, however often it is tried.
ErrnoOr<Ancillary> AncillaryOf(Process& process, const MessageHeader& header) {
  std::shared_ptr<void>& kept = process.thread().call.kept;
  if (kept == nullptr) return ReadControl(process, header);
  Ancillary ancillary = std::static_pointer_cast<KeptFiles>(kept)->ancillary;
  kept.reset();
  return ancillary;
}

// One message, or the first piece of what goes into a stream.
std::int64_t SendPiece(Process& process, Sending& sending) {
  const std::uint64_t total = Total(sending.ranges);
  const bool stream = !sending.socket.has_messages();
  if (!stream && total > UnixSocket::kBufferBytes) return -EMSGSIZE;
  const std::size_t bytes =
      std::min<std::uint64_t>(total, stream ? kBounceBytes : UnixSocket::kBufferBytes);
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(bytes);
  const std::span<std::byte> piece(buffer.get(), bytes);
  if (GatherFromGuest(process, sending.ranges, 0, piece) < bytes) return -EFAULT;
  return sending.socket.Send(piece, sending.ancillary, sending.target);
}

std::int64_t Send(Process& process, Sending sending) {
  constexpr int kKnown = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_EOR | MSG_MORE | MSG_CONFIRM |
                         MSG_DONTROUTE | MSG_CMSG_CLOEXEC;
  if ((sending.flags & MSG_OOB) != 0) return -EOPNOTSUPP;
  if ((sending.flags & ~kKnown) != 0) return -EINVAL;
  const bool may_wait = (sending.flags & MSG_DONTWAIT) == 0;
  const bool raise = (sending.flags & MSG_NOSIGNAL) == 0;
  UnixSocket& socket = sending.socket;
  std::uint64_t& progress = process.call_progress();
  if (progress == 0) {
    const std::int64_t n = SendPiece(process, sending);
    if (n == -EAGAIN && may_wait && !socket.nonblocking()) {
      VfsContext& context = process.file_system().context();
      if (context.files_in_flight + sending.ancillary.files.size() > context.max_files_in_flight)
        return -ETOOMANYREFS;
      process.thread().call.kept =
          std::make_shared<KeptFiles>(context, std::move(sending.ancillary));
      return SleepOnFile(process, sending.target ? *sending.target : socket, POLLOUT);
    }
    // Only a stream's reader can be missed by surprise.
    if (n == -EPIPE && raise && socket.type() == SOCK_STREAM) process.RaisePipeSignal();
    if (n <= 0 || socket.has_messages()) return n;
    progress = static_cast<std::uint64_t>(n);
  }
  if (progress >= Total(sending.ranges)) return static_cast<std::int64_t>(progress);
  return WriteFromGuest(process, socket, sending.ranges, std::nullopt, may_wait, raise);
}

std::int64_t SendTo(Process& process, const SyscallArguments& a) {
  const ErrnoOr<std::shared_ptr<UnixSocket>> socket = SocketForMessage(process, a[0]);
  if (!socket.ok()) return socket.result();
  ErrnoOr<std::vector<GuestRange>> ranges = OneRange(a[1], a[2]);
  if (!ranges.ok()) return ranges.result();
  Sending sending{.socket = **socket, .ranges = *std::move(ranges)};
  sending.flags = static_cast<int>(a[3]);
  if (a[4] != 0) {
    if ((*socket)->type() != SOCK_DGRAM) return (*socket)->connected() ? -EISCONN : -EOPNOTSUPP;
    const ErrnoOr<std::string> name = ReadAddress(process, a[4], a[5]);
    if (!name.ok()) return name.result();
    const ErrnoOr<std::shared_ptr<UnixSocket>> target = SocketByName(process, *name);
    if (!target.ok()) return target.result();
    sending.target = *target;
  }
  return Send(process, std::move(sending));
}

std::int64_t SendMessage(Process& process, UnixSocket& socket, const MessageHeader& header,
                         int flags) {
  if (header.vector_count > 1024) return -EMSGSIZE;
  ErrnoOr<std::vector<GuestRange>> ranges =
      ReadVectors(process, header.vectors, header.vector_count);
  if (!ranges.ok()) return ranges.result();
  Sending sending{.socket = socket, .ranges = *std::move(ranges)};
  sending.flags = flags;
  if (process.call_progress() == 0) {
    ErrnoOr<Ancillary> ancillary = AncillaryOf(process, header);
    if (!ancillary.ok()) return ancillary.result();
    sending.ancillary = *std::move(ancillary);
  }
  if (header.name != 0 && header.name_bytes != 0) {
    if (socket.type() != SOCK_DGRAM) return socket.connected() ? -EISCONN : -EOPNOTSUPP;
    const ErrnoOr<std::string> name = ReadAddress(process, header.name, header.name_bytes);
    if (!name.ok()) return name.result();
    const ErrnoOr<std::shared_ptr<UnixSocket>> target = SocketByName(process, *name);
    if (!target.ok()) return target.result();
    sending.target = *target;
  }
  return Send(process, std::move(sending));
}

std::int64_t SendMsg(Process& process, const SyscallArguments& a) {
  const ErrnoOr<std::shared_ptr<UnixSocket>> socket = SocketForMessage(process, a[0]);
  if (!socket.ok()) return socket.result();
  MessageHeader header;
  if (!process.memory().ReadObject(a[1], header)) return -EFAULT;
  return SendMessage(process, **socket, header, static_cast<int>(a[2]));
}

/// One entry of sendmmsg and recvmmsg.
struct ManyHeader {
  MessageHeader header;
  std::uint32_t bytes = 0;
  std::uint32_t padding = 0;
};
static_assert(sizeof(ManyHeader) == 64);

std::int64_t SendMMsg(Process& process, const SyscallArguments& a) {
  const ErrnoOr<std::shared_ptr<UnixSocket>> socket = SocketForMessage(process, a[0]);
  if (!socket.ok()) return socket.result();
  const std::uint64_t count =
      std::min<std::uint64_t>(static_cast<std::uint32_t>(a[2]), kMaxMessages);
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t address = a[1] + i * sizeof(ManyHeader);
    ManyHeader many;
    if (!process.memory().ReadObject(address, many)) return i > 0 ? std::int64_t(i) : -EFAULT;
    // Only the first may sleep: what was sent before must not be sent again.
    const int flags = static_cast<int>(a[3]) | (i > 0 ? MSG_DONTWAIT : 0);
    const std::int64_t sent = SendMessage(process, **socket, many.header, flags);
    process.call_progress() = sent == kAsleep ? process.call_progress() : 0;
    if (sent < 0) return i > 0 ? static_cast<std::int64_t>(i) : sent;
    many.bytes = static_cast<std::uint32_t>(sent);
    if (!process.memory().WriteObject(address, many)) return i > 0 ? std::int64_t(i) : -EFAULT;
  }
  return static_cast<std::int64_t>(count);
}

// Fills the ranges from what is queued. With MSG_WAITALL a stream fills them whole, however often
// it has to sleep.
std::int64_t Receive(Process& process, UnixSocket& socket, const std::vector<GuestRange>& ranges,
                     int flags, Received& received, std::size_t& copied) {
  constexpr int kKnown = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_PEEK | MSG_WAITALL | MSG_TRUNC |
                         MSG_CMSG_CLOEXEC | MSG_WAITFORONE;
  if ((flags & MSG_OOB) != 0) return -EOPNOTSUPP;
  if ((flags & MSG_ERRQUEUE) != 0) return -EAGAIN;
  if ((flags & ~kKnown) != 0) return -EINVAL;
  const bool peek = (flags & MSG_PEEK) != 0;
  const bool may_wait = (flags & MSG_DONTWAIT) == 0 && !socket.nonblocking();
  const bool fill = (flags & MSG_WAITALL) != 0 && !peek && !socket.has_messages();
  const std::uint64_t total = Total(ranges);
  const std::size_t most = socket.has_messages() ? UnixSocket::kBufferBytes : kBounceBytes;
  std::uint64_t& progress = process.call_progress();
  const auto buffer =
      std::make_unique_for_overwrite<std::byte[]>(std::min<std::uint64_t>(total, most));
  // Another thread can make the ranges shorter while this one sleeps: what is left would then be
  // less than nothing, and more than the buffer holds.
  while (progress == 0 || progress < total) {
    const std::size_t bytes = std::min<std::uint64_t>(total - progress, most);
    const std::span<std::byte> to(buffer.get(), bytes);
    const std::int64_t n = socket.Receive(to, peek, received);
    if (n == -EAGAIN && may_wait && (progress == 0 || fill)) {
      if (socket.ends_waits()) return 0;
      const std::int64_t slept = SleepOnFile(process, socket, POLLIN);
      if (slept == kAsleep || progress == 0) return slept;
      break;
    }
    if (n < 0 && progress == 0) return n;
    if (n <= 0) break;
    if (ScatterToGuest(process, ranges, progress, to.first(static_cast<std::size_t>(n))) <
        static_cast<std::size_t>(n)) {
      return -EFAULT;
    }
    progress += static_cast<std::uint64_t>(n);
    const bool special = !received.ancillary.files.empty() || received.ancillary.credentials;
    if (progress >= total || socket.has_messages() || peek || special) break;
    // A stream gives more at once than fits into the buffer.
    if (!fill && static_cast<std::size_t>(n) < bytes) break;
  }
  copied = static_cast<std::size_t>(progress);
  progress = 0;
  const bool whole = (flags & MSG_TRUNC) != 0 && socket.has_messages();
  return static_cast<std::int64_t>(whole ? received.message_bytes : copied);
}

std::int64_t RecvFrom(Process& process, const SyscallArguments& a) {
  const ErrnoOr<std::shared_ptr<UnixSocket>> socket = SocketForMessage(process, a[0]);
  if (!socket.ok()) return socket.result();
  const ErrnoOr<std::vector<GuestRange>> ranges = OneRange(a[1], a[2]);
  if (!ranges.ok()) return ranges.result();
  Received received;
  std::size_t copied = 0;
  const std::int64_t n =
      Receive(process, **socket, *ranges, static_cast<int>(a[3]), received, copied);
  if (n < 0 || a[4] == 0) return n;
  const std::int64_t written = WriteAddress(process, received.from, a[4], a[5]);
  return written < 0 ? written : n;
}

std::int64_t ReceiveMessage(Process& process, UnixSocket& socket, MessageHeader& header,
                            int flags) {
  if (header.vector_count > 1024) return -EMSGSIZE;
  const ErrnoOr<std::vector<GuestRange>> ranges =
      ReadVectors(process, header.vectors, header.vector_count);
  if (!ranges.ok()) return ranges.result();
  Received received;
  std::size_t copied = 0;
  const std::int64_t n = Receive(process, socket, *ranges, flags, received, copied);
  if (n < 0) return n;
  header.flags = flags & MSG_CMSG_CLOEXEC;
  if (socket.has_messages() && received.message_bytes > copied) header.flags |= MSG_TRUNC;
  if (socket.type() == SOCK_SEQPACKET && n > 0) header.flags |= MSG_EOR;
  const std::int64_t written = WriteControl(process, socket, std::move(received.ancillary),
                                            (flags & MSG_CMSG_CLOEXEC) != 0, header);
  if (written < 0) return written;
  if (header.name != 0) {
    const bool named = socket.type() == SOCK_DGRAM && !received.from.empty();
    const std::int64_t bytes =
        named ? WriteAddressTo(process, received.from, header.name, header.name_bytes) : 0;
    if (bytes < 0) return bytes;
    header.name_bytes = static_cast<std::uint32_t>(bytes);
  }
  return n;
}

std::int64_t RecvMsg(Process& process, const SyscallArguments& a) {
  const ErrnoOr<std::shared_ptr<UnixSocket>> socket = SocketForMessage(process, a[0]);
  if (!socket.ok()) return socket.result();
  MessageHeader header;
  if (!process.memory().ReadObject(a[1], header)) return -EFAULT;
  const std::int64_t n = ReceiveMessage(process, **socket, header, static_cast<int>(a[2]));
  if (n < 0) return n;
  return process.memory().WriteObject(a[1], header) ? n : -EFAULT;
}

std::int64_t RecvMMsg(Process& process, const SyscallArguments& a) {
  const ErrnoOr<std::shared_ptr<UnixSocket>> socket = SocketForMessage(process, a[0]);
  if (!socket.ok()) return socket.result();
  const std::uint64_t count =
      std::min<std::uint64_t>(static_cast<std::uint32_t>(a[2]), kMaxMessages);
  std::uint64_t done = 0;
  while (done < count) {
    const std::uint64_t address = a[1] + done * sizeof(ManyHeader);
    ManyHeader many;
    if (!process.memory().ReadObject(address, many)) return done > 0 ? std::int64_t(done) : -EFAULT;
    // What was received is in place: sleeping for the next would receive it again.
    const int flags = static_cast<int>(a[3]) | (done > 0 ? MSG_DONTWAIT : 0);
    const std::int64_t n = ReceiveMessage(process, **socket, many.header, flags);
    if (n < 0) return done > 0 ? static_cast<std::int64_t>(done) : n;
    many.bytes = static_cast<std::uint32_t>(n);
    if (!process.memory().WriteObject(address, many))
      return done > 0 ? std::int64_t(done) : -EFAULT;
    ++done;
  }
  return static_cast<std::int64_t>(done);
}

constexpr SyscallEntry kEntries[] = {
    {SYS_sendto, "sendto", SendTo},
    {SYS_sendmsg, "sendmsg", SendMsg},
    {SYS_sendmmsg, "sendmmsg", SendMMsg},
    {SYS_recvfrom, "recvfrom", RecvFrom},
    {SYS_recvmsg, "recvmsg", RecvMsg},
    {SYS_recvmmsg, "recvmmsg", RecvMMsg, Support::kPartial,
     "only the first message is waited for, and its timeout is ignored"},
};

}  // namespace

std::span<const SyscallEntry> MessageCalls() { return kEntries; }

}  // namespace waxvm::linux_abi
