// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_FILE_LOCKS_H_
#define WAXVM_SRC_LINUX_ABI_VFS_FILE_LOCKS_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "src/base/memory_account.h"

namespace waxvm::linux_abi {

class FilesKeeper;
class OpenFile;

/// A range of bytes that is locked: [start, end).
struct FileLock {
  const OpenFile* owner = nullptr;  ///< null: the process, which fcntl's F_SETLK locks for
  bool exclusive = false;
  std::uint64_t start = 0;
  std::uint64_t end = 0;
};

/// The locks on the files of one instance, between its open files and its process. Locks of
/// flock(2) and of fcntl(2) do not see each other. Thread safety: none.
class FileLocks {
 public:
  using File = std::pair<dev_t, ino_t>;

  explicit FileLocks(MemoryAccount& account) : account_(account) {}

  /// The first lock of somebody else in the way of `wanted`; empty: there is none.
  std::optional<FileLock> Conflict(const File& file, bool whole_file, const FileLock& wanted) const;
  /// Takes it, or releases the range where `wanted` is empty of a lock: `unlock`. What the owner
  /// had in the range is replaced. Returns 0, -EAGAIN or -ENOLCK.
  std::int64_t Set(const File& file, bool whole_file, const FileLock& wanted, bool unlock);
  /// Everything an owner holds on a file.
  void Release(const File& file, const OpenFile* owner);
  bool empty() const { return files_.empty(); }

 private:
  friend class FilesKeeper;
  struct Locks {
    std::vector<FileLock> ranges;  ///< of fcntl
    std::vector<FileLock> whole;   ///< of flock
  };
  std::int64_t Charge();

  MemoryAccount& account_;
  MemoryCharge charge_;
  std::map<File, Locks> files_;
};

/// Lets `owner` let go of what it has locked of `file` when it is closed.
void ReleaseWithFile(FileLocks& locks, const FileLocks::File& file, OpenFile& owner);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_FILE_LOCKS_H_
