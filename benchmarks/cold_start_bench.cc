// SPDX-License-Identifier: Apache-2.0
// What does one isolated run cost, from RunOnce to everything freed, next to the physical floor and
// to what people use instead? And does a program inside compute as fast as outside? All in one run,
// so that ratios are fair: absolute times drift with the machine. tools/bench prints the ratios.
#include <benchmark/benchmark.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "benchmarks/kvm_floor.h"
#include "benchmarks/spawn.h"
#include "waxvm/providers.h"
#include "waxvm/supervisor.h"

namespace waxvm {
namespace {

std::string GuestPath(const std::string& name) {
  const char* folder = std::getenv("WAXVM_GUEST_DIR");
  return (folder != nullptr ? std::string(folder) : WAXVM_GUEST_DIR) + "/" + name;
}

void KvmFloor(benchmark::State& state) {
  const char* step = nullptr;
  const std::unique_ptr<kvm_floor, void (*)(kvm_floor*)> floor(kvm_floor_open(&step),
                                                               kvm_floor_close);
  if (floor == nullptr) {
    state.SkipWithError((std::string(step) + ": " + std::strerror(errno)).c_str());
    return;
  }
  for (auto _ : state) {
    if (const char* failed = kvm_floor_run(floor.get())) {
      state.SkipWithError((std::string(failed) + ": " + std::strerror(errno)).c_str());
      return;
    }
  }
}

/// One run of `guest` per iteration, everything about it made and freed within.
void Run(benchmark::State& state, const std::shared_ptr<Provider>& provider, const Limits& limits,
         const std::string& guest) {
  const absl::StatusOr<Program> program = Program::FromFile(GuestPath(guest));
  absl::Status status = program.ok() ? provider->Available() : program.status();
  RunOptions options;
  options.limits = limits;
  if (!status.ok()) state.SkipWithError(status.ToString().c_str());
  for (auto _ : state) {
    absl::StatusOr<RunResult> result = RunOnce(provider, program, options);
    if (result.ok() && result->outcome == Outcome::kExited && result->exit_code == 0) continue;
    state.SkipWithError(result.ok() ? "the guest failed" : result.status().ToString().c_str());
    return;
  }
}

void Spawn(benchmark::State& state, const std::vector<std::string>& arguments) {
  if (arguments[0].empty()) state.SkipWithError("the program is not installed");
  for (auto _ : state) {
    if (absl::Status status = SpawnAndWait(arguments); !status.ok()) {
      state.SkipWithError(status.ToString().c_str());
      return;
    }
  }
}

template <typename Function>
void Register(const char* name, Function function) {
  benchmark::RegisterBenchmark(name, std::move(function))->Unit(benchmark::kMicrosecond);
}

void RegisterAll() {
  const std::shared_ptr<Provider> micro_vm = NewMicroVmProvider();
  const std::shared_ptr<Provider> process = NewProcessProvider();
  const Limits small = {.memory_bytes = 64 << 20};

  Register("KvmFloor/create_exit_destroy", KvmFloor);
  for (const char* guest : {"true_musl", "true_glibc", "compute"}) {
    const std::string file = std::strcmp(guest, "compute") == 0 ? "compute_musl" : guest;
    Register((std::string("MicroVm/") + guest).c_str(),
             [=](benchmark::State& state) { Run(state, micro_vm, small, file); });
  }
  Register("Process/true_musl",
           [=](benchmark::State& state) { Run(state, process, {}, "true_musl"); });
  Register("Process/compute",
           [=](benchmark::State& state) { Run(state, process, {}, "compute_musl"); });
  Register("PosixSpawn/true_musl",
           [](benchmark::State& state) { Spawn(state, {GuestPath("true_musl")}); });
  Register("PosixSpawn/true_dynamic",
           [](benchmark::State& state) { Spawn(state, {GuestPath("true_dynamic")}); });
  Register("Bubblewrap/true_musl", [](benchmark::State& state) {
    Spawn(state,
          {FindInPath("bwrap"), "--unshare-all", "--ro-bind", "/", "/", GuestPath("true_musl")});
  });
  Register("Native/compute",
           [](benchmark::State& state) { Spawn(state, {GuestPath("compute_musl")}); });
}

}  // namespace
}  // namespace waxvm

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  waxvm::RegisterAll();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
