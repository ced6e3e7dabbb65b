// SPDX-License-Identifier: Apache-2.0
// Clocks and sleeping. Without the grant every clock stands still at kFixedTime.
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>

#include "src/linux_abi/duration.h"
#include "src/linux_abi/fixed_time.h"
#include "src/linux_abi/process.h"

namespace waxvm::linux_abi {
namespace {

using std::chrono::nanoseconds;

// What a process' CPU clocks say without the grant.
constexpr nanoseconds kNoTime{0};

ClockSource* GrantedClock(Process& process) {
  ClockSource* clock = process.spec().clock.get();
  if (clock == nullptr) return nullptr;
  return process.gate().Check({.resource = Resource::kClock, .name = "clock"}).ok() ? clock
                                                                                    : nullptr;
}

// CPU time of a thread, or of the process where `thread` is null.
nanoseconds CpuTime(Process& process, const Thread* thread = nullptr) {
  if (GrantedClock(process) == nullptr) return kNoTime;
  return thread != nullptr ? process.scheduler().CpuTime(*thread) : process.host().CpuTime();
}

// The clocks of clock_getcpuclockid(3) and pthread_getcpuclockid(3): a pid or tid and a kind.
// Spec: Linux include/linux/posix-timers.h.
std::optional<nanoseconds> ReadNamedCpuClock(Process& process, std::int32_t id) {
  constexpr std::int32_t kPerThread = 4;
  constexpr std::int32_t kKinds = 3;
  const std::int32_t owner = ~(id >> 3);
  if ((id & kKinds) == kKinds) return std::nullopt;
  if ((id & kPerThread) == 0) {
    if (owner != 0 && owner != Process::kPid) return std::nullopt;
    return CpuTime(process);
  }
  const Thread* thread = owner == 0 ? &process.thread() : process.scheduler().Find(owner);
  return thread != nullptr ? std::optional(CpuTime(process, thread)) : std::nullopt;
}

std::int64_t ClockGettime(Process& process, const SyscallArguments& a) {
  const auto time = ReadClock(process, a[0]);
  if (!time) return -EINVAL;
  return process.memory().WriteObject(a[1], ToTimespec(*time)) ? 0 : -EFAULT;
}

std::int64_t ClockGetres(Process& process, const SyscallArguments& a) {
  if (!ReadClock(process, a[0])) return -EINVAL;
  if (a[1] == 0) return 0;
  return process.memory().WriteObject(a[1], timespec{.tv_sec = 0, .tv_nsec = 1}) ? 0 : -EFAULT;
}

std::int64_t Gettimeofday(Process& process, const SyscallArguments& a) {
  if (a[0] != 0 &&
      !process.memory().WriteObject(a[0], ToTimeval(*ReadClock(process, CLOCK_REALTIME))))
    return -EFAULT;
  const struct timezone utc {};
  if (a[1] != 0 && !process.memory().WriteObject(a[1], utc)) return -EFAULT;
  return 0;
}

std::int64_t Time(Process& process, const SyscallArguments& a) {
  const std::int64_t seconds = ReadClock(process, CLOCK_REALTIME)->count() / kNanosPerSecond;
  if (a[0] != 0 && !process.memory().WriteObject(a[0], seconds)) return -EFAULT;
  return seconds;
}

// Sleeping needs no grant. `left_address`: where the time that is left goes when a signal ends it;
// a program that sleeps on would otherwise never be done. It tells how long the sleep was, which
// two threads can find out without it.
std::int64_t SleepFor(Process& process, nanoseconds duration, std::uint64_t left_address,
                      std::int64_t interrupted) {
  if (duration <= nanoseconds(0) && process.thread().call.wake == Wake::kNone) return 0;
  const std::int64_t slept = process.Sleep({.timeout = duration, .interrupted = interrupted});
  if (slept != -EINTR || left_address == 0) return slept;
  const nanoseconds left =
      std::max(nanoseconds(0), *process.thread().call.deadline - process.host().Now());
  return process.memory().WriteObject(left_address, ToTimespec(left)) ? slept : -EFAULT;
}

std::int64_t Nanosleep(Process& process, const SyscallArguments& a) {
  const auto duration = ReadDuration(process, a[0]);
  return duration.ok() ? SleepFor(process, *duration, a[1], -EINTR) : duration.result();
}

std::int64_t ClockNanosleep(Process& process, const SyscallArguments& a) {
  const auto now = ReadClock(process, a[0]);
  if (!now) return -EINVAL;
  const auto time = ReadDuration(process, a[2]);
  if (!time.ok()) return time.result();
  if ((a[1] & TIMER_ABSTIME) != 0)
    return SleepFor(process, *time - *now, 0, kRestartWithoutHandler);
  return SleepFor(process, *time, a[3], -EINTR);
}

std::int64_t Getrusage(Process& process, const SyscallArguments& a) {
  const auto who = static_cast<std::int32_t>(a[0]);
  if (who != RUSAGE_SELF && who != RUSAGE_CHILDREN && who != RUSAGE_THREAD) return -EINVAL;
  rusage usage{};
  if (who != RUSAGE_CHILDREN) {
    usage.ru_utime =
        ToTimeval(CpuTime(process, who == RUSAGE_THREAD ? &process.thread() : nullptr));
    usage.ru_maxrss = static_cast<long>(process.account().peak_bytes() / 1024);
  }
  return process.memory().WriteObject(a[1], usage) ? 0 : -EFAULT;
}

std::int64_t Times(Process& process, const SyscallArguments& a) {
  constexpr std::int64_t kNanosPerTick = kNanosPerSecond / 100;
  tms times{};
  times.tms_utime = CpuTime(process).count() / kNanosPerTick;
  if (a[0] != 0 && !process.memory().WriteObject(a[0], times)) return -EFAULT;
  return ReadClock(process, CLOCK_MONOTONIC)->count() / kNanosPerTick;
}

constexpr SyscallEntry kCalls[] = {
    {SYS_clock_gettime, "clock_gettime", ClockGettime, Support::kPartial, "the alarm clocks"},
    {SYS_clock_getres, "clock_getres", ClockGetres},
    {SYS_gettimeofday, "gettimeofday", Gettimeofday},
    {SYS_time, "time", Time},
    {SYS_nanosleep, "nanosleep", Nanosleep},
    {SYS_clock_nanosleep, "clock_nanosleep", ClockNanosleep},
    {SYS_getrusage, "getrusage", Getrusage, Support::kPartial, "user time and peak memory only"},
    {SYS_times, "times", Times, Support::kPartial, "user time only"},
};

}  // namespace

ErrnoOr<nanoseconds> FromTimespec(const timespec& time) {
  if (time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec >= kNanosPerSecond) return Errno{EINVAL};
  // Far from overflowing, and longer than any run: absolute times are some 1.8 billion seconds.
  constexpr std::int64_t kMaxSeconds = 8'000'000'000;
  return nanoseconds(std::min<std::int64_t>(time.tv_sec, kMaxSeconds) * kNanosPerSecond +
                     time.tv_nsec);
}

ErrnoOr<nanoseconds> ReadDuration(Process& process, std::uint64_t address) {
  timespec time;
  if (!process.memory().ReadObject(address, time)) return Errno{EFAULT};
  return FromTimespec(time);
}

std::optional<nanoseconds> ReadClock(Process& process, std::uint64_t id) {
  const auto clock_id = static_cast<std::int32_t>(id);
  switch (clock_id) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_TAI: {
      ClockSource* clock = GrantedClock(process);
      return clock != nullptr ? clock->RealTime() : kFixedTime;
    }
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME: {
      ClockSource* clock = GrantedClock(process);
      return clock != nullptr ? clock->MonotonicTime() : kFixedTime;
    }
    case CLOCK_PROCESS_CPUTIME_ID:
      return CpuTime(process);
    case CLOCK_THREAD_CPUTIME_ID:
      return CpuTime(process, &process.thread());
    default:
      return clock_id < 0 ? ReadNamedCpuClock(process, clock_id) : std::nullopt;
  }
}

std::span<const SyscallEntry> TimeCalls() { return kCalls; }

}  // namespace waxvm::linux_abi
