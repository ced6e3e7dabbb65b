// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_THREAD_H_
#define WAXVM_SRC_LINUX_ABI_THREAD_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "src/base/memory_account.h"
#include "src/linux_abi/host.h"
#include "src/linux_abi/signals.h"
#include "src/linux_abi/syscall_table.h"
#include "src/linux_abi/wait.h"

namespace waxvm::linux_abi {

/// Why a handler is called again.
enum class Wake {
  kNone,     ///< it is called for the first time
  kReady,    ///< what it waits for may have happened
  kTimeout,  ///< its time is over
  kSignal,   ///< a signal came
};

class OpenFile;

/// A descriptor that a call has looked up. While the call sleeps, what is open there: a retry goes
/// on with that file, though another thread may have closed or replaced the descriptor.
struct UsedDescriptor {
  std::uint32_t number = 0;
  std::shared_ptr<OpenFile> file = {};
};

/// The system call that a thread is in, over all its retries.
struct PendingCall {
  std::uint64_t number = 0;
  SyscallArguments arguments{};
  /// What a retry must know of the attempts before, such as the bytes moved so far.
  std::uint64_t progress = 0;
  std::optional<std::chrono::nanoseconds> deadline = {};  ///< of Host::Now()
  Wake wake = Wake::kNone;
  Wait wait = {};
  MemoryCharge wait_charge = {};
  std::array<UsedDescriptor, 2> used = {};
  std::size_t used_count = 0;
  /// What a retry must not look up again.
  std::shared_ptr<void> kept = {};
  bool woken = false;  ///< by another thread: a futex, or whatever else wakes by name
  bool again = false;  ///< it came from a snapshot, and has not looked yet what it waits for
};

/// What a thread has told the kernel of itself; a snapshot keeps it as it is.
struct ThreadSettings {
  std::array<char, 16> name{};
  SignalSet blocked = 0;
  SignalStack signal_stack;
  TrapState trap;
  std::uint64_t clear_tid_address = 0;
  std::uint64_t robust_list = 0;
  std::uint64_t rseq_address = 0;
  std::uint32_t rseq_signature = 0;
};

/// One thread of the guest.
struct Thread : ThreadSettings {
  explicit Thread(std::int32_t thread_id) : id(thread_id) {}

  const std::int32_t id;

  /// The registers while the vCPU holds another thread's.
  CpuRegisters registers;
  std::unique_ptr<ExtendedState> extended;

  PendingCall call;
  bool asleep = false;
  /// The result of a call that is over, not in the registers yet.
  std::optional<std::int64_t> unsettled;

  /// What to block again once the call is over and its signals were delivered (sigsuspend, ppoll).
  std::optional<SignalSet> saved_mask;
  SignalQueue pending;

  std::chrono::nanoseconds cpu_time{0};
  MemoryCharge charge;
};

/// What a thread is charged: Linux gives it a kernel stack and a task structure; this is what it
/// costs here, registers included.
inline constexpr std::uint64_t kThreadBytes =
    sizeof(Thread) + sizeof(ExtendedState) + SignalQueue::kPrepaid * sizeof(siginfo_t) + 512;

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_THREAD_H_
