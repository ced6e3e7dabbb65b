// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_VMM_VDSO_GUEST_CLOCK_H_
#define WAXVM_SRC_VMM_VDSO_GUEST_CLOCK_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "src/base/mutex.h"
#include "src/vmm/vdso/page.h"
#include "waxvm/grant.h"

namespace waxvm::vmm {

/// The host's timestamp counter, read no earlier than the loads before it.
std::uint64_t ReadTsc();

/// The clock of a program with a vDSO. Vdso and system calls read one and the same line over the
/// timestamp counter (page.h), so no order of the two sees time step back.
///
/// The line is valid for a short time only. The vDSO then makes the system call, which reads this
/// clock, and so draws the next line: from the host's clock where that is ahead,
/// else from the last value that the old line can have shown, and flatter until the host has
/// caught up. Hence nothing is done for a program that does not ask for the time, and a machine
/// that was suspended shows no old time. Whoever decides is asked for each line, whoever made the
/// host draw it, so that a program from which the clock is taken away loses it with the line. The
/// first two lines are shorter, as the counter's speed is not known well before it was measured
/// against the host's clock.
///
/// Thread safety: may be shared between threads; the guest must not be running.
class GuestClock final : public ClockSource {
 public:
  using Tsc = std::function<std::uint64_t()>;
  using MayShow = std::function<bool()>;

  /// The longest line: what a change of the host's clock may take to show inside.
  static constexpr std::chrono::nanoseconds kLongestLine = std::chrono::milliseconds(100);

  /// `tsc_khz` is not 0; `page` is zeroed and outlives every call.
  GuestClock(std::shared_ptr<ClockSource> host, std::uint64_t tsc_khz, waxvm_vdso_page* page,
             Tsc tsc, MayShow may_show);

  std::chrono::nanoseconds RealTime() override;
  std::chrono::nanoseconds MonotonicTime() override;

 private:
  /// The host's clock at one moment of the counter.
  struct Sample {
    std::uint64_t tsc = 0;
    std::int64_t monotonic_ns = 0;
    std::int64_t realtime_offset_ns = 0;
  };

  Sample TakeSample() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// The monotonic time now, on the line, which is drawn anew when it has ended.
  std::int64_t Monotonic() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DrawLine() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// Nanoseconds of a cycle, measured between `anchor_` and `sample`.
  double MeasuredSpeed(const Sample& sample) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Publish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::shared_ptr<ClockSource> host_;
  const double nominal_speed_;
  waxvm_vdso_page* const page_;
  const Tsc tsc_;
  const MayShow may_show_;

  Mutex mutex_;
  waxvm_vdso_page line_ ABSL_GUARDED_BY(mutex_) = {};
  std::int64_t line_ns_ ABSL_GUARDED_BY(mutex_);
  Sample anchor_ ABSL_GUARDED_BY(mutex_) = {};
};

}  // namespace waxvm::vmm

#endif  // WAXVM_SRC_VMM_VDSO_GUEST_CLOCK_H_
