// SPDX-License-Identifier: Apache-2.0
// Keeps a file and its shared mappings in agreement when it is used through descriptors. Both
// calls cost nothing while no file is mapped shared.
#ifndef WAXVM_SRC_LINUX_ABI_MAPPED_FILES_H_
#define WAXVM_SRC_LINUX_ABI_MAPPED_FILES_H_

#include <cstdint>
#include <limits>

#include "src/linux_abi/process.h"
#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {

/// Before the bytes or the size of `file` are read or changed, and for fsync: what was stored
/// through mappings is written to it. Returns 0 or the errno of a write that failed.
std::int64_t SyncMappings(Process& process, const OpenFile& file);

/// After the bytes [start, end) of `file`, or its size, were changed.
void RefreshMappings(Process& process, const OpenFile& file, std::uint64_t start = 0,
                     std::uint64_t end = std::numeric_limits<std::int64_t>::max());

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_MAPPED_FILES_H_
