// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_VMM_MEMORY_IMAGE_H_
#define WAXVM_SRC_VMM_MEMORY_IMAGE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/base/mapping.h"
#include "src/base/unique_fd.h"
#include "src/vmm/private_pages.h"

namespace waxvm::vmm {

/// The physical memory of a machine at one moment, in a sealed memfd that clones map privately: a
/// page is shared by all of them until one writes to it. Immutable; may be shared between threads.
struct MemoryImage {
  UniqueFd file;
  Mapping mapping;          ///< of the whole file, read-only
  std::uint64_t bytes = 0;  ///< frames [0, bytes) were handed out; those given back are listed
  std::vector<std::uint64_t> free_small;
  std::vector<std::uint64_t> free_large;
  std::uint64_t charged_bytes = 0;
  PrivatePages private_pages;  ///< how a clone tells what it has written to

  std::span<const std::byte> page(std::uint64_t frame) const {
    return {mapping.data() + frame, 4096};
  }
};

}  // namespace waxvm::vmm

#endif  // WAXVM_SRC_VMM_MEMORY_IMAGE_H_
