// SPDX-License-Identifier: Apache-2.0
// Checks of ranges and rights that the parts of AddressSpace share.
#ifndef WAXVM_SRC_LINUX_ABI_ADDRESS_RANGE_H_
#define WAXVM_SRC_LINUX_ABI_ADDRESS_RANGE_H_

#include <cstdint>
#include <optional>

#include "src/base/checked.h"
#include "src/linux_abi/address_space.h"

namespace waxvm::linux_abi {

inline bool IsPageAligned(std::uint64_t value) { return value % kPageBytes == 0; }

/// End of a range of `bytes` at `address`, rounded up to a page; empty when it leaves what the
/// guest can map.
inline std::optional<std::uint64_t> RangeEnd(std::uint64_t address, std::uint64_t bytes) {
  const auto end = CheckedAdd(address, bytes);
  const auto rounded = end ? PageCeil(*end) : std::nullopt;
  if (!rounded || *rounded > kStackTop) return std::nullopt;
  return rounded;
}

/// What a clean page of a shared file is mapped with. x86 cannot let write without read, and a
/// page without any right would look as if it were not the guest's.
inline PageRights WithoutWrite(PageRights rights) {
  return {.read = rights.read || rights.write, .write = false, .execute = rights.execute};
}

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_ADDRESS_RANGE_H_
