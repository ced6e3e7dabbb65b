// SPDX-License-Identifier: Apache-2.0
// Open files and their bytes.
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "src/base/checked.h"
#include "src/linux_abi/guest_copy.h"
#include "src/linux_abi/mapped_files.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/syscall_table.h"
#include "src/linux_abi/vfs/fd_table.h"

namespace waxvm::linux_abi {
namespace {

enum class Direction { kRead, kWrite };

ErrnoOr<OpenFile*> FileFor(Process& process, std::uint64_t fd, Direction direction) {
  ErrnoOr<OpenFile*> file = FileArgument(process, fd);
  if (!file.ok()) return file;
  const bool open = direction == Direction::kRead ? (*file)->readable() : (*file)->writable();
  if (!open) return Errno{EBADF};
  return file;
}

std::int64_t Move(Process& process, Direction direction, OpenFile& file,
                  std::span<const GuestRange> ranges, std::optional<std::uint64_t> offset) {
  return direction == Direction::kRead ? ReadToGuest(process, file, ranges, offset)
                                       : WriteFromGuest(process, file, ranges, offset);
}

std::int64_t MoveBuffer(Process& process, const SyscallArguments& arguments, Direction direction,
                        bool positioned) {
  const ErrnoOr<OpenFile*> file = FileFor(process, arguments[0], direction);
  if (!file.ok()) return file.result();
  std::optional<std::uint64_t> offset;
  if (positioned) {
    if (static_cast<std::int64_t>(arguments[3]) < 0) return -EINVAL;
    offset = arguments[3];
  }
  // Linux looks at the whole range before it cuts the length.
  const auto end = CheckedAdd(arguments[1], arguments[2]);
  if (!end || *end > kUserEnd) return -EFAULT;
  const GuestRange range{.address = arguments[1],
                         .bytes = std::min(arguments[2], kMaxTransferBytes)};
  return Move(process, direction, **file, {&range, 1}, offset);
}

std::int64_t MoveVectors(Process& process, const SyscallArguments& arguments, Direction direction,
                         std::optional<std::uint64_t> offset) {
  const ErrnoOr<OpenFile*> file = FileFor(process, arguments[0], direction);
  if (!file.ok()) return file.result();
  if (offset && static_cast<std::int64_t>(*offset) < 0) return -EINVAL;
  const ErrnoOr<std::vector<GuestRange>> ranges = ReadVectors(process, arguments[1], arguments[2]);
  if (!ranges.ok()) return ranges.result();
  return Move(process, direction, **file, *ranges, offset);
}

std::int64_t MoveVectorsWithFlags(Process& process, const SyscallArguments& arguments,
                                  Direction direction) {
  // What is asked for synchronously is on its way already; the others change the meaning.
  constexpr std::uint64_t kHarmless = RWF_HIPRI | RWF_DSYNC | RWF_SYNC;
  if ((arguments[5] & ~kHarmless) != 0) return -EOPNOTSUPP;
  const bool current = static_cast<std::int64_t>(arguments[3]) == -1;
  return MoveVectors(process, arguments, direction,
                     current ? std::nullopt : std::optional<std::uint64_t>(arguments[3]));
}

std::int64_t Read(Process& process, const SyscallArguments& arguments) {
  return MoveBuffer(process, arguments, Direction::kRead, /*positioned=*/false);
}
std::int64_t Write(Process& process, const SyscallArguments& arguments) {
  return MoveBuffer(process, arguments, Direction::kWrite, /*positioned=*/false);
}
std::int64_t PRead64(Process& process, const SyscallArguments& arguments) {
  return MoveBuffer(process, arguments, Direction::kRead, /*positioned=*/true);
}
std::int64_t PWrite64(Process& process, const SyscallArguments& arguments) {
  return MoveBuffer(process, arguments, Direction::kWrite, /*positioned=*/true);
}
std::int64_t ReadV(Process& process, const SyscallArguments& arguments) {
  return MoveVectors(process, arguments, Direction::kRead, std::nullopt);
}
std::int64_t WriteV(Process& process, const SyscallArguments& arguments) {
  return MoveVectors(process, arguments, Direction::kWrite, std::nullopt);
}
std::int64_t PReadV(Process& process, const SyscallArguments& arguments) {
  return MoveVectors(process, arguments, Direction::kRead, arguments[3]);
}
std::int64_t PWriteV(Process& process, const SyscallArguments& arguments) {
  return MoveVectors(process, arguments, Direction::kWrite, arguments[3]);
}
std::int64_t PReadV2(Process& process, const SyscallArguments& arguments) {
  return MoveVectorsWithFlags(process, arguments, Direction::kRead);
}
std::int64_t PWriteV2(Process& process, const SyscallArguments& arguments) {
  return MoveVectorsWithFlags(process, arguments, Direction::kWrite);
}

std::int64_t LSeek(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<OpenFile*> file = FileArgument(process, arguments[0]);
  if (!file.ok()) return file.result();
  return (*file)->Seek(static_cast<std::int64_t>(arguments[1]), static_cast<int>(arguments[2]));
}

std::int64_t FTruncate(Process& process, const SyscallArguments& arguments) {
  if (static_cast<std::int64_t>(arguments[1]) < 0) return -EINVAL;
  const ErrnoOr<OpenFile*> file = FileArgument(process, arguments[0]);
  if (!file.ok()) return file.result();
  if (!(*file)->writable()) return -EINVAL;
  SyncMappings(process, **file);
  const std::int64_t result = (*file)->Truncate(arguments[1]);
  RefreshMappings(process, **file);
  return result;
}

std::int64_t FAllocate(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<OpenFile*> file = FileFor(process, arguments[0], Direction::kWrite);
  if (!file.ok()) return file.result();
  const auto mode = static_cast<int>(arguments[1]);
  const auto offset = static_cast<std::int64_t>(arguments[2]);
  const auto bytes = static_cast<std::int64_t>(arguments[3]);
  if (offset < 0 || bytes <= 0) return -EINVAL;
  if (bytes > std::numeric_limits<std::int64_t>::max() - offset) return -EFBIG;
  if (mode != 0 && mode != FALLOC_FL_KEEP_SIZE &&
      mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) {
    return -EOPNOTSUPP;
  }
  SyncMappings(process, **file);
  const std::int64_t result = (*file)->Allocate(mode, arguments[2], arguments[3]);
  RefreshMappings(process, **file);
  return result;
}

std::int64_t Sync(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<OpenFile*> file = FileArgument(process, arguments[0]);
  if (!file.ok()) return file.result();
  const std::int64_t written = SyncMappings(process, **file);
  const std::int64_t synced = (*file)->Sync();
  return written < 0 ? written : synced;
}
std::int64_t SyncRange(Process& process, const SyscallArguments& arguments) {
  constexpr std::uint64_t kFlags =
      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  const ErrnoOr<OpenFile*> file = FileArgument(process, arguments[0]);
  if (!file.ok()) return file.result();
  const auto offset = static_cast<std::int64_t>(arguments[1]);
  const auto bytes = static_cast<std::int64_t>(arguments[2]);
  std::int64_t end = 0;
  if ((static_cast<std::uint32_t>(arguments[3]) & ~kFlags) != 0) return -EINVAL;
  if (offset < 0 || bytes < 0 || __builtin_add_overflow(offset, bytes, &end)) return -EINVAL;
  struct stat status {};
  const bool has_pages =
      (*file)->Stat(status) == 0 && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode));
  return has_pages ? Sync(process, arguments) : -ESPIPE;
}

// The host's syncfs would also write, and wait for, what other processes have in the same file
// system, which is nothing the guest was granted: what it has open itself is synced.
std::int64_t SyncOpenFiles(Process& process) {
  std::int64_t error = std::min<std::int64_t>(process.memory().SyncFile(), 0);
  for (std::uint64_t fd = 0; fd < process.files().size(); ++fd) {
    OpenFile* file = process.files().Get(fd);
    if (file == nullptr || file->path_only()) continue;
    const std::int64_t synced = file->Sync();
    // Pipes, sockets and their kind have nothing to be synced.
    if (synced < 0 && synced != -EINVAL) error = synced;
    if (RunIsEnding(process)) return -EINTR;
  }
  return error;
}
std::int64_t SyncFileSystem(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<OpenFile*> file = FileArgument(process, arguments[0]);
  return file.ok() ? SyncOpenFiles(process) : file.result();
}
std::int64_t SyncAll(Process& process, const SyscallArguments&) {
  static_cast<void>(SyncOpenFiles(process));
  return 0;
}

std::int64_t FAdvise(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<OpenFile*> file = FileArgument(process, arguments[0]);
  if (!file.ok()) return file.result();
  if ((*file)->Seek(0, SEEK_CUR) == -ESPIPE) return -ESPIPE;
  return arguments[3] > POSIX_FADV_NOREUSE ? -EINVAL : 0;
}

/// One side of a transfer between files: at its own offset, or at one kept in guest memory.
struct TransferEnd {
  OpenFile* file = nullptr;
  std::uint64_t offset_address = 0;
  std::uint64_t position = 0;

  std::int64_t Start(Process& process) {
    std::int64_t start = 0;
    if (offset_address == 0) {
      start = file->Seek(0, SEEK_CUR);
      if (start < 0) return start;
    } else if (!process.memory().ReadObject(offset_address, start)) {
      return -EFAULT;
    }
    position = static_cast<std::uint64_t>(start);
    return start < 0 ? -EINVAL : 0;
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

std::int64_t SendFile(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<OpenFile*> out = FileFor(process, arguments[0], Direction::kWrite);
  if (!out.ok()) return out.result();
  const ErrnoOr<OpenFile*> in = FileFor(process, arguments[1], Direction::kRead);
  if (!in.ok()) return in.result();
  if (((*out)->flags() & O_APPEND) != 0) return -EINVAL;
  TransferEnd from{.file = *in, .offset_address = arguments[2]};
  TransferEnd to{.file = *out};
  const std::int64_t started = from.Start(process);
  if (started < 0) return started == -ESPIPE ? -EINVAL : started;
  const std::int64_t moved = Transfer(process, from, to, /*to_position=*/false, arguments[3]);
  if (moved == -EAGAIN && !(*out)->nonblocking()) return SleepOnFile(process, **out, POLLOUT);
  if (moved == -EPIPE) process.RaisePipeSignal();
  if (moved < 0) return moved == -ESPIPE || moved == -EISDIR ? -EINVAL : moved;
  const std::int64_t finished = from.Finish(process);
  return finished < 0 ? finished : moved;
}

std::int64_t CheckRegular(const OpenFile& file) {
  struct stat status {};
  const std::int64_t result = file.Stat(status);
  if (result < 0) return result;
  if (S_ISDIR(status.st_mode)) return -EISDIR;
  return S_ISREG(status.st_mode) ? 0 : -EINVAL;
}

std::int64_t CopyFileRange(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<OpenFile*> in = FileFor(process, arguments[0], Direction::kRead);
  if (!in.ok()) return in.result();
  const ErrnoOr<OpenFile*> out = FileFor(process, arguments[2], Direction::kWrite);
  if (!out.ok()) return out.result();
  if (((*out)->flags() & O_APPEND) != 0) return -EBADF;
  if (arguments[5] != 0) return -EINVAL;
  TransferEnd from{.file = *in, .offset_address = arguments[1]};
  TransferEnd to{.file = *out, .offset_address = arguments[3]};
  for (const OpenFile* file : {*in, *out}) {
    const std::int64_t regular = CheckRegular(*file);
    if (regular < 0) return regular;
  }
  for (TransferEnd* end : {&from, &to}) {
    const std::int64_t started = end->Start(process);
    if (started < 0) return started;
  }
  const std::uint64_t bytes = std::min(arguments[4], kMaxTransferBytes);
  const std::uint64_t low = std::min(from.position, to.position);
  const std::uint64_t high = std::max(from.position, to.position);
  struct stat in_status {};
  struct stat out_status {};
  const bool same = (*in)->Stat(in_status) == 0 && (*out)->Stat(out_status) == 0 &&
                    in_status.st_dev == out_status.st_dev && in_status.st_ino == out_status.st_ino;
  if (same && high - low < bytes) return -EINVAL;
  const std::int64_t moved = Transfer(process, from, to, /*to_position=*/true, bytes);
  if (moved <= 0) return moved;
  for (const TransferEnd* end : {&from, &to}) {
    const std::int64_t finished = end->Finish(process);
    if (finished < 0) return finished;
  }
  return moved;
}

std::int64_t GetDents64(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<OpenFile*> file = FileArgument(process, arguments[0]);
  if (!file.ok()) return file.result();
  const ErrnoOr<std::span<const DirectoryEntry>> entries = (*file)->ReadDirectory();
  if (!entries.ok()) return entries.result();
  const std::uint64_t room =
      std::min<std::uint64_t>(static_cast<std::uint32_t>(arguments[2]), kBounceBytes);
  std::int64_t next = (*file)->Seek(0, SEEK_CUR);
  std::vector<char> buffer;
  for (const DirectoryEntry& entry : *entries) {
    constexpr std::size_t kHeader = offsetof(dirent64, d_name);
    const std::size_t bytes = (kHeader + entry.name.size() + 1 + 7) & ~std::size_t{7};
    if (buffer.size() + bytes > room) break;
    dirent64 header{};
    header.d_ino = entry.inode;
    header.d_off = ++next;
    header.d_reclen = static_cast<unsigned short>(bytes);
    header.d_type = entry.type;
    const std::size_t at = buffer.size();
    buffer.resize(at + bytes);
    std::memcpy(buffer.data() + at, &header, kHeader);
    std::memcpy(buffer.data() + at + kHeader, entry.name.data(), entry.name.size());
  }
  if (buffer.empty()) return entries->empty() ? 0 : -EINVAL;
  if (!process.memory().Write(arguments[1], std::as_bytes(std::span(buffer)))) return -EFAULT;
  (*file)->Seek(next, SEEK_SET);
  return static_cast<std::int64_t>(buffer.size());
}

constexpr std::string_view kOpenFilesOnly = "files of granted folders that are not open any more";

constexpr SyscallEntry kEntries[] = {
    {SYS_read, "read", Read},
    {SYS_write, "write", Write},
    {SYS_pread64, "pread64", PRead64},
    {SYS_pwrite64, "pwrite64", PWrite64},
    {SYS_readv, "readv", ReadV},
    {SYS_writev, "writev", WriteV},
    {SYS_preadv, "preadv", PReadV},
    {SYS_pwritev, "pwritev", PWriteV},
    {SYS_preadv2, "preadv2", PReadV2, Support::kPartial, "RWF_NOWAIT and RWF_APPEND"},
    {SYS_pwritev2, "pwritev2", PWriteV2, Support::kPartial, "RWF_NOWAIT and RWF_APPEND"},
    {SYS_lseek, "lseek", LSeek},
    {SYS_ftruncate, "ftruncate", FTruncate},
    {SYS_fallocate, "fallocate", FAllocate, Support::kPartial,
     "modes other than 0, KEEP_SIZE and PUNCH_HOLE; memory is not reserved"},
    {SYS_fsync, "fsync", Sync},
    {SYS_fdatasync, "fdatasync", Sync},
    {SYS_sync_file_range, "sync_file_range", SyncRange},
    {SYS_syncfs, "syncfs", SyncFileSystem, Support::kPartial, kOpenFilesOnly},
    {SYS_sync, "sync", SyncAll, Support::kPartial, kOpenFilesOnly},
    {SYS_fadvise64, "fadvise64", FAdvise},
    {SYS_sendfile, "sendfile", SendFile},
    {SYS_copy_file_range, "copy_file_range", CopyFileRange},
    {SYS_getdents64, "getdents64", GetDents64},
};

}  // namespace

std::span<const SyscallEntry> FileCalls() { return kEntries; }

}  // namespace waxvm::linux_abi
