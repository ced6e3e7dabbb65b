// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/open_file.h"

#include <algorithm>
#include <cerrno>
#include <limits>

namespace waxvm::linux_abi {
namespace {

constexpr int kSettableFlags = O_APPEND | O_NONBLOCK | O_NOATIME | O_DIRECT;
constexpr int kLargeFile = 0100000;  // O_LARGEFILE of the kernel; glibc defines it as 0
constexpr int kKeptFlags = O_ACCMODE | kSettableFlags | O_PATH | O_SYNC | O_DIRECTORY | O_NOFOLLOW;

}  // namespace

OpenFile::OpenFile(int flags)
    : flags_((flags & kKeptFlags) | ((flags & O_PATH) ? 0 : kLargeFile)) {}

void OpenFile::SetStatusFlags(int flags) {
  flags_ = (flags_ & ~kSettableFlags) | (flags & kSettableFlags);
}

void OpenFile::SetMadeWithoutName() { flags_ &= ~kLargeFile; }

short OpenFile::PollWithBands() const {
  int state = Poll();
  if ((state & POLLIN) != 0) state |= bands() & POLLRDNORM;
  if ((state & POLLOUT) != 0) state |= bands() & (POLLWRNORM | POLLWRBAND);
  return static_cast<short>(state);
}

std::int64_t OpenFile::Read(std::span<std::byte>) { return -EINVAL; }
std::int64_t OpenFile::Write(std::span<const std::byte>) { return -EINVAL; }
std::int64_t OpenFile::PRead(std::span<std::byte>, std::uint64_t) { return -ESPIPE; }
std::int64_t OpenFile::PWrite(std::span<const std::byte>, std::uint64_t) { return -ESPIPE; }
std::int64_t OpenFile::Seek(std::int64_t, int) { return -ESPIPE; }
std::int64_t OpenFile::Truncate(std::uint64_t) { return -EINVAL; }
std::int64_t OpenFile::Allocate(int, std::uint64_t, std::uint64_t) { return -ESPIPE; }
std::int64_t OpenFile::Sync() { return -EINVAL; }
std::int64_t OpenFile::SetMode(mode_t) { return -EPERM; }
std::int64_t OpenFile::SetOwner(uid_t, gid_t) { return -EPERM; }
std::int64_t OpenFile::SetTimes(const std::array<timespec, 2>&) { return -EPERM; }
ErrnoOr<std::shared_ptr<OpenFile>> OpenFile::Reopen(int) { return Errno{ENXIO}; }
ErrnoOr<std::string> OpenFile::ReadLink() const { return Errno{EINVAL}; }
ErrnoOr<std::span<const DirectoryEntry>> OpenFile::ReadDirectory() { return Errno{ENOTDIR}; }
std::int64_t OpenFile::Available() const { return -ENOTTY; }

std::int64_t OpenFile::StatFs(struct statfs& status) const {
  constexpr int kPipeFsMagic = 0x50495045;
  status = {};
  status.f_type = kPipeFsMagic;
  status.f_bsize = 4096;
  status.f_namelen = 255;
  return 0;
}

std::int64_t OpenFile::SeekWithin(std::int64_t offset, int whence, std::int64_t size) {
  std::int64_t base = 0;
  switch (whence) {
    case SEEK_SET:
      break;
    case SEEK_CUR:
      base = static_cast<std::int64_t>(offset_);
      break;
    case SEEK_END:
      base = size;
      break;
    case SEEK_DATA:  // A file is one run of data with a hole behind it.
    case SEEK_HOLE:
      if (offset < 0 || offset >= size) return -ENXIO;
      if (whence == SEEK_HOLE) offset = size;
      break;
    default:
      return -EINVAL;
  }
  std::int64_t target = 0;
  if (__builtin_add_overflow(base, offset, &target)) return -EOVERFLOW;
  if (target < 0) return -EINVAL;
  offset_ = static_cast<std::uint64_t>(target);
  return target;
}

std::int64_t SeekableFile::Read(std::span<std::byte> to) {
  const std::int64_t n = PRead(to, offset_);
  if (n > 0) offset_ += static_cast<std::uint64_t>(n);
  return n;
}

std::int64_t SeekableFile::Write(std::span<const std::byte> from) {
  if ((flags() & O_APPEND) != 0) {
    const std::int64_t size = Size();
    if (size < 0) return size;
    offset_ = static_cast<std::uint64_t>(size);
  }
  const std::int64_t n = PWrite(from, offset_);
  if (n > 0) offset_ += static_cast<std::uint64_t>(n);
  return n;
}

std::int64_t SeekableFile::Seek(std::int64_t offset, int whence) {
  const std::int64_t size = Size();
  if (size < 0) return size;
  return SeekWithin(offset, whence, size);
}

std::int64_t SeekableFile::Available() const {
  const std::int64_t size = Size();
  if (size < 0) return size;
  const std::int64_t rest = size - static_cast<std::int64_t>(offset_);
  return std::clamp<std::int64_t>(rest, 0, std::numeric_limits<int>::max());
}

}  // namespace waxvm::linux_abi
