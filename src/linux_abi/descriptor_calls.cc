// SPDX-License-Identifier: Apache-2.0
// The table of open files: duplicating, closing, flags, and files that have no path.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

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
#include "src/linux_abi/vfs/pipe.h"

namespace waxvm::linux_abi {
namespace {

std::uint64_t FdNumber(std::uint64_t argument) { return static_cast<std::uint32_t>(argument); }

std::int64_t Close(Process& process, const SyscallArguments& arguments) {
  return process.files().Close(arguments[0]);
}

std::int64_t CloseRange(Process& process, const SyscallArguments& arguments) {
  constexpr std::uint64_t kUnshare = 2;
  constexpr std::uint64_t kCloseOnExec = 4;
  const std::uint64_t first = FdNumber(arguments[0]);
  const std::uint64_t last = FdNumber(arguments[1]);
  const std::uint64_t flags = arguments[2];
  if (first > last || (flags & ~(kUnshare | kCloseOnExec)) != 0) return -EINVAL;
  process.files().CloseRange(first, last, (flags & kCloseOnExec) != 0);
  return 0;
}

std::int64_t Dup(Process& process, const SyscallArguments& arguments) {
  std::shared_ptr<OpenFile> file = process.files().Share(arguments[0]);
  if (file == nullptr) return -EBADF;
  return process.files().Add(std::move(file), /*close_on_exec=*/false);
}

std::int64_t Dup2(Process& process, const SyscallArguments& arguments) {
  std::shared_ptr<OpenFile> file = process.files().Share(arguments[0]);
  if (file == nullptr) return -EBADF;
  const std::uint64_t target = FdNumber(arguments[1]);
  if (FdNumber(arguments[0]) == target) return static_cast<std::int64_t>(target);
  return process.files().Replace(target, std::move(file), /*close_on_exec=*/false);
}

std::int64_t Dup3(Process& process, const SyscallArguments& arguments) {
  const auto flags = static_cast<int>(arguments[2]);
  const std::uint64_t target = FdNumber(arguments[1]);
  if ((flags & ~O_CLOEXEC) != 0 || FdNumber(arguments[0]) == target) return -EINVAL;
  std::shared_ptr<OpenFile> file = process.files().Share(arguments[0]);
  if (file == nullptr) return -EBADF;
  return process.files().Replace(target, std::move(file), (flags & O_CLOEXEC) != 0);
}

// There is one process, and locks of one process never stand in each other's way.
std::int64_t Lock(Process& process, const OpenFile& file, int command, std::uint64_t address) {
  struct flock lock {};
  if (!process.memory().ReadObject(address, lock)) return -EFAULT;
  if (lock.l_type != F_RDLCK && lock.l_type != F_WRLCK && lock.l_type != F_UNLCK) return -EINVAL;
  if (lock.l_whence < SEEK_SET || lock.l_whence > SEEK_END) return -EINVAL;
  if (command == F_GETLK || command == F_OFD_GETLK) {
    lock.l_type = F_UNLCK;
    return process.memory().WriteObject(address, lock) ? 0 : -EFAULT;
  }
  if (lock.l_type == F_RDLCK && !file.readable()) return -EBADF;
  if (lock.l_type == F_WRLCK && !file.writable()) return -EBADF;
  return 0;
}

std::int64_t Fcntl(Process& process, const SyscallArguments& arguments) {
  FdTable& files = process.files();
  std::shared_ptr<OpenFile> file = files.Share(arguments[0]);
  if (file == nullptr) return -EBADF;
  const std::uint64_t fd = FdNumber(arguments[0]);
  const auto command = static_cast<int>(arguments[1]);
  switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
      return files.Add(std::move(file), command == F_DUPFD_CLOEXEC, FdNumber(arguments[2]));
    case F_GETFD:
      return files.close_on_exec(fd) ? FD_CLOEXEC : 0;
    case F_SETFD:
      files.set_close_on_exec(fd, (arguments[2] & FD_CLOEXEC) != 0);
      return 0;
    case F_GETFL:
      return file->flags();
    default:
      break;
  }
  if (file->path_only()) return -EBADF;
  switch (command) {
    case F_SETFL:
      file->SetStatusFlags(static_cast<int>(arguments[2]));
      return 0;
    case F_GETPIPE_SZ:
    case F_SETPIPE_SZ: {
      const auto* end = dynamic_cast<const PipeEnd*>(file.get());
      if (end == nullptr) return -EBADF;
      if (command == F_SETPIPE_SZ) return end->pipe()->SetCapacity(FdNumber(arguments[2]));
      return static_cast<std::int64_t>(end->pipe()->capacity());
    }
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
      return Lock(process, *file, command, arguments[2]);
    default:
      return -EINVAL;
  }
}

std::int64_t Flock(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<OpenFile*> file = FileArgument(process, arguments[0]);
  if (!file.ok()) return file.result();
  const auto operation = static_cast<int>(arguments[1]) & ~LOCK_NB;
  const bool valid = operation == LOCK_SH || operation == LOCK_EX || operation == LOCK_UN;
  return valid ? 0 : -EINVAL;
}

std::int64_t Ioctl(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<OpenFile*> file = FileArgument(process, arguments[0]);
  if (!file.ok()) return file.result();
  const std::uint64_t fd = FdNumber(arguments[0]);
  switch (static_cast<std::uint32_t>(arguments[1])) {
    case FIOCLEX:
    case FIONCLEX:
      process.files().set_close_on_exec(fd, static_cast<std::uint32_t>(arguments[1]) == FIOCLEX);
      return 0;
    case FIONBIO: {
      std::int32_t on = 0;
      if (!process.memory().ReadObject(arguments[2], on)) return -EFAULT;
      const int flags = (*file)->flags() & ~O_NONBLOCK;
      (*file)->SetStatusFlags(on != 0 ? flags | O_NONBLOCK : flags);
      return 0;
    }
    case FIONREAD: {
      const std::int64_t available = (*file)->Available();
      if (available < 0) return available;
      const auto answer = static_cast<std::int32_t>(available);
      return process.memory().WriteObject(arguments[2], answer) ? 0 : -EFAULT;
    }
    default:
      return -ENOTTY;
  }
}

std::int64_t MakePipe(Process& process, std::uint64_t address, int flags) {
  if ((flags & ~(O_CLOEXEC | O_NONBLOCK)) != 0) return -EINVAL;
  ErrnoOr<PipeEnds> ends = CreatePipe(process.file_system().context(), flags);
  if (!ends.ok()) return ends.result();
  FdTable& files = process.files();
  const bool close_on_exec = (flags & O_CLOEXEC) != 0;
  const std::int64_t reader = files.Add(std::move(ends->reader), close_on_exec);
  if (reader < 0) return reader;
  const std::int64_t writer = files.Add(std::move(ends->writer), close_on_exec);
  std::int64_t result = writer < 0 ? writer : 0;
  if (result == 0) {
    const std::array<std::int32_t, 2> both = {static_cast<std::int32_t>(reader),
                                              static_cast<std::int32_t>(writer)};
    if (process.memory().WriteObject(address, both)) return 0;
    static_cast<void>(files.Close(static_cast<std::uint64_t>(writer)));
    result = -EFAULT;
  }
  static_cast<void>(files.Close(static_cast<std::uint64_t>(reader)));
  return result;
}

std::int64_t Pipe(Process& process, const SyscallArguments& arguments) {
  return MakePipe(process, arguments[0], 0);
}
std::int64_t Pipe2(Process& process, const SyscallArguments& arguments) {
  return MakePipe(process, arguments[0], static_cast<int>(arguments[1]));
}

std::int64_t MemfdCreate(Process& process, const SyscallArguments& arguments) {
  constexpr std::size_t kMaxName = 249;
  constexpr std::uint64_t kNoExecSeal = 8;
  constexpr std::uint64_t kExec = 16;
  std::string name;
  const std::int64_t length = process.memory().ReadString(arguments[0], kMaxName + 1, name);
  if (length < 0) return length == -ENAMETOOLONG ? -EINVAL : length;
  const std::uint64_t flags = arguments[1];
  if ((flags & ~(MFD_CLOEXEC | MFD_ALLOW_SEALING | kNoExecSeal | kExec)) != 0) return -EINVAL;
  ErrnoOr<std::shared_ptr<OpenFile>> file = process.file_system().CreateUnnamed(0777);
  if (!file.ok()) return -ENOMEM;
  return process.files().Add(*std::move(file), (flags & MFD_CLOEXEC) != 0);
}

std::int64_t MakeEventCounter(Process& process, std::uint64_t value, int flags) {
  if ((flags & ~(EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE)) != 0) return -EINVAL;
  return process.files().Add(
      CreateEventCounter(process.file_system().context(), static_cast<std::uint32_t>(value), flags),
      (flags & EFD_CLOEXEC) != 0);
}

std::int64_t EventFd(Process& process, const SyscallArguments& arguments) {
  return MakeEventCounter(process, arguments[0], 0);
}
std::int64_t EventFd2(Process& process, const SyscallArguments& arguments) {
  return MakeEventCounter(process, arguments[0], static_cast<int>(arguments[1]));
}

constexpr SyscallEntry kEntries[] = {
    {SYS_close, "close", Close},
    {SYS_close_range, "close_range", CloseRange},
    {SYS_dup, "dup", Dup},
    {SYS_dup2, "dup2", Dup2},
    {SYS_dup3, "dup3", Dup3},
    {SYS_fcntl, "fcntl", Fcntl, Support::kPartial,
     "leases, owners and seals; locks are always granted"},
    {SYS_flock, "flock", Flock, Support::kPartial, "locks are always granted"},
    {SYS_ioctl, "ioctl", Ioctl, Support::kPartial, "all but FIOCLEX, FIONCLEX, FIONBIO, FIONREAD"},
    {SYS_pipe, "pipe", Pipe},
    {SYS_pipe2, "pipe2", Pipe2, Support::kPartial, "O_DIRECT"},
    {SYS_memfd_create, "memfd_create", MemfdCreate, Support::kPartial, "seals and huge pages"},
    {SYS_eventfd, "eventfd", EventFd},
    {SYS_eventfd2, "eventfd2", EventFd2},
};

}  // namespace

std::span<const SyscallEntry> DescriptorCalls() { return kEntries; }

}  // namespace waxvm::linux_abi
