// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/host_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

namespace waxvm::linux_abi {
namespace {

// A host call's result in the kernel ABI's form.
std::int64_t Result(std::int64_t result) { return result < 0 ? -errno : result; }

bool Later(const timespec& a, const timespec& b) {
  return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

}  // namespace

std::int64_t HostFile::WritableBytes(std::uint64_t offset, std::size_t bytes) const {
  const std::uint64_t limit = folder_->file_size_limit();
  if (offset >= limit) return -EFBIG;
  return static_cast<std::int64_t>(std::min<std::uint64_t>(bytes, limit - offset));
}

std::int64_t HostFile::Write(std::span<const std::byte> from) {
  if ((flags() & O_APPEND) == 0) return SeekableFile::Write(from);
  const std::int64_t size = Size();
  if (size < 0) return size;
  const std::int64_t room = WritableBytes(static_cast<std::uint64_t>(size), from.size());
  if (room < 0) return room;
  // Appending must not be torn apart from finding the end: other processes may append as well.
  iovec piece{.iov_base = const_cast<std::byte*>(from.data()),
              .iov_len = static_cast<std::size_t>(room)};
  const std::int64_t n = Result(::pwritev2(fd_.get(), &piece, 1, size, RWF_APPEND));
  if (n > 0) offset_ = static_cast<std::uint64_t>(std::max<std::int64_t>(Size(), 0));
  return n;
}

std::int64_t HostFile::PRead(std::span<std::byte> to, std::uint64_t offset) {
  return Result(::pread(fd_.get(), to.data(), to.size(), static_cast<off_t>(offset)));
}

std::int64_t HostFile::PWrite(std::span<const std::byte> from, std::uint64_t offset) {
  if (from.empty()) return 0;
  const std::int64_t room = WritableBytes(offset, from.size());
  if (room < 0) return room;
  return Result(
      ::pwrite(fd_.get(), from.data(), static_cast<std::size_t>(room), static_cast<off_t>(offset)));
}

std::int64_t HostFile::Seek(std::int64_t offset, int whence) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return SeekableFile::Seek(offset, whence);
  const std::int64_t found = Result(::lseek(fd_.get(), offset, whence));
  if (found >= 0) offset_ = static_cast<std::uint64_t>(found);
  return found;
}

std::int64_t HostFile::Size() const {
  struct stat status {};
  if (::fstat(fd_.get(), &status) != 0) return -errno;
  return status.st_size;
}

std::int64_t HostFile::Stat(struct stat& status) const {
  if (expected_) {
    status = *std::exchange(expected_, std::nullopt);
  } else if (::fstat(fd_.get(), &status) != 0) {
    return -errno;
  }
  TranslateOwner(status);
  if (context_.spec.host_clock) return 0;
  // What the guest has just written carries the host's time, which it was not granted.
  for (timespec* time : {&status.st_atim, &status.st_mtim, &status.st_ctim}) {
    if (!Later(context_.started, *time)) *time = context_.Now();
  }
  return 0;
}

std::int64_t HostFile::StatFs(struct statfs& status) const {
  return Result(::fstatfs(fd_.get(), &status));
}

std::int64_t HostFile::Truncate(std::uint64_t bytes) {
  if (bytes > folder_->file_size_limit()) return -EFBIG;
  return Result(::ftruncate(fd_.get(), static_cast<off_t>(bytes)));
}

std::int64_t HostFile::Allocate(int mode, std::uint64_t offset, std::uint64_t bytes) {
  if (offset + bytes > folder_->file_size_limit()) return -EFBIG;
  return Result(
      ::fallocate(fd_.get(), mode, static_cast<off_t>(offset), static_cast<off_t>(bytes)));
}

std::int64_t HostFile::Sync() {
  if (!path_only()) return Result(::fsync(fd_.get()));
  // A directory is known by an O_PATH descriptor, which cannot be synced.
  const UniqueFd directory(::openat(fd_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return errno == EMFILE ? -ENFILE : -errno;
  return Result(::fsync(directory.get()));
}

std::int64_t HostFile::SetMode(mode_t mode) {
  const std::int64_t permitted = folder_->Permit(path_, /*write=*/true);
  if (permitted < 0) return permitted;
  if (!path_only()) return Result(::fchmod(fd_.get(), mode & 0777));
  struct stat status {};
  if (::fstat(fd_.get(), &status) != 0) return -errno;
  if (S_ISLNK(status.st_mode)) return -EOPNOTSUPP;
  // fchmod does not take an O_PATH descriptor, and by name it would follow a link put there since.
  ErrnoOr<UniqueFd> opened = folder_->Open(path_, status, O_RDONLY);
  if (!opened.ok()) return opened.result();
  return Result(::fchmod(opened->get(), mode & 0777));
}

std::int64_t HostFile::SetOwner(uid_t owner, gid_t group) {
  const std::int64_t permitted = folder_->Permit(path_, /*write=*/true);
  if (permitted < 0) return permitted;
  struct stat status {};
  if (::fstat(fd_.get(), &status) != 0) return -errno;
  TranslateOwner(status);
  // The host's owners are not the guest's to give away; what changes nothing succeeds.
  const bool same = (owner == static_cast<uid_t>(-1) || owner == status.st_uid) &&
                    (group == static_cast<gid_t>(-1) || group == status.st_gid);
  return same ? 0 : -EPERM;
}

std::int64_t HostFile::SetTimes(const std::array<timespec, 2>& times) {
  const std::int64_t permitted = folder_->Permit(path_, /*write=*/true);
  if (permitted < 0) return permitted;
  return Result(::utimensat(fd_.get(), "", times.data(), AT_EMPTY_PATH));
}

// In a folder that the guest may only read, a lock would let it hold up the host's processes.
std::optional<std::int64_t> HostFile::FlockOnHost(int operation) {
  if (folder_->read_only()) return std::nullopt;
  return Result(::flock(fd_.get(), operation | LOCK_NB));
}

// The kernel keeps these for open files: the guest's are the host's. For the locks of the process,
// which all its descriptors share, there is one more.
ErrnoOr<int> HostFile::ProcessLockDescriptor() {
  struct stat status {};
  if (::fstat(fd_.get(), &status) != 0) return Errno{errno};
  const FileLocks::File key{status.st_dev, status.st_ino};
  UniqueFd& kept = context_.process_locks[key];
  if (!kept.valid()) {
    std::array<char, 32> self{};
    std::snprintf(self.data(), self.size(), "/proc/self/fd/%d", fd_.get());
    kept = UniqueFd(::open(self.data(), O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (!kept.valid()) kept = UniqueFd(::open(self.data(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  }
  if (!kept.valid()) return Errno{ENOLCK};
  return kept.get();
}

std::optional<std::int64_t> HostFile::LockOnHost(bool for_process, int command,
                                                 struct flock& lock) {
  if (folder_->read_only()) return std::nullopt;
  const ErrnoOr<int> fd = for_process ? ProcessLockDescriptor() : ErrnoOr<int>(fd_.get());
  if (!fd.ok()) return fd.result();
  lock.l_pid = 0;
  const std::int64_t result = Result(::fcntl(*fd, command, &lock));
  return result == -EACCES ? -EAGAIN : result;
}

ErrnoOr<std::shared_ptr<OpenFile>> HostFile::Reopen(int flags) {
  const bool cut = (flags & O_TRUNC) != 0;
  const std::int64_t permitted = folder_->Permit(path_, (flags & O_ACCMODE) != O_RDONLY || cut);
  if (permitted < 0) return ToErrno(permitted);
  struct stat status {};
  if (::fstat(fd_.get(), &status) != 0) return Errno{errno};
  if (!S_ISREG(status.st_mode)) return Errno{S_ISLNK(status.st_mode) ? ELOOP : EACCES};
  std::array<char, 32> self{};
  std::snprintf(self.data(), self.size(), "/proc/self/fd/%d", fd_.get());
  const int access = cut && (flags & O_ACCMODE) == O_RDONLY ? O_RDWR : flags & O_ACCMODE;
  UniqueFd fd(::open(self.data(), access | (flags & O_SYNC) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!fd.valid()) return Errno{errno == EMFILE ? ENFILE : errno};
  if (cut && ::ftruncate(fd.get(), 0) != 0) return Errno{errno};
  return std::shared_ptr<OpenFile>(
      std::make_shared<HostFile>(context_, folder_, path_, std::move(fd), flags));
}

std::int64_t HostFile::LinkInto(const HostFolder& folder, int directory,
                                const std::string& name) const {
  if (folder_.get() != &folder) return -EXDEV;
  // The new name gives the access that the old one would.
  const std::int64_t permitted = folder_->Permit(path_, /*write=*/true);
  if (permitted < 0) return permitted;
  // With AT_EMPTY_PATH the host would ask for a capability.
  std::array<char, 32> self{};
  std::snprintf(self.data(), self.size(), "/proc/self/fd/%d", fd_.get());
  return Result(::linkat(AT_FDCWD, self.data(), directory, name.c_str(), AT_SYMLINK_FOLLOW));
}

ErrnoOr<std::string> HostFile::ReadLink() const { return ReadHostLink(fd_.get()); }

}  // namespace waxvm::linux_abi
