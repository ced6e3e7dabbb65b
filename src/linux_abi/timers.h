// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_TIMERS_H_
#define WAXVM_SRC_LINUX_ABI_TIMERS_H_

#include <signal.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>

#include "src/linux_abi/errno_or.h"

namespace waxvm::linux_abi {

class Process;
struct TimersImage;

/// What a timer is set to: the time left and the period; zero: it is off.
struct TimerSetting {
  std::chrono::nanoseconds left{0};
  std::chrono::nanoseconds interval{0};
};

/// The timers of a process that send signals: setitimer's three and those of timer_create. They run
/// without the granted clock, but do not show it: what is left stays what was set, and no overrun
/// is counted.
/// Thread safety: none. Spec: timer_create(2), setitimer(2).
class Timers {
 public:
  /// As RLIMIT_SIGPENDING bounds them: each holds host memory.
  static constexpr std::size_t kMaxTimers = 256;

  enum class Clock { kMonotonic, kCpu };
  struct Notification {
    int signal = 0;           ///< 0: none is sent
    std::int32_t thread = 0;  ///< 0: to the process
    std::uint64_t value = 0;  ///< si_value, as the guest gave it
  };

  explicit Timers(Process& process) : process_(process) {}

  /// `guest_clock` is what the guest called it. Errors: EAGAIN when there are too many.
  ErrnoOr<std::int32_t> Create(Clock clock, std::int32_t guest_clock,
                               const Notification& notification);
  /// Errors: EINVAL.
  ErrnoOr<std::int32_t> GuestClock(std::int32_t id) const;
  std::int64_t Delete(std::int32_t id);
  /// Sets a timer of Create and says what it was. Errors: EINVAL.
  ErrnoOr<TimerSetting> Set(std::int32_t id, const TimerSetting& setting);
  ErrnoOr<TimerSetting> Get(std::int32_t id) const;
  /// A signal of a timer has reached its thread: says in it how many periods passed meanwhile.
  void NoteDelivered(siginfo_t& info);
  /// Periods that passed while the last signal that was delivered had to wait. Errors: EINVAL.
  std::int64_t Overrun(std::int32_t id) const;

  /// ITIMER_REAL, ITIMER_VIRTUAL or ITIMER_PROF.
  TimerSetting SetInterval(int which, const TimerSetting& setting);
  TimerSetting GetInterval(int which) const { return Left(intervals_[Index(which)]); }

  TimersImage TakeImage() const;
  void LoadImage(const TimersImage& image);
  /// When the next one runs out, on Host::Now().
  std::optional<std::chrono::nanoseconds> Next() const;
  /// Sends the signals of those that have run out.
  void Fire();

 private:
  struct Timer {
    Clock clock = Clock::kMonotonic;
    std::int32_t guest_clock = 0;
    Notification notification;
    int code = SI_TIMER;
    std::int32_t id = 0;
    std::optional<std::chrono::nanoseconds> end = {};  ///< on its clock; empty: it is off
    std::chrono::nanoseconds interval{0};
    std::chrono::nanoseconds set_to{0};  ///< what was left at first
    std::int64_t overrun = 0;            ///< of the signal that waits now
    std::int64_t last_overrun = 0;       ///< of the one delivered last
  };

  static std::size_t Index(int which) { return static_cast<std::size_t>(which); }
  bool MayShowTime() const;
  std::chrono::nanoseconds Now(Clock clock) const;
  TimerSetting Left(const Timer& timer) const;
  void Start(Timer& timer, const TimerSetting& setting);
  void FireOne(Timer& timer);

  Process& process_;
  std::map<std::int32_t, Timer> timers_;
  std::array<Timer, 3> intervals_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_TIMERS_H_
