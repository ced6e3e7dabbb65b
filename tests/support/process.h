// SPDX-License-Identifier: Apache-2.0
// Programs of this machine, run as they are, and what they printed.
#ifndef WAXVM_TESTS_SUPPORT_PROCESS_H_
#define WAXVM_TESTS_SUPPORT_PROCESS_H_

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace waxvm::support {

/// What a program did.
struct Completed {
  int exit_code = -1;  ///< as a shell has it: 128 + n where a signal ended it; -1: never started
  std::string output;
  std::string error;
};

struct StartOptions {
  std::vector<std::string> environment;
  std::string working_folder;  ///< empty: this one
  /// Its own session, every signal at its default: nothing of what this process ignores or blocks.
  bool afresh = false;
};

/// Starts arguments[0], a path, on these descriptors. Errors: -1.
pid_t Start(const std::vector<std::string>& arguments, const StartOptions& options, int input_fd,
            int output_fd, int error_fd);

/// The exit code of a child as a shell has it. One that takes longer than `limit` is killed.
int Wait(pid_t child, std::optional<std::chrono::milliseconds> limit = std::nullopt);

struct RunOptions {
  StartOptions start;
  std::string input;
  int output_fd = -1;  ///< where standard output goes; -1: into Completed
  std::optional<std::chrono::milliseconds> limit;
};

/// Runs arguments[0], a path, to its end. The streams are files in memory, so that no amount of
/// output waits for a reader.
Completed Run(const std::vector<std::string>& arguments, const RunOptions& options);

/// The whole of a file; "" where there is none.
std::string ReadFile(const std::string& path);

}  // namespace waxvm::support

#endif  // WAXVM_TESTS_SUPPORT_PROCESS_H_
