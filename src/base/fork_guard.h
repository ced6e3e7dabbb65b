// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_BASE_FORK_GUARD_H_
#define WAXVM_SRC_BASE_FORK_GUARD_H_

#include <cstddef>

#include "src/base/mapping.h"

namespace waxvm {

/// Tells whether this process is the one that made it. A forked child has copies of objects whose
/// threads, virtual machines and mappings stayed behind: it must not use them, nor take them down,
/// which would end the parent's processes and unmap what is somebody else's by then. Costs one
/// page, which the kernel empties in the child; a look at it costs one load. Thread safety: any.
class ForkGuard {
 public:
  ForkGuard();

  bool InChild() const {
    return page_.valid() && *static_cast<const volatile std::byte*>(page_.data()) == std::byte{0};
  }

 private:
  Mapping page_;  ///< none where the kernel does not offer it
};

}  // namespace waxvm

#endif  // WAXVM_SRC_BASE_FORK_GUARD_H_
