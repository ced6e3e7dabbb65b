// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_PROVIDER_PROCESS_PROCESS_INSTANCE_H_
#define WAXVM_SRC_PROVIDER_PROCESS_PROCESS_INSTANCE_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "src/base/unique_fd.h"
#include "src/provider_process/host_call_channel.h"
#include "src/provider_process/launch.h"
#include "src/provider_process/memory_cgroup.h"
#include "src/provider_process/output_pump.h"
#include "src/provider_process/process_tree.h"
#include "src/provider_process/refusals.h"
#include "waxvm/provider.h"

namespace waxvm::process {

/// One sandboxed process tree, driven by a poll loop in the thread that calls Resume.
/// Thread safety: as Instance.
class ProcessInstance final : public Instance {
 public:
  struct Parts {
    std::optional<MemoryCgroup> cgroup;
    UniqueFd stop;  ///< eventfd
    Limits limits;  ///< processes filled in
    PolicyOptions policy;
  };

  ProcessInstance(const InstanceSpec& spec, Sandbox sandbox, Parts parts);

  absl::StatusOr<Event> Resume() override;
  absl::Status CompleteHostCall(const absl::StatusOr<std::string>& reply) override;
  void Stop() override;
  Usage usage() const override;
  absl::Status RestartLimits(const CallLimits& limits) override;

 private:
  using Clock = std::chrono::steady_clock;
  enum class State { kCreated, kRunning, kEnded };
  struct Ready;

  absl::StatusOr<std::optional<Event>> Step();
  absl::StatusOr<Ready> Poll();
  std::optional<Event> CheckLimits();
  std::optional<Event> Sample(Clock::time_point now);
  absl::StatusOr<std::optional<Event>> TakeReport();
  absl::StatusOr<Event> OnExit(const wx_report& report);
  absl::StatusOr<Event> OnSilentEnd();
  /// Kills everything, delivers what was written before, and keeps the figures.
  absl::StatusOr<Event> End(Event event);
  void KillAndMeasure();
  /// Looks at the processes and, where no cgroup bounds it, at the memory.
  std::optional<TreeSample> Look();
  void SetPeak(std::optional<std::uint64_t> of_first_process);
  absl::Status Deliver();
  bool MemoryExhausted(bool failed) const;

  // Declared first, destroyed last: its processes must be gone before a cgroup can be removed.
  std::optional<MemoryCgroup> cgroup_;
  Limits limits_;
  Sandbox sandbox_;
  UniqueFd stop_;
  std::atomic<bool> stop_requested_{false};
  State state_ = State::kCreated;
  OutputPump output_;
  HostCallChannel host_calls_;
  Refusals refusals_;
  Clock::time_point started_;               ///< when the wall time began to count
  std::chrono::nanoseconds cpu_before_{0};  ///< CPU time used before the limit began to count
  Clock::time_point next_sample_;
  bool samples_memory_;
  bool control_open_ = true;
  std::uint64_t sampled_peak_bytes_ = 0;
  Usage usage_;
};

}  // namespace waxvm::process

#endif  // WAXVM_SRC_PROVIDER_PROCESS_PROCESS_INSTANCE_H_
