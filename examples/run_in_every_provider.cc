// SPDX-License-Identifier: Apache-2.0
// run_in_every_provider PROGRAM: the same file under each boundary that works on this machine.
#include <iostream>

#include "waxvm/providers.h"
#include "waxvm/supervisor.h"

int main(int argc, char** argv) {
  if (argc < 2) return std::cerr << "run_in_every_provider PROGRAM\n", 2;
  const auto program = waxvm::Program::FromFile(argv[1]);
  for (const auto& provider : {waxvm::NewProcessProvider(), waxvm::NewMicroVmProvider()}) {
    const waxvm::ProviderInfo info = provider->info();
    std::cout << info.name << ": ";
    const auto done = waxvm::RunOnce(provider, program);
    if (absl::IsUnavailable(done.status())) {
      std::cout << "not available: " << done.status().message() << '\n';
    } else if (!done.ok()) {
      return std::cerr << done.status() << '\n', 1;
    } else {
      std::cout << "exit code " << done->exit_code << ", output:\n" << done->output;
    }
  }
}
