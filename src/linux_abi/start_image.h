// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_START_IMAGE_H_
#define WAXVM_SRC_LINUX_ABI_START_IMAGE_H_

#include "src/linux_abi/address_space.h"
#include "src/linux_abi/loader.h"

namespace waxvm::linux_abi {

/// What the kernel of a process that is loaded and has not run knows of it, beside the contents of
/// its memory. Nothing of a run is in it: no arguments, no random bytes. Immutable; may be shared
/// between threads.
struct StartImage {
  AddressSpace::Image memory;
  EntryState entry;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_START_IMAGE_H_
