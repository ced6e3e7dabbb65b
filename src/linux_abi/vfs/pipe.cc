// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/pipe.h"

#include <limits.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

namespace waxvm::linux_abi {
namespace {

constexpr std::size_t kPipeBytes = 65536;

/// The bytes between the two ends.
struct Pipe {
  explicit Pipe(VfsContext& vfs) : context(vfs), inode(++vfs.last_inode) {}

  VfsContext& context;
  std::uint64_t inode;
  MemoryCharge charge;
  std::array<std::byte, kPipeBytes> ring{};
  std::size_t start = 0;
  std::size_t used = 0;
  std::uint64_t uses = 0;
  bool has_reader = true;
  bool has_writer = true;
};

// Nobody but the guest's one thread could end this wait, so only the end of the run does.
std::int64_t WaitForEver(VfsContext& context) {
  const int result = context.host.Wait({}, std::nullopt);
  return result < 0 ? result : -EINTR;
}

void StatUnnamed(std::uint64_t inode, mode_t mode, struct stat& status) {
  constexpr dev_t kPipeDevice = 0xc;
  status = {};
  status.st_dev = kPipeDevice;
  status.st_ino = inode;
  status.st_mode = mode;
  status.st_nlink = 1;
  status.st_blksize = kPageBytes;
}

class PipeReader final : public OpenFile {
 public:
  PipeReader(std::shared_ptr<Pipe> pipe, int flags)
      : OpenFile(O_RDONLY | flags), pipe_(std::move(pipe)) {}
  ~PipeReader() override { pipe_->has_reader = false; }

  std::int64_t Read(std::span<std::byte> to) override {
    if (to.empty()) return 0;
    if (pipe_->used == 0) {
      if (!pipe_->has_writer) return 0;
      return nonblocking() ? -EAGAIN : WaitForEver(pipe_->context);
    }
    const std::size_t total = std::min(to.size(), pipe_->used);
    const std::size_t first = std::min(total, kPipeBytes - pipe_->start);
    std::memcpy(to.data(), pipe_->ring.data() + pipe_->start, first);
    std::memcpy(to.data() + first, pipe_->ring.data(), total - first);
    pipe_->start = (pipe_->start + total) % kPipeBytes;
    pipe_->used -= total;
    ++pipe_->uses;
    return static_cast<std::int64_t>(total);
  }
  std::int64_t Stat(struct stat& status) const override {
    StatUnnamed(pipe_->inode, S_IFIFO | 0600, status);
    return 0;
  }
  short Poll() const override {
    return static_cast<short>((pipe_->used > 0 ? POLLIN : 0) | (pipe_->has_writer ? 0 : POLLHUP));
  }
  std::uint64_t Uses() const override { return pipe_->uses; }
  std::int64_t Available() const override { return static_cast<std::int64_t>(pipe_->used); }

 private:
  std::shared_ptr<Pipe> pipe_;
};

class PipeWriter final : public OpenFile {
 public:
  PipeWriter(std::shared_ptr<Pipe> pipe, int flags)
      : OpenFile(O_WRONLY | flags), pipe_(std::move(pipe)) {}
  ~PipeWriter() override { pipe_->has_writer = false; }

  std::int64_t Write(std::span<const std::byte> from) override {
    if (!pipe_->has_reader) return -EPIPE;
    if (from.empty()) return 0;
    const std::size_t room = kPipeBytes - pipe_->used;
    // Up to PIPE_BUF bytes go in as a whole or not at all.
    if (room == 0 || (from.size() <= PIPE_BUF && room < from.size())) {
      return nonblocking() ? -EAGAIN : WaitForEver(pipe_->context);
    }
    const std::size_t total = std::min(from.size(), room);
    const std::size_t end = (pipe_->start + pipe_->used) % kPipeBytes;
    const std::size_t first = std::min(total, kPipeBytes - end);
    std::memcpy(pipe_->ring.data() + end, from.data(), first);
    std::memcpy(pipe_->ring.data(), from.data() + first, total - first);
    pipe_->used += total;
    ++pipe_->uses;
    return static_cast<std::int64_t>(total);
  }
  std::int64_t Stat(struct stat& status) const override {
    StatUnnamed(pipe_->inode, S_IFIFO | 0600, status);
    return 0;
  }
  short Poll() const override {
    const short ready = kPipeBytes - pipe_->used >= PIPE_BUF ? POLLOUT : 0;
    return static_cast<short>(ready | (pipe_->has_reader ? 0 : POLLERR));
  }
  std::uint64_t Uses() const override { return pipe_->uses; }
  std::int64_t Available() const override { return static_cast<std::int64_t>(pipe_->used); }

 private:
  std::shared_ptr<Pipe> pipe_;
};

class EventCounter final : public OpenFile {
 public:
  EventCounter(VfsContext& context, std::uint64_t value, int flags)
      : OpenFile(O_RDWR | (flags & EFD_NONBLOCK)),
        context_(context),
        inode_(++context.last_inode),
        value_(value),
        semaphore_((flags & EFD_SEMAPHORE) != 0) {}

  std::int64_t Read(std::span<std::byte> to) override {
    if (to.size() < sizeof value_) return -EINVAL;
    if (value_ == 0) return nonblocking() ? -EAGAIN : WaitForEver(context_);
    const std::uint64_t taken = semaphore_ ? 1 : value_;
    value_ -= taken;
    std::memcpy(to.data(), &taken, sizeof taken);
    return sizeof taken;
  }
  std::int64_t Write(std::span<const std::byte> from) override {
    std::uint64_t added = 0;
    if (from.size() < sizeof added) return -EINVAL;
    std::memcpy(&added, from.data(), sizeof added);
    if (added > kMax) return -EINVAL;
    if (added > kMax - value_) {
      return nonblocking() ? -EAGAIN : WaitForEver(context_);
    }
    value_ += added;
    return sizeof added;
  }
  std::int64_t Stat(struct stat& status) const override {
    StatUnnamed(inode_, 0600, status);
    return 0;
  }
  short Poll() const override {
    return static_cast<short>((value_ > 0 ? POLLIN : 0) | (value_ < kMax ? POLLOUT : 0));
  }

 private:
  static constexpr std::uint64_t kMax = ~std::uint64_t{0} - 1;

  VfsContext& context_;
  std::uint64_t inode_;
  std::uint64_t value_;
  bool semaphore_;
};

}  // namespace

ErrnoOr<PipeEnds> CreatePipe(VfsContext& context, int flags) {
  MemoryCharge charge;
  if (!charge.Resize(context.account, sizeof(Pipe))) return Errno{ENFILE};
  const auto pipe = std::make_shared<Pipe>(context);
  pipe->charge = std::move(charge);
  return PipeEnds{std::make_shared<PipeReader>(pipe, flags & O_NONBLOCK),
                  std::make_shared<PipeWriter>(pipe, flags & O_NONBLOCK)};
}

std::shared_ptr<OpenFile> CreateEventCounter(VfsContext& context, std::uint64_t value, int flags) {
  return std::make_shared<EventCounter>(context, value, flags);
}

}  // namespace waxvm::linux_abi
