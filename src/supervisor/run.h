// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_SUPERVISOR_RUN_H_
#define WAXVM_SRC_SUPERVISOR_RUN_H_

#include <chrono>
#include <memory>
#include <optional>

#include "src/base/unique_fd.h"
#include "src/capability/grant_set.h"
#include "src/supervisor/run_control.h"
#include "src/supervisor/run_gate.h"
#include "waxvm/supervisor.h"

namespace waxvm {

/// Bound on output that is collected in memory, where the embedder set none: a flood must not
/// take the host's memory.
inline constexpr std::uint64_t kDefaultCollectedBytes = std::uint64_t{16} << 20;

/// One run of one program, from its grants to its report. Used once.
/// Thread safety: none; others end it through its RunControl.
class ProgramRun {
 public:
  /// Everything given must outlive the run. `info` is the provider's.
  ProgramRun(Provider& provider, const ProviderInfo& info, const Authorizer& authorizer,
             const Program& program, const RunOptions& options, RunControl& control);

  /// Runs to the end and frees everything. Errors: as Supervisor::Run.
  absl::StatusOr<RunResult> Execute();

 private:
  using TimePoint = std::chrono::steady_clock::time_point;

  absl::StatusOr<InstanceSpec> MakeSpec();
  absl::Status OpenInput(InstanceSpec& spec);
  OutputWriter MakeWriter(std::uint64_t bound_bytes);
  absl::StatusOr<Event> RunToEnd(Instance& instance);
  /// Answers a host call; an event instead where the run has to end.
  absl::StatusOr<std::optional<Event>> Serve(Instance& instance, const HostCallRequest& call);
  absl::StatusOr<std::string> CallFunction(const HostCallRequest& call);
  void FillReport(const Usage& usage);

  Provider& provider_;
  const ProviderInfo& info_;
  const Program& program_;
  const RunOptions& options_;
  RunControl& control_;
  const Authorizer& authorizer_;

  GrantSet grants_;
  std::optional<RunGate> gate_;
  UniqueFd input_;
  std::optional<TimePoint> deadline_;
  RunResult result_;
};

}  // namespace waxvm

#endif  // WAXVM_SRC_SUPERVISOR_RUN_H_
