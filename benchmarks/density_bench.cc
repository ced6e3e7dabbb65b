// SPDX-License-Identifier: Apache-2.0
// What does an idle clone cost in memory, with the kernel's own share counted, and do calls and the
// making of clones get slower with the number of those that are alive? docs/performance.md says
// what is counted. tools/bench prints the figures and draws the curves.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "benchmarks/cases.h"
#include "benchmarks/floor_cases.h"
#include "waxvm/providers.h"
#include "waxvm/session.h"

namespace waxvm {
namespace {

using Clock = std::chrono::steady_clock;
using Clones = std::vector<std::unique_ptr<Session>>;

constexpr std::uint64_t kGuestMemoryBytes = std::uint64_t{64} << 20;

/// The figures of a file of /proc in the form "Name: 123 kB".
std::map<std::string, double> ReadFigures(const char* path) {
  std::map<std::string, double> figures;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (colon != line.npos) figures[line.substr(0, colon)] = std::atof(line.c_str() + colon + 1);
  }
  return figures;
}

/// Memory of the whole machine and of this process, in KiB.
struct Memory {
  std::map<std::string, double> machine = ReadFigures("/proc/meminfo");
  std::map<std::string, double> process = ReadFigures("/proc/self/smaps_rollup");
};

/// The kernel's own share, as far as /proc/meminfo names it; what the slab allocator has is where
/// KVM keeps its structures, Vmalloc its arrays for memory slots.
constexpr const char* kKernelShare[] = {"Slab",        "PageTables", "SecPageTables",
                                        "KernelStack", "Percpu",     "VmallocUsed"};

/// A session whose program has written to `bytes` of its memory before it was ready for calls.
absl::StatusOr<Snapshot> Take(const std::shared_ptr<Provider>& provider, std::uint64_t bytes) {
  RunOptions options;
  options.limits.memory_bytes = kGuestMemoryBytes + (bytes != 0 ? kGuestMemoryBytes / 8 : 0);
  auto session = Session::Start(provider, Program::FromFile(GuestPath("call_bench_musl")), options);
  if (!session.ok()) return session.status();
  if (bytes != 0)
    if (auto held = (*session)->Call("hold", std::to_string(bytes)); !held.ok())
      return held.status();
  if (auto warm = (*session)->Call("noop", ""); !warm.ok()) return warm.status();
  return (*session)->TakeSnapshot();
}

absl::Status MakeClones(const Snapshot& snapshot, std::size_t count, bool used, Clones& clones,
                        std::vector<double>* times_us = nullptr) {
  while (clones.size() < count) {
    const auto start = Clock::now();
    auto clone = snapshot.Clone();
    if (!clone.ok()) return clone.status();
    if (times_us != nullptr)
      times_us->push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
    if (used) {
      if (auto result = (*clone)->Call("noop", ""); !result.ok()) return result.status();
      if (absl::Status status = (*clone)->Reset(); !status.ok()) return status;
    }
    clones.push_back(*std::move(clone));
  }
  return absl::OkStatus();
}

/// `count` clones at rest. `used`: each has answered a call and was put back.
void Idle(benchmark::State& state, const std::shared_ptr<Provider>& provider, std::size_t count,
          std::uint64_t bytes, bool used) {
  const auto snapshot = Take(provider, bytes);
  if (!snapshot.ok()) return Skip(state, snapshot.status());
  Clones clones;
  clones.reserve(count);
  // What the first one brings along is not each one's.
  if (auto status = MakeClones(*snapshot, 1, used, clones); !status.ok())
    return Skip(state, status);
  const Memory before;
  for (auto _ : state) {
    const auto start = Clock::now();
    if (auto status = MakeClones(*snapshot, count + 1, used, clones); !status.ok())
      return Skip(state, status);
    state.SetIterationTime(std::chrono::duration<double>(Clock::now() - start).count());
  }
  const Memory after;
  const auto each = [&](double difference) { return difference / static_cast<double>(count); };
  state.counters["kib_each"] =
      each(before.machine.at("MemAvailable") - after.machine.at("MemAvailable"));
  double kernel = 0;
  for (const char* name : kKernelShare) {
    const auto found = after.machine.find(name);
    if (found == after.machine.end()) continue;
    const double difference = each(found->second - before.machine.at(name));
    state.counters[std::string("kib_") + name] = difference;
    kernel += difference;
  }
  state.counters["kib_kernel"] = kernel;
  for (const char* name : {"Pss", "Pss_Anon", "Private_Dirty"})
    if (after.process.contains(name))
      state.counters[std::string("kib_") + name] =
          each(after.process.at(name) - before.process.at(name));
  double resident = 0, own = 0;
  for (const auto& clone : clones)
    if (const auto memory = clone->memory()) {
      resident += static_cast<double>(memory->resident_bytes) / 1024;
      own += static_cast<double>(memory->private_bytes) / 1024;
    }
  state.counters["kib_private"] = each(own);
  state.counters["kib_resident"] = each(resident);
}

void CountQuantiles(benchmark::State& state, std::vector<double> times_us) {
  std::ranges::sort(times_us);
  const auto at = [&](double part) {
    return times_us[static_cast<std::size_t>(part * static_cast<double>(times_us.size() - 1))];
  };
  state.counters["p50_us"] = at(0.5);
  state.counters["p99_us"] = at(0.99);
}

/// Calls, each in one of `count` clones that is picked at random, and put back.
void CallOneOf(benchmark::State& state, const std::shared_ptr<Provider>& provider,
               std::size_t count) {
  constexpr int kCalls = 4000;
  const auto snapshot = Take(provider, 0);
  if (!snapshot.ok()) return Skip(state, snapshot.status());
  Clones clones;
  if (auto status = MakeClones(*snapshot, count, /*used=*/true, clones); !status.ok())
    return Skip(state, status);
  std::minstd_rand random(1);
  std::vector<double> times_us;
  for (auto _ : state) {
    for (int i = 0; i < kCalls; ++i) {
      Session& clone = *clones[random() % count];
      const auto start = Clock::now();
      if (auto result = clone.Call("noop", ""); !result.ok()) return Skip(state, result.status());
      if (absl::Status status = clone.Reset(); !status.ok()) return Skip(state, status);
      times_us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
    }
    double sum = 0;
    for (const double time : times_us) sum += time;
    state.SetIterationTime(sum / 1e6 / kCalls);
  }
  CountQuantiles(state, std::move(times_us));
}

/// Clones made while `count` others are alive.
void MakeBeside(benchmark::State& state, const std::shared_ptr<Provider>& provider,
                std::size_t count) {
  constexpr std::size_t kMade = 100;
  const auto snapshot = Take(provider, 0);
  if (!snapshot.ok()) return Skip(state, snapshot.status());
  Clones clones;
  if (auto status = MakeClones(*snapshot, count, /*used=*/false, clones); !status.ok())
    return Skip(state, status);
  std::vector<double> times_us;
  for (auto _ : state) {
    while (times_us.size() < kMade) {
      if (auto status = MakeClones(*snapshot, count + 1, false, clones, &times_us); !status.ok())
        return Skip(state, status);
      clones.pop_back();
    }
    double sum = 0;
    for (const double time : times_us) sum += time;
    state.SetIterationTime(sum / 1e6 / static_cast<double>(times_us.size()));
  }
  CountQuantiles(state, std::move(times_us));
}

template <typename Function>
void RegisterOnce(const std::string& name, Function function) {
  constexpr int kRepetitions = 3;
  Register(name, std::move(function))->UseManualTime()->Iterations(1)->Repetitions(kRepetitions);
}

void RegisterAll(const std::shared_ptr<Provider>& provider) {
  Register("KvmFloor/ring3_exit", FloorExit);
  RegisterOnce("Clones/1000_idle",
               [=](benchmark::State& state) { Idle(state, provider, 1000, 0, true); });
  RegisterOnce("Clones/1000_never_run",
               [=](benchmark::State& state) { Idle(state, provider, 1000, 0, false); });
  RegisterOnce("Clones/100_idle_of_64MiB_written", [=](benchmark::State& state) {
    Idle(state, provider, 100, kGuestMemoryBytes, true);
  });
  for (const std::size_t count : {1, 10, 100, 500, 1000, 2000}) {
    RegisterOnce(absl::StrFormat("Call/of_%d", count),
                 [=](benchmark::State& state) { CallOneOf(state, provider, count); });
    RegisterOnce(absl::StrFormat("Make/of_%d", count),
                 [=](benchmark::State& state) { MakeBeside(state, provider, count); });
  }
}

}  // namespace
}  // namespace waxvm

int main(int argc, char** argv) {
  // Three descriptors a clone.
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  waxvm::RegisterAll(waxvm::NewMicroVmProvider());
  return waxvm::RunBenchmarks(argc, argv);
}
