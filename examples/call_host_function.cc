// SPDX-License-Identifier: Apache-2.0
// call_host_function PROGRAM: grants a guest one function of this process, by name. The guest's
// side is tests/guests/host_call.c.
#include <iostream>

#include "waxvm/providers.h"
#include "waxvm/supervisor.h"

int main(int argc, char** argv) {
  if (argc < 2) return std::cerr << "call_host_function PROGRAM\n", 2;
  const auto greet = [](const waxvm::HostCallContext&,
                        std::string_view name) -> absl::StatusOr<std::string> {
    if (name.size() > 64) return absl::InvalidArgumentError("a name has at most 64 bytes");
    return "hello " + std::string(name);
  };
  waxvm::RunOptions options;
  options.arguments = {"guest"};
  options.grants = {waxvm::Function("greet", greet)};
  const auto program = waxvm::Program::FromFile(argv[1]);
  const auto done = waxvm::RunOnce(waxvm::NewMicroVmProvider(), program, options);
  if (!done.ok()) return std::cerr << done.status() << '\n', 1;
  std::cout << done->output << "host calls: " << done->report.host_calls << '\n';
  return done->exit_code;
}
