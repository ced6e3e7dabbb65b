// SPDX-License-Identifier: Apache-2.0
// What does an idle clone cost in memory, with the kernel's own share counted, and do calls and the
// making of clones get slower with the number of those that are alive? docs/performance.md says
// what is counted. tools/bench prints the figures and draws the curves.
#include <benchmark/benchmark.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <initializer_list>
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

/// A memory cgroup that this process is in while it lives: the kernel charges it for everything
/// that it allocates on the process's behalf, so that nothing else on the machine is in the
/// figures.
class OwnGroup {
 public:
  OwnGroup() {
    std::ifstream file("/proc/self/cgroup");
    for (std::string line; std::getline(file, line) && path_.empty();) {
      const std::size_t colon = line.find(':', line.find(':') + 1);
      const bool first_version = line.find(":memory:") != line.npos;
      if (first_version) TryIn("/sys/fs/cgroup/memory" + line.substr(colon + 1));
      if (line.starts_with("0::")) TryIn("/sys/fs/cgroup" + line.substr(colon + 1));
    }
  }
  ~OwnGroup() {
    if (path_.empty()) return;
    Join(parent_);
    rmdir(path_.c_str());
  }
  OwnGroup(const OwnGroup&) = delete;
  OwnGroup& operator=(const OwnGroup&) = delete;

  bool made() const { return !path_.empty(); }
  /// KiB: everything, and the kernel's own share.
  double all() const { return Read({"memory.usage_in_bytes", "memory.current"}); }
  double kernel() const {
    if (const double kib = Read({"memory.kmem.usage_in_bytes"}); kib > 0) return kib;
    std::ifstream file(path_ + "/memory.stat");
    std::string name;
    for (double bytes = 0; file >> name >> bytes;)
      if (name == "kernel") return bytes / 1024;
    return 0;
  }

 private:
  void TryIn(const std::string& parent) {
    const std::string path = parent + absl::StrFormat("/waxvm-density-%d", getpid());
    if (mkdir(path.c_str(), 0755) != 0) return;
    path_ = path;
    parent_ = parent;
    if (Join(path) && all() >= 0) return;
    Join(parent);
    rmdir(path.c_str());
    path_.clear();
  }
  static bool Join(const std::string& group) {
    std::ofstream file(group + "/cgroup.procs");
    return static_cast<bool>(file << getpid() << std::flush);
  }
  double Read(std::initializer_list<const char*> names) const {
    for (const char* name : names) {
      std::ifstream file(path_ + "/" + name);
      if (double bytes = 0; file >> bytes) return bytes / 1024;
    }
    return -1;
  }

  std::string path_;
  std::string parent_;
};

/// Memory that this process and the kernel for it have, in KiB.
struct Memory {
  explicit Memory(const OwnGroup& group) : all(group.all()), kernel(group.kernel()) {}
  double all;
  double kernel;
  std::map<std::string, double> machine = ReadFigures("/proc/meminfo");
  std::map<std::string, double> process = ReadFigures("/proc/self/smaps_rollup");
};

/// Parts of the kernel's own share that /proc/meminfo names, for the whole machine: what KVM has in
/// slabs, page tables of the process and of guests, stacks of kernel threads, arrays of slots
/// (VmallocUsed, with the stacks).
constexpr const char* kKernelShare[] = {"Slab", "PageTables", "SecPageTables", "KernelStack",
                                        "VmallocUsed"};

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
  const OwnGroup group;
  if (!group.made()) state.SetLabel("no memory cgroup could be made: kib_each is not measured");
  const Memory before(group);
  for (auto _ : state) {
    const auto start = Clock::now();
    if (auto status = MakeClones(*snapshot, count + 1, used, clones); !status.ok())
      return Skip(state, status);
    state.SetIterationTime(std::chrono::duration<double>(Clock::now() - start).count());
  }
  const Memory after(group);
  const auto each = [&](double difference) { return difference / static_cast<double>(count); };
  if (group.made()) {
    state.counters["kib_each"] = each(after.all - before.all);
    state.counters["kib_kernel"] = each(after.kernel - before.kernel);
  }
  for (const char* name : kKernelShare) {
    const auto found = after.machine.find(name);
    if (found == after.machine.end()) continue;
    state.counters[std::string("kib_") + name] = each(found->second - before.machine.at(name));
  }
  for (const char* name : {"Pss", "Private_Dirty"})
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

/// Making thousands of clones takes its time.
template <typename Function>
void RegisterOnce(const std::string& name, std::size_t clones, Function function) {
  Register(name, std::move(function))
      ->UseManualTime()
      ->Iterations(1)
      ->Repetitions(clones > 500 ? 1 : 3);
}

void RegisterAll(const std::shared_ptr<Provider>& provider) {
  Register("KvmFloor/ring3_exit", FloorExit);
  RegisterOnce("Clones/1000_idle", 1000,
               [=](benchmark::State& state) { Idle(state, provider, 1000, 0, true); });
  RegisterOnce("Clones/1000_never_run", 1000,
               [=](benchmark::State& state) { Idle(state, provider, 1000, 0, false); });
  RegisterOnce("Clones/100_idle_of_64MiB_written", 100, [=](benchmark::State& state) {
    Idle(state, provider, 100, kGuestMemoryBytes, true);
  });
  for (const std::size_t count : {1, 10, 100, 500, 1000, 2000}) {
    RegisterOnce(absl::StrFormat("Call/of_%d", count), count,
                 [=](benchmark::State& state) { CallOneOf(state, provider, count); });
    RegisterOnce(absl::StrFormat("Make/of_%d", count), count,
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
