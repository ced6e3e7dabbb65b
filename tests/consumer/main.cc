// SPDX-License-Identifier: Apache-2.0
#include <iostream>

#include "waxvm/native.h"
#include "waxvm/providers.h"
#include "waxvm/supervisor.h"

int main() {
  // Naming every provider links every module, with what it needs from outside.
  const auto providers = {waxvm::NewProcessProvider(), waxvm::NewMicroVmProvider()};
  for (const auto& provider : providers)
    std::cout << provider->info().name << ": " << provider->Available() << '\n';

  const auto program = waxvm::Program::FromFunction("hello", [](waxvm::NativeContext& context) {
    return context.WriteOutput("hello from a consumer\n").ok() ? 42 : 1;
  });
  const auto result = waxvm::RunOnce(waxvm::NewMockProvider(), program);
  if (!result.ok()) {
    std::cerr << result.status() << '\n';
    return 1;
  }
  std::cout << result->output;
  return result->exit_code == 42 && result->output == "hello from a consumer\n" ? 0 : 1;
}
