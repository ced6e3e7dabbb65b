// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_SUPERVISOR_HOST_SIDE_H_
#define WAXVM_SRC_SUPERVISOR_HOST_SIDE_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "src/capability/grant_set.h"
#include "src/supervisor/instance_identity.h"
#include "src/supervisor/run_control.h"
#include "src/supervisor/run_gate.h"
#include "waxvm/supervisor.h"

namespace waxvm {

/// What stands around one instance: its gate, the place of its output, and the answers to its host
/// calls. Thread safety: none, except that others stop it through its RunControl.
class HostSide {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  /// All of them must outlive it.
  HostSide(const GrantSet& grants, const Authorizer& authorizer, const RunOptions& options,
           const RunControl& control);
  ~HostSide();
  HostSide(const HostSide&) = delete;
  HostSide& operator=(const HostSide&) = delete;

  /// Makes itself the gate and the output of `spec`, whose limits are set.
  void Surround(InstanceSpec& spec);

  /// What follows has `limit` from now on; empty: no limit.
  void StartClock(std::optional<std::chrono::nanoseconds> limit);

  /// Makes the instance somebody new, where the options say that it is somebody; who it was before
  /// has ended. Blocks and errors: as InstanceIdentity::Make.
  absl::Status GiveIdentity();
  /// Renews the advert of a running instance where that is due.
  void RenewIdentity();
  void EndIdentity();
  /// Whether the program knows a private key, which no other instance may have.
  bool HoldsPrivateKey() const;

  /// Answers a host call; an event instead where the run has to end.
  absl::StatusOr<std::optional<Event>> Serve(Instance& instance, const HostCallRequest& call);

  /// Fills in what was used and refused.
  void FillReport(const ProviderInfo& info, const Usage& usage, Report& report) const;
  /// Forgets what was used, refused and collected.
  void StartAnew();

  /// What was collected; taken away by the caller where it likes.
  std::string& output() { return output_; }
  std::string& error_output() { return error_output_; }

 private:
  absl::Status Write(Stream stream, std::string_view data);
  absl::StatusOr<std::string> CallFunction(const HostCallRequest& call) const;
  absl::StatusOr<std::string> Ask(const HostCallRequest& call) const;

  const GrantSet& grants_;
  const RunOptions& options_;
  const RunControl& control_;
  RunGate gate_;
  std::optional<TimePoint> deadline_;
  std::uint64_t collected_bound_bytes_ = 0;
  std::shared_ptr<InstanceIdentity> identity_;
  std::uint64_t host_calls_ = 0;
  std::string output_;
  std::string error_output_;
};

}  // namespace waxvm

#endif  // WAXVM_SRC_SUPERVISOR_HOST_SIDE_H_
