// SPDX-License-Identifier: Apache-2.0
// Runs of a program that was loaded once.
#include <chrono>
#include <utility>
#include <variant>

#include "absl/cleanup/cleanup.h"
#include "src/base/status.h"
#include "src/supervisor/end_status.h"
#include "src/supervisor/run.h"
#include "src/supervisor/session_state.h"
#include "src/supervisor/spec.h"

namespace waxvm {
namespace {

using SteadyClock = std::chrono::steady_clock;

template <typename T>
void TakeOver(std::optional<T>& limit, const std::optional<T>& wanted) {
  if (wanted) limit = wanted;
}

absl::StatusOr<Limits> Combine(Limits limits, const Limits& wanted) {
  if (wanted.memory_bytes && wanted.memory_bytes != limits.memory_bytes)
    return InvalidArgument(
        "the limit `memory` of a run is that of its snapshot, and cannot be set to %d bytes",
        *wanted.memory_bytes);
  TakeOver(limits.wall_time, wanted.wall_time);
  TakeOver(limits.cpu_time, wanted.cpu_time);
  TakeOver(limits.output_bytes, wanted.output_bytes);
  TakeOver(limits.open_files, wanted.open_files);
  TakeOver(limits.processes, wanted.processes);
  TakeOver(limits.host_calls, wanted.host_calls);
  TakeOver(limits.fuel, wanted.fuel);
  return limits;
}

/// What the run would be given by Supervisor::Run, but for its grants and its stop token.
absl::StatusOr<RunOptions> OptionsOf(const RunOptions& common, const RunRequest& request) {
  RunOptions options;
  options.arguments = request.arguments;
  options.argument_zero =
      request.argument_zero.empty() ? common.argument_zero : request.argument_zero;
  options.environment = request.environment;
  options.input = request.input;
  options.input_fd = request.input_fd;
  options.output = request.output ? request.output : common.output;
  options.label = request.label.empty() ? common.label : request.label;
  options.identity = common.identity;
  WAXVM_ASSIGN_OR_RETURN(options.limits, Combine(common.limits, request.limits));
  return options;
}

bool ChangesNothing(const absl::Status& refusal) {
  return absl::IsInvalidArgument(refusal) || absl::IsResourceExhausted(refusal) ||
         absl::IsFailedPrecondition(refusal);
}

}  // namespace

absl::StatusOr<RunResult> Session::State::Run(const RunRequest& request) {
  WAXVM_RETURN_IF_ERROR(CheckTurn());
  if (!origin->of_start)
    return absl::FailedPreconditionError("the session answers calls; what it has was started");
  if (request.stop.stop_requested())
    return absl::CancelledError("the run was cancelled before it began");
  const auto start = SteadyClock::now();
  WAXVM_ASSIGN_OR_RETURN(const RunOptions options, OptionsOf(origin->options, request));
  UniqueFd input;
  WAXVM_ASSIGN_OR_RETURN(InstanceSpec spec, MakeSpec(origin->spec.program, options, origin->grants,
                                                     origin->info, input));
  HostSide run_host(origin->grants, origin->authorizer, options, control);
  run_host.Surround(spec);
  WAXVM_RETURN_IF_ERROR(run_host.GiveIdentity());
  if (absl::Status loaded = instance->StartRun(spec); !loaded.ok())
    return ChangesNothing(loaded) ? loaded : Poison(loaded);

  in_call = true;
  const absl::Cleanup leave = [this] { in_call = false; };
  RunResult result;
  result.report.setup_time = SteadyClock::now() - start;
  run_host.StartClock(options.limits.wall_time);
  absl::StatusOr<Event> event = [&] {
    const std::stop_callback cancel(request.stop, [this] { control.Stop(); });
    return RunToEnd(*instance, run_host);
  }();
  if (!event.ok()) return Poison(std::move(event).status());
  const Usage usage = instance->usage();
  const auto ended = SteadyClock::now();
  if (std::holds_alternative<Exited>(*event) && !control.stopped()) {
    if (const absl::Status done = instance->Reset(); !done.ok()) (void)Poison(done);
  } else {
    (void)Poison(std::visit(EndStatus{}, *event));
  }
  run_host.EndIdentity();
  result.report.teardown_time = SteadyClock::now() - ended;
  result.report.wall_time = SteadyClock::now() - start;
  SetOutcome(*std::move(event), result);
  run_host.FillReport(origin->info, usage, result.report);
  result.output = std::move(run_host.output());
  result.error_output = std::move(run_host.error_output());
  return result;
}

absl::StatusOr<RunResult> Session::Run(const RunRequest& request) { return state_->Run(request); }

absl::StatusOr<Snapshot> Snapshot::OfStart(std::shared_ptr<Provider> provider,
                                           const absl::StatusOr<Program>& program,
                                           const RunOptions& options) {
  if (!options.arguments.empty() || !options.environment.empty() || !options.input.empty() ||
      options.input_fd >= 0)
    return InvalidArgument(
        "arguments, environment and standard input are those of each run, not of the snapshot");
  WAXVM_ASSIGN_OR_RETURN(
      std::shared_ptr<const SessionOrigin> origin,
      SessionOrigin::Make(std::move(provider), program, options, /*of_start=*/true));

  // The interpreter is opened past the gate, as the program itself would.
  RunControl control;
  HostSide host(origin->grants, origin->authorizer, origin->options, control);
  InstanceSpec spec = origin->spec;
  host.Surround(spec);
  WAXVM_ASSIGN_OR_RETURN(const std::unique_ptr<Instance> loaded, origin->provider->Create(spec));
  if (loaded == nullptr) return Internal("the %s provider made no instance", origin->info.name);
  WAXVM_ASSIGN_OR_RETURN(auto taken, loaded->TakeSnapshot());
  if (taken == nullptr) return Internal("the %s provider took no snapshot", origin->info.name);
  return Snapshot(std::make_shared<const Snapshot::State>(
      Snapshot::State{std::move(origin), std::move(taken)}));
}

}  // namespace waxvm
