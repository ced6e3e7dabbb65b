// SPDX-License-Identifier: Apache-2.0
// Threads: one is offered so far. What a C library does to set up its first thread works; starting
// another meets the limit `processes`.
#include <linux/futex.h>
#include <linux/rseq.h>
#include <sched.h>
#include <sys/syscall.h>

#include <cerrno>
#include <chrono>
#include <cstddef>

#include "src/linux_abi/process.h"

namespace waxvm::linux_abi {
namespace {

std::int64_t SetTidAddress(Process&, const SyscallArguments&) { return Process::kPid; }

std::int64_t SetRobustList(Process&, const SyscallArguments& a) {
  constexpr std::uint64_t kHeadBytes = 24;
  return a[1] == kHeadBytes ? 0 : -EINVAL;
}

// The thread never moves and is never preempted by another one, so no critical section is ever
// aborted.
std::int64_t Rseq(Process& process, const SyscallArguments& a) {
  constexpr std::uint64_t kBytes = 32;
  if ((a[2] & RSEQ_FLAG_UNREGISTER) != 0) return 0;
  if (a[2] != 0 || a[1] < kBytes || a[0] % kBytes != 0) return -EINVAL;
  const std::uint32_t cpu[2] = {0, 0};  // cpu_id_start, cpu_id
  return process.memory().WriteObject(a[0], cpu) ? 0 : -EFAULT;
}

std::int64_t Clone(Process& process, const SyscallArguments& a) {
  if ((a[0] & CLONE_THREAD) != 0) {
    process.gate().RecordDenial(
        {.resource = Resource::kLimit, .name = LimitName(LimitKind::kProcesses)});
    return -EAGAIN;
  }
  process.gate().RecordDenial({.resource = Resource::kSystemCall, .name = "fork"});
  return -ENOSYS;
}

// C libraries fall back to clone.
std::int64_t Clone3(Process&, const SyscallArguments&) { return -ENOSYS; }

std::int64_t FutexWait(Process& process, const SyscallArguments& a, bool absolute) {
  std::uint32_t value;
  if (a[0] % sizeof value != 0) return -EINVAL;
  if (!process.memory().ReadObject(a[0], value)) return -EFAULT;
  if (value != static_cast<std::uint32_t>(a[2])) return -EAGAIN;
  // Nobody else can wake this thread: it waits until its time, or the run's, is over.
  std::optional<std::chrono::nanoseconds> timeout;
  if (a[3] != 0) {
    timespec time;
    if (!process.memory().ReadObject(a[3], time)) return -EFAULT;
    if (time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec >= 1'000'000'000) return -EINVAL;
    timeout = absolute ? std::chrono::nanoseconds(0)
                       : std::chrono::seconds(std::min<std::int64_t>(time.tv_sec, 1'000'000'000)) +
                             std::chrono::nanoseconds(time.tv_nsec);
  }
  const int result = process.host().Wait({}, timeout);
  return result == 0 ? -ETIMEDOUT : result;
}

std::int64_t Futex(Process& process, const SyscallArguments& a) {
  switch (a[1] & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
      return FutexWait(process, a, /*absolute=*/false);
    case FUTEX_WAIT_BITSET:
      return FutexWait(process, a, /*absolute=*/true);
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
      return 0;
    default:
      return -ENOSYS;
  }
}

std::int64_t SchedYield(Process&, const SyscallArguments&) { return 0; }

std::int64_t SchedGetaffinity(Process& process, const SyscallArguments& a) {
  constexpr std::uint64_t kMask = 1;
  if (a[1] < sizeof kMask || a[1] % sizeof kMask != 0) return -EINVAL;
  return process.memory().WriteObject(a[2], kMask) ? std::int64_t{sizeof kMask} : -EFAULT;
}

std::int64_t SchedSetaffinity(Process&, const SyscallArguments&) { return 0; }

std::int64_t Getcpu(Process& process, const SyscallArguments& a) {
  constexpr std::uint32_t kZero = 0;
  for (const std::uint64_t address : {a[0], a[1]})
    if (address != 0 && !process.memory().WriteObject(address, kZero)) return -EFAULT;
  return 0;
}

constexpr SyscallEntry kCalls[] = {
    {SYS_set_tid_address, "set_tid_address", SetTidAddress},
    {SYS_set_robust_list, "set_robust_list", SetRobustList, Support::kPartial, "one thread"},
    {SYS_rseq, "rseq", Rseq, Support::kPartial, "one thread"},
    {SYS_clone, "clone", Clone, Support::kPartial,
     "threads give EAGAIN (limit processes), processes ENOSYS"},
    {SYS_clone3, "clone3", Clone3, Support::kPartial,
     "always ENOSYS: libraries fall back to clone"},
    {SYS_futex, "futex", Futex, Support::kPartial, "waiting and waking, one thread"},
    {SYS_sched_yield, "sched_yield", SchedYield},
    {SYS_sched_getaffinity, "sched_getaffinity", SchedGetaffinity},
    {SYS_sched_setaffinity, "sched_setaffinity", SchedSetaffinity, Support::kPartial,
     "accepted, without effect"},
    {SYS_getcpu, "getcpu", Getcpu},
};

}  // namespace

std::span<const SyscallEntry> ThreadCalls() { return kCalls; }

}  // namespace waxvm::linux_abi
