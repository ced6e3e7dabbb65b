// SPDX-License-Identifier: Apache-2.0
#include "src/supervisor/run.h"

#include <chrono>
#include <utility>
#include <variant>

#include "src/base/status.h"
#include "src/supervisor/spec.h"

namespace waxvm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kLimitExitCode = 124;
constexpr int kStoppedExitCode = 143;  // 128 + SIGTERM

struct OutcomeSetter {
  RunResult& result;

  void operator()(const HostCallRequest&) {}
  void operator()(const Exited& exited) {
    result.outcome = Outcome::kExited;
    result.exit_code = exited.code & 0xff;
  }
  void operator()(Fault& fault) {
    result.outcome = Outcome::kFault;
    result.exit_code = 128 + fault.signal;
    result.fault = std::move(fault);
  }
  void operator()(const LimitReached& reached) {
    result.outcome = Outcome::kLimit;
    result.exit_code = kLimitExitCode;
    result.limit = reached.limit;
  }
  void operator()(const Stopped&) {
    result.outcome = Outcome::kStopped;
    result.exit_code = kStoppedExitCode;
  }
};

}  // namespace

void SetOutcome(Event event, RunResult& result) { std::visit(OutcomeSetter{result}, event); }

absl::StatusOr<Event> RunToEnd(Instance& instance, HostSide& host) {
  for (;;) {
    WAXVM_ASSIGN_OR_RETURN(Event event, instance.Resume());
    const auto* call = std::get_if<HostCallRequest>(&event);
    if (call == nullptr) return event;
    WAXVM_ASSIGN_OR_RETURN(std::optional<Event> end, host.Serve(instance, *call));
    if (end) return *std::move(end);
  }
}

ProgramRun::ProgramRun(Provider& provider, const ProviderInfo& info, const Authorizer& authorizer,
                       const Program& program, const RunOptions& options, RunControl& control)
    : provider_(provider),
      info_(info),
      program_(program),
      options_(options),
      control_(control),
      authorizer_(authorizer) {}

absl::StatusOr<RunResult> ProgramRun::Execute() {
  const auto start = Clock::now();
  WAXVM_ASSIGN_OR_RETURN(grants_, GrantsOf(options_));
  WAXVM_ASSIGN_OR_RETURN(InstanceSpec spec, MakeSpec(program_, options_, grants_, info_, input_));
  host_.emplace(grants_, authorizer_, options_, control_).Surround(spec);
  WAXVM_ASSIGN_OR_RETURN(std::unique_ptr<Instance> instance, provider_.Create(spec));
  if (instance == nullptr) return Internal("the %s provider made no instance", info_.name);
  WAXVM_RETURN_IF_ERROR(host_->GiveIdentity());
  result_.report.setup_time = Clock::now() - start;

  host_->StartClock(options_.limits.wall_time);
  absl::StatusOr<Event> event = [&] {
    const RunControl::Attachment attachment(control_, *instance);
    return RunToEnd(*instance, *host_);
  }();
  const Usage usage = instance->usage();

  const auto teardown = Clock::now();
  instance.reset();
  host_->EndIdentity();
  result_.report.teardown_time = Clock::now() - teardown;
  result_.report.wall_time = Clock::now() - start;
  if (!event.ok()) return std::move(event).status();
  SetOutcome(*std::move(event), result_);
  host_->FillReport(info_, usage, result_.report);
  result_.output = std::move(host_->output());
  result_.error_output = std::move(host_->error_output());
  return std::move(result_);
}

}  // namespace waxvm
