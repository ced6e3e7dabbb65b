// SPDX-License-Identifier: Apache-2.0
// Moving bytes into, out of and between pipes without a buffer of the caller's.
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <vector>

#include "src/linux_abi/guest_copy.h"
#include "src/linux_abi/mapped_files.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/syscall_table.h"
#include "src/linux_abi/vfs/pipe.h"
#include "src/linux_abi/wait.h"

namespace waxvm::linux_abi {
namespace {

constexpr std::uint64_t kKnownFlags =
    SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT;

ErrnoOr<OpenFile*> EndArgument(Process& process, std::uint64_t fd, bool reads) {
  const ErrnoOr<OpenFile*> file = FileArgument(process, fd);
  if (!file.ok()) return file;
  if (reads ? !(*file)->readable() : !(*file)->writable()) return Errno{EBADF};
  return file;
}

PipeEnd* AsPipe(OpenFile* file) { return dynamic_cast<PipeEnd*>(file); }

/// The offset argument of an end: where it is kept, and what it says.
struct Offset {
  std::uint64_t address = 0;
  std::optional<std::uint64_t> value;

  std::int64_t Read(Process& process, const OpenFile* pipe) {
    if (address == 0) return 0;
    if (pipe != nullptr) return -ESPIPE;
    std::int64_t given = 0;
    if (!process.memory().ReadObject(address, given)) return -EFAULT;
    if (given < 0) return -EINVAL;
    value = static_cast<std::uint64_t>(given);
    return 0;
  }
  std::int64_t Write(Process& process, std::int64_t moved) const {
    if (!value || moved <= 0) return moved;
    const std::uint64_t next = *value + static_cast<std::uint64_t>(moved);
    return process.memory().WriteObject(address, next) ? moved : -EFAULT;
  }
};

std::int64_t WaitOr(Process& process, std::int64_t result, OpenFile& file, short events,
                    std::uint64_t flags) {
  const bool waits = result == -EAGAIN && (flags & SPLICE_F_NONBLOCK) == 0 && !file.nonblocking();
  return waits ? SleepOnFile(process, file, events) : result;
}

// What the pipe holds goes out, and leaves it only as far as it was written.
std::int64_t FromPipe(Process& process, PipeEnd& in, OpenFile& out, const Offset& offset,
                      std::span<std::byte> buffer, std::uint64_t flags) {
  if (in.pipe()->used() == 0) {
    return WaitOr(process, in.pipe()->writers == 0 ? 0 : -EAGAIN, in, POLLIN, flags);
  }
  const std::span<std::byte> piece = buffer.first(in.pipe()->Peek(buffer));
  const std::int64_t n = offset.value ? out.PWrite(piece, *offset.value) : out.Write(piece);
  if (n == -EPIPE && !out.has_messages()) process.RaisePipeSignal();
  if (n <= 0) return WaitOr(process, n, out, POLLOUT, flags);
  out.NoteUse();
  RefreshMappings(process, out);
  in.pipe()->Take(buffer.first(static_cast<std::size_t>(n)));
  return n;
}

std::int64_t ToPipe(Process& process, OpenFile& in, PipeEnd& out, const Offset& offset,
                    std::span<std::byte> buffer, std::uint64_t flags) {
  if (out.pipe()->readers == 0) {
    process.RaisePipeSignal();
    return -EPIPE;
  }
  const std::size_t room = std::min(out.pipe()->room(), buffer.size());
  if (room == 0) return WaitOr(process, -EAGAIN, out, POLLOUT, flags);
  const std::span<std::byte> piece = buffer.first(room);
  const std::int64_t n = offset.value ? in.PRead(piece, *offset.value) : in.Read(piece);
  if (n <= 0) return WaitOr(process, n, in, POLLIN, flags);
  in.NoteUse();
  out.pipe()->Put(piece.first(static_cast<std::size_t>(n)));
  return n;
}

std::int64_t Splice(Process& process, const SyscallArguments& a) {
  const std::uint64_t flags = static_cast<std::uint32_t>(a[5]);
  if ((flags & ~kKnownFlags) != 0) return -EINVAL;
  if (a[4] == 0) return 0;
  const ErrnoOr<OpenFile*> in = EndArgument(process, a[0], /*reads=*/true);
  if (!in.ok()) return in.result();
  const ErrnoOr<OpenFile*> out = EndArgument(process, a[2], /*reads=*/false);
  if (!out.ok()) return out.result();
  PipeEnd* from = AsPipe(*in);
  PipeEnd* to = AsPipe(*out);
  if (from == nullptr && to == nullptr) return -EINVAL;
  if (!(*in)->spliceable() || !(*out)->spliceable()) return -EINVAL;
  if (from != nullptr && to != nullptr && from->pipe() == to->pipe()) return -EINVAL;
  if (((*out)->flags() & O_APPEND) != 0) return -EINVAL;
  Offset in_offset{.address = a[1], .value = {}};
  Offset out_offset{.address = a[3], .value = {}};
  for (const std::int64_t read : {in_offset.Read(process, from), out_offset.Read(process, to)}) {
    if (read < 0) return read;
  }
  SyncMappings(process, **in);
  SyncMappings(process, **out);
  const std::size_t bytes = std::min<std::uint64_t>(a[4], kBounceBytes);
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(bytes);
  const std::span<std::byte> whole(buffer.get(), bytes);
  // Between two pipes it is the room in the second that bounds what leaves the first.
  if (to == nullptr) {
    return out_offset.Write(process, FromPipe(process, *from, **out, out_offset, whole, flags));
  }
  return in_offset.Write(process, ToPipe(process, **in, *to, in_offset, whole, flags));
}

std::int64_t Tee(Process& process, const SyscallArguments& a) {
  const std::uint64_t flags = static_cast<std::uint32_t>(a[3]);
  if ((flags & ~kKnownFlags) != 0) return -EINVAL;
  const ErrnoOr<OpenFile*> in = EndArgument(process, a[0], /*reads=*/true);
  if (!in.ok()) return in.result();
  const ErrnoOr<OpenFile*> out = EndArgument(process, a[1], /*reads=*/false);
  if (!out.ok()) return out.result();
  PipeEnd* from = AsPipe(*in);
  PipeEnd* to = AsPipe(*out);
  if (from == nullptr || to == nullptr || from->pipe() == to->pipe()) return -EINVAL;
  if (a[2] == 0) return 0;
  if (to->pipe()->readers == 0) {
    process.RaisePipeSignal();
    return -EPIPE;
  }
  if (from->pipe()->used() == 0) {
    return WaitOr(process, from->pipe()->writers == 0 ? 0 : -EAGAIN, *from, POLLIN, flags);
  }
  const std::size_t bytes =
      std::min<std::uint64_t>({a[2], kBounceBytes, std::uint64_t{to->pipe()->room()}});
  if (bytes == 0) return WaitOr(process, -EAGAIN, *to, POLLOUT, flags);
  std::vector<std::byte> buffer(bytes);
  buffer.resize(from->pipe()->Peek(buffer));
  return static_cast<std::int64_t>(to->pipe()->Put(buffer));
}

std::int64_t VmSplice(Process& process, const SyscallArguments& a) {
  const std::uint64_t flags = static_cast<std::uint32_t>(a[3]);
  if ((flags & ~kKnownFlags) != 0) return -EINVAL;
  const ErrnoOr<OpenFile*> file = FileArgument(process, a[0]);
  if (!file.ok()) return file.result();
  if (AsPipe(*file) == nullptr) return -EBADF;
  const ErrnoOr<std::vector<GuestRange>> ranges = ReadVectors(process, a[1], a[2]);
  if (!ranges.ok()) return ranges.result();
  const bool may_wait = (flags & SPLICE_F_NONBLOCK) == 0;
  if ((*file)->writable()) return WriteFromGuest(process, **file, *ranges, {}, may_wait);
  return ReadToGuest(process, **file, *ranges, {}, may_wait);
}

constexpr SyscallEntry kEntries[] = {
    {SYS_splice, "splice", Splice},
    {SYS_tee, "tee", Tee},
    {SYS_vmsplice, "vmsplice", VmSplice},
};

}  // namespace

std::span<const SyscallEntry> SpliceCalls() { return kEntries; }

}  // namespace waxvm::linux_abi
