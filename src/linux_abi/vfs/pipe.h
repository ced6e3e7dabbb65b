// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_PIPE_H_
#define WAXVM_SRC_LINUX_ABI_VFS_PIPE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "src/linux_abi/errno_or.h"
#include "src/linux_abi/vfs/memory_node.h"
#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {

struct PipeEnds {
  std::shared_ptr<OpenFile> reader;
  std::shared_ptr<OpenFile> writer;
};

/// A pipe of 64 KiB, charged as a whole. `flags`: O_NONBLOCK or 0. Errors: ENFILE when memory is
/// out, as pipe(2) says it.
/// A guest of one thread that waits on its own pipe waits until the run is ended.
ErrnoOr<PipeEnds> CreatePipe(VfsContext& context, int flags);

/// eventfd: a counter that reads as eight bytes. `flags`: EFD_NONBLOCK, EFD_SEMAPHORE.
std::shared_ptr<OpenFile> CreateEventCounter(VfsContext& context, std::uint64_t value, int flags);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_PIPE_H_
