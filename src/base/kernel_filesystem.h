// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_BASE_KERNEL_FILESYSTEM_H_
#define WAXVM_SRC_BASE_KERNEL_FILESYSTEM_H_

#include "absl/status/statusor.h"

namespace waxvm {

/// True when the open file `fd` (O_PATH will do) lies on a file system through which the kernel
/// shows or takes settings: proc, sysfs, cgroup, debugfs and their kind. Their regular files and
/// links reach processes, descriptors and the whole host, so a files grant never passes them.
absl::StatusOr<bool> IsOnKernelFilesystem(int fd);

}  // namespace waxvm

#endif  // WAXVM_SRC_BASE_KERNEL_FILESYSTEM_H_
