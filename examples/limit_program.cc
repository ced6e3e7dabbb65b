// SPDX-License-Identifier: Apache-2.0
// limit_program PROGRAM: runs a program that may not end by itself, and says which bound ended it.
#include <iostream>

#include "waxvm/providers.h"
#include "waxvm/supervisor.h"

using std::chrono_literals::operator""ms;

int main(int argc, char** argv) {
  if (argc < 2) return std::cerr << "limit_program PROGRAM\n", 2;
  waxvm::RunOptions options;
  options.limits = {.memory_bytes = 32 << 20,
                    .wall_time = 500ms,
                    .cpu_time = 400ms,
                    .output_bytes = 64 << 10,
                    .open_files = 16,
                    .processes = 1,
                    .host_calls = 0};
  const auto program = waxvm::Program::FromFile(argv[1]);
  const auto done = waxvm::RunOnce(waxvm::NewMicroVmProvider(), program, options);
  if (!done.ok()) return std::cerr << done.status() << '\n', 1;
  std::cout << OutcomeName(done->outcome);
  if (done->limit) std::cout << ": " << LimitName(*done->limit);
  std::cout << ", " << done->report.output_bytes << " bytes of output\n";
  return done->exit_code;
}
