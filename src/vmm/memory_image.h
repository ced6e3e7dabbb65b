// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_VMM_MEMORY_IMAGE_H_
#define WAXVM_SRC_VMM_MEMORY_IMAGE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "src/base/mapping.h"
#include "src/base/mutex.h"
#include "src/base/unique_fd.h"
#include "src/vmm/private_pages.h"

namespace waxvm::vmm {

/// A range of frames.
struct FrameRun {
  std::uint64_t start;
  std::uint64_t bytes;
};

/// What the first clone that was used has written to: what others are likely to write to. Thread
/// safety: may be shared between threads.
class LearnedPages {
 public:
  std::vector<FrameRun> Get() const {
    const MutexLock lock(mutex_);
    return runs_;
  }
  bool known() const { return known_.load(std::memory_order_relaxed); }
  /// The first one counts.
  void Learn(std::vector<FrameRun> runs) {
    const MutexLock lock(mutex_);
    if (known_.exchange(true, std::memory_order_relaxed)) return;
    runs_ = std::move(runs);
  }

 private:
  std::atomic<bool> known_ = false;
  mutable Mutex mutex_;
  std::vector<FrameRun> runs_ ABSL_GUARDED_BY(mutex_);
};

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
  std::unique_ptr<LearnedPages> learned = std::make_unique<LearnedPages>();

  std::span<const std::byte> page(std::uint64_t frame) const {
    return {mapping.data() + frame, 4096};
  }
};

}  // namespace waxvm::vmm

#endif  // WAXVM_SRC_VMM_MEMORY_IMAGE_H_
