// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_PROGRAM_FILE_H_
#define WAXVM_SRC_LINUX_ABI_VFS_PROGRAM_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "src/linux_abi/vfs/memory_node.h"
#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {

/// The running program's own bytes: what /proc/self/exe leads to, whether or not the program's path
/// is visible inside, and whatever lies there. Nothing can change them.
class ProgramFile final : public SeekableFile {
 public:
  /// `path` is where the program was started from, `inode` a number of its own.
  ProgramFile(VfsContext& context, std::string path, std::uint64_t inode, int flags)
      : SeekableFile(flags), context_(context), path_(std::move(path)), inode_(inode) {}

  std::int64_t PRead(std::span<std::byte> to, std::uint64_t offset) override;
  std::int64_t PWrite(std::span<const std::byte>, std::uint64_t) override { return -EBADF; }
  std::int64_t Stat(struct stat& status) const override;
  std::int64_t StatFs(struct statfs& status) const override;
  std::int64_t Sync() override { return 0; }
  std::string GuestPath() const override { return path_; }
  ErrnoOr<std::string> Path() const override { return path_; }
  /// Errors: ETXTBSY for writing, as for any program that runs.
  ErrnoOr<std::shared_ptr<OpenFile>> Reopen(int flags) override;

 protected:
  std::int64_t Size() const override { return static_cast<std::int64_t>(bytes().size()); }

 private:
  friend class FilesKeeper;
  std::span<const std::byte> bytes() const;

  VfsContext& context_;
  std::string path_;
  std::uint64_t inode_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_PROGRAM_FILE_H_
