// SPDX-License-Identifier: Apache-2.0
// The host's own clock and randomness, as the sources that a grant without one stands for.
#ifndef WAXVM_SRC_CAPABILITY_HOST_SOURCES_H_
#define WAXVM_SRC_CAPABILITY_HOST_SOURCES_H_

#include <memory>

#include "absl/status/statusor.h"
#include "waxvm/grant.h"

namespace waxvm {

/// CLOCK_REALTIME and CLOCK_MONOTONIC.
std::shared_ptr<ClockSource> NewHostClock();

/// getrandom(2). Blocks: until the kernel's generator is seeded, once after boot.
/// Errors: kUnavailable where getrandom does not work.
absl::StatusOr<std::shared_ptr<RandomSource>> NewHostRandom();

}  // namespace waxvm

#endif  // WAXVM_SRC_CAPABILITY_HOST_SOURCES_H_
