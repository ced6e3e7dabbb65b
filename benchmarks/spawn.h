// SPDX-License-Identifier: Apache-2.0
// Runs a program natively and waits for it: what the benchmarks compare with.
#ifndef WAXVM_BENCHMARKS_SPAWN_H_
#define WAXVM_BENCHMARKS_SPAWN_H_

#include <chrono>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace waxvm {

/// Starts `arguments` (the first is an absolute path) with posix_spawn, an empty environment and
/// its output going to /dev/null, and waits. OK where it exits with 0.
absl::Status SpawnAndWait(const std::vector<std::string>& arguments);

/// The same; tells the CPU time, user and system, that the program and its children used.
absl::StatusOr<std::chrono::nanoseconds> SpawnAndMeasure(const std::vector<std::string>& arguments);

/// The path of `name` in one of PATH's folders; empty where there is none.
std::string FindInPath(const std::string& name);

}  // namespace waxvm

#endif  // WAXVM_BENCHMARKS_SPAWN_H_
