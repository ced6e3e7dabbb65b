// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_ISOLATION_LIMITS_CHECK_H_
#define WAXVM_SRC_ISOLATION_LIMITS_CHECK_H_

#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "waxvm/limits.h"

namespace waxvm {

/// OK when every limit that is set is one of `enforceable` and has a value that makes sense, so
/// that a limit is never silently ignored. To be called first in Provider::Create.
/// Errors: kInvalidArgument naming `provider`, the limit and its value.
absl::Status CheckLimits(std::string_view provider, const Limits& limits,
                         std::span<const LimitKind> enforceable);

}  // namespace waxvm

#endif  // WAXVM_SRC_ISOLATION_LIMITS_CHECK_H_
