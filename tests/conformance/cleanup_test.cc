// SPDX-License-Identifier: Apache-2.0
// When a run is over, nothing of it is left in the embedder's process.
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <thread>

#include "conformance.h"

namespace waxvm::conformance {
namespace {

/// What this process holds.
struct Held {
  long descriptors = 0;
  long threads = 0;
  long mappings = 0;
};

long Entries(const char* folder) {
  return std::distance(std::filesystem::directory_iterator(folder),
                       std::filesystem::directory_iterator());
}

Held CountNow() {
  std::ifstream maps("/proc/self/maps");
  return {Entries("/proc/self/fd"), Entries("/proc/self/task"),
          std::count(std::istreambuf_iterator<char>(maps), {}, '\n')};
}

/// What is held once nothing changes any more: a joined thread leaves /proc/self/task a moment
/// after the join.
Held Count() {
  Held held = CountNow();
  for (int calm = 0; calm < 5;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const Held again = CountNow();
    calm = again.threads == held.threads && again.descriptors == held.descriptors ? calm + 1 : 0;
    held = again;
  }
  return held;
}

/// Descriptors and threads exactly; mappings may differ by what malloc keeps for its threads.
void ExpectNothingLeft(const Held& before, long runs, long mapping_slack) {
  const Held after = Count();
  EXPECT_EQ(after.descriptors, before.descriptors) << "after " << runs << " runs";
  EXPECT_EQ(after.threads, before.threads) << "after " << runs << " runs";
  EXPECT_LE(after.mappings, before.mappings + mapping_slack) << "after " << runs << " runs";
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
  EXPECT_EQ(errno, ECHILD);
}

int Scaled(int runs) { return InHardwareLane() ? std::max(runs / 20, 4) : runs; }

class Cleanup {
 public:
  Cleanup(const std::shared_ptr<Provider>& provider, Program program)
      : provider_(provider), program_(std::move(program)) {}

  void Once(const RunOptions& options = {}) const {
    const auto result = RunOnce(provider_, program_, options);
    ASSERT_TRUE(result.ok()) << result.status();
  }

  /// Runs one by one; the first few set up what is kept for good.
  void Sequentially(int runs, const RunOptions& options = {}) const {
    for (int i = 0; i < 5; ++i) Once(options);
    const Held before = Count();
    for (int i = 0; i < runs && !testing::Test::HasFailure(); ++i) Once(options);
    ExpectNothingLeft(before, runs, 8);
  }

 private:
  std::shared_ptr<Provider> provider_;
  Program program_;
};

TEST_P(Conformance, NothingIsLeftAfterRuns) {
  Cleanup(provider_, *Find("true")).Sequentially(Scaled(100));
}

TEST_P(Conformance, NothingIsLeftAfterRunsWithGrantsAndHostCalls) {
  const TemporaryFolder folder;
  RunOptions options;
  options.input = "input";
  options.grants = {Clock(), Random(), Files(folder.path(), "/data", Rights::kReadWrite),
                    Function("greet", [](const HostCallContext&, std::string_view) {
                      return absl::StatusOr<std::string>("hello");
                    })};
  Cleanup(provider_, *Find("host_call")).Sequentially(Scaled(40), options);
}

TEST_P(Conformance, NothingIsLeftAfterLimits) {
  RunOptions options;
  options.limits.output_bytes = 1000;
  Cleanup(provider_, *Find("flood_output")).Sequentially(Scaled(40), options);
}

TEST_P(Conformance, NothingIsLeftAfterFaults) {
  WAXVM_NEEDS_PROGRAM("segv");
  Cleanup(provider_, *Find("segv")).Sequentially(Scaled(40));
}

TEST_P(Conformance, NothingIsLeftAfterStops) {
  const Program spin = *Find("spin");
  const auto stop_one = [&] {
    std::stop_source stop;
    RunOptions options;
    options.stop = stop.get_token();
    std::jthread stopper([&] { stop.request_stop(); });
    const auto result = RunOnce(provider_, spin, options);
    ASSERT_TRUE(result.ok() || absl::IsCancelled(result.status())) << result.status();
  };
  for (int i = 0; i < 5; ++i) stop_one();
  const Held before = Count();
  for (int i = 0; i < Scaled(40); ++i) stop_one();
  ExpectNothingLeft(before, Scaled(40), 8);
}

TEST_P(Conformance, NothingIsLeftAfterInstancesThatNeverRan) {
  const Program program = *Find("true");
  OpenGate gate;
  InstanceSpec spec(program);
  spec.arguments = {"true"};
  spec.gate = &gate;
  const auto make = [&] { ASSERT_TRUE(provider_->Create(spec).ok()); };
  for (int i = 0; i < 5; ++i) make();
  const Held before = Count();
  for (int i = 0; i < Scaled(100); ++i) make();
  ExpectNothingLeft(before, Scaled(100), 8);
}

TEST_P(Conformance, SlowThousandRunsLeaveNothing) {
  Cleanup(provider_, *Find("true")).Sequentially(Scaled(1000));
}

TEST_P(Conformance, SlowSixtyFourAtOnceLeaveNothing) {
  auto supervisor = Supervisor::Create(provider_);
  ASSERT_TRUE(supervisor.ok()) << supervisor.status();
  const Program program = *Find("host_call");
  const int width = InHardwareLane() ? 8 : 64;
  // Every run is inside its host call at the same time.
  const auto all_at_once = [&] {
    std::atomic<int> inside = 0;
    RunOptions options;
    options.grants = {Function("greet", [&](const HostCallContext&, std::string_view) {
      ++inside;
      const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(60);
      while (inside < width && std::chrono::steady_clock::now() < patience)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return absl::StatusOr<std::string>("all here");
    })};
    std::vector<std::jthread> threads;
    for (int i = 0; i < width; ++i) {
      threads.emplace_back([&] {
        const auto result = supervisor->Run(program, options);
        ASSERT_TRUE(result.ok()) << result.status();
        EXPECT_EQ(result->output, "0 all here\n");
      });
    }
    threads.clear();
    EXPECT_EQ(inside, width);
  };
  all_at_once();
  const Held before = Count();
  for (int round = 0; round < 3; ++round) all_at_once();
  // Each new thread may get a malloc arena of its own: two mappings, kept by the C library.
  ExpectNothingLeft(before, 3 * width, 2 * width);
}

}  // namespace
}  // namespace waxvm::conformance
