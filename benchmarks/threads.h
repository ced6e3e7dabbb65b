// SPDX-License-Identifier: Apache-2.0
// The same thing on several threads at once.
#ifndef WAXVM_BENCHMARKS_THREADS_H_
#define WAXVM_BENCHMARKS_THREADS_H_

#include <benchmark/benchmark.h>

#include <functional>

#include "absl/status/statusor.h"

namespace waxvm {

inline constexpr int kBenchmarkThreads = 2;

/// What one iteration does.
using OnThread = std::function<absl::Status()>;

/// An iteration is one call on each of kBenchmarkThreads threads, which `make` was called on; they
/// do not wait for one another. The counters `p50_us`, `p99_us` and `p99_over_p50` are of single
/// calls. Named without benchmark's own suffix, unlike with its Threads().
void MeasureOnThreads(benchmark::State& state,
                      const std::function<absl::StatusOr<OnThread>()>& make);

}  // namespace waxvm

#endif  // WAXVM_BENCHMARKS_THREADS_H_
