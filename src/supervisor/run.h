// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_SUPERVISOR_RUN_H_
#define WAXVM_SRC_SUPERVISOR_RUN_H_

#include <memory>
#include <optional>

#include "src/base/unique_fd.h"
#include "src/capability/grant_set.h"
#include "src/supervisor/host_side.h"
#include "src/supervisor/run_control.h"
#include "waxvm/supervisor.h"

namespace waxvm {

/// Resumes the instance and answers its host calls until an event that is none.
absl::StatusOr<Event> RunToEnd(Instance& instance, HostSide& host);

/// Turns the final event of an instance into the result's fields.
void SetOutcome(Event event, RunResult& result);

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
  Provider& provider_;
  const ProviderInfo& info_;
  const Program& program_;
  const RunOptions& options_;
  RunControl& control_;
  const Authorizer& authorizer_;

  GrantSet grants_;
  UniqueFd input_;
  std::optional<HostSide> host_;
  RunResult result_;
};

}  // namespace waxvm

#endif  // WAXVM_SRC_SUPERVISOR_RUN_H_
