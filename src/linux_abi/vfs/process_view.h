// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_PROCESS_VIEW_H_
#define WAXVM_SRC_LINUX_ABI_VFS_PROCESS_VIEW_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace waxvm::linux_abi {

class FdTable;

/// The signals of one thread, as sets in which bit n-1 stands for signal n.
struct SignalsView {
  std::size_t queued = 0;  ///< of all threads and the process
  std::uint64_t pending = 0;
  std::uint64_t process_pending = 0;
  std::uint64_t blocked = 0;
  std::uint64_t ignored = 0;
  std::uint64_t caught = 0;
};

/// What /proc tells of the process and cannot be found out otherwise.
/// Thread safety: none; used by the instance's thread.
class ProcessView {
 public:
  virtual ~ProcessView() = default;

  virtual std::int32_t pid() const = 0;
  /// The calling thread.
  virtual std::int32_t thread_id() const = 0;
  virtual std::vector<std::int32_t> thread_ids() const = 0;
  virtual std::string ThreadName(std::int32_t thread) const = 0;
  virtual void SetThreadName(std::int32_t thread, std::string_view name) = 0;
  virtual SignalsView Signals(std::int32_t thread) const = 0;
  /// How many signals can be queued, for one thread or the process.
  virtual std::size_t max_queued_signals() const = 0;
  /// CPU time of one thread, and of them all; nothing where the clock is not granted.
  virtual std::chrono::nanoseconds ThreadTime(std::int32_t thread) const = 0;
  virtual std::chrono::nanoseconds ProcessTime() const = 0;
  /// The path of the program inside the instance.
  virtual std::string Executable() const = 0;
  /// The lines of /proc/self/maps.
  virtual std::string Maps() const = 0;
  /// The bytes of the auxiliary vector.
  virtual std::string AuxiliaryVector() const = 0;
  /// The path of the working directory.
  virtual std::string WorkingDirectory() const = 0;
  virtual FdTable& files() = 0;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_PROCESS_VIEW_H_
