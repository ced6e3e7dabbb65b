// SPDX-License-Identifier: Apache-2.0
// Starts sandboxes and ends them.
#ifndef WAXVM_SRC_PROVIDER_PROCESS_LAUNCH_H_
#define WAXVM_SRC_PROVIDER_PROCESS_LAUNCH_H_

#include <linux/filter.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "src/base/unique_fd.h"
#include "src/provider_process/input_pump.h"
#include "src/provider_process/sandbox.h"
#include "waxvm/provider.h"

namespace waxvm::process {

/// Pid 1 of an instance's pid namespace: its end is the end of everything inside. Move-only. It is
/// a child of the embedder, who gets a SIGCHLD for it like for any other.
class InitProcess {
 public:
  InitProcess() = default;
  InitProcess(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  InitProcess(InitProcess&&) = default;
  InitProcess& operator=(InitProcess&&) = delete;
  /// Kills and waits.
  ~InitProcess();

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }
  void Kill();
  /// Waits until no process is left inside. Blocks.
  void Wait();

 private:
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  bool reaped_ = false;
};

/// What a provider has in common for all instances.
struct HostFacts {
  UniqueFd stage;  ///< sealed memfd of the stage program
  std::uint32_t landlock_abi = 0;
  bool notifications = false;  ///< seccomp user notification
};

/// Probes the kernel and unpacks the stage program.
absl::StatusOr<HostFacts> ProbeHost();

struct LaunchRequest {
  const InstanceSpec* spec = nullptr;  ///< null: a probe, without a program
  const HostFacts* host = nullptr;
  const std::vector<sock_filter>* filter = nullptr;
  std::vector<wx_rlimit> rlimits;
  std::uint64_t root_bytes = 0;
  bool root_wanted = false;  ///< Sandbox::root is measured
  int cgroup = -1;
};

/// A sandbox whose program waits for StartProgram. The descriptors are the embedder's ends.
struct Sandbox {
  InitProcess init;
  UniqueFd control;
  UniqueFd output;
  UniqueFd error;
  UniqueFd host_call;
  UniqueFd listener;
  UniqueFd root;  ///< of the in-memory file system, where it was wanted
  InputPump input;
};

/// Builds a sandbox. Errors: as setup_error.h; kAborted when it died without a word.
absl::StatusOr<Sandbox> Launch(const LaunchRequest& request);

/// Lets the program run.
absl::Status StartProgram(const Sandbox& sandbox);

/// The next report on the control socket, if one is there.
std::optional<wx_report> ReceiveReport(int control, UniqueFd* descriptor = nullptr);

}  // namespace waxvm::process

#endif  // WAXVM_SRC_PROVIDER_PROCESS_LAUNCH_H_
