// SPDX-License-Identifier: Apache-2.0
// What files say of themselves: status, modes, owners, times.
#include <fcntl.h>
#include <limits.h>
#include <linux/stat.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <utime.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "src/linux_abi/guest_copy.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/syscall_table.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/file_system.h"

namespace waxvm::linux_abi {
namespace {

// The guest gets the host's own layouts; both are x86-64 Linux.
static_assert(sizeof(struct stat) == 144 && sizeof(struct statfs) == 120);
static_assert(sizeof(struct statx) == 256);

constexpr auto kWorkingDirectory = static_cast<std::uint64_t>(std::int64_t{AT_FDCWD});
constexpr long kFchmodat2 = 452;

using Handle = ErrnoOr<std::shared_ptr<OpenFile>>;

// A handle on what `fd` and the path name. `flags`: AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH.
Handle HandleArgument(Process& process, std::uint64_t fd, std::uint64_t address, int flags) {
  const ErrnoOr<std::string> path = PathArgument(process, address);
  if (!path.ok()) return path.error();
  FileSystem& file_system = process.file_system();
  if (path->empty() && (flags & AT_EMPTY_PATH) != 0) {
    if (static_cast<std::int32_t>(fd) == AT_FDCWD) {
      return file_system.Locate(file_system.working_directory(), ".", /*follow=*/true);
    }
    std::shared_ptr<OpenFile> file = process.files().Share(fd);
    if (file == nullptr) return Errno{EBADF};
    return file;
  }
  const ErrnoOr<Place> base = BaseArgument(process, fd, *path);
  if (!base.ok()) return base.error();
  return file_system.Locate(*base, *path, (flags & AT_SYMLINK_NOFOLLOW) == 0);
}

std::int64_t StatHandle(Process& process, const Handle& file, std::uint64_t address) {
  if (!file.ok()) return file.result();
  struct stat status {};
  const std::int64_t result = (*file)->Stat(status);
  if (result < 0) return result;
  return process.memory().WriteObject(address, status) ? 0 : -EFAULT;
}

std::int64_t Stat(Process& process, const SyscallArguments& arguments) {
  return StatHandle(process, HandleArgument(process, kWorkingDirectory, arguments[0], 0),
                    arguments[1]);
}
std::int64_t LStat(Process& process, const SyscallArguments& arguments) {
  return StatHandle(process,
                    HandleArgument(process, kWorkingDirectory, arguments[0], AT_SYMLINK_NOFOLLOW),
                    arguments[1]);
}
std::int64_t FStat(Process& process, const SyscallArguments& arguments) {
  std::shared_ptr<OpenFile> file = process.files().Share(arguments[0]);
  if (file == nullptr) return -EBADF;
  return StatHandle(process, Handle(std::move(file)), arguments[1]);
}
std::int64_t NewFStatAt(Process& process, const SyscallArguments& arguments) {
  const auto flags = static_cast<int>(arguments[3]);
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT)) != 0) return -EINVAL;
  return StatHandle(process, HandleArgument(process, arguments[0], arguments[1], flags),
                    arguments[2]);
}

statx_timestamp Timestamp(const timespec& time) {
  statx_timestamp stamp{};
  stamp.tv_sec = time.tv_sec;
  stamp.tv_nsec = static_cast<std::uint32_t>(time.tv_nsec);
  return stamp;
}

std::int64_t StatX(Process& process, const SyscallArguments& arguments) {
  const auto flags = static_cast<int>(arguments[2]);
  constexpr int kKnown = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE;
  const auto mask = static_cast<std::uint32_t>(arguments[3]);
  if ((flags & ~kKnown) != 0 || (mask & STATX__RESERVED) != 0) return -EINVAL;
  if ((flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE) return -EINVAL;
  const Handle file = HandleArgument(process, arguments[0], arguments[1], flags);
  if (!file.ok()) return file.result();
  struct stat status {};
  const std::int64_t result = (*file)->Stat(status);
  if (result < 0) return result;
  struct statx extended {};
  extended.stx_mask = STATX_BASIC_STATS;
  extended.stx_blksize = static_cast<std::uint32_t>(status.st_blksize);
  extended.stx_nlink = static_cast<std::uint32_t>(status.st_nlink);
  extended.stx_uid = status.st_uid;
  extended.stx_gid = status.st_gid;
  extended.stx_mode = static_cast<std::uint16_t>(status.st_mode);
  extended.stx_ino = status.st_ino;
  extended.stx_size = static_cast<std::uint64_t>(status.st_size);
  extended.stx_blocks = static_cast<std::uint64_t>(status.st_blocks);
  extended.stx_atime = Timestamp(status.st_atim);
  extended.stx_mtime = Timestamp(status.st_mtim);
  extended.stx_ctime = Timestamp(status.st_ctim);
  extended.stx_rdev_major = major(status.st_rdev);
  extended.stx_rdev_minor = minor(status.st_rdev);
  extended.stx_dev_major = major(status.st_dev);
  extended.stx_dev_minor = minor(status.st_dev);
  return process.memory().WriteObject(arguments[4], extended) ? 0 : -EFAULT;
}

std::int64_t StatFsHandle(Process& process, const Handle& file, std::uint64_t address) {
  if (!file.ok()) return file.result();
  struct statfs status {};
  const std::int64_t result = (*file)->StatFs(status);
  if (result < 0) return result;
  return process.memory().WriteObject(address, status) ? 0 : -EFAULT;
}
std::int64_t StatFs(Process& process, const SyscallArguments& arguments) {
  return StatFsHandle(process, HandleArgument(process, kWorkingDirectory, arguments[0], 0),
                      arguments[1]);
}
std::int64_t FStatFs(Process& process, const SyscallArguments& arguments) {
  std::shared_ptr<OpenFile> file = process.files().Share(arguments[0]);
  if (file == nullptr) return -EBADF;
  return StatFsHandle(process, Handle(std::move(file)), arguments[1]);
}

std::int64_t CheckAccess(Process& process, std::uint64_t fd, std::uint64_t address,
                         std::uint64_t access, int flags) {
  const auto wanted = static_cast<int>(access);
  if ((wanted & ~(R_OK | W_OK | X_OK)) != 0) return -EINVAL;
  if ((flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return -EINVAL;
  const ErrnoOr<std::string> path = PathArgument(process, address);
  if (!path.ok()) return path.result();
  if (path->empty() && (flags & AT_EMPTY_PATH) != 0) {
    return HandleArgument(process, fd, address, flags).result();
  }
  const ErrnoOr<Place> base = BaseArgument(process, fd, *path);
  if (!base.ok()) return base.result();
  return process.file_system().CheckAccess(*base, *path, wanted,
                                           (flags & AT_SYMLINK_NOFOLLOW) == 0);
}
std::int64_t Access(Process& process, const SyscallArguments& arguments) {
  return CheckAccess(process, kWorkingDirectory, arguments[0], arguments[1], 0);
}
std::int64_t FAccessAt(Process& process, const SyscallArguments& arguments) {
  return CheckAccess(process, arguments[0], arguments[1], arguments[2], 0);
}
std::int64_t FAccessAt2(Process& process, const SyscallArguments& arguments) {
  return CheckAccess(process, arguments[0], arguments[1], arguments[2],
                     static_cast<int>(arguments[3]));
}

std::int64_t ReadLinkNamed(Process& process, std::uint64_t fd, std::uint64_t address,
                           std::uint64_t buffer, std::uint64_t bytes) {
  if (static_cast<std::int32_t>(bytes) <= 0) return -EINVAL;
  const Handle file = HandleArgument(process, fd, address, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH);
  if (!file.ok()) return file.result();
  const ErrnoOr<std::string> text = (*file)->ReadLink();
  if (!text.ok()) {
    // An empty path is there for links that are open; for anything else it names nothing.
    char first = 0;
    const bool empty = process.memory().ReadObject(address, first) && first == '\0';
    return empty && text.result() == -EINVAL ? -ENOENT : text.result();
  }
  const std::size_t shown = std::min<std::size_t>(text->size(), static_cast<std::uint32_t>(bytes));
  const std::span<const char> part(text->data(), shown);
  if (!process.memory().Write(buffer, std::as_bytes(part))) return -EFAULT;
  return static_cast<std::int64_t>(shown);
}
std::int64_t ReadLink(Process& process, const SyscallArguments& arguments) {
  return ReadLinkNamed(process, kWorkingDirectory, arguments[0], arguments[1], arguments[2]);
}
std::int64_t ReadLinkAt(Process& process, const SyscallArguments& arguments) {
  return ReadLinkNamed(process, arguments[0], arguments[1], arguments[2], arguments[3]);
}

std::int64_t SetMode(const Handle& file, std::uint64_t mode) {
  return file.ok() ? (*file)->SetMode(static_cast<mode_t>(mode) & 07777) : file.result();
}
std::int64_t ChMod(Process& process, const SyscallArguments& arguments) {
  return SetMode(HandleArgument(process, kWorkingDirectory, arguments[0], 0), arguments[1]);
}
std::int64_t FChMod(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<OpenFile*> file = FileArgument(process, arguments[0]);
  if (!file.ok()) return file.result();
  return (*file)->SetMode(static_cast<mode_t>(arguments[1]) & 07777);
}
std::int64_t FChModAt(Process& process, const SyscallArguments& arguments) {
  return SetMode(HandleArgument(process, arguments[0], arguments[1], 0), arguments[2]);
}
std::int64_t FChModAt2(Process& process, const SyscallArguments& arguments) {
  const auto flags = static_cast<int>(arguments[3]);
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return -EINVAL;
  return SetMode(HandleArgument(process, arguments[0], arguments[1], flags), arguments[2]);
}

std::int64_t SetOwner(const Handle& file, std::uint64_t owner, std::uint64_t group) {
  if (!file.ok()) return file.result();
  return (*file)->SetOwner(static_cast<uid_t>(owner), static_cast<gid_t>(group));
}
std::int64_t ChOwn(Process& process, const SyscallArguments& arguments) {
  return SetOwner(HandleArgument(process, kWorkingDirectory, arguments[0], 0), arguments[1],
                  arguments[2]);
}
std::int64_t LChOwn(Process& process, const SyscallArguments& arguments) {
  return SetOwner(HandleArgument(process, kWorkingDirectory, arguments[0], AT_SYMLINK_NOFOLLOW),
                  arguments[1], arguments[2]);
}
std::int64_t FChOwn(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<OpenFile*> file = FileArgument(process, arguments[0]);
  if (!file.ok()) return file.result();
  return (*file)->SetOwner(static_cast<uid_t>(arguments[1]), static_cast<gid_t>(arguments[2]));
}
std::int64_t FChOwnAt(Process& process, const SyscallArguments& arguments) {
  const auto flags = static_cast<int>(arguments[4]);
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return -EINVAL;
  return SetOwner(HandleArgument(process, arguments[0], arguments[1], flags), arguments[2],
                  arguments[3]);
}

using Times = std::array<timespec, 2>;
constexpr Times kNow = {timespec{.tv_sec = 0, .tv_nsec = UTIME_NOW},
                        timespec{.tv_sec = 0, .tv_nsec = UTIME_NOW}};

std::int64_t SetTimes(const Handle& file, const Times& times) {
  return file.ok() ? (*file)->SetTimes(times) : file.result();
}

std::int64_t UTimeNsAt(Process& process, const SyscallArguments& arguments) {
  const auto flags = static_cast<int>(arguments[3]);
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return -EINVAL;
  Times times = kNow;
  if (arguments[2] != 0 && !process.memory().ReadObject(arguments[2], times)) return -EFAULT;
  for (const timespec& time : times) {
    const bool special = time.tv_nsec == UTIME_NOW || time.tv_nsec == UTIME_OMIT;
    if (!special && (time.tv_nsec < 0 || time.tv_nsec > 999'999'999)) return -EINVAL;
  }
  if (arguments[1] == 0 && static_cast<std::int32_t>(arguments[0]) != AT_FDCWD) {
    const ErrnoOr<OpenFile*> file = FileArgument(process, arguments[0]);
    return file.ok() ? (*file)->SetTimes(times) : file.result();
  }
  return SetTimes(HandleArgument(process, arguments[0], arguments[1], flags), times);
}

std::int64_t UTimesNamed(Process& process, std::uint64_t fd, std::uint64_t address,
                         std::uint64_t values_address) {
  Times times = kNow;
  if (values_address != 0) {
    std::array<timeval, 2> values{};
    if (!process.memory().ReadObject(values_address, values)) return -EFAULT;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (values[i].tv_usec < 0 || values[i].tv_usec > 999'999) return -EINVAL;
      times[i] = {.tv_sec = values[i].tv_sec, .tv_nsec = values[i].tv_usec * 1000};
    }
  }
  return SetTimes(HandleArgument(process, fd, address, 0), times);
}
std::int64_t UTimes(Process& process, const SyscallArguments& arguments) {
  return UTimesNamed(process, kWorkingDirectory, arguments[0], arguments[1]);
}
std::int64_t FUTimesAt(Process& process, const SyscallArguments& arguments) {
  return UTimesNamed(process, arguments[0], arguments[1], arguments[2]);
}
std::int64_t UTime(Process& process, const SyscallArguments& arguments) {
  Times times = kNow;
  if (arguments[1] != 0) {
    utimbuf values{};
    if (!process.memory().ReadObject(arguments[1], values)) return -EFAULT;
    times = {timespec{.tv_sec = values.actime, .tv_nsec = 0},
             timespec{.tv_sec = values.modtime, .tv_nsec = 0}};
  }
  return SetTimes(HandleArgument(process, kWorkingDirectory, arguments[0], 0), times);
}

std::int64_t NoAttributes(Process&, const SyscallArguments&) { return -EOPNOTSUPP; }
std::int64_t NoHandles(Process&, const SyscallArguments&) { return -EOPNOTSUPP; }
std::int64_t NotPermitted(Process&, const SyscallArguments&) { return -EPERM; }
constexpr std::string_view kNoHandles = "no file has a handle: EOPNOTSUPP";
constexpr std::string_view kNoAttributes = "files have no extended attributes";

constexpr SyscallEntry kEntries[] = {
    {SYS_stat, "stat", Stat},
    {SYS_lstat, "lstat", LStat},
    {SYS_fstat, "fstat", FStat},
    {SYS_newfstatat, "newfstatat", NewFStatAt},
    {SYS_statx, "statx", StatX, Support::kPartial, "birth times, mount ids and attributes"},
    {SYS_statfs, "statfs", StatFs},
    {SYS_fstatfs, "fstatfs", FStatFs},
    {SYS_access, "access", Access},
    {SYS_faccessat, "faccessat", FAccessAt},
    {SYS_faccessat2, "faccessat2", FAccessAt2},
    {SYS_readlink, "readlink", ReadLink},
    {SYS_readlinkat, "readlinkat", ReadLinkAt},
    {SYS_chmod, "chmod", ChMod},
    {SYS_fchmod, "fchmod", FChMod},
    {SYS_fchmodat, "fchmodat", FChModAt},
    {kFchmodat2, "fchmodat2", FChModAt2},
    {SYS_chown, "chown", ChOwn, Support::kPartial, "granted files keep their owner: EPERM"},
    {SYS_lchown, "lchown", LChOwn, Support::kPartial, "granted files keep their owner: EPERM"},
    {SYS_fchown, "fchown", FChOwn, Support::kPartial, "granted files keep their owner: EPERM"},
    {SYS_fchownat, "fchownat", FChOwnAt, Support::kPartial,
     "granted files keep their owner: EPERM"},
    {SYS_utimensat, "utimensat", UTimeNsAt},
    {SYS_utimes, "utimes", UTimes},
    {SYS_futimesat, "futimesat", FUTimesAt},
    {SYS_utime, "utime", UTime},
    {SYS_getxattr, "getxattr", NoAttributes, Support::kPartial, kNoAttributes},
    {SYS_lgetxattr, "lgetxattr", NoAttributes, Support::kPartial, kNoAttributes},
    {SYS_fgetxattr, "fgetxattr", NoAttributes, Support::kPartial, kNoAttributes},
    {SYS_setxattr, "setxattr", NoAttributes, Support::kPartial, kNoAttributes},
    {SYS_lsetxattr, "lsetxattr", NoAttributes, Support::kPartial, kNoAttributes},
    {SYS_fsetxattr, "fsetxattr", NoAttributes, Support::kPartial, kNoAttributes},
    {SYS_listxattr, "listxattr", NoAttributes, Support::kPartial, kNoAttributes},
    {SYS_llistxattr, "llistxattr", NoAttributes, Support::kPartial, kNoAttributes},
    {SYS_flistxattr, "flistxattr", NoAttributes, Support::kPartial, kNoAttributes},
    {SYS_removexattr, "removexattr", NoAttributes, Support::kPartial, kNoAttributes},
    {SYS_lremovexattr, "lremovexattr", NoAttributes, Support::kPartial, kNoAttributes},
    {SYS_fremovexattr, "fremovexattr", NoAttributes, Support::kPartial, kNoAttributes},
    {SYS_name_to_handle_at, "name_to_handle_at", NoHandles, Support::kPartial, kNoHandles},
    {SYS_open_by_handle_at, "open_by_handle_at", NotPermitted, Support::kPartial, "always EPERM"},
};

}  // namespace

std::span<const SyscallEntry> AttributeCalls() { return kEntries; }

}  // namespace waxvm::linux_abi
