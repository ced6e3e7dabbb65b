// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_SUPERVISOR_POOL_SHELF_H_
#define WAXVM_SRC_SUPERVISOR_POOL_SHELF_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "src/base/mutex.h"
#include "waxvm/session.h"

namespace waxvm {

/// The idle clones that one thread has used and no other may use, and what it did with them.
///
/// It is shared by the pool and the thread itself, each holding one reference: a thread that ends
/// drops its own and calls nothing, and the pool sees that it has the last one. A pool that ends
/// takes the clones out, and the thread is left with an empty shelf until it looks for another one.
/// Thread safety: as annotated.
struct PoolShelf {
  explicit PoolShelf(const void* p) : pool(p) {}

  /// Whose it is; null once that is gone. Compared, never followed.
  std::atomic<const void*> pool;

  Mutex mutex;
  CondVar left;  ///< busy is 0
  std::vector<std::unique_ptr<Session>> idle ABSL_GUARDED_BY(mutex);
  /// The fewest that were idle at once since the pool last looked: nobody needed these.
  std::size_t spare ABSL_GUARDED_BY(mutex) = 0;
  std::size_t busy ABSL_GUARDED_BY(mutex) = 0;    ///< calls of the thread, one within the other
  std::size_t in_use ABSL_GUARDED_BY(mutex) = 0;  ///< instances that serve them
  std::uint64_t calls ABSL_GUARDED_BY(mutex) = 0;
  std::uint64_t resets ABSL_GUARDED_BY(mutex) = 0;

  /// The clone used last, if there is one.
  std::unique_ptr<Session> TakeNewest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (idle.empty()) return nullptr;
    std::unique_ptr<Session> session = std::move(idle.back());
    idle.pop_back();
    spare = std::min(spare, idle.size());
    return session;
  }

  /// Moves the `count` clones used longest ago to the end of `to`.
  void GiveBack(std::size_t count, std::vector<std::unique_ptr<Session>>& to)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const auto end = idle.begin() + static_cast<std::ptrdiff_t>(count);
    to.insert(to.end(), std::make_move_iterator(idle.begin()), std::make_move_iterator(end));
    idle.erase(idle.begin(), end);
    spare = idle.size();
  }
};

}  // namespace waxvm

#endif  // WAXVM_SRC_SUPERVISOR_POOL_SHELF_H_
