// SPDX-License-Identifier: Apache-2.0
// sendfile and copy_file_range.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <memory>

#include "src/linux_abi/guest_copy.h"
#include "src/linux_abi/mapped_files.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/syscall_table.h"
#include "src/linux_abi/vfs/pipe.h"
#include "src/linux_abi/wait.h"

namespace waxvm::linux_abi {
namespace {

/// One side of a transfer between files: at its own offset, or at one kept in guest memory.
struct TransferEnd {
  OpenFile* file = nullptr;
  std::uint64_t offset_address = 0;
  std::uint64_t position = 0;

  std::int64_t Start(Process& process) {
    std::int64_t start = 0;
    if (offset_address == 0) {
      // What has no positions is at 0 for ever.
      start = std::max<std::int64_t>(file->Seek(0, SEEK_CUR), 0);
    } else if (!process.memory().ReadObject(offset_address, start)) {
      return -EFAULT;
    }
    position = static_cast<std::uint64_t>(start);
    return 0;
  }
  std::int64_t Finish(Process& process) const {
    if (offset_address == 0) {
      return std::min<std::int64_t>(file->Seek(static_cast<std::int64_t>(position), SEEK_SET), 0);
    }
    return process.memory().WriteObject(offset_address, position) ? 0 : -EFAULT;
  }
};

// `to` is written at its position, or sequentially where it has none.
std::int64_t Transfer(Process& process, TransferEnd& from, TransferEnd& to, bool to_position,
                      std::uint64_t bytes) {
  bytes = std::min(bytes, kMaxTransferBytes);
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(kBounceBytes);
  std::uint64_t moved = 0;
  std::int64_t error = 0;
  SyncMappings(process, *from.file);
  SyncMappings(process, *to.file);
  while (moved < bytes && error == 0) {
    const std::uint64_t piece = std::min<std::uint64_t>(bytes - moved, kBounceBytes);
    const std::int64_t n = from.file->PRead({buffer.get(), piece}, from.position);
    if (n <= 0) {
      error = n;
      break;
    }
    const std::span<const std::byte> filled(buffer.get(), static_cast<std::size_t>(n));
    if (!to.file->spliceable()) {
      error = -EINVAL;
      break;
    }
    const std::int64_t written =
        to_position ? to.file->PWrite(filled, to.position) : to.file->Write(filled);
    if (written <= 0) {
      error = written;
      break;
    }
    const auto advance = static_cast<std::uint64_t>(written);
    moved += advance;
    from.position += advance;
    to.position += advance;
    if (written < n) break;
    if (moved % (kBounceBytes * 128) == 0 && RunIsEnding(process)) error = -EINTR;
  }
  if (moved > 0) RefreshMappings(process, *to.file);
  return moved > 0 ? static_cast<std::int64_t>(moved) : error;
}

// What a socket holds goes into a pipe as it comes.
std::int64_t SocketToPipe(Process& process, OpenFile& in, PipeEnd& out, std::uint64_t bytes) {
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(kBounceBytes);
  const std::size_t room = std::min<std::uint64_t>({out.pipe()->room(), bytes, kBounceBytes});
  const std::int64_t n = in.Read({buffer.get(), room});
  const bool waits = n == -EAGAIN && !in.nonblocking() && !out.nonblocking();
  if (n <= 0) return waits ? SleepOnFile(process, in, POLLIN) : n;
  in.NoteUse();
  out.pipe()->Put({buffer.get(), static_cast<std::size_t>(n)});
  return n;
}

// Linux looks first whether the pipe takes anything, whatever it would be given.
std::int64_t SendIntoPipe(Process& process, TransferEnd& from, PipeEnd& out, std::uint64_t bytes) {
  if (out.pipe()->readers == 0) {
    process.RaisePipeSignal();
    return -EPIPE;
  }
  if (out.pipe()->room() == 0)
    return out.nonblocking() ? -EAGAIN : SleepOnFile(process, out, POLLOUT);
  if (bytes == 0) return 0;
  if (!from.file->spliceable() || dynamic_cast<PipeEnd*>(from.file) != nullptr) return -EINVAL;
  if (!from.file->has_positions()) return SocketToPipe(process, *from.file, out, bytes);
  TransferEnd to{.file = &out};
  return Transfer(process, from, to, /*to_position=*/false, bytes);
}

std::int64_t SendDirectly(Process& process, TransferEnd& from, OpenFile& out, std::uint64_t bytes) {
  if ((out.flags() & O_APPEND) != 0) return -EINVAL;
  if (from.file->Seek(0, SEEK_CUR) == -ESPIPE) return -EINVAL;
  if (bytes == 0) return 0;
  if (!from.file->spliceable()) return -EINVAL;
  TransferEnd to{.file = &out};
  const std::int64_t moved = Transfer(process, from, to, /*to_position=*/false, bytes);
  return moved == -EAGAIN && !out.nonblocking() ? SleepOnFile(process, out, POLLOUT) : moved;
}

std::int64_t SendFile(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<OpenFile*> in = FileArgument(process, arguments[1]);
  if (!in.ok()) return in.result();
  if (!(*in)->readable()) return -EBADF;
  TransferEnd from{.file = *in, .offset_address = arguments[2]};
  if (const std::int64_t started = from.Start(process); started < 0) return started;
  if (from.offset_address != 0 && !(*in)->has_positions()) return -ESPIPE;
  if (static_cast<std::int64_t>(from.position) < 0) return -EINVAL;
  if (static_cast<std::int64_t>(arguments[3]) < 0) return -EINVAL;
  const ErrnoOr<OpenFile*> out = FileArgument(process, arguments[0]);
  if (!out.ok()) return out.result();
  if (!(*out)->writable()) return -EBADF;
  auto* pipe = dynamic_cast<PipeEnd*>(*out);
  const std::int64_t moved = pipe != nullptr ? SendIntoPipe(process, from, *pipe, arguments[3])
                                             : SendDirectly(process, from, **out, arguments[3]);
  if (moved == -EPIPE && pipe == nullptr && !(*out)->has_messages()) process.RaisePipeSignal();
  if (moved < 0) return moved == -ESPIPE || moved == -EISDIR ? -EINVAL : moved;
  if (!(*in)->has_positions()) return moved;
  const std::int64_t finished = from.Finish(process);
  return finished < 0 ? finished : moved;
}

// Whether Linux copies between the two at all.
std::int64_t CheckCopy(const OpenFile& in, const OpenFile& out) {
  struct stat from {};
  struct stat to {};
  for (const auto& [file, status] : {std::pair(&in, &from), std::pair(&out, &to)})
    if (const std::int64_t error = file->Stat(*status); error < 0) return error;
  if (S_ISDIR(from.st_mode) || S_ISDIR(to.st_mode)) return -EISDIR;
  if (!S_ISREG(from.st_mode) || !S_ISREG(to.st_mode)) return -EINVAL;
  if (!in.readable() || !out.writable() || (out.flags() & O_APPEND) != 0) return -EBADF;
  return from.st_dev == to.st_dev ? 0 : -EXDEV;
}

// How much of `bytes` is there to be copied. Errors: EINVAL where the copy would overlap itself.
ErrnoOr<std::uint64_t> BytesToCopy(const TransferEnd& from, const TransferEnd& to,
                                   std::uint64_t bytes) {
  struct stat in {};
  struct stat out {};
  if (from.file->Stat(in) < 0 || to.file->Stat(out) < 0) return Errno{EIO};
  constexpr std::uint64_t kMaxOffset = std::numeric_limits<std::int64_t>::max();
  for (const TransferEnd* end : {&from, &to}) {
    if (end->position + bytes < bytes) return Errno{EOVERFLOW};
    if (end->position > kMaxOffset) return Errno{EINVAL};
  }
  const auto size = static_cast<std::uint64_t>(in.st_size);
  bytes = std::min(bytes, size - std::min(size, from.position));
  const bool overlaps = to.position + bytes > from.position && to.position < from.position + bytes;
  if (in.st_ino == out.st_ino && in.st_dev == out.st_dev && overlaps) return Errno{EINVAL};
  return std::min(bytes, kMaxTransferBytes);
}

std::int64_t CopyFileRange(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<OpenFile*> in = FileArgument(process, arguments[0]);
  if (!in.ok()) return in.result();
  const ErrnoOr<OpenFile*> out = FileArgument(process, arguments[2]);
  if (!out.ok()) return out.result();
  TransferEnd from{.file = *in, .offset_address = arguments[1]};
  TransferEnd to{.file = *out, .offset_address = arguments[3]};
  for (TransferEnd* end : {&from, &to})
    if (const std::int64_t started = end->Start(process); started < 0) return started;
  if (arguments[5] != 0) return -EINVAL;
  if (const std::int64_t error = CheckCopy(**in, **out); error < 0) return error;
  SyncMappings(process, **in);
  const ErrnoOr<std::uint64_t> bytes = BytesToCopy(from, to, arguments[4]);
  if (!bytes.ok()) return bytes.result();
  const std::int64_t moved = Transfer(process, from, to, /*to_position=*/true, *bytes);
  if (moved <= 0) return moved;
  for (const TransferEnd* end : {&from, &to})
    if (const std::int64_t finished = end->Finish(process); finished < 0) return finished;
  return moved;
}

constexpr SyscallEntry kEntries[] = {
    {SYS_sendfile, "sendfile", SendFile},
    {SYS_copy_file_range, "copy_file_range", CopyFileRange},
};

}  // namespace

std::span<const SyscallEntry> TransferCalls() { return kEntries; }

}  // namespace waxvm::linux_abi
