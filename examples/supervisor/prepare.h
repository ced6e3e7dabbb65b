// SPDX-License-Identifier: Apache-2.0
// What `waxvm run` and `waxvm call` do before a program starts.
#ifndef WAXVM_EXAMPLES_SUPERVISOR_PREPARE_H_
#define WAXVM_EXAMPLES_SUPERVISOR_PREPARE_H_

#include <memory>
#include <optional>
#include <variant>

#include "absl/status/status.h"
#include "flags.h"
#include "waxvm/program.h"
#include "waxvm/provider.h"
#include "waxvm/root_image.h"

namespace waxvm::cli {

/// Prints the message and returns the code.
int Fail(int exit_code, const absl::Status& status);

/// Whether the provider refuses the program as such, whatever limits and grants it comes with.
bool RefusesProgram(Provider& provider, const Program& program);

struct Prepared {
  std::shared_ptr<Provider> provider;
  Program program;
};

/// The provider, which works here, and the program, from the images where there are some; what
/// these leave open is filled in in `flags`. Otherwise the exit code; why has been said.
std::variant<Prepared, int> PrepareProgram(RunFlags& flags);

}  // namespace waxvm::cli

#endif  // WAXVM_EXAMPLES_SUPERVISOR_PREPARE_H_
