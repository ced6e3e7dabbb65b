// SPDX-License-Identifier: Apache-2.0
// Clocks and sleeping. Without the grant every clock stands still at kFixedTime.
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <time.h>

#include <cerrno>
#include <chrono>
#include <optional>

#include "src/linux_abi/fixed_time.h"
#include "src/linux_abi/process.h"

namespace waxvm::linux_abi {
namespace {

using std::chrono::nanoseconds;

constexpr std::int64_t kNanosPerSecond = 1'000'000'000;
// What a process' CPU clocks say without the grant.
constexpr nanoseconds kNoTime{0};

timespec ToTimespec(nanoseconds time) {
  return {.tv_sec = time.count() / kNanosPerSecond, .tv_nsec = time.count() % kNanosPerSecond};
}

timeval ToTimeval(nanoseconds time) {
  return {.tv_sec = time.count() / kNanosPerSecond,
          .tv_usec = time.count() % kNanosPerSecond / 1000};
}

ClockSource* GrantedClock(Process& process) {
  ClockSource* clock = process.spec().clock.get();
  if (clock == nullptr) return nullptr;
  return process.gate().Check({.resource = Resource::kClock, .name = "clock"}).ok() ? clock
                                                                                    : nullptr;
}

nanoseconds CpuTime(Process& process) {
  return GrantedClock(process) != nullptr ? process.host().CpuTime() : kNoTime;
}

// Empty for a clock that does not exist.
std::optional<nanoseconds> ReadClock(Process& process, std::uint64_t id) {
  switch (static_cast<std::int32_t>(id)) {
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
    case CLOCK_THREAD_CPUTIME_ID:
      return CpuTime(process);
    default:
      return std::nullopt;
  }
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

// Sleeping tells no time, so it needs no grant.
std::int64_t Sleep(Process& process, nanoseconds duration) {
  if (duration <= nanoseconds(0)) return 0;
  return process.host().Wait({}, duration);
}

// Empty when the address or the value is bad; `error` says which.
std::optional<nanoseconds> ReadDuration(Process& process, std::uint64_t address,
                                        std::int64_t& error) {
  timespec time;
  error = -EFAULT;
  if (!process.memory().ReadObject(address, time)) return std::nullopt;
  error = -EINVAL;
  if (time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec >= kNanosPerSecond) return std::nullopt;
  // Longer than anybody waits, and no overflow.
  constexpr std::int64_t kMaxSeconds = 1'000'000'000;
  return nanoseconds(std::min<std::int64_t>(time.tv_sec, kMaxSeconds) * kNanosPerSecond +
                     time.tv_nsec);
}

std::int64_t Nanosleep(Process& process, const SyscallArguments& a) {
  std::int64_t error = 0;
  const auto duration = ReadDuration(process, a[0], error);
  return duration ? Sleep(process, *duration) : error;
}

std::int64_t ClockNanosleep(Process& process, const SyscallArguments& a) {
  const auto now = ReadClock(process, a[0]);
  if (!now) return -EINVAL;
  std::int64_t error = 0;
  const auto time = ReadDuration(process, a[2], error);
  if (!time) return error;
  return Sleep(process, (a[1] & TIMER_ABSTIME) != 0 ? *time - *now : *time);
}

std::int64_t Getrusage(Process& process, const SyscallArguments& a) {
  const auto who = static_cast<std::int32_t>(a[0]);
  if (who != RUSAGE_SELF && who != RUSAGE_CHILDREN && who != RUSAGE_THREAD) return -EINVAL;
  rusage usage{};
  if (who != RUSAGE_CHILDREN) {
    usage.ru_utime = ToTimeval(CpuTime(process));
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
    {SYS_clock_gettime, "clock_gettime", ClockGettime, Support::kPartial,
     "the clocks of other processes and the alarm clocks"},
    {SYS_clock_getres, "clock_getres", ClockGetres},
    {SYS_gettimeofday, "gettimeofday", Gettimeofday},
    {SYS_time, "time", Time},
    {SYS_nanosleep, "nanosleep", Nanosleep},
    {SYS_clock_nanosleep, "clock_nanosleep", ClockNanosleep},
    {SYS_getrusage, "getrusage", Getrusage, Support::kPartial, "user time and peak memory only"},
    {SYS_times, "times", Times, Support::kPartial, "user time only"},
};

}  // namespace

std::span<const SyscallEntry> TimeCalls() { return kCalls; }

}  // namespace waxvm::linux_abi
