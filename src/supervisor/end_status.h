// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_SUPERVISOR_END_STATUS_H_
#define WAXVM_SRC_SUPERVISOR_END_STATUS_H_

#include <string>

#include "absl/strings/str_format.h"
#include "src/base/status.h"
#include "waxvm/provider.h"

namespace waxvm {

/// What the end of the program means to whoever waits for it.
struct EndStatus {
  absl::Status operator()(const HostCallRequest&) const {
    return Internal("a host call is no end");
  }
  absl::Status operator()(const Exited& exited) const {
    return absl::AbortedError(
        absl::StrFormat("the program ended with exit code %d", exited.code & 0xff));
  }
  absl::Status operator()(const Fault& fault) const {
    return absl::AbortedError(
        absl::StrFormat("the program faulted: %s: %s", FaultName(fault.kind), fault.detail));
  }
  absl::Status operator()(const LimitReached& reached) const {
    const std::string text =
        absl::StrFormat("the program met the limit `%s`", LimitName(reached.limit));
    if (reached.limit == LimitKind::kWallTime || reached.limit == LimitKind::kCpuTime ||
        reached.limit == LimitKind::kFuel)
      return absl::DeadlineExceededError(text);
    return absl::ResourceExhaustedError(text);
  }
  absl::Status operator()(const Stopped&) const {
    return absl::CancelledError("the program was stopped");
  }
};

}  // namespace waxvm

#endif  // WAXVM_SRC_SUPERVISOR_END_STATUS_H_
