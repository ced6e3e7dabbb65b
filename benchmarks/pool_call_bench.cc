// SPDX-License-Identifier: Apache-2.0
// What does a call into a microVM cost, with a state of its own for each? Next to the floor of one
// trip out of ring 3 and back, without which no call returns, all in one run, so that ratios are
// fair. tools/bench prints the ratios.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "benchmarks/cases.h"
#include "benchmarks/floor_cases.h"
#include "benchmarks/spawn.h"
#include "benchmarks/threads.h"
#include "waxvm/pool.h"
#include "waxvm/providers.h"
#include "waxvm/session.h"

namespace waxvm {
namespace {

using Clock = std::chrono::steady_clock;

/// A ready instance of the guest, and a snapshot of it; made when first asked for.
class Ready {
 public:
  explicit Ready(std::shared_ptr<Provider> provider) : provider_(std::move(provider)) {}

  static RunOptions Options() {
    RunOptions options;
    options.grants = {
        Function("noop", [](const HostCallContext&, std::string_view) { return std::string(); })};
    options.limits.memory_bytes = std::uint64_t{64} << 20;
    return options;
  }
  static absl::StatusOr<Program> Guest() { return Program::FromFile(GuestPath("call_bench_musl")); }
  absl::StatusOr<std::unique_ptr<Session>> Start() const {
    return Session::Start(provider_, Guest(), Options());
  }
  /// Of an instance that has answered a call, so that what every call touches is there.
  absl::StatusOr<Snapshot> Take() const {
    absl::StatusOr<std::unique_ptr<Session>> session = Start();
    if (!session.ok()) return session.status();
    if (auto warm = (*session)->Call("noop", ""); !warm.ok()) return warm.status();
    return (*session)->TakeSnapshot();
  }
  absl::StatusOr<std::unique_ptr<Session>> Clone() const {
    absl::StatusOr<Snapshot> snapshot = Take();
    if (!snapshot.ok()) return snapshot.status();
    return snapshot->Clone();
  }

  const std::shared_ptr<Provider>& provider() const { return provider_; }

 private:
  std::shared_ptr<Provider> provider_;
};

void CallNoop(benchmark::State& state, const Ready& ready) {
  const auto session = ready.Start();
  if (!session.ok()) return Skip(state, session.status());
  for (auto _ : state)
    if (auto result = (*session)->Call("noop", ""); !result.ok())
      return Skip(state, result.status());
  const auto exits = (*session)->report().vm_exits.value_or(0);
  state.counters["exits_per_call"] =
      static_cast<double>(exits) / static_cast<double>(state.iterations());
}

/// One host call per iteration; the call around them is one exit in a thousand.
void HostCall(benchmark::State& state, const Ready& ready) {
  constexpr int kCalls = 1000;
  const auto session = ready.Start();
  if (!session.ok()) return Skip(state, session.status());
  while (state.KeepRunningBatch(kCalls))
    if (auto result = (*session)->Call("host", std::to_string(kCalls)); !result.ok())
      return Skip(state, result.status());
}

/// A call that writes to so many pages, and the way back to the snapshot.
void CallAndReset(benchmark::State& state, const Ready& ready, int pages) {
  const auto session = ready.Clone();
  if (!session.ok()) return Skip(state, session.status());
  const std::string count = std::to_string(pages);
  for (auto _ : state) {
    if (auto result = (*session)->Call("dirty", count); !result.ok())
      return Skip(state, result.status());
    if (absl::Status status = (*session)->Reset(); !status.ok()) return Skip(state, status);
  }
}

/// The first call of a clone that has never run. Making and freeing it is not in the time.
void FirstCall(benchmark::State& state, const Ready& ready, bool prepared) {
  const auto snapshot = ready.Take();
  if (!snapshot.ok()) return Skip(state, snapshot.status());
  for (auto _ : state) {
    const auto clone = snapshot->Clone();
    if (!clone.ok()) return Skip(state, clone.status());
    if (prepared && !(*clone)->Prepare().ok()) return Skip(state, (*clone)->health());
    const auto start = Clock::now();
    if (auto result = (*clone)->Call("noop", ""); !result.ok()) return Skip(state, result.status());
    state.SetIterationTime(std::chrono::duration<double>(Clock::now() - start).count());
  }
}

/// Making a clone and freeing it.
void MakeClone(benchmark::State& state, const Ready& ready) {
  const auto snapshot = ready.Take();
  if (!snapshot.ok()) return Skip(state, snapshot.status());
  for (auto _ : state)
    if (const auto clone = snapshot->Clone(); !clone.ok()) return Skip(state, clone.status());
}

/// A clone that is ready for its first call, freed while the time stands still.
template <typename TakeSnapshot>
void Restore(benchmark::State& state, TakeSnapshot take_snapshot) {
  for (auto _ : state) {
    const auto start = Clock::now();
    const absl::StatusOr<Snapshot> snapshot = take_snapshot();
    if (!snapshot.ok()) return Skip(state, snapshot.status());
    const auto clone = snapshot->Clone();
    if (!clone.ok()) return Skip(state, clone.status());
    state.SetIterationTime(std::chrono::duration<double>(Clock::now() - start).count());
  }
}

void RestoreMemory(benchmark::State& state, const Ready& ready) {
  const absl::StatusOr<Snapshot> snapshot = ready.Take();
  Restore(state, [&] { return snapshot; });
}

/// From a file that the page cache has.
void RestoreFile(benchmark::State& state, const Ready& ready) {
  const std::string path = absl::StrFormat("/tmp/waxvm-snapshot-bench-%d", ::getpid());
  const absl::StatusOr<Snapshot> snapshot = ready.Take();
  if (!snapshot.ok()) return Skip(state, snapshot.status());
  if (const absl::Status saved = snapshot->Save(path); !saved.ok()) return Skip(state, saved);
  const absl::StatusOr<Program> program = Ready::Guest();
  Restore(state, [&] { return Snapshot::Load(ready.provider(), program, Ready::Options(), path); });
  ::unlink(path.c_str());
}

absl::StatusOr<std::unique_ptr<Pool>> MakePool(const Ready& ready, bool fresh_state) {
  absl::StatusOr<Snapshot> snapshot = ready.Take();
  if (!snapshot.ok()) return snapshot.status();
  return Pool::Create(*std::move(snapshot), {.fresh_state = fresh_state});
}

/// One caller.
void CallPool(benchmark::State& state, const Ready& ready, bool fresh_state) {
  const auto pool = MakePool(ready, fresh_state);
  if (!pool.ok()) return Skip(state, pool.status());
  for (auto _ : state)
    if (auto result = (*pool)->Call("noop", ""); !result.ok()) return Skip(state, result.status());
}

void CallPoolOnThreads(benchmark::State& state, const Ready& ready, bool fresh_state) {
  const auto pool = MakePool(ready, fresh_state);
  if (!pool.ok()) return Skip(state, pool.status());
  MeasureOnThreads(state, [&]() -> absl::StatusOr<OnThread> {
    return [&] { return (*pool)->Call("noop", "").status(); };
  });
}

/// Options for a whole program in a pool. A dynamic one finds its libraries in the host's folders.
RunOptions ProgramOptions(bool dynamic) {
  RunOptions options;
  options.limits.memory_bytes = std::uint64_t{64} << 20;
  if (dynamic) options.grants = {Files("/", "/", Rights::kReadOnly)};
  return options;
}

/// A program from its first instruction to its end in a warm pool, with a state of its own.
void RunInPool(benchmark::State& state, const std::shared_ptr<Provider>& provider,
               const std::string& path, const RunOptions& options) {
  auto start = Snapshot::OfStart(provider, Program::FromFile(path), options);
  if (!start.ok()) return Skip(state, start.status());
  const auto pool = Pool::Create(*std::move(start));
  if (!pool.ok()) return Skip(state, pool.status());
  double exits = 0;
  for (auto _ : state) {
    const absl::StatusOr<RunResult> result = (*pool)->Run({.arguments = {"one"}});
    if (!result.ok()) return Skip(state, result.status());
    if (result->outcome != Outcome::kExited || result->exit_code != 0)
      return Skip(state, absl::InternalError("the program did not end well"));
    exits += static_cast<double>(result->report.vm_exits.value_or(0));
  }
  state.counters["exits_per_run"] = exits / static_cast<double>(state.iterations());
}

void RegisterPrograms(const std::shared_ptr<Provider>& provider) {
  for (const bool dynamic : {false, true}) {
    const std::string guest = dynamic ? "true_dynamic" : "true_musl";
    Register("Pool/" + guest, [=](benchmark::State& state) {
      RunInPool(state, provider, GuestPath(guest), ProgramOptions(dynamic));
    });
    Register("PosixSpawn/" + guest,
             [=](benchmark::State& state) { MeasureSpawn(state, {GuestPath(guest)}); });
  }
}

void RegisterAll(const std::shared_ptr<Provider>& provider) {
  const Ready ready(provider);
  Register("KvmFloor/ring3_exit", FloorExit);
  Register("Instance/call_noop", [=](benchmark::State& state) { CallNoop(state, ready); });
  Register("Instance/host_call", [=](benchmark::State& state) { HostCall(state, ready); });
  for (const int pages : {0, 16, 64, 256})
    Register(absl::StrFormat("Reset/after_%d_dirty_pages", pages),
             [=](benchmark::State& state) { CallAndReset(state, ready, pages); });
  Register("Clone/first_call", [=](benchmark::State& state) {
    FirstCall(state, ready, /*prepared=*/true);
  })->UseManualTime();
  Register("Clone/first_call_unprepared", [=](benchmark::State& state) {
    FirstCall(state, ready, /*prepared=*/false);
  })->UseManualTime();
  Register("KvmFloor/ring3_exit_2_threads", FloorExitOnThreads);
  Register("Pool/call_noop",
           [=](benchmark::State& state) { CallPoolOnThreads(state, ready, false); });
  Register("Pool/call_noop_fresh", [=](benchmark::State& state) { CallPool(state, ready, true); });
  Register("Pool/call_noop_fresh_2_threads",
           [=](benchmark::State& state) { CallPoolOnThreads(state, ready, true); });
  Register("Snapshot/restore_memory", [=](benchmark::State& state) {
    RestoreMemory(state, ready);
  })->UseManualTime();
  Register("Snapshot/restore_file", [=](benchmark::State& state) {
    RestoreFile(state, ready);
  })->UseManualTime();
  Register("Clone/make_and_free", [=](benchmark::State& state) { MakeClone(state, ready); });
  RegisterPrograms(provider);
}

}  // namespace
}  // namespace waxvm

int main(int argc, char** argv) {
  waxvm::RegisterAll(waxvm::NewMicroVmProvider());
  return waxvm::RunBenchmarks(argc, argv);
}
