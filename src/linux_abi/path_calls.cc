// SPDX-License-Identifier: Apache-2.0
// Names: opening, making, removing and renaming.
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "src/linux_abi/guest_copy.h"
#include "src/linux_abi/mapped_files.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/syscall_table.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/file_system.h"

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

std::int64_t OpenNamed(Process& process, std::uint64_t fd, std::uint64_t address, int flags,
                       mode_t mode) {
  const ErrnoOr<Name> name = NameArgument(process, fd, address);
  if (!name.ok()) return name.result();
  const std::int64_t room = process.files().CheckRoom();
  if (room < 0) return room;
  ErrnoOr<std::shared_ptr<OpenFile>> file =
      process.file_system().Open(name->base, name->path, flags, mode);
  if (!file.ok()) return file.result();
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
std::int64_t Creat(Process& process, const SyscallArguments& arguments) {
  return OpenNamed(process, kWorkingDirectory, arguments[0], O_CREAT | O_WRONLY | O_TRUNC,
                   ModeArgument(arguments[1]));
}

std::int64_t MakeNode(Process& process, std::uint64_t fd, std::uint64_t address,
                      std::uint64_t mode) {
  const mode_t type = static_cast<mode_t>(mode) & S_IFMT;
  if (type != 0 && type != S_IFREG) return -EPERM;
  const ErrnoOr<Name> name = NameArgument(process, fd, address);
  if (!name.ok()) return name.result();
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
  constexpr unsigned kNoReplace = 1;
  if ((flags & ~kNoReplace) != 0) return -EINVAL;
  const ErrnoOr<Name> from = NameArgument(process, arguments[0], arguments[1]);
  if (!from.ok()) return from.result();
  const ErrnoOr<Name> to = NameArgument(process, arguments[2], arguments[3]);
  if (!to.ok()) return to.result();
  return process.file_system().Rename(from->base, from->path, to->base, to->path, flags != 0);
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
  const ErrnoOr<Name> to = NameArgument(process, arguments[2], arguments[3]);
  if (!to.ok()) return to.result();
  FileSystem& file_system = process.file_system();
  const ErrnoOr<std::string> path = PathArgument(process, arguments[1]);
  if (!path.ok()) return path.result();
  if (path->empty() && (flags & AT_EMPTY_PATH) != 0) {
    const OpenFile* file = process.files().Get(arguments[0]);
    return file == nullptr ? -EBADF : file_system.LinkOpenFile(*file, to->base, to->path);
  }
  const ErrnoOr<Place> base = BaseArgument(process, arguments[0], *path);
  if (!base.ok()) return base.result();
  return file_system.Link(*base, *path, to->base, to->path, (flags & AT_SYMLINK_FOLLOW) != 0);
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

constexpr SyscallEntry kEntries[] = {
    {SYS_open, "open", Open},
    {SYS_openat, "openat", OpenAt},
    {SYS_creat, "creat", Creat},
    {SYS_mknod, "mknod", MkNod, Support::kPartial, "regular files only"},
    {SYS_mknodat, "mknodat", MkNodAt, Support::kPartial, "regular files only"},
    {SYS_mkdir, "mkdir", MkDir},
    {SYS_mkdirat, "mkdirat", MkDirAt},
    {SYS_rmdir, "rmdir", RmDir},
    {SYS_unlink, "unlink", Unlink},
    {SYS_unlinkat, "unlinkat", UnlinkAt},
    {SYS_rename, "rename", Rename},
    {SYS_renameat, "renameat", RenameAt},
    {SYS_renameat2, "renameat2", RenameAt2, Support::kPartial,
     "RENAME_EXCHANGE and RENAME_WHITEOUT"},
    {SYS_link, "link", Link},
    {SYS_linkat, "linkat", LinkAt, Support::kPartial, "AT_EMPTY_PATH on granted files"},
    {SYS_symlink, "symlink", SymLink},
    {SYS_symlinkat, "symlinkat", SymLinkAt},
    {SYS_chdir, "chdir", ChDir},
    {SYS_fchdir, "fchdir", FChDir},
    {SYS_getcwd, "getcwd", GetCwd},
    {SYS_truncate, "truncate", Truncate},
    {SYS_umask, "umask", Umask},
};

}  // namespace

std::span<const SyscallEntry> PathCalls() { return kEntries; }

}  // namespace waxvm::linux_abi
