// SPDX-License-Identifier: Apache-2.0
// Answers the system calls that the filter does not decide on its own.
#ifndef WAXVM_SRC_PROVIDER_PROCESS_REFUSALS_H_
#define WAXVM_SRC_PROVIDER_PROCESS_REFUSALS_H_

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "src/base/unique_fd.h"
#include "src/provider_process/syscall_policy.h"
#include "waxvm/access.h"
#include "waxvm/limits.h"

struct seccomp_data;

namespace waxvm::process {

struct RefusalOptions {
  PolicyOptions policy;
  pid_t init = -1;
  /// Threads and processes alive at once.
  std::uint64_t max_tasks = 0;
  std::optional<std::uint64_t> max_descriptors;
  AccessGate* gate = nullptr;
};

/// Serves one seccomp listener. A call that is refused gets its errno and a line in the report. One
/// that starts a process or opens a descriptor is let through while the bound allows it; nothing
/// that is read here lives in the program's memory, so it cannot be changed after the look.
/// Thread safety: none.
class Refusals {
 public:
  Refusals(UniqueFd listener, const RefusalOptions& options);

  /// -1 where there is none, or once every process that used it is gone.
  int fd() const { return listener_.get(); }
  void Close() { listener_.reset(); }
  /// Answers one waiting call, if there is one.
  void Serve();
  /// Whether a process besides the first was ever started.
  bool started_processes() const { return started_processes_; }

 private:
  struct Answer {
    int error = 0;  ///< 0: let it through
  };

  Answer Decide(pid_t task, const seccomp_data& call);
  Answer Refuse(int number);
  Answer Bound(LimitKind limit, int error);
  Answer DecideFork(std::uint64_t flags, int number);
  bool TaskFits();
  Answer DecideOpen(pid_t task, int count);

  UniqueFd listener_;
  RefusalOptions options_;
  std::vector<std::byte> request_;
  std::vector<std::byte> response_;
  std::uint64_t tasks_ = 1;  ///< never less than what is alive
  std::chrono::steady_clock::time_point last_start_{};
  std::chrono::steady_clock::time_point full_until_{};
  bool started_processes_ = false;
};

}  // namespace waxvm::process

#endif  // WAXVM_SRC_PROVIDER_PROCESS_REFUSALS_H_
