// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_SEGMENTS_H_
#define WAXVM_SRC_LINUX_ABI_SEGMENTS_H_

#include <cstdint>
#include <memory>

#include "src/image/elf.h"
#include "src/linux_abi/address_space.h"
#include "src/linux_abi/mapped_source.h"

namespace waxvm::linux_abi {

/// Maps the segments of `elf`, whose bytes `source` has, at `base`: what the file holds is read
/// when it is touched, what is behind it reads as zero. False when memory ran out.
[[nodiscard]] bool MapSegments(const image::ElfImage& elf,
                               const std::shared_ptr<MappedSource>& source, std::uint64_t base,
                               AddressSpace& memory);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_SEGMENTS_H_
