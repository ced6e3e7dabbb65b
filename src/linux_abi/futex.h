// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_FUTEX_H_
#define WAXVM_SRC_LINUX_ABI_FUTEX_H_

#include <cstdint>
#include <list>
#include <map>
#include <vector>

namespace waxvm::linux_abi {

/// A waiter as a snapshot keeps it.
struct FutexWaiter {
  std::uint64_t address = 0;
  std::int32_t thread = 0;  ///< its id
  std::uint32_t bitset = 0;
  bool inherits = false;
};

struct Thread;

/// Who waits on which word of memory. One process means that the address is the word: shared and
/// private futexes are the same. Bounded by the number of threads. Thread safety: none.
/// Spec: futex(2).
class FutexTable {
 public:
  /// `inherits`: it waits for a priority-inheriting lock, which is handed to it.
  void Add(std::uint64_t address, Thread& thread, std::uint32_t bitset, bool inherits = false);
  /// Takes a waiter back; false when it was woken already.
  bool Remove(const Thread& thread);
  bool IsWaiting(const Thread& thread) const;

  /// Takes the longest waiting one whose bitset meets `bitset`, or null.
  Thread* TakeFirst(std::uint64_t address, std::uint32_t bitset);
  /// True when the first waiter that TakeFirst would look at waits for a lock, or one before it.
  bool MeetsLockWaiter(std::uint64_t address, std::uint32_t bitset) const;
  /// Whether the longest waiting one waits for a lock; false without any.
  bool FirstInherits(std::uint64_t address) const;
  bool HasWaiters(std::uint64_t address) const { return waiters_.contains(address); }
  /// Moves up to `count` waiters behind those of another word; returns how many.
  std::uint32_t Move(std::uint64_t from, std::uint64_t to, std::uint32_t count);
  /// All waiters, those of one word in their order.
  std::vector<FutexWaiter> TakeImage() const;

 private:
  struct Waiter {
    Thread* thread;
    std::uint32_t bitset;
    bool inherits;
  };
  std::map<std::uint64_t, std::list<Waiter>> waiters_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_FUTEX_H_
