// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_format.h"
#include "commands.h"
#include "flags.h"
#include "prepare.h"
#include "signals.h"
#include "streams.h"
#include "waxvm/supervisor.h"

namespace waxvm::cli {
namespace {

int ExitCodeForRun(const RunResult& result, const StopOnSignal& signals,
                   const OutputPassThrough& output) {
  if (result.outcome != Outcome::kStopped) return result.exit_code;
  if (signals.signal() != 0) return kExitSignal + signals.signal();
  return output.broken() ? kExitSignal + SIGPIPE : result.exit_code;
}

/// Says on standard error what the exit code alone does not.
void Explain(const RunResult& result) {
  if (result.limit)
    absl::FPrintF(stderr, "waxvm: stopped at the %s limit\n", LimitName(*result.limit));
  if (result.fault)
    absl::FPrintF(stderr, "waxvm: %s: %s\n", FaultName(result.fault->kind), result.fault->detail);
}

RunOptions ToOptions(const RunFlags& flags, StopOnSignal& signals, OutputPassThrough& output) {
  RunOptions options;
  options.arguments = flags.arguments;
  options.argument_zero = flags.program;
  options.environment = flags.environment;
  options.limits = flags.limits;
  options.grants = flags.grants;
  options.input_fd = STDIN_FILENO;
  options.label = flags.program;
  options.stop = signals.source().get_token();
  options.output = [&output](Stream stream, std::string_view data) {
    return output.Write(stream, data);
  };
  return options;
}

int RunProgram(const std::shared_ptr<Provider>& provider, const Program& program,
               const RunFlags& flags, std::optional<ReportFile> report) {
  StopOnSignal signals;
  OutputPassThrough output(signals.source(), flags.limits.wall_time);
  const auto result = RunOnce(provider, program, ToOptions(flags, signals, output));
  if (!result.ok()) {
    const bool refused =
        absl::IsInvalidArgument(result.status()) && RefusesProgram(*provider, program);
    return Fail(refused ? kExitCannotRun : kExitFailed, result.status());
  }
  Explain(*result);
  if (report) {
    if (const absl::Status status = report->Commit(ReportToJson(*result) + "\n"); !status.ok())
      return Fail(kExitFailed, status);
  }
  return ExitCodeForRun(*result, signals, output);
}

}  // namespace

int RunCommand(std::span<const std::string_view> arguments) {
  auto flags = ParseRunFlags(arguments);
  if (!flags.ok()) return Fail(kExitFailed, flags.status());
  if (flags->help) {
    absl::PrintF("waxvm run [flags] -- PROGRAM [arguments]\n\n%s", RunFlagsHelp());
    return kExitOk;
  }
  auto start = PrepareProgram(*flags);
  if (const int* exit_code = std::get_if<int>(&start)) return *exit_code;
  const Prepared& prepared = std::get<Prepared>(start);
  std::optional<ReportFile> report;
  if (!flags->report_path.empty()) {
    auto file = ReportFile::Open(flags->report_path);
    if (!file.ok()) return Fail(kExitFailed, file.status());
    report.emplace(*std::move(file));
  }
  return RunProgram(prepared.provider, prepared.program, *flags, std::move(report));
}

}  // namespace waxvm::cli
