// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_BASE_DEADLINE_H_
#define WAXVM_SRC_BASE_DEADLINE_H_

#include <chrono>

namespace waxvm {

/// The time `limit` after `start`, or the last there is: a limit may be as long as its type allows.
inline std::chrono::steady_clock::time_point After(std::chrono::steady_clock::time_point start,
                                                   std::chrono::nanoseconds limit) {
  using TimePoint = std::chrono::steady_clock::time_point;
  return limit < TimePoint::max() - start ? start + limit : TimePoint::max();
}

}  // namespace waxvm

#endif  // WAXVM_SRC_BASE_DEADLINE_H_
