// SPDX-License-Identifier: Apache-2.0
// The reserved call through which a guest reaches a granted host function.
// Spec: docs/formats/host_call.md, include/waxvm/abi/host_call.h.
#ifndef WAXVM_SRC_LINUX_ABI_HOST_CALL_H_
#define WAXVM_SRC_LINUX_ABI_HOST_CALL_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace waxvm::linux_abi {

class Process;

/// Reads the call at `call_address` and leaves it pending in `process`; or a negated errno.
std::int64_t StartHostCall(Process& process, std::uint64_t call_address);

/// Writes `reply` (or its error) into the guest's buffers; returns the value for rax.
std::int64_t FinishHostCall(Process& process, std::uint64_t call_address,
                            const absl::StatusOr<std::string>& reply);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_HOST_CALL_H_
