// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_TIMER_FILE_H_
#define WAXVM_SRC_LINUX_ABI_VFS_TIMER_FILE_H_

#include <chrono>
#include <cstdint>
#include <optional>

#include "src/linux_abi/vfs/memory_node.h"
#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {

/// What a timerfd is set to: the time left and the period; zero: off, and once.
struct TimerValue {
  std::chrono::nanoseconds left{0};
  std::chrono::nanoseconds interval{0};
};

/// A timerfd. It runs on Host::Now(), and tells how much time has passed only with the granted
/// clock: without it every reading is 1 expiration and the time left is what it was set to.
class TimerFile final : public AnonymousFile {
 public:
  /// `clock`: CLOCK_REALTIME, CLOCK_MONOTONIC or CLOCK_BOOTTIME. `flags`: O_NONBLOCK or 0.
  TimerFile(VfsContext& context, int clock, int flags);

  int clock() const { return clock_; }
  void Set(const TimerValue& value);
  TimerValue Get() const;

  std::int64_t Read(std::span<std::byte> to) override;
  std::int64_t Stat(struct stat& status) const override;
  short Poll() const override { return Expirations() > 0 ? POLLIN : 0; }
  Edges edges() const override { return {.in = expired_before_ + Expirations(), .out = 0}; }
  std::optional<std::chrono::nanoseconds> ReadyAt() const override;
  bool has_messages() const override { return true; }
  bool can_write() const override { return false; }

 private:
  friend class FilesKeeper;
  friend class FilesRestorer;
  /// Since the last reading.
  std::uint64_t Expirations() const;

  VfsContext& context_;
  int clock_;
  std::optional<std::chrono::nanoseconds> next_;  ///< the first expiration not read yet
  TimerValue value_;
  std::uint64_t expired_before_ = 0;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_TIMER_FILE_H_
