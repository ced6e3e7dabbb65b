// SPDX-License-Identifier: Apache-2.0
// Names: opening, making, removing and renaming.
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "src/linux_abi/guest_copy.h"
#include "src/linux_abi/mapped_files.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/syscall_table.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/file_system.h"
#include "src/linux_abi/vfs/pipe.h"
#include "src/linux_abi/wait.h"

namespace waxvm::linux_abi {
namespace {

constexpr auto kWorkingDirectory = static_cast<std::uint64_t>(std::int64_t{AT_FDCWD});

/// A path argument together with where it starts.
struct Name {
  Place base;
  std::string path;
};

ErrnoOr<Name> NameArgument(Process& process, std::uint64_t fd, std::uint64_t address) {
  ErrnoOr<std::string> path = PathArgument(process, address);
  if (!path.ok()) return path.error();
  ErrnoOr<Place> base = BaseArgument(process, fd, *path);
  if (!base.ok()) return base.error();
  return Name{*std::move(base), *std::move(path)};
}

mode_t ModeArgument(std::uint64_t argument) { return static_cast<mode_t>(argument) & 07777; }

// Opening one end of a FIFO sleeps until there is somebody at the other one.
std::int64_t FinishFifo(Process& process, int flags) {
  FileSystem& file_system = process.file_system();
  const std::uint64_t number = process.call_progress();
  const std::shared_ptr<FifoOpening> opening = file_system.FindOpening(number);
  if (opening == nullptr) return -EINTR;
  if (!opening->arrived()) {
    const std::int64_t slept =
        process.Sleep({.files = {{opening, POLLIN}}, .interrupted = kRestart});
    if (slept != kAsleep) file_system.ForgetOpening(number);
    return slept == 0 ? -EINTR : slept;
  }
  const std::int64_t fd = process.files().Add(opening->end(), (flags & O_CLOEXEC) != 0);
  file_system.ForgetOpening(number);
  return fd;
}

std::int64_t OpenNamed(Process& process, std::uint64_t fd, std::uint64_t address, int flags,
                       mode_t mode, std::uint64_t resolve = 0) {
  if (process.call_progress() != 0) return FinishFifo(process, flags);
  ErrnoOr<Name> name = NameArgument(process, fd, address);
  if (!name.ok()) return name.result();
  if ((resolve & RESOLVE_IN_ROOT) != 0) {
    ErrnoOr<Place> base = BaseArgument(process, fd, ".");
    if (!base.ok()) return base.result();
    name->base = *std::move(base);
  }
  const std::int64_t room = process.files().CheckRoom();
  if (room < 0) return room;
  ErrnoOr<std::shared_ptr<OpenFile>> file =
      process.file_system().Open(name->base, name->path, flags, mode, resolve);
  if (!file.ok()) return file.result();
  const auto end = std::dynamic_pointer_cast<PipeEnd>(*file);
  if (end != nullptr && (flags & (O_NONBLOCK | O_PATH)) == 0 && (flags & O_ACCMODE) != O_RDWR) {
    process.call_progress() = process.file_system().KeepOpening(std::make_shared<FifoOpening>(end));
    return FinishFifo(process, flags);
  }
  if ((flags & O_TRUNC) != 0) RefreshMappings(process, **file);
  return process.files().Add(*std::move(file), (flags & O_CLOEXEC) != 0);
}

std::int64_t Open(Process& process, const SyscallArguments& arguments) {
  return OpenNamed(process, kWorkingDirectory, arguments[0], static_cast<int>(arguments[1]),
                   ModeArgument(arguments[2]));
}
std::int64_t OpenAt(Process& process, const SyscallArguments& arguments) {
  return OpenNamed(process, arguments[0], arguments[1], static_cast<int>(arguments[2]),
                   ModeArgument(arguments[3]));
}
std::int64_t OpenAt2(Process& process, const SyscallArguments& arguments) {
  open_how how{};
  if (arguments[3] < sizeof how) return -EINVAL;
  if (arguments[3] > kPageBytes) return -E2BIG;
  if (!process.memory().ReadObject(arguments[2], how)) return -EFAULT;
  std::vector<std::byte> rest(arguments[3] - sizeof how);
  if (!process.memory().Read(arguments[2] + sizeof how, rest)) return -EFAULT;
  // What a later kernel may mean by it is not offered.
  if (std::ranges::any_of(rest, [](std::byte byte) { return byte != std::byte{0}; })) return -E2BIG;
  constexpr std::uint64_t kFlags = O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND |
                                   O_NONBLOCK | O_SYNC | O_DIRECT | 0100000 | O_DIRECTORY |
                                   O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_PATH | O_TMPFILE |
                                   O_ASYNC;
  constexpr std::uint64_t kResolve = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS |
                                     RESOLVE_BENEATH | RESOLVE_IN_ROOT;
  constexpr std::uint64_t kCached = 0x20;
  if ((how.flags & ~kFlags) != 0 || (how.resolve & ~(kResolve | kCached)) != 0) return -EINVAL;
  const bool makes = (how.flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) != 0;
  if ((how.mode & ~std::uint64_t{07777}) != 0 || (how.mode != 0 && !makes)) return -EINVAL;
  constexpr std::uint64_t kScoped = RESOLVE_BENEATH | RESOLVE_IN_ROOT;
  if ((how.resolve & kScoped) == kScoped) return -EINVAL;
  // Nothing is cached, which callers answer by asking again without it.
  if ((how.resolve & kCached) != 0) return -EAGAIN;
  return OpenNamed(process, arguments[0], arguments[1], static_cast<int>(how.flags),
                   ModeArgument(how.mode), how.resolve);
}
std::int64_t Creat(Process& process, const SyscallArguments& arguments) {
  return OpenNamed(process, kWorkingDirectory, arguments[0], O_CREAT | O_WRONLY | O_TRUNC,
                   ModeArgument(arguments[1]));
}

std::int64_t MakeNode(Process& process, std::uint64_t fd, std::uint64_t address,
                      std::uint64_t mode) {
  const mode_t type = static_cast<mode_t>(mode) & S_IFMT;
  const bool special = type == S_IFIFO || type == S_IFSOCK;
  if (type == S_IFDIR || type == S_IFLNK) return -EPERM;
  if (type != 0 && type != S_IFREG && !special) return -EPERM;
  const ErrnoOr<Name> name = NameArgument(process, fd, address);
  if (!name.ok()) return name.result();
  if (special) {
    return process.file_system().MakeSpecial(name->base, name->path, type | ModeArgument(mode));
  }
  const ErrnoOr<std::shared_ptr<OpenFile>> file = process.file_system().Open(
      name->base, name->path, O_CREAT | O_EXCL | O_WRONLY, ModeArgument(mode));
  return file.ok() ? 0 : file.result();
}
std::int64_t MkNod(Process& process, const SyscallArguments& arguments) {
  return MakeNode(process, kWorkingDirectory, arguments[0], arguments[1]);
}
std::int64_t MkNodAt(Process& process, const SyscallArguments& arguments) {
  return MakeNode(process, arguments[0], arguments[1], arguments[2]);
}

std::int64_t MakeDirectory(Process& process, std::uint64_t fd, std::uint64_t address,
                           std::uint64_t mode) {
  const ErrnoOr<Name> name = NameArgument(process, fd, address);
  if (!name.ok()) return name.result();
  return process.file_system().MakeDirectory(name->base, name->path, ModeArgument(mode));
}
std::int64_t MkDir(Process& process, const SyscallArguments& arguments) {
  return MakeDirectory(process, kWorkingDirectory, arguments[0], arguments[1]);
}
std::int64_t MkDirAt(Process& process, const SyscallArguments& arguments) {
  return MakeDirectory(process, arguments[0], arguments[1], arguments[2]);
}

std::int64_t Remove(Process& process, std::uint64_t fd, std::uint64_t address, bool directory) {
  const ErrnoOr<Name> name = NameArgument(process, fd, address);
  if (!name.ok()) return name.result();
  return process.file_system().Remove(name->base, name->path, directory);
}
std::int64_t RmDir(Process& process, const SyscallArguments& arguments) {
  return Remove(process, kWorkingDirectory, arguments[0], /*directory=*/true);
}
std::int64_t Unlink(Process& process, const SyscallArguments& arguments) {
  return Remove(process, kWorkingDirectory, arguments[0], /*directory=*/false);
}
std::int64_t UnlinkAt(Process& process, const SyscallArguments& arguments) {
  const auto flags = static_cast<int>(arguments[2]);
  if ((flags & ~AT_REMOVEDIR) != 0) return -EINVAL;
  return Remove(process, arguments[0], arguments[1], (flags & AT_REMOVEDIR) != 0);
}

std::int64_t RenameNamed(Process& process, const SyscallArguments& arguments, unsigned flags) {
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) return -EINVAL;
  if (flags == (RENAME_NOREPLACE | RENAME_EXCHANGE)) return -EINVAL;
  const ErrnoOr<Name> from = NameArgument(process, arguments[0], arguments[1]);
  if (!from.ok()) return from.result();
  const ErrnoOr<Name> to = NameArgument(process, arguments[2], arguments[3]);
  FileSystem& file_system = process.file_system();
  if (to.ok()) return file_system.Rename(from->base, from->path, to->base, to->path, flags);
  // What is wrong with the first name is told first; the empty name gives ENOENT after it.
  const std::int64_t result = file_system.Rename(from->base, from->path, from->base, "", flags);
  return result == -ENOENT ? to.result() : result;
}
std::int64_t Rename(Process& process, const SyscallArguments& arguments) {
  return RenameNamed(process, {kWorkingDirectory, arguments[0], kWorkingDirectory, arguments[1]},
                     0);
}
std::int64_t RenameAt(Process& process, const SyscallArguments& arguments) {
  return RenameNamed(process, arguments, 0);
}
std::int64_t RenameAt2(Process& process, const SyscallArguments& arguments) {
  return RenameNamed(process, arguments, static_cast<unsigned>(arguments[4]));
}

std::int64_t LinkNamed(Process& process, const SyscallArguments& arguments, int flags) {
  if ((flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) != 0) return -EINVAL;
  FileSystem& file_system = process.file_system();
  const ErrnoOr<std::string> path = PathArgument(process, arguments[1]);
  if (!path.ok()) return path.result();
  if (path->empty() && (flags & AT_EMPTY_PATH) != 0) {
    const OpenFile* file = process.files().Get(arguments[0]);
    if (file == nullptr) return -EBADF;
    const ErrnoOr<Name> to = NameArgument(process, arguments[2], arguments[3]);
    return to.ok() ? file_system.LinkOpenFile(*file, to->base, to->path) : to.result();
  }
  const ErrnoOr<Place> base = BaseArgument(process, arguments[0], *path);
  if (!base.ok()) return base.result();
  const bool follow = (flags & AT_SYMLINK_FOLLOW) != 0;
  const ErrnoOr<Name> to = NameArgument(process, arguments[2], arguments[3]);
  if (to.ok()) return file_system.Link(*base, *path, to->base, to->path, follow);
  // As with two names of which the second is empty.
  const std::int64_t result = file_system.Link(*base, *path, *base, "", follow);
  return result == -ENOENT ? to.result() : result;
}
std::int64_t Link(Process& process, const SyscallArguments& arguments) {
  return LinkNamed(process, {kWorkingDirectory, arguments[0], kWorkingDirectory, arguments[1]}, 0);
}
std::int64_t LinkAt(Process& process, const SyscallArguments& arguments) {
  return LinkNamed(process, arguments, static_cast<int>(arguments[4]));
}

std::int64_t MakeSymbolicLink(Process& process, std::uint64_t target, std::uint64_t fd,
                              std::uint64_t address) {
  const ErrnoOr<std::string> text = PathArgument(process, target);
  if (!text.ok()) return text.result();
  const ErrnoOr<Name> name = NameArgument(process, fd, address);
  if (!name.ok()) return name.result();
  return process.file_system().MakeSymbolicLink(*text, name->base, name->path);
}
std::int64_t SymLink(Process& process, const SyscallArguments& arguments) {
  return MakeSymbolicLink(process, arguments[0], kWorkingDirectory, arguments[1]);
}
std::int64_t SymLinkAt(Process& process, const SyscallArguments& arguments) {
  return MakeSymbolicLink(process, arguments[0], arguments[1], arguments[2]);
}

std::int64_t ChDir(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<Name> name = NameArgument(process, kWorkingDirectory, arguments[0]);
  if (!name.ok()) return name.result();
  return process.file_system().ChangeDirectory(name->base, name->path);
}
std::int64_t FChDir(Process& process, const SyscallArguments& arguments) {
  const OpenFile* file = process.files().Get(arguments[0]);
  if (file == nullptr) return -EBADF;
  if (file->directory() == nullptr) return -ENOTDIR;
  process.file_system().set_working_directory(*file->directory());
  return 0;
}

std::int64_t GetCwd(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<std::string> path = process.file_system().working_directory().Path();
  if (!path.ok()) return path.result();
  const std::size_t bytes = path->size() + 1;
  if (arguments[1] < bytes) return -ERANGE;
  const std::span<const char> text(path->c_str(), bytes);
  if (!process.memory().Write(arguments[0], std::as_bytes(text))) return -EFAULT;
  return static_cast<std::int64_t>(bytes);
}

std::int64_t Truncate(Process& process, const SyscallArguments& arguments) {
  if (static_cast<std::int64_t>(arguments[1]) < 0) return -EINVAL;
  const ErrnoOr<Name> name = NameArgument(process, kWorkingDirectory, arguments[0]);
  if (!name.ok()) return name.result();
  ErrnoOr<std::shared_ptr<OpenFile>> file =
      process.file_system().Open(name->base, name->path, O_WRONLY, 0);
  if (!file.ok()) return file.result();
  SyncMappings(process, **file);
  const std::int64_t result = (*file)->Truncate(arguments[1]);
  RefreshMappings(process, **file);
  return result;
}

std::int64_t Umask(Process& process, const SyscallArguments& arguments) {
  return process.file_system().set_umask(static_cast<mode_t>(arguments[0]));
}

// The namespace is laid out by the grants; nothing inside changes it.
std::int64_t Refuse(Process& process, std::string_view name) {
  process.gate().RecordDenial({.resource = Resource::kSystemCall, .name = name});
  return -EPERM;
}
std::int64_t ChRoot(Process& process, const SyscallArguments&) { return Refuse(process, "chroot"); }
std::int64_t Mount(Process& process, const SyscallArguments&) { return Refuse(process, "mount"); }
std::int64_t UMount(Process& process, const SyscallArguments&) {
  return Refuse(process, "umount2");
}
std::int64_t PivotRoot(Process& process, const SyscallArguments&) {
  return Refuse(process, "pivot_root");
}
constexpr std::string_view kRefused = "always EPERM, and named in the report";

constexpr std::string_view kNoDevices = "devices; FIFOs and sockets within granted folders";

constexpr SyscallEntry kEntries[] = {
    {SYS_open, "open", Open},
    {SYS_openat, "openat", OpenAt},
    {SYS_openat2, "openat2", OpenAt2},
    {SYS_creat, "creat", Creat},
    {SYS_mknod, "mknod", MkNod, Support::kPartial, kNoDevices},
    {SYS_mknodat, "mknodat", MkNodAt, Support::kPartial, kNoDevices},
    {SYS_mkdir, "mkdir", MkDir},
    {SYS_mkdirat, "mkdirat", MkDirAt},
    {SYS_rmdir, "rmdir", RmDir},
    {SYS_unlink, "unlink", Unlink},
    {SYS_unlinkat, "unlinkat", UnlinkAt},
    {SYS_rename, "rename", Rename},
    {SYS_renameat, "renameat", RenameAt},
    {SYS_renameat2, "renameat2", RenameAt2, Support::kPartial, "RENAME_WHITEOUT"},
    {SYS_link, "link", Link},
    {SYS_linkat, "linkat", LinkAt},
    {SYS_symlink, "symlink", SymLink},
    {SYS_symlinkat, "symlinkat", SymLinkAt},
    {SYS_chdir, "chdir", ChDir},
    {SYS_fchdir, "fchdir", FChDir},
    {SYS_getcwd, "getcwd", GetCwd},
    {SYS_truncate, "truncate", Truncate},
    {SYS_umask, "umask", Umask},
    {SYS_chroot, "chroot", ChRoot, Support::kPartial, kRefused},
    {SYS_mount, "mount", Mount, Support::kPartial, kRefused},
    {SYS_umount2, "umount2", UMount, Support::kPartial, kRefused},
    {SYS_pivot_root, "pivot_root", PivotRoot, Support::kPartial, kRefused},
};

}  // namespace

std::span<const SyscallEntry> PathCalls() { return kEntries; }

}  // namespace waxvm::linux_abi
