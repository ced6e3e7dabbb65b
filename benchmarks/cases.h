// SPDX-License-Identifier: Apache-2.0
// What the benchmarks have in common: programs run to their end in an instance or natively, and a
// benchmark that says why it could not run.
#ifndef WAXVM_BENCHMARKS_CASES_H_
#define WAXVM_BENCHMARKS_CASES_H_

#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/supervisor.h"

namespace waxvm {

/// The guest program `name` of tests/guests, in the build folder or in $WAXVM_GUEST_DIR.
std::string GuestPath(const std::string& name);

/// RunOnce, and the report of the run. Errors: where the program does not exit with 0, how it ended
/// and what it said about it.
absl::StatusOr<Report> RunToEnd(const std::shared_ptr<Provider>& provider,
                                const absl::StatusOr<Program>& program, const RunOptions& options);

/// One run of the program at `path` per iteration, everything about it made and freed within. The
/// counter `exits_per_<unit>` is the trips to the host, divided by `units`.
struct RunCase {
  std::shared_ptr<Provider> provider;
  std::string path;
  RunOptions options = {};
  std::string unit = "run";
  double units = 1;
};
void MeasureRun(benchmark::State& state, const RunCase& run);

/// One run of a native program per iteration. `arguments` as SpawnAndWait takes them; the first is
/// empty where the program is not installed.
void MeasureSpawn(benchmark::State& state, const std::vector<std::string>& arguments);

/// Ends the benchmark, which is then shown as skipped for this reason.
void Skip(benchmark::State& state, const absl::Status& status);

template <typename Function>
benchmark::internal::Benchmark* Register(const std::string& name, Function function) {
  return benchmark::RegisterBenchmark(name.c_str(), std::move(function))
      ->Unit(benchmark::kMicrosecond);
}

/// Runs what was registered, as the command line says. Returns main's result.
int RunBenchmarks(int argc, char** argv);

}  // namespace waxvm

#endif  // WAXVM_BENCHMARKS_CASES_H_
