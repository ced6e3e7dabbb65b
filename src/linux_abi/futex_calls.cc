// SPDX-License-Identifier: Apache-2.0
// futex(2) and the lists of locks that a dying thread gives up.
#include <linux/futex.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>

#include "src/linux_abi/duration.h"
#include "src/linux_abi/robust_list.h"

namespace waxvm::linux_abi {
namespace {

using std::chrono::nanoseconds;

std::int64_t CheckWord(std::uint64_t address) {
  return address % sizeof(std::uint32_t) == 0 ? 0 : -EINVAL;
}

// The same as Linux finds out what names the word, which it need not look at. One that other
// processes might know is known by its page: that must be there, and one without a file could be
// replaced by a copy, unless it can be written and so is its process's own already.
std::int64_t CheckKey(Process& process, std::uint64_t address, std::uint64_t operation) {
  if (const std::int64_t error = CheckWord(address); error < 0) return error;
  if (address >= kUserEnd) return -EFAULT;
  std::uint32_t value;
  if ((operation & FUTEX_PRIVATE_FLAG) != 0) return 0;
  return process.memory().ReadObject(address, value) && !process.memory().IsPrivateReadOnly(address)
             ? 0
             : -EFAULT;
}

std::uint32_t WakeUp(Process& process, std::uint64_t address, std::uint32_t count,
                     std::uint32_t bitset) {
  std::uint32_t woken = 0;
  while (woken < count) {
    Thread* thread = process.futexes().TakeFirst(address, bitset);
    if (thread == nullptr) break;
    process.scheduler().WakeUp(*thread);
    ++woken;
  }
  return woken;
}

// The same for a call of the guest's, which cannot wake who waits for a priority-inheriting lock.
std::int64_t WakePlain(Process& process, std::uint64_t address, std::uint32_t count,
                       std::uint32_t bitset) {
  std::int64_t woken = 0;
  while (woken < count) {
    if (process.futexes().MeetsLockWaiter(address, bitset)) return -EINVAL;
    if (WakeUp(process, address, 1, bitset) == 0) break;
    ++woken;
  }
  return woken;
}

// How long until a timeout argument; absolute ones are on a clock of the guest's.
ErrnoOr<std::optional<nanoseconds>> TimeoutArgument(Process& process, std::uint64_t address,
                                                    bool absolute, std::uint64_t clock) {
  if (address == 0) return std::optional<nanoseconds>();
  const auto time = ReadDuration(process, address);
  if (!time.ok()) return time.error();
  if (!absolute) return std::optional(*time);
  return std::optional(std::max(nanoseconds(0), *time - *ReadClock(process, clock)));
}

std::uint64_t ClockOf(std::uint64_t operation) {
  return (operation & FUTEX_CLOCK_REALTIME) != 0 ? CLOCK_REALTIME : CLOCK_MONOTONIC;
}

// Waits as a member of the table until somebody takes the thread out of it. A retry needs no
// timeout: its end is kept.
std::int64_t WaitInTable(Process& process, std::optional<nanoseconds> timeout = std::nullopt) {
  Thread& thread = process.thread();
  if (thread.call.woken) return 0;
  const bool timed = timeout || thread.call.deadline;
  const std::int64_t slept =
      process.Sleep({.timeout = timeout, .interrupted = timed ? -EINTR : kRestart});
  if (slept == kAsleep) return slept;
  process.futexes().Remove(thread);
  return slept == 0 ? -ETIMEDOUT : slept;
}

std::int64_t FutexWait(Process& process, const SyscallArguments& a, bool absolute,
                       std::uint32_t bitset) {
  Thread& thread = process.thread();
  if (thread.call.wake != Wake::kNone) return WaitInTable(process);
  if (const std::int64_t error = CheckWord(a[0]); error < 0) return error;
  if (bitset == 0) return -EINVAL;
  const auto timeout = TimeoutArgument(process, a[3], absolute, ClockOf(a[1]));
  if (!timeout.ok()) return timeout.result();
  if (const std::int64_t error = CheckKey(process, a[0], a[1]); error < 0) return error;
  std::uint32_t value;
  if (!process.memory().ReadObject(a[0], value)) return -EFAULT;
  if (value != static_cast<std::uint32_t>(a[2])) return -EAGAIN;
  process.futexes().Add(a[0], thread, bitset);
  return WaitInTable(process, *timeout);
}

std::int64_t FutexWake(Process& process, const SyscallArguments& a, std::uint32_t bitset) {
  if (bitset == 0) return -EINVAL;
  if (const std::int64_t error = CheckKey(process, a[0], a[1]); error < 0) return error;
  // Linux wakes one where zero or less is asked for.
  const auto count = std::max(static_cast<std::int32_t>(a[2]), 1);
  return WakePlain(process, a[0], static_cast<std::uint32_t>(count), bitset);
}

std::int64_t Requeue(Process& process, const SyscallArguments& a, bool compare) {
  const auto wake = static_cast<std::int32_t>(a[2]);
  const auto move = static_cast<std::int32_t>(a[3]);
  if (wake < 0 || move < 0) return -EINVAL;
  for (const std::uint64_t address : {a[0], a[4]})
    if (const std::int64_t error = CheckKey(process, address, a[1]); error < 0) return error;
  if (compare) {
    std::uint32_t value;
    if (!process.memory().ReadObject(a[0], value)) return -EFAULT;
    if (value != static_cast<std::uint32_t>(a[5])) return -EAGAIN;
  }
  const std::int64_t woken = WakePlain(process, a[0], static_cast<std::uint32_t>(wake), ~0u);
  if (woken < 0 || (move > 0 && process.futexes().MeetsLockWaiter(a[0], ~0u))) return -EINVAL;
  const std::uint32_t moved = process.futexes().Move(a[0], a[4], static_cast<std::uint32_t>(move));
  return woken + moved;
}

// The operation of FUTEX_WAKE_OP on the second word. Spec: futex(2).
std::int64_t ApplyOperation(Process& process, std::uint64_t address, std::uint32_t code,
                            bool& holds) {
  const auto sign_extend = [](std::uint32_t twelve) {
    return static_cast<std::int32_t>(twelve << 20) >> 20;
  };
  std::int32_t argument = sign_extend((code >> 12) & 0xfff);
  const std::int32_t comparand = sign_extend(code & 0xfff);
  if (((code >> 28) & FUTEX_OP_OPARG_SHIFT) != 0)
    argument = static_cast<std::int32_t>(1u << (argument & 31));
  std::int32_t before;
  if (!process.memory().ReadObject(address, before)) return -EFAULT;
  const auto old = static_cast<std::uint32_t>(before);
  const auto operand = static_cast<std::uint32_t>(argument);
  std::uint32_t after = 0;
  switch ((code >> 28) & 7) {
    case FUTEX_OP_SET:
      after = operand;
      break;
    case FUTEX_OP_ADD:
      after = old + operand;
      break;
    case FUTEX_OP_OR:
      after = old | operand;
      break;
    case FUTEX_OP_ANDN:
      after = old & ~operand;
      break;
    case FUTEX_OP_XOR:
      after = old ^ operand;
      break;
    default:
      return -ENOSYS;
  }
  if (!process.memory().WriteObject(address, after)) return -EFAULT;
  switch ((code >> 24) & 0xf) {
    case FUTEX_OP_CMP_EQ:
      holds = before == comparand;
      return 0;
    case FUTEX_OP_CMP_NE:
      holds = before != comparand;
      return 0;
    case FUTEX_OP_CMP_LT:
      holds = before < comparand;
      return 0;
    case FUTEX_OP_CMP_LE:
      holds = before <= comparand;
      return 0;
    case FUTEX_OP_CMP_GT:
      holds = before > comparand;
      return 0;
    case FUTEX_OP_CMP_GE:
      holds = before >= comparand;
      return 0;
    default:
      return -ENOSYS;
  }
}

std::int64_t WakeOperation(Process& process, const SyscallArguments& a) {
  for (const std::uint64_t address : {a[0], a[4]})
    if (const std::int64_t error = CheckKey(process, address, a[1]); error < 0) return error;
  bool holds = false;
  const std::int64_t applied =
      ApplyOperation(process, a[4], static_cast<std::uint32_t>(a[5]), holds);
  if (applied < 0) return applied;
  const auto first = std::max(static_cast<std::int32_t>(a[2]), 1);
  const auto second = std::max(static_cast<std::int32_t>(a[3]), 1);
  const std::int64_t woken = WakePlain(process, a[0], static_cast<std::uint32_t>(first), ~0u);
  if (woken < 0 || !holds) return woken;
  const std::int64_t more = WakePlain(process, a[4], static_cast<std::uint32_t>(second), ~0u);
  return more < 0 ? more : woken + more;
}

// The word of the priority-inheriting lock that a thread sleeps for; empty where it does not.
std::optional<std::uint64_t> LockAskedFor(Process& process, const Thread& thread) {
  if (!thread.asleep || thread.call.woken || thread.call.number != SYS_futex) return std::nullopt;
  const std::uint64_t operation = thread.call.arguments[1] & FUTEX_CMD_MASK & 0xffffffff;
  if (operation != FUTEX_LOCK_PI && operation != FUTEX_LOCK_PI2) return std::nullopt;
  // Whose time ran out is not on the table any more.
  if (!process.futexes().IsWaiting(thread)) return std::nullopt;
  return thread.call.arguments[0];
}

// True where the lock's holder waits, over however many others, for a lock that `thread` holds.
bool WouldWaitForItself(Process& process, const Thread& thread, std::int32_t holder) {
  // Each step is another thread, or the guest has written a circle of its own.
  for (std::size_t steps = process.scheduler().threads().size(); steps > 0; --steps) {
    if (holder == thread.id) return true;
    const Thread* owner = process.scheduler().Find(holder);
    if (owner == nullptr) return false;
    const std::optional<std::uint64_t> next = LockAskedFor(process, *owner);
    std::uint32_t value;
    if (!next || !process.memory().ReadObject(*next, value)) return false;
    holder = static_cast<std::int32_t>(value & FUTEX_TID_MASK);
  }
  return false;
}

// Priority-inheriting locks. With one processor and no priorities the holder runs anyway: what is
// left is a lock in a word, handed on in order.
std::int64_t LockPi(Process& process, const SyscallArguments& a, bool absolute_monotonic,
                    bool wait) {
  Thread& thread = process.thread();
  const auto own = static_cast<std::uint32_t>(thread.id);
  // Whoever woke this thread has put its id into the word.
  if (thread.call.wake != Wake::kNone) return WaitInTable(process);
  if (const std::int64_t error = CheckWord(a[0]); error < 0) return error;
  std::optional<nanoseconds> timeout;
  if (wait) {
    const auto given = TimeoutArgument(process, a[3], /*absolute=*/true,
                                       absolute_monotonic ? CLOCK_MONOTONIC : CLOCK_REALTIME);
    if (!given.ok()) return given.result();
    timeout = *given;
  }
  if (const std::int64_t error = CheckKey(process, a[0], a[1]); error < 0) return error;
  std::uint32_t value;
  if (!process.memory().ReadObject(a[0], value)) return -EFAULT;
  const std::uint32_t owner = value & FUTEX_TID_MASK;
  if (owner == own) return -EDEADLK;
  // Somebody waits for the word as if it were no lock.
  if (process.futexes().HasWaiters(a[0]) && !process.futexes().FirstInherits(a[0])) return -EINVAL;
  if (owner == 0) {
    const std::uint32_t waiters = process.futexes().HasWaiters(a[0]) ? FUTEX_WAITERS : 0;
    const std::uint32_t taken = own | waiters | (value & FUTEX_OWNER_DIED);
    return process.memory().WriteObject(a[0], taken) ? 0 : -EFAULT;
  }
  if (process.scheduler().Find(static_cast<std::int32_t>(owner)) == nullptr) return -ESRCH;
  if (!wait) return -EAGAIN;
  if (WouldWaitForItself(process, thread, static_cast<std::int32_t>(owner))) return -EDEADLK;
  if (!process.memory().WriteObject(a[0], value | FUTEX_WAITERS)) return -EFAULT;
  process.futexes().Add(a[0], thread, ~0u, /*inherits=*/true);
  return WaitInTable(process, timeout);
}

std::int64_t UnlockPi(Process& process, const SyscallArguments& a) {
  if (const std::int64_t error = CheckWord(a[0]); error < 0) return error;
  std::uint32_t value;
  if (!process.memory().ReadObject(a[0], value)) return -EFAULT;
  if ((value & FUTEX_TID_MASK) != static_cast<std::uint32_t>(process.thread().id)) return -EPERM;
  if (process.futexes().HasWaiters(a[0]) && !process.futexes().FirstInherits(a[0])) return -EINVAL;
  return HandOverLock(process, a[0], 0) ? 0 : -EFAULT;
}

// Locks that others sleep for pass on when their holder ends, whether it listed them or not.
void HandOverHeldLocks(Process& process, const Thread& thread) {
  for (const auto& other : process.scheduler().threads()) {
    const std::optional<std::uint64_t> word = LockAskedFor(process, *other);
    std::uint32_t value;
    if (word && process.memory().ReadObject(*word, value) &&
        (value & FUTEX_TID_MASK) == static_cast<std::uint32_t>(thread.id))
      HandOverLock(process, *word, FUTEX_OWNER_DIED);
  }
}

std::int64_t Futex(Process& process, const SyscallArguments& a) {
  const std::uint64_t operation = a[1] & FUTEX_CMD_MASK & 0xffffffff;
  switch (operation) {
    case FUTEX_WAIT:
      return FutexWait(process, a, /*absolute=*/false, FUTEX_BITSET_MATCH_ANY);
    case FUTEX_WAIT_BITSET:
      return FutexWait(process, a, /*absolute=*/true, static_cast<std::uint32_t>(a[5]));
    case FUTEX_WAKE:
      return FutexWake(process, a, FUTEX_BITSET_MATCH_ANY);
    case FUTEX_WAKE_BITSET:
      return FutexWake(process, a, static_cast<std::uint32_t>(a[5]));
    case FUTEX_REQUEUE:
      return Requeue(process, a, /*compare=*/false);
    case FUTEX_CMP_REQUEUE:
      return Requeue(process, a, /*compare=*/true);
    case FUTEX_WAKE_OP:
      return WakeOperation(process, a);
    case FUTEX_LOCK_PI:
      return LockPi(process, a, /*absolute_monotonic=*/false, /*wait=*/true);
    case FUTEX_LOCK_PI2:
      return LockPi(process, a, (a[1] & FUTEX_CLOCK_REALTIME) == 0, /*wait=*/true);
    case FUTEX_TRYLOCK_PI:
      return LockPi(process, a, /*absolute_monotonic=*/false, /*wait=*/false);
    case FUTEX_UNLOCK_PI:
      return UnlockPi(process, a);
    default:
      return -ENOSYS;
  }
}

std::int64_t SetRobustList(Process& process, const SyscallArguments& a) {
  if (a[1] != sizeof(robust_list_head)) return -EINVAL;
  process.thread().robust_list = a[0];
  return 0;
}

std::int64_t GetRobustList(Process& process, const SyscallArguments& a) {
  const auto tid = static_cast<std::int32_t>(a[0]);
  const Thread* thread = tid == 0 ? &process.thread() : process.scheduler().Find(tid);
  if (thread == nullptr) return -ESRCH;
  const std::uint64_t bytes = sizeof(robust_list_head);
  return process.memory().WriteObject(a[2], bytes) &&
                 process.memory().WriteObject(a[1], thread->robust_list)
             ? 0
             : -EFAULT;
}

constexpr SyscallEntry kCalls[] = {
    {SYS_futex, "futex", Futex, Support::kPartial,
     "FUTEX_WAIT_REQUEUE_PI and FUTEX_FD; a word of a file is known by its address alone"},
    {SYS_set_robust_list, "set_robust_list", SetRobustList},
    {SYS_get_robust_list, "get_robust_list", GetRobustList},
};

}  // namespace

bool HandOverLock(Process& process, std::uint64_t address, std::uint32_t flags) {
  Thread* next = process.futexes().TakeFirst(address, FUTEX_BITSET_MATCH_ANY);
  std::uint32_t value = flags;
  if (next != nullptr) {
    value |= static_cast<std::uint32_t>(next->id);
    if (process.futexes().HasWaiters(address)) value |= FUTEX_WAITERS;
    process.scheduler().WakeUp(*next);
  }
  return process.memory().WriteObject(address, value);
}

void GiveUpLocks(Process& process, const Thread& thread) {
  // As Linux's ROBUST_LIST_LIMIT: a list can be made to go round in circles.
  constexpr int kMaxEntries = 2048;
  struct Head {
    std::uint64_t next;
    std::int64_t futex_offset;
    std::uint64_t pending;
  } head{};
  AddressSpace& memory = process.memory();
  HandOverHeldLocks(process, thread);
  if (thread.robust_list == 0 || !memory.ReadObject(thread.robust_list, head)) return;
  const auto give_up = [&](std::uint64_t entry, bool is_pending) {
    const bool inherits = (entry & 1) != 0;
    const std::uint64_t word =
        (entry & ~std::uint64_t{1}) + static_cast<std::uint64_t>(head.futex_offset);
    std::uint32_t value;
    if (word % sizeof value != 0 || !memory.ReadObject(word, value)) return;
    if ((value & FUTEX_TID_MASK) != static_cast<std::uint32_t>(thread.id)) {
      // It died between unlocking and waking.
      if (is_pending && value == 0) WakeUp(process, word, 1, FUTEX_BITSET_MATCH_ANY);
      return;
    }
    if (inherits) {
      HandOverLock(process, word, FUTEX_OWNER_DIED);
      return;
    }
    const std::uint32_t left = (value & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
    if (!memory.WriteObject(word, left)) return;
    if ((value & FUTEX_WAITERS) != 0) WakeUp(process, word, 1, FUTEX_BITSET_MATCH_ANY);
  };
  std::uint64_t entry = head.next;
  for (int i = 0; i < kMaxEntries && (entry & ~std::uint64_t{1}) != thread.robust_list; ++i) {
    std::uint64_t next;
    if (!memory.ReadObject(entry & ~std::uint64_t{1}, next)) break;
    if (entry != head.pending) give_up(entry, false);
    entry = next;
  }
  if (head.pending != 0) give_up(head.pending, true);
}

void WakeWaiters(Process& process, std::uint64_t address) {
  WakeUp(process, address, INT_MAX, FUTEX_BITSET_MATCH_ANY);
}

std::span<const SyscallEntry> FutexCalls() { return kCalls; }

}  // namespace waxvm::linux_abi
