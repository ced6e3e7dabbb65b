// SPDX-License-Identifier: Apache-2.0
#include "src/base/fork_guard.h"

#include <sys/mman.h>

#include <utility>

namespace waxvm {

ForkGuard::ForkGuard() {
  constexpr std::size_t kPageBytes = 4096;
  auto page = Mapping::Map(kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  if (!page.ok() || ::madvise(page->data(), kPageBytes, MADV_WIPEONFORK) != 0) return;
  *page->data() = std::byte{1};
  page_ = *std::move(page);
}

}  // namespace waxvm
