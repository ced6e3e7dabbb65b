// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_DIRECTORY_FILE_H_
#define WAXVM_SRC_LINUX_ABI_VFS_DIRECTORY_FILE_H_

#include <dirent.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "src/base/memory_account.h"
#include "src/linux_abi/vfs/memory_node.h"
#include "src/linux_abi/vfs/open_file.h"
#include "src/linux_abi/vfs/place.h"

namespace waxvm::linux_abi {

/// An open directory. Its entries are read as a whole when reading starts at offset 0, so that
/// adding and removing names meanwhile neither skips nor repeats the others.
class DirectoryFile final : public OpenFile {
 public:
  /// `attributes` is an O_PATH handle on the same directory.
  DirectoryFile(VfsContext& context, Place place, std::shared_ptr<OpenFile> attributes, int flags)
      : OpenFile(flags),
        context_(context),
        place_(std::move(place)),
        attributes_(std::move(attributes)) {}

  std::int64_t Read(std::span<std::byte>) override { return -EISDIR; }
  std::int64_t PRead(std::span<std::byte>, std::uint64_t) override { return -EISDIR; }
  std::int64_t Seek(std::int64_t offset, int whence) override;
  bool has_positions() const override { return true; }
  bool spliceable() const override { return false; }
  std::int64_t Stat(struct stat& status) const override { return attributes_->Stat(status); }
  std::int64_t StatFs(struct statfs& status) const override { return attributes_->StatFs(status); }
  std::int64_t Sync() override { return attributes_->Sync(); }
  std::int64_t SetMode(mode_t mode) override { return attributes_->SetMode(mode); }
  std::int64_t SetOwner(uid_t owner, gid_t group) override {
    return attributes_->SetOwner(owner, group);
  }
  std::int64_t SetTimes(const std::array<timespec, 2>& times) override {
    return attributes_->SetTimes(times);
  }
  ErrnoOr<std::span<const DirectoryEntry>> ReadDirectory() override;
  const Place* directory() const override { return &place_; }
  ErrnoOr<std::string> Path() const override { return place_.Path(); }

 private:
  friend class FilesKeeper;
  friend class FilesRestorer;
  std::int64_t Load();
  bool ChargeEntries();

  VfsContext& context_;
  Place place_;
  std::shared_ptr<OpenFile> attributes_;
  std::vector<DirectoryEntry> entries_;
  MemoryCharge charge_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_DIRECTORY_FILE_H_
