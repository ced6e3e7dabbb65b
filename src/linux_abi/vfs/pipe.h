// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_PIPE_H_
#define WAXVM_SRC_LINUX_ABI_VFS_PIPE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "src/base/memory_account.h"
#include "src/linux_abi/errno_or.h"
#include "src/linux_abi/vfs/memory_node.h"
#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {

/// The bytes between the ends of a pipe or FIFO; its buffer is charged as a whole.
/// Thread safety: none.
class Pipe {
 public:
  static constexpr std::size_t kDefaultBytes = 65536;
  /// /proc/sys/fs/pipe-max-size.
  static constexpr std::size_t kMaxBytes = std::size_t{1} << 20;

  /// Errors: ENFILE when memory is out, as pipe(2) says it.
  static ErrnoOr<std::shared_ptr<Pipe>> Create(VfsContext& context);

  std::size_t used() const { return used_; }
  std::size_t room() const { return ring_.size() - used_; }
  std::size_t capacity() const { return ring_.size(); }
  /// F_SETPIPE_SZ: rounds up to a power of two of pages. Returns the new capacity, or -EINVAL,
  /// -EPERM (past kMaxBytes), -EBUSY (what is inside would not fit), -ENOMEM.
  std::int64_t SetCapacity(std::uint64_t bytes);

  /// What was taken from the front, or put behind the end; as much as there is.
  std::size_t Take(std::span<std::byte> to);
  std::size_t Put(std::span<const std::byte> from);
  /// The same without taking it away.
  std::size_t Peek(std::span<std::byte> to) const;

  std::uint64_t inode = 0;
  mode_t mode = 0600;  ///< of one that is no FIFO
  std::uint64_t readers = 0;
  std::uint64_t writers = 0;
  /// How often an end was opened: who waits for the other end of a FIFO sees that one came, even
  /// when it has gone again.
  std::uint64_t readers_ever = 0;
  std::uint64_t writers_ever = 0;
  Edges edges;

 private:
  explicit Pipe(MemoryAccount& account) : account_(account) {}

  MemoryAccount& account_;
  MemoryCharge charge_;
  std::vector<std::byte> ring_;
  std::size_t start_ = 0;
  std::size_t used_ = 0;
};

/// An open end, or both ends of a FIFO that was opened with O_RDWR.
class PipeEnd final : public OpenFile {
 public:
  /// `node`: of a FIFO, whose name tells its status. `flags`: access mode and O_NONBLOCK.
  PipeEnd(std::shared_ptr<Pipe> pipe, int flags, std::shared_ptr<MemoryNode> node = nullptr);
  ~PipeEnd() override;

  const std::shared_ptr<Pipe>& pipe() const { return pipe_; }
  const std::shared_ptr<MemoryNode>& node() const { return node_; }

  std::int64_t Read(std::span<std::byte> to) override;
  std::int64_t Write(std::span<const std::byte> from) override;
  ErrnoOr<std::string> Path() const override;
  ErrnoOr<std::shared_ptr<OpenFile>> Reopen(int flags) override;
  std::int64_t Stat(struct stat& status) const override;
  std::int64_t SetMode(mode_t mode) override;
  std::int64_t SetOwner(uid_t owner, gid_t group) override;
  std::int64_t SetTimes(const std::array<timespec, 2>& times) override;
  short Poll() const override;
  Edges edges() const override { return pipe_->edges; }
  std::int64_t Available() const override { return static_cast<std::int64_t>(pipe_->used()); }

 private:
  friend class FilesKeeper;
  friend class FilesRestorer;
  std::shared_ptr<Pipe> pipe_;
  std::shared_ptr<MemoryNode> node_;
  std::uint64_t writers_before_;
};

/// An end of a FIFO whose open(2) waits for somebody at the other one. Never in a descriptor.
class FifoOpening final : public OpenFile {
 public:
  explicit FifoOpening(std::shared_ptr<PipeEnd> end);

  const std::shared_ptr<PipeEnd>& end() const { return end_; }
  /// Somebody is there, or was since.
  bool arrived() const;
  std::int64_t Stat(struct stat& status) const override { return end_->Stat(status); }
  short Poll() const override { return arrived() ? POLLIN : 0; }

 private:
  std::shared_ptr<PipeEnd> end_;
  std::uint64_t others_before_;
};

/// Opens a FIFO's node, whose Pipe is made where it has none. Errors: ENXIO for a nonblocking
/// writer without readers, ENFILE.
ErrnoOr<std::shared_ptr<PipeEnd>> OpenFifo(VfsContext& context,
                                           const std::shared_ptr<MemoryNode>& node, int flags);

struct PipeEnds {
  std::shared_ptr<OpenFile> reader;
  std::shared_ptr<OpenFile> writer;
};

/// `flags`: O_NONBLOCK or 0. Errors: ENFILE.
ErrnoOr<PipeEnds> CreatePipe(VfsContext& context, int flags);

/// eventfd: a counter that reads as eight bytes.
class EventCounter final : public AnonymousFile {
 public:
  /// `flags`: EFD_NONBLOCK, EFD_SEMAPHORE.
  EventCounter(std::uint64_t value, int flags);

  std::int64_t Read(std::span<std::byte> to) override;
  std::int64_t Write(std::span<const std::byte> from) override;
  std::int64_t Stat(struct stat& status) const override;
  short Poll() const override;
  Edges edges() const override { return edges_; }
  bool has_messages() const override { return true; }
  bool writes_ranges_apart() const override { return true; }

  /// The highest value.
  static constexpr std::uint64_t kMax = ~std::uint64_t{0} - 1;

 private:
  friend class FilesKeeper;
  friend class FilesRestorer;

  std::uint64_t value_;
  bool semaphore_;
  Edges edges_;
};

/// The same. `flags`: EFD_NONBLOCK, EFD_SEMAPHORE.
std::shared_ptr<OpenFile> CreateEventCounter(std::uint64_t value, int flags);

/// What fstat says of a file without a name.
void StatUnnamed(std::uint64_t inode, mode_t mode, struct stat& status);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_PIPE_H_
