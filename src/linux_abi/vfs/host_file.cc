// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/host_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

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
  if (::fstat(fd_.get(), &status) != 0) return -errno;
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

std::int64_t HostFile::Sync() { return Result(::fsync(fd_.get())); }

std::int64_t HostFile::SetMode(mode_t mode) {
  const std::int64_t permitted = folder_->Permit(path_, /*write=*/true);
  if (permitted < 0) return permitted;
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

ErrnoOr<std::string> HostFile::ReadLink() const { return ReadHostLink(fd_.get()); }

}  // namespace waxvm::linux_abi
