// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/threads.h"

#include <algorithm>
#include <barrier>
#include <chrono>
#include <thread>
#include <vector>

#include "benchmarks/cases.h"

namespace waxvm {
namespace {

using Clock = std::chrono::steady_clock;

// The threads meet so seldom that it does not count.
constexpr int kBatch = 5000;
constexpr std::size_t kMaxTimes = 4'000'000;

struct Worker {
  absl::Status status;
  std::vector<float> times_us;
};

void Work(const OnThread& call, Worker& worker) {
  auto before = Clock::now();
  for (int i = 0; i < kBatch && worker.status.ok(); ++i) {
    worker.status = call();
    const auto after = Clock::now();
    if (worker.times_us.size() < kMaxTimes)
      worker.times_us.push_back(std::chrono::duration<float, std::micro>(after - before).count());
    before = after;
  }
}

void CountTimes(benchmark::State& state, const std::vector<Worker>& workers) {
  std::vector<float> times;
  for (const Worker& worker : workers)
    times.insert(times.end(), worker.times_us.begin(), worker.times_us.end());
  if (times.empty()) return;
  const auto at = [&](double part) {
    const auto place =
        times.begin() + static_cast<std::ptrdiff_t>(part * static_cast<double>(times.size() - 1));
    std::nth_element(times.begin(), place, times.end());
    return static_cast<double>(*place);
  };
  state.counters["p50_us"] = at(0.5);
  state.counters["p99_us"] = at(0.99);
  state.counters["p99_over_p50"] = at(0.99) / at(0.5);
}

}  // namespace

void MeasureOnThreads(benchmark::State& state,
                      const std::function<absl::StatusOr<OnThread>()>& make) {
  std::vector<Worker> workers(kBenchmarkThreads);
  std::barrier meet(kBenchmarkThreads + 1);
  bool done = false;
  std::vector<std::jthread> threads;
  for (Worker& worker : workers)
    threads.emplace_back([&] {
      const absl::StatusOr<OnThread> call = make();
      worker.status = call.status();
      for (;;) {
        meet.arrive_and_wait();
        if (done) return;
        if (call.ok()) Work(*call, worker);
        meet.arrive_and_wait();
      }
    });
  absl::Status status;
  while (status.ok() && state.KeepRunningBatch(kBatch)) {
    meet.arrive_and_wait();
    meet.arrive_and_wait();
    for (const Worker& worker : workers) status.Update(worker.status);
    if (!status.ok()) Skip(state, status);
  }
  done = true;
  meet.arrive_and_wait();
  threads.clear();
  CountTimes(state, workers);
}

}  // namespace waxvm
