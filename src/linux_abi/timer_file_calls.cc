// SPDX-License-Identifier: Apache-2.0
// Timers that are files.
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <utility>

#include "src/linux_abi/duration.h"
#include "src/linux_abi/fixed_time.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/syscall_table.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/file_system.h"
#include "src/linux_abi/vfs/timer_file.h"

namespace waxvm::linux_abi {
namespace {

using std::chrono::nanoseconds;

ErrnoOr<std::shared_ptr<TimerFile>> TimerArgument(Process& process, std::uint64_t fd) {
  std::shared_ptr<OpenFile> file = process.files().Share(fd);
  if (file == nullptr) return Errno{EBADF};
  auto timer = std::dynamic_pointer_cast<TimerFile>(std::move(file));
  if (timer == nullptr) return Errno{EINVAL};
  return timer;
}

std::int64_t Create(Process& process, const SyscallArguments& a) {
  const auto clock = static_cast<int>(a[0]);
  const auto flags = static_cast<int>(a[1]);
  if ((flags & ~(TFD_CLOEXEC | TFD_NONBLOCK)) != 0) return -EINVAL;
  if (clock == CLOCK_REALTIME_ALARM || clock == CLOCK_BOOTTIME_ALARM) return -EPERM;
  if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME) {
    return -EINVAL;
  }
  return process.files().Add(
      std::make_shared<TimerFile>(process.file_system().context(), clock, flags & TFD_NONBLOCK),
      (flags & TFD_CLOEXEC) != 0);
}

itimerspec ToSpec(const TimerValue& value) {
  return {.it_interval = ToTimespec(value.interval), .it_value = ToTimespec(value.left)};
}

std::int64_t SetTime(Process& process, const SyscallArguments& a) {
  const auto flags = static_cast<int>(a[1]);
  itimerspec spec{};
  if (!process.memory().ReadObject(a[2], spec)) return -EFAULT;
  const ErrnoOr<nanoseconds> interval = FromTimespec(spec.it_interval);
  const ErrnoOr<nanoseconds> first = FromTimespec(spec.it_value);
  const bool known = (flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)) == 0;
  if (!known || !interval.ok() || !first.ok()) return -EINVAL;
  const ErrnoOr<std::shared_ptr<TimerFile>> timer = TimerArgument(process, a[0]);
  if (!timer.ok()) return timer.result();
  const itimerspec before = ToSpec((*timer)->Get());
  TimerValue value{.left = *first, .interval = *interval};
  if ((flags & TFD_TIMER_ABSTIME) != 0 && value.left.count() > 0) {
    // One that is in the past runs out at once.
    const auto clock = static_cast<std::uint64_t>((*timer)->clock());
    value.left =
        std::max(value.left - ReadClock(process, clock).value_or(kFixedTime), nanoseconds(1));
  }
  (*timer)->Set(value);
  return a[3] == 0 || process.memory().WriteObject(a[3], before) ? 0 : -EFAULT;
}

std::int64_t GetTime(Process& process, const SyscallArguments& a) {
  const ErrnoOr<std::shared_ptr<TimerFile>> timer = TimerArgument(process, a[0]);
  if (!timer.ok()) return timer.result();
  return process.memory().WriteObject(a[1], ToSpec((*timer)->Get())) ? 0 : -EFAULT;
}

constexpr SyscallEntry kEntries[] = {
    {SYS_timerfd_create, "timerfd_create", Create, Support::kPartial,
     "the alarm clocks; without the granted clock every reading is 1"},
    {SYS_timerfd_settime, "timerfd_settime", SetTime, Support::kPartial,
     "changes of the clock are not noticed (TFD_TIMER_CANCEL_ON_SET)"},
    {SYS_timerfd_gettime, "timerfd_gettime", GetTime},
};

}  // namespace

std::span<const SyscallEntry> TimerFileCalls() { return kEntries; }

}  // namespace waxvm::linux_abi
