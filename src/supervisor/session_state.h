// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_SUPERVISOR_SESSION_STATE_H_
#define WAXVM_SRC_SUPERVISOR_SESSION_STATE_H_

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>

#include "src/base/fork_guard.h"
#include "src/base/unique_fd.h"
#include "src/capability/grant_set.h"
#include "src/supervisor/call_format.h"
#include "src/supervisor/host_side.h"
#include "src/supervisor/run_control.h"
#include "waxvm/session.h"

namespace waxvm {

/// What a session has in common with the clones of its snapshots. Immutable once it is shared.
struct SessionOrigin {
  SessionOrigin(std::shared_ptr<Provider> p, Program program, RunOptions o)
      : provider(std::move(p)),
        info(provider->info()),
        options(std::move(o)),
        authorizer(options.authorizer),
        spec(program) {}
  /// `of_start`: for runs of a program, not for calls. Errors: as Session::Start.
  static absl::StatusOr<std::shared_ptr<const SessionOrigin>> Make(
      std::shared_ptr<Provider> provider, const absl::StatusOr<Program>& program,
      const RunOptions& options, bool of_start);

  const std::shared_ptr<Provider> provider;
  const ProviderInfo info;
  const RunOptions options;
  const Authorizer authorizer;
  GrantSet grants;
  UniqueFd input;
  InstanceSpec spec;      ///< without gate and output
  bool of_start = false;  ///< the program has not run
  const ForkGuard fork_guard;
};

/// What a snapshot is.
struct Snapshot::State {
  std::shared_ptr<const SessionOrigin> origin;
  std::shared_ptr<const InstanceSnapshot> instance;
};

/// One instance and what its calls need.
struct Session::State {
  explicit State(std::shared_ptr<const SessionOrigin> o);
  ~State();

  /// Takes the instance over; Stop reaches it from now on.
  void Adopt(std::unique_ptr<Instance> made);
  /// Runs until the program waits for its first call.
  absl::Status BecomeReady();
  /// Why this thread must not use the instance now. The first one to ask owns it.
  absl::Status CheckTurn();
  absl::StatusOr<std::string> Call(std::string_view function, std::string_view arguments,
                                   const CallOptions& options);
  absl::StatusOr<std::string> RunCall();
  absl::StatusOr<RunResult> Run(const RunRequest& request);
  absl::Status SetLimits(const CallLimits& limits);
  /// Sends the call once more, for a program that waits again without an answer. Errors: that is
  /// not what it says, or too often.
  absl::Status CallAgain(const ServeRequest& said);
  /// Ends the instance; `reason` is what later calls are told.
  absl::Status Poison(absl::Status reason);
  Usage CurrentUsage() const { return instance ? instance->usage() : last_usage; }

  const std::shared_ptr<const SessionOrigin> origin;
  RunControl control;
  HostSide host;
  std::unique_ptr<Instance> instance;  ///< null once it is poisoned
  std::optional<RunControl::Attachment> attachment;
  std::optional<std::stop_callback<std::function<void()>>> stop;

  std::atomic<std::thread::id> owner{};
  bool in_call = false;
  bool limited = false;              ///< the instance counts down a time limit
  int repeats = 0;                   ///< how often the program asked for this call again
  absl::StatusOr<std::string> call;  ///< the reply that brings it
  absl::Status poison;
  Usage last_usage;
  std::chrono::steady_clock::time_point started;
  std::chrono::nanoseconds setup_time{0};
  std::chrono::nanoseconds teardown_time{0};
};

}  // namespace waxvm

#endif  // WAXVM_SRC_SUPERVISOR_SESSION_STATE_H_
