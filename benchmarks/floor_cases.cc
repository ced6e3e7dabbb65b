// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/floor_cases.h"

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "benchmarks/cases.h"
#include "benchmarks/kvm_floor.h"
#include "benchmarks/threads.h"

namespace waxvm {
namespace {

void SkipFloor(benchmark::State& state, const char* step) {
  Skip(state, absl::UnavailableError(absl::StrFormat("%s: %s", step, std::strerror(errno))));
}

using Floor = std::unique_ptr<kvm_floor, void (*)(kvm_floor*)>;

Floor StartFloor(benchmark::State& state) {
  const char* failed = nullptr;
  Floor floor(kvm_floor_open(&failed), kvm_floor_close);
  if (floor != nullptr) failed = kvm_floor_start(floor.get());
  if (failed != nullptr) SkipFloor(state, failed);
  return floor;
}

}  // namespace

void FloorExit(benchmark::State& state) {
  const Floor floor = StartFloor(state);
  for (auto _ : state)
    if (const char* failed = kvm_floor_exit(floor.get())) return SkipFloor(state, failed);
}

void FloorExitOnThreads(benchmark::State& state) {
  MeasureOnThreads(state, []() -> absl::StatusOr<OnThread> {
    const char* failed = nullptr;
    std::shared_ptr<kvm_floor> floor(kvm_floor_open(&failed), kvm_floor_close);
    if (floor != nullptr) failed = kvm_floor_start(floor.get());
    if (failed != nullptr) return absl::UnavailableError(failed);
    return [floor] {
      const char* step = kvm_floor_exit(floor.get());
      return step == nullptr ? absl::OkStatus() : absl::UnavailableError(step);
    };
  });
}

void FloorSyscall(benchmark::State& state) {
  constexpr unsigned kCalls = 20000;
  const Floor floor = StartFloor(state);
  while (state.KeepRunningBatch(kCalls))
    if (const char* failed = kvm_floor_syscalls(floor.get(), kCalls))
      return SkipFloor(state, failed);
}

}  // namespace waxvm
