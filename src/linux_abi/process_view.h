// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_PROCESS_VIEW_H_
#define WAXVM_SRC_LINUX_ABI_PROCESS_VIEW_H_

#include <memory>

#include "src/linux_abi/vfs/process_view.h"

namespace waxvm::linux_abi {

class Process;

/// What /proc shows of `process`, which outlives it.
std::unique_ptr<ProcessView> MakeProcessView(Process& process);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_PROCESS_VIEW_H_
