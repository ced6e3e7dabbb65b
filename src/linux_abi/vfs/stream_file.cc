// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/stream_file.h"

#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <utility>

#include "src/base/checked.h"
#include "src/linux_abi/fixed_time.h"

namespace waxvm::linux_abi {
namespace {

void StatStream(std::uint64_t inode, struct stat& status) {
  constexpr dev_t kPipeDevice = 0xc;
  status = {};
  status.st_dev = kPipeDevice;
  status.st_ino = inode;
  status.st_mode = S_IFIFO | 0600;
  status.st_nlink = 1;
  status.st_blksize = kPageBytes;
  status.st_atim = status.st_mtim = status.st_ctim = {.tv_sec = kFixedTimeSeconds, .tv_nsec = 0};
}

}  // namespace

InputFile::InputFile(int descriptor) : OpenFile(O_RDONLY), descriptor_(descriptor) {
  struct stat status {};
  regular_ = descriptor >= 0 && ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
}

// Never blocks in the kernel, where a stopped run could not be woken: what was ready may have been
// taken by another reader of the same pipe.
std::int64_t InputFile::ReadNow(std::span<std::byte> to) const {
  iovec piece{.iov_base = to.data(), .iov_len = to.size()};
  ssize_t n = -1;
  errno = EOPNOTSUPP;
  if (!regular_) n = ::preadv2(descriptor_, &piece, 1, -1, RWF_NOWAIT);
  if (n < 0 && (errno == EOPNOTSUPP || errno == EINVAL || errno == ESPIPE)) {
    n = ::read(descriptor_, to.data(), to.size());
  }
  return n < 0 ? -errno : n;
}

std::int64_t InputFile::Read(std::span<std::byte> to) {
  if (descriptor_ < 0 || to.empty()) return 0;
  if (Poll() == 0) return -EAGAIN;
  const std::int64_t n = ReadNow(to);
  return n == -EINTR ? -EAGAIN : n;
}

// There is one stream behind it, which both descriptors then share.
ErrnoOr<std::shared_ptr<OpenFile>> InputFile::Reopen(int flags) {
  if ((flags & O_ACCMODE) != O_RDONLY) return Errno{EACCES};
  return shared_from_this();
}

// What arrives on the host is seen by its number of bytes alone.
Edges InputFile::edges() const {
  const std::int64_t available = Available();
  const Edges used = OpenFile::edges();
  return {.in = (used.in << 32) + static_cast<std::uint64_t>(available < 0 ? 0 : available),
          .out = used.out};
}

void InputFile::AddHostDescriptors(std::vector<pollfd>& to) const {
  if (descriptor_ >= 0) to.push_back({.fd = descriptor_, .events = POLLIN, .revents = 0});
}

std::int64_t InputFile::Stat(struct stat& status) const {
  StatStream(1, status);
  return 0;
}

short InputFile::Poll() const {
  if (descriptor_ < 0) return POLLHUP | POLLIN;
  pollfd waiting{.fd = descriptor_, .events = POLLIN, .revents = 0};
  if (::poll(&waiting, 1, 0) <= 0) return 0;
  return static_cast<short>(waiting.revents & (POLLIN | POLLHUP | POLLERR));
}

std::int64_t InputFile::Available() const {
  int bytes = 0;
  if (descriptor_ < 0) return 0;
  return ::ioctl(descriptor_, FIONREAD, &bytes) == 0 ? bytes : -errno;
}

OutputFile::OutputFile(Host& host, Stream stream, std::function<void()> on_limit)
    : OpenFile(O_WRONLY), host_(host), stream_(stream), on_limit_(std::move(on_limit)) {}

std::int64_t OutputFile::Write(std::span<const std::byte> from) {
  if (from.empty()) return 0;
  const std::string_view text(reinterpret_cast<const char*>(from.data()), from.size());
  switch (host_.WriteOutput(stream_, text)) {
    case Host::OutputResult::kOk:
      return static_cast<std::int64_t>(from.size());
    case Host::OutputResult::kLimit:
      on_limit_();
      return -EIO;
    case Host::OutputResult::kFailed:
      break;
  }
  return -EIO;
}

ErrnoOr<std::shared_ptr<OpenFile>> OutputFile::Reopen(int flags) {
  if ((flags & O_ACCMODE) != O_WRONLY) return Errno{EACCES};
  return shared_from_this();
}

std::int64_t OutputFile::Stat(struct stat& status) const {
  StatStream(stream_ == Stream::kOutput ? 2 : 3, status);
  return 0;
}

}  // namespace waxvm::linux_abi
