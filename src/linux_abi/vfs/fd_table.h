// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_FD_TABLE_H_
#define WAXVM_SRC_LINUX_ABI_VFS_FD_TABLE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "src/base/memory_account.h"
#include "src/linux_abi/host.h"
#include "src/linux_abi/vfs/open_file.h"
#include "waxvm/provider.h"

namespace waxvm::linux_abi {

/// The descriptors of one process. Results are descriptors, 0, or negated errno values.
/// Thread safety: none; used by the instance's thread.
class FdTable {
 public:
  static constexpr std::uint64_t kDefaultLimit = 1024;

  /// Opens the three standard streams, which are there even where the limit allows no descriptor.
  /// `on_output_limit` is called when the output bound is met and ends the process. All arguments
  /// outlive the table.
  FdTable(const InstanceSpec& spec, MemoryAccount& account, Host& host,
          std::function<void()> on_output_limit);

  /// The open file, or null. `fd` is an argument as the guest passed it.
  OpenFile* Get(std::uint64_t fd) const;
  /// The same, for whoever keeps it.
  std::shared_ptr<OpenFile> Share(std::uint64_t fd) const;

  /// 0, or the error Add would give, so that opening a file past the limit changes nothing.
  std::int64_t CheckRoom() const;
  /// Puts `file` under the lowest free descriptor that is at least `minimum`. -EMFILE (recorded as
  /// the limit "open_files"), -EINVAL for a minimum past the limit, -ENOMEM.
  std::int64_t Add(std::shared_ptr<OpenFile> file, bool close_on_exec, std::uint64_t minimum = 0);
  /// dup3: closes what is at `fd` first. -EBADF past the limit, -ENOMEM.
  std::int64_t Replace(std::uint64_t fd, std::shared_ptr<OpenFile> file, bool close_on_exec);
  std::int64_t Close(std::uint64_t fd);
  /// Closes [first, last], or marks them close-on-exec.
  void CloseRange(std::uint64_t first, std::uint64_t last, bool only_mark);

  bool close_on_exec(std::uint64_t fd) const { return slots_[fd].close_on_exec; }
  void set_close_on_exec(std::uint64_t fd, bool value) { slots_[fd].close_on_exec = value; }
  /// 0, 1 or 2 for a standard stream, whatever descriptors it has now; empty for another file.
  std::optional<int> StreamOf(const OpenFile* file) const;
  std::uint64_t limit() const { return limit_; }
  /// Every open descriptor is below.
  std::uint64_t size() const { return slots_.size(); }

 private:
  struct Slot {
    std::shared_ptr<OpenFile> file;
    MemoryCharge charge;
    bool close_on_exec = false;
  };

  std::int64_t FindFree(std::uint64_t minimum) const;
  std::int64_t Put(std::uint64_t fd, std::shared_ptr<OpenFile> file, bool close_on_exec);

  MemoryAccount& account_;
  AccessGate& gate_;
  std::uint64_t limit_;
  std::vector<Slot> slots_;
  std::array<std::shared_ptr<OpenFile>, 3> streams_;
  MemoryCharge slots_charge_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_FD_TABLE_H_
