// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_IDENTITY_SODIUM_READY_H_
#define WAXVM_SRC_IDENTITY_SODIUM_READY_H_

#include "absl/status/status.h"

namespace waxvm::identity {

/// libsodium has what it needs: the host's random numbers, and its choice of instructions.
/// Errors: kUnavailable.
absl::Status SodiumReady();

}  // namespace waxvm::identity

#endif  // WAXVM_SRC_IDENTITY_SODIUM_READY_H_
