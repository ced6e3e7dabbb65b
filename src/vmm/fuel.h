// SPDX-License-Identifier: Apache-2.0
// A budget of instructions that a guest may execute.
#ifndef WAXVM_SRC_VMM_FUEL_H_
#define WAXVM_SRC_VMM_FUEL_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"

namespace waxvm::vmm {

/// Counts something that the thread which made it does, from then on.
/// Thread safety: Read from any thread; made and destroyed by its own.
class FuelCounter {
 public:
  virtual ~FuelCounter() = default;
  /// Units so far. Errors: kInternal.
  virtual absl::StatusOr<std::uint64_t> Read() const = 0;
  /// Until Continue nothing is counted, and no alarm begins.
  virtual void Pause() = 0;
  virtual void Continue() = 0;
};

/// When and how a counter interrupts its thread: `signal` is sent to it, once, when `after` units
/// (more than 0) were counted.
struct FuelAlarm {
  std::uint64_t after = 0;
  int signal = 0;
};

/// Makes a counter for the calling thread.
using FuelMeter =
    std::function<absl::StatusOr<std::unique_ptr<FuelCounter>>(std::optional<FuelAlarm> alarm)>;

/// An event of perf_event_open(2).
struct PerfEvent {
  std::uint32_t type = 0;
  std::uint64_t config = 0;
  bool guest_only = false;  ///< ring 3 of a virtual machine of the thread, and nothing else
};
/// Instructions that ring 3 of a guest retires.
extern const PerfEvent kGuestInstructions;
/// Nanoseconds that the thread runs, on any host: for tests of what an alarm does.
extern const PerfEvent kTaskClock;

/// Errors: kUnavailable with the exact reason.
absl::StatusOr<std::unique_ptr<FuelCounter>> NewPerfCounter(const PerfEvent& event,
                                                            std::optional<FuelAlarm> alarm);

/// One instance's budget: counts while the instance is resumed, by whichever threads.
/// Thread safety: none; used by the instance's thread.
class FuelGauge {
 public:
  explicit FuelGauge(FuelMeter meter) : meter_(std::move(meter)) {}

  /// Counts from 0; empty: not at all.
  void Restart(std::optional<std::uint64_t> limit);
  bool active() const { return limit_.has_value(); }

  /// The calling thread runs the guest from now on: `signal` interrupts it when more than the limit
  /// was used. Errors: what the meter says.
  absl::Status Enter(int signal);
  /// It does not any more. An alarm may still be waiting: its signal is to be taken back before it
  /// is unblocked.
  void Leave() {
    if (counter_ != nullptr) counter_->Pause();
  }
  /// More was used than the limit. What cannot be read counts as used up: a budget is never lost.
  bool Over() const { return limit_ && used() > *limit_; }
  std::uint64_t used() const;

 private:
  const FuelMeter meter_;
  std::optional<std::uint64_t> limit_;
  std::uint64_t before_ = 0;  ///< by counters that are gone
  std::unique_ptr<FuelCounter> counter_;
  pid_t thread_ = 0;  ///< whose it is
};

}  // namespace waxvm::vmm

#endif  // WAXVM_SRC_VMM_FUEL_H_
