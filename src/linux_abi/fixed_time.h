// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_FIXED_TIME_H_
#define WAXVM_SRC_LINUX_ABI_FIXED_TIME_H_

#include <chrono>
#include <cstdint>

namespace waxvm::linux_abi {

/// What every clock shows to a program that was not granted one: 2000-01-01T00:00:00Z.
inline constexpr std::int64_t kFixedTimeSeconds = 946684800;
inline constexpr std::chrono::nanoseconds kFixedTime = std::chrono::seconds(kFixedTimeSeconds);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_FIXED_TIME_H_
