// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_PROCESS_IMAGE_H_
#define WAXVM_SRC_LINUX_ABI_PROCESS_IMAGE_H_

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/linux_abi/address_space.h"
#include "src/linux_abi/loader.h"
#include "src/linux_abi/signals.h"
#include "src/linux_abi/thread.h"
#include "waxvm/provider.h"

namespace waxvm::linux_abi {

/// What stands behind a descriptor that a clone can have as well: a standard stream, a device, or
/// the same open file as a lower descriptor.
struct DescriptorImage {
  std::uint64_t number = 0;
  std::optional<int> stream = {};             ///< 0 to 2: the clone's own
  std::optional<std::uint64_t> same_as = {};  ///< a descriptor listed before
  std::string device = {};                    ///< its path, with `flags` of open(2)
  int flags = 0;
  bool close_on_exec = false;
};

/// What the kernel of a process that waits for a host call knows of it, beside the contents of its
/// memory. Immutable; may be shared between threads. Process::TakeImage says what it cannot hold.
struct ProcessImage {
  AddressSpace::Image memory;
  EntryState entry;
  ThreadSettings thread;  ///< of the one there is; its registers are the machine's
  std::int32_t next_thread_id = 0;
  std::array<SignalAction, kSignals> actions;
  std::vector<DescriptorImage> descriptors;
  std::string working_directory;
  mode_t umask = 0;
  std::uint64_t host_call_address = 0;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_PROCESS_IMAGE_H_
