// SPDX-License-Identifier: Apache-2.0
// Native functions inside the sandbox: a fork of the embedder, confined like any program.
#ifndef WAXVM_SRC_PROVIDER_PROCESS_NATIVE_PROGRAM_H_
#define WAXVM_SRC_PROVIDER_PROCESS_NATIVE_PROGRAM_H_

#include "absl/status/statusor.h"
#include "src/base/unique_fd.h"
#include "src/provider_process/launch.h"
#include "src/provider_process/sandbox.h"
#include "waxvm/provider.h"

namespace waxvm::process {

/// Starts pid 1 of new namespaces as a fork of this process, which will run `spec.program` as
/// pid 2. fork() makes the C library's state usable in the child whatever other threads are doing.
absl::StatusOr<InitProcess> SpawnNative(const InstanceSpec& spec, const wx_descriptors& descriptors,
                                        const wx_config& config);

}  // namespace waxvm::process

#endif  // WAXVM_SRC_PROVIDER_PROCESS_NATIVE_PROGRAM_H_
