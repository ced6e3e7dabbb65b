// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_EXAMPLES_SUPERVISOR_SIGNALS_H_
#define WAXVM_EXAMPLES_SUPERVISOR_SIGNALS_H_

#include <stop_token>
#include <thread>

namespace waxvm::cli {

/// While it lives, the first SIGINT, SIGTERM or SIGHUP asks the run to stop and a second one ends
/// the command at once; SIGPIPE is ignored. One at a time in a process.
class StopOnSignal {
 public:
  StopOnSignal();
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;
  ~StopOnSignal();

  std::stop_source& source() { return source_; }
  /// The signal that asked, or 0.
  int signal() const;

 private:
  std::stop_source source_;
  int pipe_[2] = {-1, -1};
  std::thread watcher_;
};

}  // namespace waxvm::cli

#endif  // WAXVM_EXAMPLES_SUPERVISOR_SIGNALS_H_
