// SPDX-License-Identifier: Apache-2.0
// Threads: their start and end, and how they share the one processor.
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <linux/rseq.h>
#include <sched.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "src/base/checked.h"
#include "src/linux_abi/duration.h"
#include "src/linux_abi/robust_list.h"

namespace waxvm::linux_abi {
namespace {

/// What clone and clone3 both say.
struct CloneArguments {
  std::uint64_t flags = 0;
  std::uint64_t stack_pointer = 0;
  std::uint64_t parent_tid = 0;
  std::uint64_t child_tid = 0;
  std::uint64_t tls = 0;
};

std::int64_t StartThread(Process& process, const CloneArguments& a) {
  constexpr std::uint64_t kThreadFlags = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD;
  if ((a.flags & kThreadFlags) != kThreadFlags) {
    if ((a.flags & CLONE_THREAD) != 0 || (a.flags & CLONE_SIGHAND) != 0) return -EINVAL;
    process.gate().RecordDenial({.resource = Resource::kSystemCall, .name = "fork"});
    return -ENOSYS;
  }
  // A thread with files, a directory or namespaces of its own is not offered.
  constexpr std::uint64_t kShared = CLONE_FS | CLONE_FILES;
  if ((a.flags & kShared) != kShared) return -EINVAL;
  CpuRegisters registers = process.host().Registers();
  registers.rax = 0;
  if (a.stack_pointer != 0) registers.rsp = a.stack_pointer;
  if ((a.flags & CLONE_SETTLS) != 0) {
    // The CPU would refuse a base that is not canonical.
    if (a.tls >= kUserEnd) return -EPERM;
    registers.fs_base = a.tls;
  }
  const std::int32_t none = 0;
  for (const auto& [flag, address] : {std::pair(std::uint64_t{CLONE_PARENT_SETTID}, a.parent_tid),
                                      std::pair(std::uint64_t{CLONE_CHILD_SETTID}, a.child_tid)})
    if ((a.flags & flag) != 0 && !process.memory().WriteObject(address, none)) return -EFAULT;
  const ErrnoOr<Thread*> thread = process.scheduler().Create(registers);
  if (!thread.ok()) return thread.result();
  const std::int32_t id = (*thread)->id;
  if ((a.flags & CLONE_PARENT_SETTID) != 0)
    static_cast<void>(process.memory().WriteObject(a.parent_tid, id));
  if ((a.flags & CLONE_CHILD_SETTID) != 0)
    static_cast<void>(process.memory().WriteObject(a.child_tid, id));
  if ((a.flags & CLONE_CHILD_CLEARTID) != 0) (*thread)->clear_tid_address = a.child_tid;
  return id;
}

std::int64_t Clone(Process& process, const SyscallArguments& a) {
  return StartThread(process, {.flags = a[0] & ~std::uint64_t{CSIGNAL},
                               .stack_pointer = a[1],
                               .parent_tid = a[2],
                               .child_tid = a[3],
                               .tls = a[4]});
}

std::int64_t Clone3(Process& process, const SyscallArguments& a) {
  // struct clone_args; Linux's first version is the first 64 bytes.
  struct Arguments {
    std::uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_bytes, tls;
    std::uint64_t set_tid, set_tid_count, cgroup;
  } given{};
  constexpr std::uint64_t kFirstVersion = 64;
  if (a[1] < kFirstVersion) return -EINVAL;
  if (a[1] > kPageBytes) return -E2BIG;
  const std::size_t known = std::min<std::size_t>(a[1], sizeof given);
  if (!process.memory().Read(a[0], std::as_writable_bytes(std::span(&given, 1)).first(known)))
    return -EFAULT;
  for (std::uint64_t at = sizeof given; at < a[1]; ++at) {
    std::byte rest;
    if (!process.memory().ReadObject(a[0] + at, rest)) return -EFAULT;
    if (rest != std::byte{0}) return -E2BIG;
  }
  if (given.set_tid_count != 0 || given.cgroup != 0 || (given.flags & CSIGNAL) != 0) return -EINVAL;
  if ((given.stack == 0) != (given.stack_bytes == 0)) return -EINVAL;
  return StartThread(process, {.flags = given.flags,
                               .stack_pointer = given.stack + given.stack_bytes,
                               .parent_tid = given.parent_tid,
                               .child_tid = given.child_tid,
                               .tls = given.tls});
}

std::int64_t Exit(Process& process, const SyscallArguments& a) {
  Thread& thread = process.thread();
  GiveUpLocks(process, thread);
  if (process.scheduler().threads().size() == 1) {
    process.End(Exited{static_cast<int>(a[0] & 0xff)});
    return 0;
  }
  const std::uint32_t none = 0;
  if (thread.clear_tid_address != 0 && process.memory().WriteObject(thread.clear_tid_address, none))
    WakeWaiters(process, thread.clear_tid_address);
  process.scheduler().RemoveCurrent();
  return Process::kThreadGone;
}

std::int64_t Gettid(Process& process, const SyscallArguments&) { return process.thread().id; }

std::int64_t SetTidAddress(Process& process, const SyscallArguments& a) {
  process.thread().clear_tid_address = a[0];
  return process.thread().id;
}

std::int64_t Rseq(Process& process, const SyscallArguments& a) {
  constexpr std::uint64_t kBytes = 32;
  Thread& thread = process.thread();
  if ((a[2] & RSEQ_FLAG_UNREGISTER) != 0) {
    if (a[0] != thread.rseq_address || thread.rseq_address == 0) return -EINVAL;
    thread.rseq_address = 0;
    return 0;
  }
  if (a[2] != 0 || a[1] < kBytes || a[0] % kBytes != 0) return -EINVAL;
  if (thread.rseq_address != 0) return thread.rseq_address == a[0] ? -EBUSY : -EINVAL;
  // cpu_id_start and cpu_id: there is one processor.
  const std::uint32_t cpu[2] = {0, 0};
  if (!process.memory().WriteObject(a[0], cpu)) return -EFAULT;
  thread.rseq_address = a[0];
  thread.rseq_signature = static_cast<std::uint32_t>(a[3]);
  return 0;
}

std::int64_t SchedYield(Process& process, const SyscallArguments&) {
  process.scheduler().Yield();
  process.scheduler().NoteChange();
  return 0;
}

bool IsThread(Process& process, std::uint64_t argument) {
  const auto id = static_cast<std::int32_t>(argument);
  return id == 0 || process.scheduler().Find(id) != nullptr;
}

std::int64_t SchedGetaffinity(Process& process, const SyscallArguments& a) {
  constexpr std::uint64_t kMask = 1;
  const std::uint64_t bytes = static_cast<std::uint32_t>(a[1]);
  if (bytes < sizeof kMask || bytes % sizeof kMask != 0) return -EINVAL;
  if (!IsThread(process, a[0])) return -ESRCH;
  return process.memory().WriteObject(a[2], kMask) ? std::int64_t{sizeof kMask} : -EFAULT;
}

std::int64_t SchedSetaffinity(Process& process, const SyscallArguments& a) {
  if (!IsThread(process, a[0])) return -ESRCH;
  std::uint8_t first = 0;
  if (a[1] == 0 || !process.memory().ReadObject(a[2], first)) return a[1] == 0 ? -EINVAL : -EFAULT;
  return (first & 1) != 0 ? 0 : -EINVAL;
}

std::int64_t Getcpu(Process& process, const SyscallArguments& a) {
  constexpr std::uint32_t kZero = 0;
  for (const std::uint64_t address : {a[0], a[1]})
    if (address != 0 && !process.memory().WriteObject(address, kZero)) return -EFAULT;
  return 0;
}

std::int64_t SchedGetscheduler(Process& process, const SyscallArguments& a) {
  return IsThread(process, a[0]) ? SCHED_OTHER : -ESRCH;
}

std::int64_t SchedGetparam(Process& process, const SyscallArguments& a) {
  const std::int32_t priority = 0;
  if (!IsThread(process, a[0])) return -ESRCH;
  return process.memory().WriteObject(a[1], priority) ? 0 : -EFAULT;
}

std::int64_t CheckPolicy(Process& process, std::uint64_t id, std::int32_t policy,
                         std::uint64_t address) {
  std::int32_t priority;
  if (!IsThread(process, id)) return -ESRCH;
  if (!process.memory().ReadObject(address, priority)) return -EFAULT;
  if (policy == SCHED_FIFO || policy == SCHED_RR) return -EPERM;
  const bool known = policy == SCHED_OTHER || policy == SCHED_BATCH || policy == SCHED_IDLE;
  return known && priority == 0 ? 0 : -EINVAL;
}

std::int64_t SchedSetscheduler(Process& process, const SyscallArguments& a) {
  return CheckPolicy(process, a[0], static_cast<std::int32_t>(a[1]), a[2]);
}

std::int64_t SchedSetparam(Process& process, const SyscallArguments& a) {
  return CheckPolicy(process, a[0], SCHED_OTHER, a[1]);
}

std::int64_t PriorityBound(std::uint64_t policy, std::int64_t real_time) {
  switch (static_cast<std::int32_t>(policy)) {
    case SCHED_FIFO:
    case SCHED_RR:
      return real_time;
    case SCHED_OTHER:
    case SCHED_BATCH:
    case SCHED_IDLE:
      return 0;
    default:
      return -EINVAL;
  }
}

std::int64_t SchedGetPriorityMax(Process&, const SyscallArguments& a) {
  return PriorityBound(a[0], 99);
}
std::int64_t SchedGetPriorityMin(Process&, const SyscallArguments& a) {
  return PriorityBound(a[0], 1);
}

std::int64_t SchedRrGetInterval(Process& process, const SyscallArguments& a) {
  if (!IsThread(process, a[0])) return -ESRCH;
  return process.memory().WriteObject(a[1], ToTimespec(Scheduler::kSlice)) ? 0 : -EFAULT;
}

// One processor: every thread that is switched to has seen everything that happened before.
std::int64_t Membarrier(Process&, const SyscallArguments& a) {
  constexpr std::int64_t kOffered =
      MEMBARRIER_CMD_GLOBAL | MEMBARRIER_CMD_GLOBAL_EXPEDITED |
      MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED | MEMBARRIER_CMD_PRIVATE_EXPEDITED |
      MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED | MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE |
      MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE;
  const auto command = static_cast<std::int32_t>(a[0]);
  if (a[1] != 0) return -EINVAL;
  if (command == MEMBARRIER_CMD_QUERY) return kOffered;
  const bool single = (command & (command - 1)) == 0;
  return command > 0 && single && (command & kOffered) != 0 ? 0 : -EINVAL;
}

constexpr std::string_view kOneProcessor = "one processor, one policy";

constexpr SyscallEntry kCalls[] = {
    {SYS_clone, "clone", Clone, Support::kPartial, "threads; a new process gives ENOSYS"},
    {SYS_clone3, "clone3", Clone3, Support::kPartial, "threads; a new process gives ENOSYS"},
    {SYS_exit, "exit", Exit},
    {SYS_gettid, "gettid", Gettid},
    {SYS_set_tid_address, "set_tid_address", SetTidAddress},
    {SYS_rseq, "rseq", Rseq},
    {SYS_membarrier, "membarrier", Membarrier, Support::kPartial, "without the rseq commands"},
    {SYS_sched_yield, "sched_yield", SchedYield},
    {SYS_sched_getaffinity, "sched_getaffinity", SchedGetaffinity},
    {SYS_sched_setaffinity, "sched_setaffinity", SchedSetaffinity, Support::kPartial,
     kOneProcessor},
    {SYS_sched_getscheduler, "sched_getscheduler", SchedGetscheduler},
    {SYS_sched_setscheduler, "sched_setscheduler", SchedSetscheduler, Support::kPartial,
     kOneProcessor},
    {SYS_sched_getparam, "sched_getparam", SchedGetparam},
    {SYS_sched_setparam, "sched_setparam", SchedSetparam, Support::kPartial, kOneProcessor},
    {SYS_sched_get_priority_max, "sched_get_priority_max", SchedGetPriorityMax},
    {SYS_sched_get_priority_min, "sched_get_priority_min", SchedGetPriorityMin},
    {SYS_sched_rr_get_interval, "sched_rr_get_interval", SchedRrGetInterval},
    {SYS_getcpu, "getcpu", Getcpu},
};

}  // namespace

std::span<const SyscallEntry> ThreadCalls() { return kCalls; }

}  // namespace waxvm::linux_abi
