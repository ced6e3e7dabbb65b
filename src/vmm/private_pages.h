// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_VMM_PRIVATE_PAGES_H_
#define WAXVM_SRC_VMM_PRIVATE_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/base/fork_guard.h"
#include "src/base/unique_fd.h"

namespace waxvm::vmm {

/// Bytes of a mapping that are in this process's page tables, or swapped out.
struct MemoryUse {
  std::uint64_t resident_bytes = 0;
  std::uint64_t private_bytes = 0;  ///< of these, no page of a file
};

/// Tells which pages of a private file mapping of this process are copies of its own: those that
/// somebody has written to. Costs time for the page tables of the range.
/// Thread safety: may be shared between threads. In a forked child it gives kFailedPrecondition: it
/// would look at the memory of the parent.
/// Spec: Linux Documentation/admin-guide/mm/pagemap.rst.
class PrivatePages {
 public:
  /// Errors: as ErrnoStatus of opening /proc/self/pagemap.
  static absl::StatusOr<PrivatePages> Open();

  /// Calls visit(offset, bytes) for every run of such pages of `memory`, in order. Errors:
  /// kInternal where the kernel does not tell.
  using Visit = absl::FunctionRef<void(std::uint64_t offset, std::uint64_t bytes)>;
  absl::Status ForEachRun(std::span<std::byte> memory, Visit visit) const;

  /// Counts `memory`. Errors: as ForEachRun.
  absl::StatusOr<MemoryUse> Count(std::span<std::byte> memory) const;

 private:
  PrivatePages(UniqueFd pagemap, bool can_scan)
      : pagemap_(std::move(pagemap)), can_scan_(can_scan) {}
  absl::Status Scan(std::span<std::byte> memory, Visit visit) const;
  absl::Status Read(std::span<std::byte> memory, Visit visit) const;

  UniqueFd pagemap_;
  bool can_scan_;  ///< PAGEMAP_SCAN, since Linux 6.7
  ForkGuard fork_guard_;
};

}  // namespace waxvm::vmm

#endif  // WAXVM_SRC_VMM_PRIVATE_PAGES_H_
