// SPDX-License-Identifier: Apache-2.0
// The floor that benchmarks of a running machine compare with: kvm_floor.h as benchmark cases.
#ifndef WAXVM_BENCHMARKS_FLOOR_CASES_H_
#define WAXVM_BENCHMARKS_FLOOR_CASES_H_

#include <benchmark/benchmark.h>

namespace waxvm {

/// One trip out of ring 3 and back, on the bare ioctls.
void FloorExit(benchmark::State& state);

/// The same on several threads at once, each with a machine of its own.
void FloorExitOnThreads(benchmark::State& state);

/// `syscall` and the jump back, without an answer.
void FloorSyscall(benchmark::State& state);

}  // namespace waxvm

#endif  // WAXVM_BENCHMARKS_FLOOR_CASES_H_
