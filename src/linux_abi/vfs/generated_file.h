// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_GENERATED_FILE_H_
#define WAXVM_SRC_LINUX_ABI_VFS_GENERATED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "src/base/memory_account.h"
#include "src/linux_abi/vfs/memory_file.h"

namespace waxvm::linux_abi {

/// An open file of /proc or /sys: its text is made when it is read from the start, so that a
/// program may keep it open and look again.
class GeneratedFile final : public MemoryFile {
 public:
  /// `node` has a source.
  GeneratedFile(VfsContext& context, std::shared_ptr<MemoryNode> node, int flags)
      : MemoryFile(context, std::move(node), flags) {}

  std::int64_t PRead(std::span<std::byte> to, std::uint64_t offset) override;
  std::int64_t PWrite(std::span<const std::byte> from, std::uint64_t offset) override;
  std::int64_t StatFs(struct statfs& status) const override;
  std::int64_t Truncate(std::uint64_t) override { return 0; }
  std::int64_t Allocate(int, std::uint64_t, std::uint64_t) override { return -EOPNOTSUPP; }

 protected:
  std::int64_t Size() const override { return 0; }

 private:
  friend class FilesKeeper;
  friend class FilesRestorer;
  std::string text_;
  MemoryCharge charge_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_GENERATED_FILE_H_
