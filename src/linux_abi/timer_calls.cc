// SPDX-License-Identifier: Apache-2.0
// Timers that send signals.
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "src/linux_abi/duration.h"
#include "src/linux_abi/process.h"

namespace waxvm::linux_abi {
namespace {

using std::chrono::nanoseconds;

// struct sigevent as the kernel has it.
struct SignalEvent {
  std::uint64_t value;
  std::int32_t signal;
  std::int32_t notify;
  std::int32_t thread;
  std::int32_t padding[11];
};
static_assert(sizeof(SignalEvent) == 64);

itimerspec ToItimerspec(const TimerSetting& setting) {
  return {.it_interval = ToTimespec(setting.interval), .it_value = ToTimespec(setting.left)};
}

itimerval ToItimerval(const TimerSetting& setting) {
  // What is left is never shown as 0 while the timer is on.
  const nanoseconds shown = setting.left == nanoseconds(0)
                                ? setting.left
                                : std::max(setting.left, nanoseconds(std::chrono::microseconds(1)));
  return {.it_interval = ToTimeval(setting.interval), .it_value = ToTimeval(shown)};
}

bool IsCpuClock(std::uint64_t id) {
  const auto clock = static_cast<std::int32_t>(id);
  return clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID || clock < 0;
}

std::int64_t TimerCreate(Process& process, const SyscallArguments& a) {
  if (!ReadClock(process, a[0])) return -EINVAL;
  Timers::Notification notification{.signal = SIGALRM};
  if (a[1] != 0) {
    SignalEvent event;
    if (!process.memory().ReadObject(a[1], event)) return -EFAULT;
    const bool to_thread = event.notify == SIGEV_THREAD_ID;
    if (event.notify == SIGEV_NONE) {
      notification.signal = 0;
    } else if (event.notify == SIGEV_SIGNAL || to_thread) {
      if (event.signal < 1 || event.signal > kSignals) return -EINVAL;
      notification.signal = event.signal;
    } else {
      return -EINVAL;
    }
    if (to_thread) {
      if (process.scheduler().Find(event.thread) == nullptr) return -EINVAL;
      notification.thread = event.thread;
    }
    notification.value = event.value;
  }
  const ErrnoOr<std::int32_t> id =
      process.timers().Create(IsCpuClock(a[0]) ? Timers::Clock::kCpu : Timers::Clock::kMonotonic,
                              static_cast<std::int32_t>(a[0]), notification);
  if (!id.ok()) return id.result();
  if (process.memory().WriteObject(a[2], *id)) return 0;
  process.timers().Delete(*id);
  return -EFAULT;
}

std::int64_t TimerSettime(Process& process, const SyscallArguments& a) {
  itimerspec wanted;
  if (!process.memory().ReadObject(a[2], wanted)) return -EFAULT;
  const auto value = FromTimespec(wanted.it_value);
  const auto interval = FromTimespec(wanted.it_interval);
  if (!value.ok()) return value.result();
  if (!interval.ok()) return interval.result();
  TimerSetting setting{.left = *value, .interval = *interval};
  const auto id = static_cast<std::int32_t>(a[0]);
  if ((a[1] & TIMER_ABSTIME) != 0 && setting.left != nanoseconds(0)) {
    const ErrnoOr<std::int32_t> clock = process.timers().GuestClock(id);
    if (!clock.ok()) return clock.result();
    const auto now = ReadClock(process, static_cast<std::uint64_t>(std::int64_t{*clock}));
    if (!now) return -EINVAL;
    // One that has run out already runs out at once.
    setting.left = std::max(nanoseconds(1), setting.left - *now);
  }
  const ErrnoOr<TimerSetting> before = process.timers().Set(id, setting);
  if (!before.ok()) return before.result();
  if (a[3] != 0 && !process.memory().WriteObject(a[3], ToItimerspec(*before))) return -EFAULT;
  return 0;
}

std::int64_t TimerGettime(Process& process, const SyscallArguments& a) {
  const ErrnoOr<TimerSetting> setting = process.timers().Get(static_cast<std::int32_t>(a[0]));
  if (!setting.ok()) return setting.result();
  return process.memory().WriteObject(a[1], ToItimerspec(*setting)) ? 0 : -EFAULT;
}

std::int64_t TimerGetoverrun(Process& process, const SyscallArguments& a) {
  return process.timers().Overrun(static_cast<std::int32_t>(a[0]));
}

std::int64_t TimerDelete(Process& process, const SyscallArguments& a) {
  return process.timers().Delete(static_cast<std::int32_t>(a[0]));
}

ErrnoOr<nanoseconds> FromTimeval(const timeval& time) {
  if (time.tv_usec < 0 || time.tv_usec >= 1'000'000) return Errno{EINVAL};
  return FromTimespec({.tv_sec = time.tv_sec, .tv_nsec = time.tv_usec * 1000});
}

bool IsInterval(std::uint64_t which) { return static_cast<std::uint32_t>(which) <= ITIMER_PROF; }

std::int64_t Setitimer(Process& process, const SyscallArguments& a) {
  itimerval wanted{};
  if (!IsInterval(a[0])) return -EINVAL;
  if (a[1] != 0 && !process.memory().ReadObject(a[1], wanted)) return -EFAULT;
  const auto value = FromTimeval(wanted.it_value);
  const auto interval = FromTimeval(wanted.it_interval);
  if (!value.ok()) return value.result();
  if (!interval.ok()) return interval.result();
  const TimerSetting before =
      process.timers().SetInterval(static_cast<int>(a[0]), {.left = *value, .interval = *interval});
  if (a[2] != 0 && !process.memory().WriteObject(a[2], ToItimerval(before))) return -EFAULT;
  return 0;
}

std::int64_t Getitimer(Process& process, const SyscallArguments& a) {
  if (!IsInterval(a[0])) return -EINVAL;
  const TimerSetting setting = process.timers().GetInterval(static_cast<int>(a[0]));
  return process.memory().WriteObject(a[1], ToItimerval(setting)) ? 0 : -EFAULT;
}

std::int64_t Alarm(Process& process, const SyscallArguments& a) {
  const std::chrono::seconds after(static_cast<std::uint32_t>(a[0]));
  const TimerSetting before = process.timers().SetInterval(ITIMER_REAL, {.left = after});
  // Rounded to seconds, but never to 0 while it was on.
  const std::int64_t rounded = (before.left.count() + kNanosPerSecond / 2) / kNanosPerSecond;
  return before.left == nanoseconds(0) ? 0 : std::max<std::int64_t>(rounded, 1);
}

constexpr std::string_view kCpuTimers = "CPU-time timers count the whole process";

constexpr SyscallEntry kCalls[] = {
    {SYS_timer_create, "timer_create", TimerCreate, Support::kPartial, kCpuTimers},
    {SYS_timer_settime, "timer_settime", TimerSettime},
    {SYS_timer_gettime, "timer_gettime", TimerGettime},
    {SYS_timer_getoverrun, "timer_getoverrun", TimerGetoverrun},
    {SYS_timer_delete, "timer_delete", TimerDelete},
    {SYS_setitimer, "setitimer", Setitimer},
    {SYS_getitimer, "getitimer", Getitimer},
    {SYS_alarm, "alarm", Alarm},
};

}  // namespace

std::span<const SyscallEntry> TimerCalls() { return kCalls; }

}  // namespace waxvm::linux_abi
