// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "commands.h"
#include "flags.h"
#include "prepare.h"
#include "run_identity.h"
#include "run_often.h"
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

/// Whether more random numbers were refused than the few bytes that glibc asks for at its start, in
/// every program, and goes on without.
bool MissesRandom(const Denial& denial) {
  return denial.resource == Resource::kRandom && (denial.name != "getrandom" || denial.count > 1);
}

/// What the report knows to be missing and which grant would bring it; "" where it knows nothing.
/// A name is the program's own choice, so it reaches the terminal escaped.
std::string MissingGrants(const Report& report) {
  std::vector<std::string> missing;
  const auto add = [&](auto&& misses, std::string_view what, std::string_view grant) {
    const auto denial = std::ranges::find_if(report.denied, misses);
    if (denial != report.denied.end())
      missing.push_back(absl::StrFormat("%s (%s), which %s allows", what,
                                        absl::Utf8SafeCHexEscape(denial->name), grant));
  };
  add(MissesRandom, "random numbers", "--grant=random");
  add([](const Denial& denial) { return denial.resource == Resource::kClock; }, "the clock",
      "--grant=clock");
  add([](const Denial& denial) { return denial.resource == Resource::kFile && denial.write; },
      "changing a granted file", "--grant=files:HOST:GUEST:rw");
  return absl::StrJoin(missing, "; ");
}

/// Says on standard error what the exit code alone does not.
void Explain(const RunResult& result) {
  if (result.limit)
    absl::FPrintF(stderr, "waxvm: stopped at the %s limit\n", LimitName(*result.limit));
  if (result.fault)
    absl::FPrintF(stderr, "waxvm: %s: %s\n", FaultName(result.fault->kind), result.fault->detail);
  // A limit is reason enough of its own.
  const bool ended_badly = result.outcome == Outcome::kFault ||
                           (result.outcome == Outcome::kExited && result.exit_code != 0);
  if (!ended_badly) return;
  if (const std::string missing = MissingGrants(result.report); !missing.empty())
    absl::FPrintF(stderr, "waxvm: hint: the program was refused %s\n", missing);
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
               const RunFlags& flags, const std::optional<IdentityOptions>& identity,
               std::optional<ReportFile> report) {
  StopOnSignal signals;
  // With many runs the limit is that of each.
  const bool many = flags.repeat > 1 || flags.pool > 0;
  OutputPassThrough output(signals.source(), many ? std::nullopt : flags.limits.wall_time);
  RunOptions options = ToOptions(flags, signals, output);
  options.identity = identity;
  std::optional<Renewal> renewal;
  if (identity && identity->keeper) renewal.emplace(identity->keeper);
  const auto result =
      many ? RunOften(provider, program, flags, options) : RunOnce(provider, program, options);
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
  const auto identity = OpenIdentity(*flags);
  if (!identity.ok()) return Fail(kExitFailed, identity.status());
  return RunProgram(prepared.provider, prepared.program, *flags, *identity, std::move(report));
}

}  // namespace waxvm::cli
