// SPDX-License-Identifier: Apache-2.0
// What does one isolated run cost, from RunOnce to everything freed, next to the physical floor and
// to what people use instead? And does a program inside compute as fast as outside? All in one run,
// so that ratios are fair: absolute times drift with the machine. tools/bench prints the ratios.
#include <benchmark/benchmark.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "benchmarks/cases.h"
#include "benchmarks/kvm_floor.h"
#include "benchmarks/spawn.h"
#include "waxvm/providers.h"

namespace waxvm {
namespace {

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

void RegisterAll() {
  const std::shared_ptr<Provider> micro_vm = NewMicroVmProvider();
  const std::shared_ptr<Provider> process = NewProcessProvider();
  const Limits small = {.memory_bytes = 64 << 20};

  Register("KvmFloor/create_exit_destroy", KvmFloor);
  for (const char* guest : {"true_musl", "true_glibc", "compute"}) {
    const std::string file = std::strcmp(guest, "compute") == 0 ? "compute_musl" : guest;
    Register(std::string("MicroVm/") + guest, [=](benchmark::State& state) {
      MeasureRun(state, {micro_vm, GuestPath(file), {.limits = small}});
    });
  }
  Register("Process/true_musl", [=](benchmark::State& state) {
    MeasureRun(state, {process, GuestPath("true_musl")});
  });
  Register("Process/compute", [=](benchmark::State& state) {
    MeasureRun(state, {process, GuestPath("compute_musl")});
  });
  Register("PosixSpawn/true_musl",
           [](benchmark::State& state) { MeasureSpawn(state, {GuestPath("true_musl")}); });
  Register("PosixSpawn/true_dynamic",
           [](benchmark::State& state) { MeasureSpawn(state, {GuestPath("true_dynamic")}); });
  Register("Bubblewrap/true_musl", [](benchmark::State& state) {
    MeasureSpawn(state, {FindInPath("bwrap"), "--unshare-all", "--ro-bind", "/", "/",
                         GuestPath("true_musl")});
  });
  Register("Native/compute",
           [](benchmark::State& state) { MeasureSpawn(state, {GuestPath("compute_musl")}); });
}

}  // namespace
}  // namespace waxvm

int main(int argc, char** argv) {
  waxvm::RegisterAll();
  return waxvm::RunBenchmarks(argc, argv);
}
