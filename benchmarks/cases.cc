// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/cases.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "benchmarks/spawn.h"
#include "src/base/status.h"

namespace waxvm {
namespace {

// One line, for the table of results.
std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

std::string HowItEnded(const RunResult& result) {
  std::string ending;
  switch (result.outcome) {
    case Outcome::kExited:
      ending = absl::StrCat("it exited with ", result.exit_code);
      break;
    case Outcome::kFault:
      ending = absl::StrCat("fault: ", result.fault ? result.fault->detail : "");
      break;
    case Outcome::kLimit:
      ending = absl::StrCat("limit: ", result.limit ? ToAbsl(LimitName(*result.limit)) : "");
      break;
    case Outcome::kStopped:
      ending = "stopped";
      break;
  }
  if (!result.error_output.empty())
    absl::StrAppend(&ending, "; it said: ", FirstLine(result.error_output));
  for (const Denial& denial : result.report.denied)
    if (denial.resource == Resource::kSystemCall)
      absl::StrAppend(&ending, "; not offered: ", denial.name);
  return ending;
}

}  // namespace

std::string GuestPath(const std::string& name) {
  const char* folder = std::getenv("WAXVM_GUEST_DIR");
  return (folder != nullptr ? std::string(folder) : WAXVM_GUEST_DIR) + "/" + name;
}

absl::StatusOr<Report> RunToEnd(const std::shared_ptr<Provider>& provider,
                                const absl::StatusOr<Program>& program, const RunOptions& options) {
  WAXVM_ASSIGN_OR_RETURN(const RunResult result, RunOnce(provider, program, options));
  if (result.outcome == Outcome::kExited && result.exit_code == 0) return result.report;
  return absl::UnimplementedError(HowItEnded(result));
}

void MeasureRun(benchmark::State& state, const RunCase& run) {
  const absl::StatusOr<Program> program = Program::FromFile(run.path);
  const absl::Status status = program.ok() ? run.provider->Available() : program.status();
  if (!status.ok()) return Skip(state, status);
  double exits = 0;
  for (auto _ : state) {
    const absl::StatusOr<Report> report = RunToEnd(run.provider, program, run.options);
    if (!report.ok()) return Skip(state, report.status());
    exits += static_cast<double>(report->vm_exits.value_or(0));
  }
  if (exits != 0)
    state.counters["exits_per_" + run.unit] =
        exits / run.units / static_cast<double>(state.iterations());
}

void MeasureSpawn(benchmark::State& state, const std::vector<std::string>& arguments) {
  if (arguments[0].empty())
    return Skip(state, absl::UnavailableError("the program is not installed"));
  for (auto _ : state)
    if (absl::Status status = SpawnAndWait(arguments); !status.ok()) return Skip(state, status);
}

void Skip(benchmark::State& state, const absl::Status& status) {
  state.SkipWithError(status.ToString().c_str());
}

int RunBenchmarks(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace waxvm
