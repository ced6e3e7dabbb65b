// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_MEMORY_FILE_H_
#define WAXVM_SRC_LINUX_ABI_VFS_MEMORY_FILE_H_

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "src/linux_abi/vfs/memory_node.h"
#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {

/// An open node of the instance's own tree; with O_PATH a handle on one of any type.
class MemoryFile : public SeekableFile {
 public:
  MemoryFile(VfsContext& context, std::shared_ptr<MemoryNode> node, int flags)
      : SeekableFile(flags), context_(context), node_(std::move(node)) {}

  const std::shared_ptr<MemoryNode>& node() const { return node_; }

  std::int64_t PRead(std::span<std::byte> to, std::uint64_t offset) override;
  std::int64_t PWrite(std::span<const std::byte> from, std::uint64_t offset) override;
  std::int64_t Seek(std::int64_t offset, int whence) override;
  std::int64_t Stat(struct stat& status) const override;
  std::int64_t StatFs(struct statfs& status) const override;
  std::int64_t Truncate(std::uint64_t bytes) override;
  std::int64_t Allocate(int mode, std::uint64_t offset, std::uint64_t bytes) override;
  std::int64_t Sync() override { return 0; }
  std::int64_t SetMode(mode_t mode) override;
  std::int64_t SetOwner(uid_t owner, gid_t group) override;
  std::int64_t SetTimes(const std::array<timespec, 2>& times) override;
  /// F_ADD_SEALS. Returns 0, -EINVAL or -EPERM.
  std::int64_t AddSeals(int seals);
  ErrnoOr<std::string> ReadLink() const override;
  ErrnoOr<std::string> Path() const override;

 protected:
  std::int64_t Size() const override { return static_cast<std::int64_t>(node_->contents.size()); }
  VfsContext& context() const { return context_; }

 private:
  VfsContext& context_;
  std::shared_ptr<MemoryNode> node_;
};

/// /dev/null and its kind. Reading random devices takes the granted source.
class DeviceFile final : public MemoryFile {
 public:
  using MemoryFile::MemoryFile;

  std::int64_t Read(std::span<std::byte> to) override { return PRead(to, 0); }
  std::int64_t Write(std::span<const std::byte> from) override { return PWrite(from, 0); }
  std::int64_t PRead(std::span<std::byte> to, std::uint64_t offset) override;
  std::int64_t PWrite(std::span<const std::byte> from, std::uint64_t offset) override;
  std::int64_t Seek(std::int64_t, int) override { return 0; }
  std::int64_t Truncate(std::uint64_t) override { return -EINVAL; }
  std::int64_t Allocate(int, std::uint64_t, std::uint64_t) override { return -ENODEV; }
  std::int64_t Sync() override { return -EINVAL; }
  std::int64_t Available() const override { return -ENOTTY; }
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_MEMORY_FILE_H_
