// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_EXAMPLES_SUPERVISOR_RUN_OFTEN_H_
#define WAXVM_EXAMPLES_SUPERVISOR_RUN_OFTEN_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "flags.h"
#include "waxvm/supervisor.h"

namespace waxvm::cli {

/// `flags.repeat` runs, with `flags.pool` from so many threads in a pool of that size. The result
/// of the first that did not exit with 0, after which none begins, or else of the last one. What
/// the runs took is printed.
absl::StatusOr<RunResult> RunOften(const std::shared_ptr<Provider>& provider,
                                   const Program& program, const RunFlags& flags,
                                   const RunOptions& options);

/// Prints minimum, median, 99th percentile and maximum of `times`, of which there were `count`.
void PrintTimes(std::vector<std::chrono::nanoseconds> times, std::uint64_t count, const char* what);

}  // namespace waxvm::cli

#endif  // WAXVM_EXAMPLES_SUPERVISOR_RUN_OFTEN_H_
