// SPDX-License-Identifier: Apache-2.0
// call_pool GUEST: two threads call a guest, each call in a fresh clone of it. The guest's side is
// examples/call_function_guest.c.
#include <atomic>
#include <iostream>
#include <thread>
#include <vector>

#include "waxvm/pool.h"
#include "waxvm/providers.h"

int main(int argc, char** argv) {
  if (argc != 2) return std::cerr << "call_pool GUEST\n", 2;
  waxvm::RunOptions options;
  options.limits.wall_time = std::chrono::seconds(5);  // until it is ready
  const auto session = waxvm::Session::Start(waxvm::NewMicroVmProvider(),
                                             waxvm::Program::FromFile(argv[1]), options);
  if (!session.ok()) return std::cerr << session.status() << '\n', 1;
  auto snapshot = (*session)->TakeSnapshot();
  if (!snapshot.ok()) return std::cerr << snapshot.status() << '\n', 1;
  const auto pool = waxvm::Pool::Create(*std::move(snapshot));
  if (!pool.ok()) return std::cerr << pool.status() << '\n', 1;

  std::atomic<int> good = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 2; ++t)
      threads.emplace_back([&] {
        const waxvm::CallOptions limited = {.limits = {.wall_time = std::chrono::seconds(1)}};
        for (int i = 0; i < 1000; ++i) {
          const auto result = (*pool)->Call("reverse", "desserts", limited);
          if (result.ok() && *result == "stressed") ++good;
        }
      });
  }
  std::cout << good << " of 2000 calls answered\n";
}
