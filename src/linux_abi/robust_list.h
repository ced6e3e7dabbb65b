// SPDX-License-Identifier: Apache-2.0
// What becomes of a thread's locks.
#ifndef WAXVM_SRC_LINUX_ABI_ROBUST_LIST_H_
#define WAXVM_SRC_LINUX_ABI_ROBUST_LIST_H_

#include <cstdint>

#include "src/linux_abi/process.h"

namespace waxvm::linux_abi {

/// Marks the locks on the list of a thread that ends, and wakes who waits for them.
/// Spec: set_robust_list(2), Linux Documentation/locking/robust-futexes.rst.
void GiveUpLocks(Process& process, const Thread& thread);

/// Gives a priority-inheriting lock to whoever waits longest, or leaves `flags` in its word. False
/// when the word cannot be written.
bool HandOverLock(Process& process, std::uint64_t address, std::uint32_t flags);

/// Wakes everybody who waits on a word.
void WakeWaiters(Process& process, std::uint64_t address);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_ROBUST_LIST_H_
