// SPDX-License-Identifier: Apache-2.0
// call_function GUEST [NAME]: starts a guest once and calls two of its functions, without and with
// a function of this process inside. The guest's side is examples/call_function_guest.c.
#include <iostream>

#include "waxvm/providers.h"
#include "waxvm/session.h"

int main(int argc, char** argv) {
  if (argc < 2) return std::cerr << "call_function GUEST [NAME]\n", 2;
  waxvm::RunOptions options;
  options.limits.wall_time = std::chrono::seconds(5);  // until it is ready
  options.grants = {
      waxvm::Function("title", [](const waxvm::HostCallContext&, std::string_view name) {
        return absl::StatusOr<std::string>("Dr. " + std::string(name));
      })};
  const auto session = waxvm::Session::Start(waxvm::NewMicroVmProvider(),
                                             waxvm::Program::FromFile(argv[1]), options);
  if (!session.ok()) return std::cerr << session.status() << '\n', 1;
  for (const char* function : {"reverse", "greet", "sing"}) {
    const auto result = (*session)->Call(function, argc > 2 ? argv[2] : "world");
    if (result.ok()) std::cout << function << ": " << *result << '\n';
    if (!result.ok()) std::cout << function << ": " << result.status().message() << '\n';
  }
  return (*session)->health().ok() ? 0 : 1;
}
