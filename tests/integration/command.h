// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_TESTS_INTEGRATION_COMMAND_H_
#define WAXVM_TESTS_INTEGRATION_COMMAND_H_

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/process.h"

namespace waxvm::integration {

using support::Completed;
using support::ReadFile;
using support::Wait;

struct CommandOptions {
  std::string input;
  std::string working_folder;  ///< empty: this one
  int output_fd = -1;          ///< where standard output goes; -1: into Completed
};

/// Runs argv[0], a path, to its end, with an environment of one variable that nothing may inherit.
Completed RunCommand(const std::vector<std::string>& arguments, const CommandOptions& options = {});

/// The same in the background; Wait gives its exit code.
pid_t StartCommand(const std::vector<std::string>& arguments, int input_fd, int output_fd,
                   int error_fd, const std::string& working_folder = "");

/// `waxvm run --provider=PROVIDER FLAGS -- PROGRAM`.
std::vector<std::string> WaxvmRun(const std::string& provider,
                                  const std::vector<std::string>& flags,
                                  const std::vector<std::string>& program);

std::string Guest(const std::string& name);

/// Empty where the provider works here, otherwise its own reason.
std::string WhyNot(const std::string& provider);

/// The members of a JSON object, each value as its own text; empty where `text` is none. Checks
/// the syntax of everything inside.
std::optional<std::map<std::string, std::string>> ParseJsonObject(std::string_view text);

}  // namespace waxvm::integration

#endif  // WAXVM_TESTS_INTEGRATION_COMMAND_H_
