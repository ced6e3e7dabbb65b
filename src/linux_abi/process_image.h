// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_PROCESS_IMAGE_H_
#define WAXVM_SRC_LINUX_ABI_PROCESS_IMAGE_H_

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/linux_abi/address_space.h"
#include "src/linux_abi/files_image.h"
#include "src/linux_abi/futex.h"
#include "src/linux_abi/loader.h"
#include "src/linux_abi/signals.h"
#include "src/linux_abi/thread.h"
#include "waxvm/provider.h"

namespace waxvm::linux_abi {

/// The system call that a sleeping thread is in. What it waits for is found out again: its handler
/// is called once more in the clone.
struct CallImage {
  std::uint64_t number = 0;
  SyscallArguments arguments{};
  std::uint64_t progress = 0;
  std::optional<std::int64_t> left = {};  ///< nanoseconds to its deadline; may be past
  bool woken = false;
  struct Used {
    std::uint32_t number = 0;
    ImageIndex file = kNoIndex;
  };
  std::vector<Used> used = {};  ///< at most two
};

struct ThreadImage {
  ThreadSettings settings = {};
  std::int32_t id = 0;
  /// Of every thread but the live one, whose registers are the machine's.
  CpuRegisters registers = {};
  std::shared_ptr<const ExtendedState> extended = {};
  std::optional<CallImage> call = {};  ///< where it sleeps
  std::optional<std::int64_t> unsettled = {};
  std::optional<SignalSet> saved_mask = {};
  std::vector<siginfo_t> pending = {};
};

/// The threads of a process and who waits for what.
struct ThreadsImage {
  std::vector<ThreadImage> threads = {};
  std::int32_t live = 0;                    ///< the id of the one in the host call
  std::vector<std::int32_t> runnable = {};  ///< ids, next one first
  std::vector<std::int32_t> sleepers = {};  ///< ids, in the order they went to sleep
  std::int32_t next_id = 0;
  std::vector<FutexWaiter> waiters = {};  ///< of one word in their order
};

/// A timer that sends signals.
struct TimerImage {
  std::int32_t id = 0;  ///< or which of setitimer's three
  bool cpu_clock = false;
  std::int32_t guest_clock = 0;
  std::int32_t signal = 0;
  std::int32_t thread = 0;
  std::uint64_t value = 0;
  std::int32_t code = 0;
  std::optional<std::int64_t> left = {};  ///< nanoseconds; may be past
  std::int64_t interval = 0;
  std::int64_t set_to = 0;
  std::int64_t overrun = 0;
  std::int64_t last_overrun = 0;
};
struct TimersImage {
  std::vector<TimerImage> created = {};
  std::array<TimerImage, 3> intervals = {};
};

/// What the kernel of a process that waits for a host call knows of it, beside the contents of its
/// memory. Immutable; may be shared between threads. Process::TakeImage says what it cannot hold.
struct ProcessImage {
  AddressSpace::Image memory;
  EntryState entry;
  ThreadsImage threads;
  std::array<SignalAction, kSignals> actions;
  std::vector<siginfo_t> pending;
  std::uint64_t signals_sent = 0;
  TimersImage timers;
  FilesImage files;
  std::uint64_t host_call_address = 0;
  /// KeepsTime(): going back to the image puts deadlines off, so the process has to be made anew.
  bool keeps_time = false;

  /// True where a timer runs or somebody sleeps for a time.
  bool KeepsTime() const;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_PROCESS_IMAGE_H_
