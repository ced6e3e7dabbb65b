// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_ISOLATION_OUTPUT_LIMITER_H_
#define WAXVM_SRC_ISOLATION_OUTPUT_LIMITER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "waxvm/provider.h"

namespace waxvm {

/// Stands between a program and its OutputWriter, so that a flood of output ends at the bound:
/// passes on what fits, counts it, and remembers when there was more.
/// Thread safety: none; used on the thread in Instance::Resume.
class OutputLimiter {
 public:
  /// `limit_bytes` is for both streams together; empty: unlimited. An empty `writer` discards.
  OutputLimiter(std::optional<std::uint64_t> limit_bytes, OutputWriter writer);

  /// Delivers as much of `data` as fits and returns how much that was; less than `data.size()`
  /// means that the limit is reached, and the run has to end with LimitReached{kOutput}.
  /// Errors: those of the writer, which end the run.
  absl::StatusOr<std::size_t> Write(Stream stream, std::string_view data);

  /// Counts from zero again.
  void Restart() {
    bytes_ = 0;
    limit_reached_ = false;
  }

  /// True once something did not fit.
  bool limit_reached() const { return limit_reached_; }
  /// How much was delivered.
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::uint64_t limit_bytes_;
  OutputWriter writer_;
  std::uint64_t bytes_ = 0;
  bool limit_reached_ = false;
};

}  // namespace waxvm

#endif  // WAXVM_SRC_ISOLATION_OUTPUT_LIMITER_H_
