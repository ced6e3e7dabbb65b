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

// The same for a call that may name an offset. What has no positions is no place for one, whatever
// it is open for.
ErrnoOr<OpenFile*> FileAt(Process& process, std::uint64_t fd, Direction direction,
                          std::optional<std::uint64_t> offset) {
  if (!offset) return FileFor(process, fd, direction);
  if (static_cast<std::int64_t>(*offset) < 0) return Errno{EINVAL};
  const ErrnoOr<OpenFile*> file = FileArgument(process, fd);
  if (!file.ok()) return file;
  if (!(*file)->has_positions()) return Errno{ESPIPE};
  return FileFor(process, fd, direction);
}

std::int64_t Move(Process& process, Direction direction, OpenFile& file,
                  std::span<const GuestRange> ranges, std::optional<std::uint64_t> offset) {
  // Whatever its offset, what a file that is open for appending is given goes to its end.
  struct stat status {};
  if (offset && direction == Direction::kWrite && (file.flags() & O_APPEND) != 0 &&
      SyncMappings(process, file) == 0 && file.Stat(status) == 0)
    offset = static_cast<std::uint64_t>(status.st_size);
  return direction == Direction::kRead ? ReadToGuest(process, file, ranges, offset)
                                       : WriteFromGuest(process, file, ranges, offset);
}

std::int64_t MoveBuffer(Process& process, const SyscallArguments& arguments, Direction direction,
                        bool positioned) {
  std::optional<std::uint64_t> offset;
  if (positioned) offset = arguments[3];
  const ErrnoOr<OpenFile*> file = FileAt(process, arguments[0], direction, offset);
  if (!file.ok()) return file.result();
  // Linux looks at the whole range before it cuts the length.
  const auto end = CheckedAdd(arguments[1], arguments[2]);
  if (!end || *end > kUserEnd) return -EFAULT;
  const GuestRange range{.address = arguments[1],
                         .bytes = std::min(arguments[2], kMaxTransferBytes)};
  return Move(process, direction, **file, {&range, 1}, offset);
}

std::int64_t MoveVectors(Process& process, const SyscallArguments& arguments, Direction direction,
                         std::optional<std::uint64_t> offset) {
  const ErrnoOr<OpenFile*> file = FileAt(process, arguments[0], direction, offset);
  if (!file.ok()) return file.result();
  const bool able = direction == Direction::kRead ? (*file)->can_read() : (*file)->can_write();
  if (!able) return -EINVAL;
  const ErrnoOr<std::vector<GuestRange>> ranges = ReadVectors(process, arguments[1], arguments[2]);
  if (!ranges.ok()) return ranges.result();
  if (std::ranges::all_of(*ranges, [](const GuestRange& range) { return range.bytes == 0; }))
    return 0;
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
  if (static_cast<std::uint32_t>(arguments[2]) > SEEK_HOLE) return -EINVAL;
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

// Whether Linux knows the mode: those that change what is there exclude each other.
bool IsAllocationMode(int mode) {
  switch (mode & ~FALLOC_FL_KEEP_SIZE) {
    case 0:
    case FALLOC_FL_ZERO_RANGE:
    case FALLOC_FL_UNSHARE_RANGE:
      return true;
    case FALLOC_FL_PUNCH_HOLE:
      return (mode & FALLOC_FL_KEEP_SIZE) != 0;
    case FALLOC_FL_COLLAPSE_RANGE:
    case FALLOC_FL_INSERT_RANGE:
      return (mode & FALLOC_FL_KEEP_SIZE) == 0;
    default:
      return false;
  }
}

std::int64_t CheckAllocatable(const OpenFile& file) {
  if (!file.writable()) return -EBADF;
  struct stat status {};
  if (const std::int64_t error = file.Stat(status); error < 0) return error;
  if (S_ISFIFO(status.st_mode)) return -ESPIPE;
  return S_ISREG(status.st_mode) ? 0 : -ENODEV;
}

std::int64_t FAllocate(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<OpenFile*> file = FileArgument(process, arguments[0]);
  if (!file.ok()) return file.result();
  const auto mode = static_cast<int>(arguments[1]);
  const auto offset = static_cast<std::int64_t>(arguments[2]);
  const auto bytes = static_cast<std::int64_t>(arguments[3]);
  if (offset < 0 || bytes <= 0) return -EINVAL;
  if (!IsAllocationMode(mode)) return -EOPNOTSUPP;
  if (const std::int64_t error = CheckAllocatable(**file); error < 0) return error;
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
  struct stat status {};
  if ((*file)->Stat(status) == 0 && S_ISFIFO(status.st_mode)) return -ESPIPE;
  return arguments[3] > POSIX_FADV_NOREUSE ? -EINVAL : 0;
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
    {SYS_getdents64, "getdents64", GetDents64},
};

}  // namespace

std::span<const SyscallEntry> FileCalls() { return kEntries; }

}  // namespace waxvm::linux_abi
