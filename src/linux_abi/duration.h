// SPDX-License-Identifier: Apache-2.0
// Times as system calls give and take them.
#ifndef WAXVM_SRC_LINUX_ABI_DURATION_H_
#define WAXVM_SRC_LINUX_ABI_DURATION_H_

#include <sys/time.h>
#include <time.h>

#include <chrono>
#include <cstdint>
#include <optional>

#include "src/linux_abi/errno_or.h"

namespace waxvm::linux_abi {

class Process;

inline constexpr std::int64_t kNanosPerSecond = 1'000'000'000;

inline timespec ToTimespec(std::chrono::nanoseconds time) {
  return {.tv_sec = time.count() / kNanosPerSecond, .tv_nsec = time.count() % kNanosPerSecond};
}
inline timeval ToTimeval(std::chrono::nanoseconds time) {
  return {.tv_sec = time.count() / kNanosPerSecond,
          .tv_usec = time.count() % kNanosPerSecond / 1000};
}

/// A timespec that the guest gave; more than anybody waits is cut. Errors: EINVAL.
ErrnoOr<std::chrono::nanoseconds> FromTimespec(const timespec& time);
/// The same from guest memory. Errors: EFAULT, EINVAL.
ErrnoOr<std::chrono::nanoseconds> ReadDuration(Process& process, std::uint64_t address);

/// What a clock says inside: the granted one's time, or the fixed time. Empty for a clock that does
/// not exist.
std::optional<std::chrono::nanoseconds> ReadClock(Process& process, std::uint64_t id);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_DURATION_H_
