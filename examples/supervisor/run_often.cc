// SPDX-License-Identifier: Apache-2.0
#include "run_often.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "waxvm/pool.h"

namespace waxvm::cli {
namespace {

using std::chrono::nanoseconds;

// Times that are kept: above it they are of the first runs.
constexpr std::uint64_t kMaxTimes = 1'000'000;

using Run = std::function<absl::StatusOr<RunResult>()>;

/// What came of some runs.
struct Runs {
  std::optional<absl::StatusOr<RunResult>> result;  ///< empty: none began
  std::vector<nanoseconds> times;
  bool bad() const { return result && (!result->ok() || (*result)->exit_code != 0); }
};

Runs RunInTurn(const Run& run, std::uint64_t count, std::atomic<bool>& enough) {
  Runs runs;
  for (std::uint64_t i = 0; i < count && !enough; ++i) {
    const auto start = std::chrono::steady_clock::now();
    runs.result = run();
    if (runs.times.size() < kMaxTimes)
      runs.times.push_back(std::chrono::steady_clock::now() - start);
    if (runs.bad()) enough = true;
  }
  return runs;
}

/// The parts of `options` that are a run's own, with output one at a time.
RunRequest ToRequest(const RunOptions& options, std::mutex& turn) {
  RunRequest request;
  request.arguments = options.arguments;
  request.environment = options.environment;
  request.input_fd = options.input_fd;
  request.output = [&](Stream stream, std::string_view data) {
    const std::lock_guard lock(turn);
    return options.output(stream, data);
  };
  return request;
}

absl::StatusOr<Runs> RunInPool(const std::shared_ptr<Provider>& provider, const Program& program,
                               const RunFlags& flags, const RunOptions& options) {
  RunOptions common = options;
  common.arguments.clear();
  common.environment.clear();
  common.input_fd = -1;
  common.output = nullptr;
  auto start = Snapshot::OfStart(provider, program, common);
  if (!start.ok()) return start.status();
  const std::uint64_t threads = std::min(flags.pool, flags.repeat);
  const auto pool = Pool::Create(*std::move(start), {.min_ready = static_cast<std::size_t>(threads),
                                                     .max_instances = flags.pool});
  if (!pool.ok()) return pool.status();
  std::mutex turn;
  const RunRequest request = ToRequest(options, turn);
  std::vector<Runs> parts(static_cast<std::size_t>(threads));
  std::atomic<bool> enough = false;
  {
    std::vector<std::jthread> callers;
    for (std::uint64_t i = 0; i < threads; ++i)
      callers.emplace_back([&, i] {
        parts[i] = RunInTurn([&] { return (*pool)->Run(request); },
                             flags.repeat / threads + (i < flags.repeat % threads ? 1 : 0), enough);
      });
  }
  Runs all;
  for (Runs& part : parts) {
    all.times.insert(all.times.end(), part.times.begin(), part.times.end());
    if (part.result && !all.bad()) all.result = std::move(part.result);
  }
  return all;
}

}  // namespace

absl::StatusOr<RunResult> RunOften(const std::shared_ptr<Provider>& provider,
                                   const Program& program, const RunFlags& flags,
                                   const RunOptions& options) {
  absl::StatusOr<Runs> runs;
  if (flags.pool > 0) {
    runs = RunInPool(provider, program, flags, options);
  } else {
    std::atomic<bool> enough = false;
    runs = RunInTurn([&] { return RunOnce(provider, program, options); }, flags.repeat, enough);
  }
  if (!runs.ok()) return runs.status();
  if (!runs->bad() && flags.repeat > 1) PrintTimes(std::move(runs->times), flags.repeat, "runs");
  return *std::move(runs->result);
}

void PrintTimes(std::vector<nanoseconds> times, std::uint64_t count, const char* what) {
  std::sort(times.begin(), times.end());
  const auto at = [&](double part) {
    const auto index = static_cast<std::size_t>(part * static_cast<double>(times.size() - 1));
    return static_cast<double>(times[index].count()) / 1000;
  };
  absl::FPrintF(stderr,
                "waxvm: %d %s; us each: minimum %.2f, median %.2f, 99%% within %.2f, "
                "maximum %.2f\n",
                count, what, at(0), at(0.5), at(0.99), at(1));
}

}  // namespace waxvm::cli
