// SPDX-License-Identifier: Apache-2.0
// The table of open files: duplicating, closing, flags, and files that have no path.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "src/linux_abi/guest_copy.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/syscall_table.h"
#include "src/linux_abi/vfs/epoll_file.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/file_system.h"
#include "src/linux_abi/vfs/memory_file.h"
#include "src/linux_abi/vfs/pipe.h"
#include "src/linux_abi/wait.h"

namespace waxvm::linux_abi {
namespace {

std::uint64_t FdNumber(std::uint64_t argument) { return static_cast<std::uint32_t>(argument); }

// Closing any descriptor of a file gives up the locks that the process has on it, however it
// opened it. Spec: fcntl(2), advisory record locking.
void GiveUpRecordLocks(Process& process, std::uint64_t fd) {
  VfsContext& context = process.file_system().context();
  if (context.locks.empty() && context.process_locks.empty()) return;
  const OpenFile* file = process.files().Get(fd);
  struct stat status {};
  if (file == nullptr || file->path_only() || file->Stat(status) < 0) return;
  const FileLocks::File identity{status.st_dev, status.st_ino};
  context.locks.Release(identity, nullptr);
  context.process_locks.erase(identity);
}

std::int64_t Close(Process& process, const SyscallArguments& arguments) {
  GiveUpRecordLocks(process, arguments[0]);
  return process.files().Close(arguments[0]);
}

std::int64_t CloseRange(Process& process, const SyscallArguments& arguments) {
  constexpr std::uint64_t kUnshare = 2;
  constexpr std::uint64_t kCloseOnExec = 4;
  const std::uint64_t first = FdNumber(arguments[0]);
  const std::uint64_t last = FdNumber(arguments[1]);
  const std::uint64_t flags = arguments[2];
  if (first > last || (flags & ~(kUnshare | kCloseOnExec)) != 0) return -EINVAL;
  const std::uint64_t end = std::min<std::uint64_t>(last + 1, process.files().size());
  for (std::uint64_t fd = first; fd < end && (flags & kCloseOnExec) == 0; ++fd)
    GiveUpRecordLocks(process, fd);
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
  GiveUpRecordLocks(process, target);
  return process.files().Replace(target, std::move(file), /*close_on_exec=*/false);
}

std::int64_t Dup3(Process& process, const SyscallArguments& arguments) {
  const auto flags = static_cast<int>(arguments[2]);
  const std::uint64_t target = FdNumber(arguments[1]);
  if ((flags & ~O_CLOEXEC) != 0 || FdNumber(arguments[0]) == target) return -EINVAL;
  std::shared_ptr<OpenFile> file = process.files().Share(arguments[0]);
  if (file == nullptr) return -EBADF;
  GiveUpRecordLocks(process, target);
  return process.files().Replace(target, std::move(file), (flags & O_CLOEXEC) != 0);
}

constexpr std::chrono::milliseconds kHostLockRetry{10};

/// Ready when a lock that was refused is worth another try. Never in a descriptor.
class LockWait final : public OpenFile {
 public:
  /// `retry_at`: for a lock that the host keeps, which tells nobody when it is free.
  LockWait(Process& process, FileLocks::File file, bool whole_file, const FileLock& wanted,
           std::optional<std::chrono::nanoseconds> retry_at)
      : OpenFile(O_PATH),
        process_(process),
        file_(std::move(file)),
        whole_file_(whole_file),
        wanted_(wanted),
        retry_at_(retry_at) {}

  std::int64_t Stat(struct stat&) const override { return -EBADF; }
  short Poll() const override {
    if (retry_at_) return process_.host().Now() >= *retry_at_ ? POLLIN : 0;
    const FileLocks& locks = process_.file_system().context().locks;
    return locks.Conflict(file_, whole_file_, wanted_) ? 0 : POLLIN;
  }
  std::optional<std::chrono::nanoseconds> ReadyAt() const override { return retry_at_; }

 private:
  Process& process_;
  FileLocks::File file_;
  bool whole_file_;
  FileLock wanted_;
  std::optional<std::chrono::nanoseconds> retry_at_;
};

ErrnoOr<FileLocks::File> Identity(const OpenFile& file) {
  struct stat status {};
  const std::int64_t result = file.Stat(status);
  if (result < 0) return ToErrno(result);
  return FileLocks::File{status.st_dev, status.st_ino};
}

// Takes a lock that the instance keeps, and lets the open file let go of it.
std::int64_t TakeLock(Process& process, OpenFile& file, const FileLocks::File& identity,
                      bool whole_file, const FileLock& wanted, bool unlock) {
  FileLocks& locks = process.file_system().context().locks;
  const std::int64_t result = locks.Set(identity, whole_file, wanted, unlock);
  if (result == 0 && !unlock && wanted.owner != nullptr) ReleaseWithFile(locks, identity, file);
  return result;
}

std::int64_t SleepForLock(Process& process, const FileLocks::File& identity, bool whole_file,
                          const FileLock& wanted, bool on_host) {
  std::optional<std::chrono::nanoseconds> retry_at;
  if (on_host) retry_at = process.host().Now() + kHostLockRetry;
  const std::int64_t slept = process.Sleep(
      {.files = {{std::make_shared<LockWait>(process, identity, whole_file, wanted, retry_at),
                  POLLIN}},
       .interrupted = kRestart});
  return slept == 0 ? -EAGAIN : slept;
}

// The range of a struct flock, from offset 0. Errors: EINVAL, EOVERFLOW.
std::int64_t MakeAbsolute(OpenFile& file, struct flock& lock) {
  std::int64_t base = 0;
  if (lock.l_whence == SEEK_CUR) {
    base = std::max<std::int64_t>(file.Seek(0, SEEK_CUR), 0);
  } else if (lock.l_whence == SEEK_END) {
    struct stat status {};
    if (file.Stat(status) == 0) base = status.st_size;
  } else if (lock.l_whence != SEEK_SET) {
    return -EINVAL;
  }
  std::int64_t start = 0;
  if (__builtin_add_overflow(base, lock.l_start, &start)) return -EOVERFLOW;
  std::int64_t bytes = lock.l_len;
  if (bytes < 0) {
    if (__builtin_add_overflow(start, bytes, &start)) return -EINVAL;
    bytes = -bytes;
  }
  std::int64_t end = 0;
  if (start < 0) return -EINVAL;
  if (__builtin_add_overflow(start, bytes, &end)) return -EOVERFLOW;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = bytes;
  return 0;
}

FileLock ToLock(const struct flock& lock, const OpenFile* owner) {
  const auto start = static_cast<std::uint64_t>(lock.l_start);
  const std::uint64_t end =
      lock.l_len == 0 ? ~std::uint64_t{0} : start + static_cast<std::uint64_t>(lock.l_len);
  return {.owner = owner, .exclusive = lock.l_type == F_WRLCK, .start = start, .end = end};
}

std::int64_t TellLock(Process& process, OpenFile& file, const FileLocks::File& identity,
                      bool for_process, struct flock& lock, std::uint64_t address) {
  // Whoever else holds it is a process of the host, of which the guest learns only that.
  constexpr pid_t kSomebody = 1;
  const FileLock wanted = ToLock(lock, for_process ? nullptr : &file);
  if (const auto on_host = file.LockOnHost(for_process, F_OFD_GETLK, lock)) {
    if (*on_host < 0) return *on_host;
    if (lock.l_type != F_UNLCK) lock.l_pid = lock.l_pid == -1 ? -1 : kSomebody;
  } else if (const auto conflict =
                 process.file_system().context().locks.Conflict(identity, false, wanted)) {
    lock.l_type = conflict->exclusive ? F_WRLCK : F_RDLCK;
    lock.l_start = static_cast<off_t>(conflict->start);
    const bool open_end = conflict->end == ~std::uint64_t{0};
    lock.l_len = open_end ? 0 : static_cast<off_t>(conflict->end - conflict->start);
    lock.l_pid = conflict->owner == nullptr ? Process::kPid : -1;
  } else {
    lock.l_type = F_UNLCK;
  }
  return process.memory().WriteObject(address, lock) ? 0 : -EFAULT;
}

std::int64_t Lock(Process& process, OpenFile& file, int command, std::uint64_t address) {
  struct flock lock {};
  if (!process.memory().ReadObject(address, lock)) return -EFAULT;
  if (lock.l_type != F_RDLCK && lock.l_type != F_WRLCK && lock.l_type != F_UNLCK) return -EINVAL;
  const bool for_process = command == F_GETLK || command == F_SETLK || command == F_SETLKW;
  if (!for_process && lock.l_pid != 0) return -EINVAL;
  const std::int64_t absolute = MakeAbsolute(file, lock);
  if (absolute < 0) return absolute;
  const ErrnoOr<FileLocks::File> identity = Identity(file);
  if (!identity.ok()) return identity.result();
  if (command == F_GETLK || command == F_OFD_GETLK) {
    if (lock.l_type == F_UNLCK) return -EINVAL;
    return TellLock(process, file, *identity, for_process, lock, address);
  }
  if (lock.l_type == F_RDLCK && !file.readable()) return -EBADF;
  if (lock.l_type == F_WRLCK && !file.writable()) return -EBADF;
  const FileLock wanted = ToLock(lock, for_process ? nullptr : &file);
  const std::optional<std::int64_t> on_host = file.LockOnHost(for_process, F_OFD_SETLK, lock);
  const std::int64_t result =
      on_host ? *on_host
              : TakeLock(process, file, *identity, false, wanted, lock.l_type == F_UNLCK);
  const bool waits = command == F_SETLKW || command == F_OFD_SETLKW;
  if (result != -EAGAIN || !waits) return result;
  return SleepForLock(process, *identity, /*whole_file=*/false, wanted, on_host.has_value());
}

std::int64_t Seals(OpenFile& file, int command, std::uint64_t argument) {
  auto* memory_file = dynamic_cast<MemoryFile*>(&file);
  if (memory_file == nullptr || !memory_file->node()->is_regular()) return -EINVAL;
  if (command == F_GET_SEALS) return memory_file->node()->seals;
  return memory_file->AddSeals(static_cast<int>(argument));
}

std::int64_t Fcntl(Process& process, const SyscallArguments& arguments) {
  FdTable& files = process.files();
  OpenFile* found = FindForCall(process, arguments[0]);
  if (found == nullptr) return -EBADF;
  std::shared_ptr<OpenFile> file = found->shared_from_this();
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
    case F_ADD_SEALS:
    case F_GET_SEALS:
      return Seals(*file, command, arguments[2]);
    case F_GETOWN:
    case F_GETLEASE:
      return command == F_GETLEASE ? F_UNLCK : 0;
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
  const auto given = static_cast<int>(arguments[1]);
  const int operation = given & ~LOCK_NB;
  if (operation != LOCK_SH && operation != LOCK_EX && operation != LOCK_UN) return -EINVAL;
  const ErrnoOr<FileLocks::File> identity = Identity(**file);
  if (!identity.ok()) return identity.result();
  const FileLock wanted{
      .owner = *file, .exclusive = operation == LOCK_EX, .start = 0, .end = ~std::uint64_t{0}};
  const std::optional<std::int64_t> on_host = (*file)->FlockOnHost(operation);
  const std::int64_t result =
      on_host ? *on_host : TakeLock(process, **file, *identity, true, wanted, operation == LOCK_UN);
  if (result != -EAGAIN || (given & LOCK_NB) != 0) return result;
  return SleepForLock(process, *identity, /*whole_file=*/true, wanted, on_host.has_value());
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
      struct stat status {};
      const bool regular = (*file)->Stat(status) == 0 && S_ISREG(status.st_mode);
      // Less than nothing behind a file's end, as Linux counts it.
      const std::int64_t available =
          regular ? status.st_size - (*file)->Seek(0, SEEK_CUR) : (*file)->Available();
      if (available < 0 && !regular) return available;
      const auto answer = static_cast<std::int32_t>(available);
      return process.memory().WriteObject(arguments[2], answer) ? 0 : -EFAULT;
    }
    default:
      return dynamic_cast<const EpollFile*>(*file) != nullptr ? -EINVAL : -ENOTTY;
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
  if ((flags & (kNoExecSeal | kExec)) == (kNoExecSeal | kExec)) return -EINVAL;
  constexpr int kSealExec = 0x20;  // F_SEAL_EXEC
  const bool no_exec = (flags & kNoExecSeal) != 0;
  ErrnoOr<std::shared_ptr<OpenFile>> file =
      process.file_system().CreateUnnamed(no_exec ? 0666 : 0777);
  if (!file.ok()) return -ENOMEM;
  MemoryNode& node = *dynamic_cast<MemoryFile&>(**file).node();
  node.internal = true;
  node.name = "memfd:" + name;
  node.seals = no_exec ? kSealExec : (flags & MFD_ALLOW_SEALING) != 0 ? 0 : F_SEAL_SEAL;
  return process.files().Add(*std::move(file), (flags & MFD_CLOEXEC) != 0);
}

std::int64_t MakeEventCounter(Process& process, std::uint64_t value, int flags) {
  if ((flags & ~(EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE)) != 0) return -EINVAL;
  return process.files().Add(CreateEventCounter(static_cast<std::uint32_t>(value), flags),
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
     "leases, owners and notification; seals do not look at mappings"},
    {SYS_flock, "flock", Flock},
    {SYS_ioctl, "ioctl", Ioctl, Support::kPartial, "all but FIOCLEX, FIONCLEX, FIONBIO, FIONREAD"},
    {SYS_pipe, "pipe", Pipe},
    {SYS_pipe2, "pipe2", Pipe2, Support::kPartial, "O_DIRECT"},
    {SYS_memfd_create, "memfd_create", MemfdCreate, Support::kPartial, "huge pages"},
    {SYS_eventfd, "eventfd", EventFd},
    {SYS_eventfd2, "eventfd2", EventFd2},
};

}  // namespace

std::span<const SyscallEntry> DescriptorCalls() { return kEntries; }

}  // namespace waxvm::linux_abi
