// SPDX-License-Identifier: Apache-2.0
// run_program PROGRAM [ARGUMENTS]: runs an untrusted program in a microVM, with nothing but 64 MiB
// of memory and a second of time.
#include <iostream>

#include "waxvm/providers.h"
#include "waxvm/supervisor.h"

using std::chrono_literals::operator""s;

int main(int argc, char** argv) {
  if (argc < 2) return std::cerr << "run_program PROGRAM [ARGUMENTS]\n", 2;
  waxvm::RunOptions options;
  options.arguments.assign(argv + 2, argv + argc);
  options.limits.memory_bytes = 64 << 20;
  options.limits.wall_time = 1s;
  const auto program = waxvm::Program::FromFile(argv[1]);
  const auto done = waxvm::RunOnce(waxvm::NewMicroVmProvider(), program, options);
  if (!done.ok()) return std::cerr << done.status() << '\n', 1;
  std::cout << done->output;
  std::cerr << done->error_output;
  return done->exit_code;
}
