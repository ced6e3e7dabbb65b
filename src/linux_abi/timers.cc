// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/timers.h"

#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "src/linux_abi/process.h"

namespace waxvm::linux_abi {
namespace {

using std::chrono::nanoseconds;

// CPU time does not pass while nobody runs: looking for it more often than this is spinning.
constexpr nanoseconds kCpuPeriod = std::chrono::milliseconds(1);
// A shorter period would leave the guest no time between two signals.
constexpr nanoseconds kMinInterval = std::chrono::microseconds(50);

}  // namespace

bool Timers::MayShowTime() const { return process_.spec().clock != nullptr; }

nanoseconds Timers::Now(Clock clock) const {
  return clock == Clock::kCpu ? process_.host().CpuTime() : process_.host().Now();
}

TimerSetting Timers::Left(const Timer& timer) const {
  if (!timer.end) return {.interval = timer.interval};
  if (!MayShowTime()) return {.left = timer.set_to, .interval = timer.interval};
  // One that is on never says 0, which means off.
  return {.left = std::max(nanoseconds(1), *timer.end - Now(timer.clock)),
          .interval = timer.interval};
}

void Timers::Start(Timer& timer, const TimerSetting& setting) {
  timer.overrun = 0;
  timer.interval = setting.interval == nanoseconds(0) ? nanoseconds(0)
                                                      : std::max(setting.interval, kMinInterval);
  timer.end.reset();
  timer.set_to = setting.left;
  if (setting.left != nanoseconds(0)) {
    const nanoseconds now = Now(timer.clock);
    timer.end = now + std::min(setting.left, nanoseconds::max() - now);
  }
  process_.scheduler().NoteChange();
}

ErrnoOr<std::int32_t> Timers::Create(Clock clock, std::int32_t guest_clock,
                                     const Notification& notification) {
  if (timers_.size() >= kMaxTimers) return Errno{EAGAIN};
  std::int32_t id = 0;
  while (timers_.contains(id)) ++id;
  Timer& timer = timers_[id];
  timer.clock = clock;
  timer.guest_clock = guest_clock;
  timer.notification = notification;
  timer.id = id;
  return id;
}

ErrnoOr<std::int32_t> Timers::GuestClock(std::int32_t id) const {
  const auto timer = timers_.find(id);
  if (timer == timers_.end()) return Errno{EINVAL};
  return timer->second.guest_clock;
}

std::int64_t Timers::Delete(std::int32_t id) { return timers_.erase(id) != 0 ? 0 : -EINVAL; }

ErrnoOr<TimerSetting> Timers::Set(std::int32_t id, const TimerSetting& setting) {
  const auto timer = timers_.find(id);
  if (timer == timers_.end()) return Errno{EINVAL};
  const TimerSetting before = Left(timer->second);
  Start(timer->second, setting);
  return before;
}

ErrnoOr<TimerSetting> Timers::Get(std::int32_t id) const {
  const auto timer = timers_.find(id);
  if (timer == timers_.end()) return Errno{EINVAL};
  return Left(timer->second);
}

std::int64_t Timers::Overrun(std::int32_t id) const {
  const auto timer = timers_.find(id);
  if (timer == timers_.end()) return -EINVAL;
  return MayShowTime() ? std::min<std::int64_t>(timer->second.last_overrun, INT_MAX) : 0;
}

void Timers::NoteDelivered(siginfo_t& info) {
  const auto timer = timers_.find(info.si_timerid);
  if (timer == timers_.end()) return;
  timer->second.last_overrun = timer->second.overrun;
  // How many periods passed is time.
  info.si_overrun =
      MayShowTime() ? static_cast<int>(std::min<std::int64_t>(timer->second.overrun, INT_MAX)) : 0;
}

TimerSetting Timers::SetInterval(int which, const TimerSetting& setting) {
  constexpr int kSignalOf[] = {SIGALRM, SIGVTALRM, SIGPROF};
  Timer& timer = intervals_[Index(which)];
  timer.clock = which == ITIMER_REAL ? Clock::kMonotonic : Clock::kCpu;
  timer.notification.signal = kSignalOf[which];
  timer.code = SI_KERNEL;
  const TimerSetting before = Left(timer);
  Start(timer, setting);
  return before;
}

std::optional<nanoseconds> Timers::Next() const {
  std::optional<nanoseconds> next;
  const auto look_at = [&](const Timer& timer) {
    if (!timer.end) return;
    nanoseconds end = *timer.end;
    if (timer.clock == Clock::kCpu)
      end = Now(Clock::kMonotonic) + std::max(kCpuPeriod, end - Now(Clock::kCpu));
    if (!next || end < *next) next = end;
  };
  for (const auto& [id, timer] : timers_) look_at(timer);
  for (const Timer& timer : intervals_) look_at(timer);
  return next;
}

void Timers::FireOne(Timer& timer) {
  if (!timer.end) return;
  const nanoseconds now = Now(timer.clock);
  if (now < *timer.end) return;
  process_.NoteChange();
  const nanoseconds late = now - *timer.end;
  std::int64_t missed = 0;
  if (timer.interval == nanoseconds(0)) {
    timer.end.reset();
  } else {
    missed = late / timer.interval;
    *timer.end += timer.interval * (missed + 1);
  }
  if (timer.notification.signal == 0) return;
  Thread* thread = nullptr;
  if (timer.notification.thread != 0) {
    thread = process_.scheduler().Find(timer.notification.thread);
    if (thread == nullptr) return;
  }
  // The signal before this one is still waiting: one more period that nobody saw.
  if (timer.code == SI_TIMER && ((thread != nullptr && thread->pending.HasTimer(timer.id)) ||
                                 process_.signals().pending.HasTimer(timer.id))) {
    timer.overrun += missed + 1;
    return;
  }
  timer.overrun = missed;
  siginfo_t info = MakeSignalInfo(timer.notification.signal, timer.code);
  if (timer.code == SI_TIMER) {
    info.si_timerid = timer.id;
    info.si_overrun = MayShowTime() ? static_cast<int>(std::min<std::int64_t>(missed, INT_MAX)) : 0;
    static_assert(sizeof info.si_value == sizeof timer.notification.value);
    std::memcpy(&info.si_value, &timer.notification.value, sizeof info.si_value);
  }
  SendSignal(process_, thread, info);
}

void Timers::Fire() {
  for (auto& [id, timer] : timers_) FireOne(timer);
  for (Timer& timer : intervals_) FireOne(timer);
}

}  // namespace waxvm::linux_abi
