// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_HOST_FILE_H_
#define WAXVM_SRC_LINUX_ABI_VFS_HOST_FILE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "src/base/unique_fd.h"
#include "src/linux_abi/vfs/host_folder.h"
#include "src/linux_abi/vfs/memory_node.h"
#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {

/// An open regular file of a granted folder; with O_PATH a handle on whatever passes a grant.
class HostFile final : public SeekableFile {
 public:
  /// `path` within `folder` is where `fd` was found.
  HostFile(VfsContext& context, std::shared_ptr<HostFolder> folder, std::string path, UniqueFd fd,
           int flags)
      : SeekableFile(flags),
        context_(context),
        folder_(std::move(folder)),
        path_(std::move(path)),
        fd_(std::move(fd)) {}

  /// What fstat has just said: answers the next Stat, so that a stat(2) of the guest asks the host
  /// once. Only for handles that live as long as one call.
  void ExpectStat(const struct stat& status) { expected_ = status; }

  std::int64_t Write(std::span<const std::byte> from) override;
  std::int64_t PRead(std::span<std::byte> to, std::uint64_t offset) override;
  std::int64_t PWrite(std::span<const std::byte> from, std::uint64_t offset) override;
  std::int64_t Seek(std::int64_t offset, int whence) override;
  std::int64_t Stat(struct stat& status) const override;
  std::string GuestPath() const override { return folder_->GuestPath(path_); }
  std::int64_t StatFs(struct statfs& status) const override;
  std::int64_t Truncate(std::uint64_t bytes) override;
  std::int64_t Allocate(int mode, std::uint64_t offset, std::uint64_t bytes) override;
  std::int64_t Sync() override;
  std::int64_t SetMode(mode_t mode) override;
  std::int64_t SetOwner(uid_t owner, gid_t group) override;
  std::int64_t SetTimes(const std::array<timespec, 2>& times) override;
  ErrnoOr<std::string> ReadLink() const override;
  std::optional<std::int64_t> FlockOnHost(int operation) override;
  std::optional<std::int64_t> LockOnHost(bool for_process, int command,
                                         struct flock& lock) override;
  ErrnoOr<std::string> Path() const override { return folder_->GuestPath(path_); }
  int host_descriptor() const override { return path_only() ? -1 : fd_.get(); }
  ErrnoOr<std::shared_ptr<OpenFile>> Reopen(int flags) override;
  /// Gives it one more name, in an open directory of `folder`. Errors: EXDEV for another folder
  /// than its own, ENOENT once it lost its last name.
  std::int64_t LinkInto(const HostFolder& folder, int directory, const std::string& name) const;

 protected:
  std::int64_t Size() const override;

 private:
  ErrnoOr<int> ProcessLockDescriptor();
  /// The bytes of `from` that may be written at `offset`; -EFBIG for none.
  std::int64_t WritableBytes(std::uint64_t offset, std::size_t bytes) const;

  VfsContext& context_;
  std::shared_ptr<HostFolder> folder_;
  std::string path_;
  UniqueFd fd_;
  mutable std::optional<struct stat> expected_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_HOST_FILE_H_
