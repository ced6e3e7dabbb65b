// SPDX-License-Identifier: Apache-2.0
// What to tell people when a sandbox could not be built.
#ifndef WAXVM_SRC_PROVIDER_PROCESS_SETUP_ERROR_H_
#define WAXVM_SRC_PROVIDER_PROCESS_SETUP_ERROR_H_

#include <string>

#include "absl/status/status.h"

namespace waxvm::process {

/// clone3() with new namespaces said `error_number`: kUnavailable with the reason, as far as the
/// kernel's settings show it, and the remedy.
absl::Status CloneError(int error_number);

/// Step `step` (enum wx_step) said `error_number`. `grant` describes the grant concerned, or is
/// empty.
absl::Status StepError(unsigned step, int error_number, const std::string& grant);

}  // namespace waxvm::process

#endif  // WAXVM_SRC_PROVIDER_PROCESS_SETUP_ERROR_H_
