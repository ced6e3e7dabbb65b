// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/pipe.h"

#include <limits.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

namespace waxvm::linux_abi {

EventCounter::EventCounter(std::uint64_t value, int flags)
    : AnonymousFile(O_RDWR | (flags & EFD_NONBLOCK)),
      value_(value),
      semaphore_((flags & EFD_SEMAPHORE) != 0) {}

std::int64_t EventCounter::Read(std::span<std::byte> to) {
  if (to.size() < sizeof value_) return -EINVAL;
  if (value_ == 0) return -EAGAIN;
  const std::uint64_t taken = semaphore_ ? 1 : value_;
  value_ -= taken;
  ++edges_.out;
  std::memcpy(to.data(), &taken, sizeof taken);
  return sizeof taken;
}

std::int64_t EventCounter::Write(std::span<const std::byte> from) {
  std::uint64_t added = 0;
  if (from.size() != sizeof added) return -EINVAL;
  std::memcpy(&added, from.data(), sizeof added);
  if (added > kMax) return -EINVAL;
  if (added > kMax - value_) return -EAGAIN;
  value_ += added;
  ++edges_.in;
  return sizeof added;
}

std::int64_t EventCounter::Stat(struct stat& status) const {
  StatUnnamed(1, 0600, status);  // of all such files, so that they lock each other
  return 0;
}

short EventCounter::Poll() const {
  return static_cast<short>((value_ > 0 ? POLLIN : 0) | (value_ < kMax ? POLLOUT : 0));
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

ErrnoOr<std::shared_ptr<Pipe>> Pipe::Create(VfsContext& context) {
  MemoryCharge charge;
  if (!charge.Resize(context.account, sizeof(Pipe) + kDefaultBytes)) return Errno{ENFILE};
  std::shared_ptr<Pipe> pipe(new Pipe(context.account));
  pipe->charge_ = std::move(charge);
  pipe->ring_.resize(kDefaultBytes);
  pipe->inode = ++context.last_inode;
  return pipe;
}

std::int64_t Pipe::SetCapacity(std::uint64_t bytes) {
  if (bytes == 0 || bytes > std::uint64_t{1} << 31) return -EINVAL;
  const std::size_t rounded = std::bit_ceil(std::max<std::uint64_t>(bytes, kPageBytes));
  if (rounded > kMaxBytes) return -EPERM;
  if (rounded < used_) return -EBUSY;
  if (!charge_.Resize(account_, sizeof(Pipe) + rounded)) return -ENOMEM;
  std::vector<std::byte> ring(rounded);
  Peek(ring);
  ring_ = std::move(ring);
  start_ = 0;
  ++edges.out;
  return static_cast<std::int64_t>(rounded);
}

std::size_t Pipe::Peek(std::span<std::byte> to) const {
  const std::size_t total = std::min(to.size(), used_);
  if (total == 0) return 0;
  const std::size_t first = std::min(total, ring_.size() - start_);
  std::copy_n(ring_.data() + start_, first, to.data());
  std::copy_n(ring_.data(), total - first, to.data() + first);
  return total;
}

std::size_t Pipe::Take(std::span<std::byte> to) {
  const std::size_t total = Peek(to);
  start_ = (start_ + total) % ring_.size();
  used_ -= total;
  if (total > 0) ++edges.out;
  return total;
}

std::size_t Pipe::Put(std::span<const std::byte> from) {
  const std::size_t total = std::min(from.size(), room());
  if (total == 0) return 0;
  const std::size_t end = (start_ + used_) % ring_.size();
  const std::size_t first = std::min(total, ring_.size() - end);
  std::copy_n(from.data(), first, ring_.data() + end);
  std::copy_n(from.data() + first, total - first, ring_.data());
  used_ += total;
  ++edges.in;
  return total;
}

PipeEnd::PipeEnd(std::shared_ptr<Pipe> pipe, int flags, std::shared_ptr<MemoryNode> node)
    : OpenFile(flags),
      pipe_(std::move(pipe)),
      node_(std::move(node)),
      writers_before_(node_ == nullptr ? 0 : pipe_->writers_ever) {
  if (node_ == nullptr) SetMadeWithoutName();
  if (readable()) ++pipe_->readers, ++pipe_->readers_ever;
  if (writable()) ++pipe_->writers, ++pipe_->writers_ever;
  // A FIFO whose writers have all gone before is not at its end for who opens it now.
  if (node_ != nullptr && pipe_->writers > 0) writers_before_ = 0;
}

PipeEnd::~PipeEnd() {
  if (readable() && --pipe_->readers == 0) ++pipe_->edges.out;
  if (writable() && --pipe_->writers == 0) ++pipe_->edges.in;
}

std::int64_t PipeEnd::Read(std::span<std::byte> to) {
  if (to.empty()) return 0;
  if (pipe_->used() == 0) return pipe_->writers == 0 ? 0 : -EAGAIN;
  return static_cast<std::int64_t>(pipe_->Take(to));
}

std::int64_t PipeEnd::Write(std::span<const std::byte> from) {
  if (from.empty()) return 0;
  if (pipe_->readers == 0) return -EPIPE;
  // Up to PIPE_BUF bytes go in as a whole or not at all.
  const std::size_t room = pipe_->room();
  if (room == 0 || (from.size() <= PIPE_BUF && room < from.size())) return -EAGAIN;
  return static_cast<std::int64_t>(pipe_->Put(from));
}

ErrnoOr<std::string> PipeEnd::Path() const {
  return node_ == nullptr ? ErrnoOr<std::string>(Errno{ENOENT}) : node_->Path();
}

ErrnoOr<std::shared_ptr<OpenFile>> PipeEnd::Reopen(int flags) {
  constexpr int kPassedOn = O_ACCMODE | O_NONBLOCK;
  return std::shared_ptr<OpenFile>(std::make_shared<PipeEnd>(pipe_, flags & kPassedOn, node_));
}

std::int64_t PipeEnd::Stat(struct stat& status) const {
  if (node_ != nullptr) {
    node_->Stat(status);
  } else {
    StatUnnamed(pipe_->inode, S_IFIFO | pipe_->mode, status);
  }
  return 0;
}

std::int64_t PipeEnd::SetMode(mode_t mode) {
  if (node_ == nullptr) {
    pipe_->mode = mode & 07777;
    return 0;
  }
  node_->mode = (node_->mode & S_IFMT) | (mode & 07777);
  node_->TouchStatus();
  return 0;
}

std::int64_t PipeEnd::SetOwner(uid_t owner, gid_t group) {
  if (node_ == nullptr) return 0;
  if (owner != static_cast<uid_t>(-1)) node_->owner = owner;
  if (group != static_cast<gid_t>(-1)) node_->group = group;
  node_->TouchStatus();
  return 0;
}

std::int64_t PipeEnd::SetTimes(const std::array<timespec, 2>& times) {
  return node_ == nullptr ? 0 : node_->SetTimes(times);
}

short PipeEnd::Poll() const {
  int state = 0;
  if (readable()) {
    if (pipe_->used() > 0) state |= POLLIN;
    if (pipe_->writers == 0 && pipe_->writers_ever != writers_before_) state |= POLLHUP;
  }
  if (writable()) {
    if (pipe_->room() >= PIPE_BUF) state |= POLLOUT;
    if (pipe_->readers == 0) state |= POLLERR;
  }
  return static_cast<short>(state);
}

FifoOpening::FifoOpening(std::shared_ptr<PipeEnd> end)
    : OpenFile(O_PATH),
      end_(std::move(end)),
      others_before_(end_->readable() ? end_->pipe()->writers_ever : end_->pipe()->readers_ever) {}

bool FifoOpening::arrived() const {
  const Pipe& pipe = *end_->pipe();
  if (end_->readable()) return pipe.writers > 0 || pipe.writers_ever != others_before_;
  return pipe.readers > 0 || pipe.readers_ever != others_before_;
}

ErrnoOr<std::shared_ptr<PipeEnd>> OpenFifo(VfsContext& context,
                                           const std::shared_ptr<MemoryNode>& node, int flags) {
  auto pipe = std::static_pointer_cast<Pipe>(node->endpoint.lock());
  const bool writer = (flags & O_ACCMODE) == O_WRONLY;
  if (writer && (flags & O_NONBLOCK) != 0 && (pipe == nullptr || pipe->readers == 0)) {
    return Errno{ENXIO};
  }
  if (pipe == nullptr) {
    ErrnoOr<std::shared_ptr<Pipe>> made = Pipe::Create(context);
    if (!made.ok()) return made.error();
    pipe = *std::move(made);
    node->endpoint = pipe;
  }
  constexpr int kPassedOn = O_ACCMODE | O_NONBLOCK;
  return std::make_shared<PipeEnd>(std::move(pipe), flags & kPassedOn, node);
}

ErrnoOr<PipeEnds> CreatePipe(VfsContext& context, int flags) {
  ErrnoOr<std::shared_ptr<Pipe>> pipe = Pipe::Create(context);
  if (!pipe.ok()) return pipe.error();
  return PipeEnds{std::make_shared<PipeEnd>(*pipe, O_RDONLY | (flags & O_NONBLOCK)),
                  std::make_shared<PipeEnd>(*pipe, O_WRONLY | (flags & O_NONBLOCK))};
}

std::shared_ptr<OpenFile> CreateEventCounter(std::uint64_t value, int flags) {
  return std::make_shared<EventCounter>(value, flags);
}

}  // namespace waxvm::linux_abi
