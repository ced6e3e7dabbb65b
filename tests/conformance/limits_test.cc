// SPDX-License-Identifier: Apache-2.0
// Every limit ends the run, or refuses inside, by its name and near the figure asked for.
#include <unistd.h>

#include "absl/strings/str_format.h"
#include "conformance.h"

namespace waxvm::conformance {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

#define WAXVM_NEEDS_LIMIT(kind) \
  if (!Enforces(kind)) GTEST_SKIP() << info_.name << " does not enforce " << LimitName(kind)

void ExpectLimit(const RunResult& result, LimitKind kind) {
  EXPECT_EQ(result.outcome, Outcome::kLimit) << OutcomeName(result.outcome);
  ASSERT_TRUE(result.limit.has_value())
      << "exit code " << result.exit_code << ": " << result.output;
  EXPECT_EQ(*result.limit, kind) << LimitName(*result.limit);
  EXPECT_EQ(result.exit_code, 124);
  EXPECT_FALSE(result.fault.has_value());
}

/// At most 20 % over `limit`, more where the machine is emulated or instrumented.
template <typename T>
T AtMost(T limit) {
  return Slowness() == 1 ? limit + limit / 5 : limit * Slowness();
}

TEST_P(Conformance, WallTimeOfAProgramThatSpins) {
  WAXVM_NEEDS_LIMIT(LimitKind::kWallTime);
  RunOptions options;
  options.limits.wall_time = 1s;
  const RunResult result = Run("spin", options);
  ExpectLimit(result, LimitKind::kWallTime);
  EXPECT_GE(result.report.wall_time, 1s);
  EXPECT_LE(result.report.wall_time, AtMost(1000ms));
}

TEST_P(Conformance, WallTimeOfAProgramThatWaits) {
  WAXVM_NEEDS_LIMIT(LimitKind::kWallTime);
  WAXVM_NEEDS_PROGRAM("sleep_forever");
  RunOptions options;
  options.limits.wall_time = 500ms;
  const RunResult result = Run("sleep_forever", options);
  ExpectLimit(result, LimitKind::kWallTime);
  EXPECT_GE(result.report.wall_time, 500ms);
  EXPECT_LE(result.report.wall_time, AtMost(500ms));
}

TEST_P(Conformance, WallTimeOfAProgramThatWaitsForInput) {
  WAXVM_NEEDS_LIMIT(LimitKind::kWallTime);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  RunOptions options;
  options.limits.wall_time = 500ms;
  options.input_fd = ends[0];
  ExpectLimit(Run("cat_stdin", options), LimitKind::kWallTime);
  close(ends[0]);
  close(ends[1]);
}

TEST_P(Conformance, CpuTimeOfAProgramThatSpins) {
  WAXVM_NEEDS_LIMIT(LimitKind::kCpuTime);
  RunOptions options;
  options.limits.cpu_time = 1s;
  options.limits.wall_time = 60s * Slowness();
  const RunResult result = Run("spin", options);
  ExpectLimit(result, LimitKind::kCpuTime);
  ASSERT_TRUE(result.report.cpu_time.has_value());
  EXPECT_GE(*result.report.cpu_time, 800ms);
  EXPECT_LE(*result.report.cpu_time, AtMost(1000ms));
}

TEST_P(Conformance, CpuTimeIsNotSpentByWaiting) {
  WAXVM_NEEDS_LIMIT(LimitKind::kCpuTime);
  WAXVM_NEEDS_PROGRAM("sleep_forever");
  RunOptions options;
  options.limits.cpu_time = 200ms;
  options.limits.wall_time = 600ms;
  ExpectLimit(Run("sleep_forever", options), LimitKind::kWallTime);
}

TEST_P(Conformance, MemoryHoweverItIsTaken) {
  WAXVM_NEEDS_LIMIT(LimitKind::kMemory);
  WAXVM_NEEDS_PROGRAM("eat_memory");
  constexpr std::uint64_t kBound = 64 << 20;
  for (const std::string how : {"heap", "map", "file"}) {
    RunOptions options = WithArguments({how});
    options.limits.memory_bytes = kBound;
    options.limits.wall_time = 30s * Slowness();
    const RunResult result = Run("eat_memory", options);
    SCOPED_TRACE(how);
    if (how == "file" && result.outcome == Outcome::kExited) {
      // The write failed as on a full disk, and the program gave up by itself.
      EXPECT_EQ(result.exit_code, 3);
      EXPECT_GE(Denials(result.report, Resource::kLimit, LimitName(LimitKind::kMemory)), 1u);
    } else {
      ExpectLimit(result, LimitKind::kMemory);
    }
    if (!result.report.peak_memory_bytes) continue;
    EXPECT_GE(*result.report.peak_memory_bytes, kBound / 5 * 4);
    EXPECT_LE(*result.report.peak_memory_bytes, kBound / 5 * 6);
  }
}

TEST_P(Conformance, MemoryThatIsNotTouchedIsNotUsed) {
  WAXVM_NEEDS_LIMIT(LimitKind::kMemory);
  if (native()) GTEST_SKIP() << "a native function starts with a copy of the embedder's memory";
  RunOptions options;
  options.limits.memory_bytes = std::uint64_t{1} << 30;
  const RunResult result = Run("true", options);
  EXPECT_EQ(result.outcome, Outcome::kExited);
  EXPECT_LT(result.report.peak_memory_bytes.value_or(0), 16u << 20);
}

TEST_P(Conformance, OutputIsDeliveredUpToTheBound) {
  WAXVM_NEEDS_LIMIT(LimitKind::kOutput);
  for (const std::uint64_t bound : {0u, 1u, 4096u, 100'001u}) {
    RunOptions options;
    options.limits.output_bytes = bound;
    const RunResult result = Run("flood_output", options);
    SCOPED_TRACE(bound);
    ExpectLimit(result, LimitKind::kOutput);
    EXPECT_EQ(result.output, std::string(bound, 'x'));
    EXPECT_EQ(result.report.output_bytes, bound);
  }
}

TEST_P(Conformance, OutputExactlyAtTheBoundIsAllowed) {
  WAXVM_NEEDS_LIMIT(LimitKind::kOutput);
  RunOptions options;
  options.input = std::string(5000, 'y');
  options.limits.output_bytes = 5000;
  const RunResult result = Run("cat_stdin", options);
  EXPECT_EQ(result.outcome, Outcome::kExited);
  EXPECT_EQ(result.output, options.input);
}

TEST_P(Conformance, CollectedOutputIsBoundedByDefault) {
  WAXVM_NEEDS_LIMIT(LimitKind::kOutput);
  const RunResult result = Run("flood_output");
  ExpectLimit(result, LimitKind::kOutput);
  EXPECT_EQ(result.output.size(), 16u << 20);
}

TEST_P(Conformance, OpenFilesGiveEmfileAndAreCounted) {
  WAXVM_NEEDS_LIMIT(LimitKind::kOpenFiles);
  WAXVM_NEEDS_PROGRAM("open_many");
  for (const std::uint64_t bound : {4u, 16u, 100u}) {
    RunOptions options;
    options.limits.open_files = bound;
    const RunResult result = Run("open_many", options);
    SCOPED_TRACE(bound);
    EXPECT_EQ(result.outcome, Outcome::kExited);
    EXPECT_EQ(result.output, absl::StrFormat("%d EMFILE\n", bound - 3)) << "with three streams";
    EXPECT_GE(Denials(result.report, Resource::kLimit, LimitName(LimitKind::kOpenFiles)), 1u);
    EXPECT_GE(result.report.denials, 1u);
  }
}

TEST_P(Conformance, ProcessesGiveEagainAndAreCounted) {
  WAXVM_NEEDS_LIMIT(LimitKind::kProcesses);
  WAXVM_NEEDS_PROGRAM("start_threads");
  for (const std::uint64_t bound : {1u, 4u}) {
    RunOptions options;
    options.limits.processes = bound;
    options.limits.wall_time = 30s * Slowness();
    const RunResult result = Run("start_threads", options);
    SCOPED_TRACE(bound);
    EXPECT_EQ(result.outcome, Outcome::kExited);
    EXPECT_EQ(result.output, absl::StrFormat("%d EAGAIN\n", bound - 1));
    EXPECT_GE(Denials(result.report, Resource::kLimit, LimitName(LimitKind::kProcesses)), 1u);
  }
}

TEST_P(Conformance, HostCallsAreServedUpToTheBound) {
  WAXVM_NEEDS_LIMIT(LimitKind::kHostCalls);
  for (const std::uint64_t bound : {0u, 1u, 5u}) {
    std::uint64_t calls = 0;
    RunOptions options = WithArguments({"call", "count", "1", "6"});
    options.limits.host_calls = bound;
    options.grants = {Function("count", [&](const HostCallContext&, std::string_view) {
      return absl::StatusOr<std::string>(absl::StrFormat("%d", ++calls));
    })};
    const RunResult result = Run("probe", options);
    SCOPED_TRACE(bound);
    ExpectLimit(result, LimitKind::kHostCalls);
    EXPECT_EQ(calls, bound);
    EXPECT_EQ(result.report.host_calls, bound);
  }
}

TEST_P(Conformance, HostCallsExactlyAtTheBoundAreAllowed) {
  WAXVM_NEEDS_LIMIT(LimitKind::kHostCalls);
  RunOptions options = WithArguments({"call", "echo", "2", "6"});
  options.limits.host_calls = 6;
  options.grants = {Function("echo", [](const HostCallContext&, std::string_view request) {
    return absl::StatusOr<std::string>(std::string(request));
  })};
  const RunResult result = Run("probe", options);
  EXPECT_EQ(result.outcome, Outcome::kExited);
  EXPECT_EQ(result.output, "0 2 rr\n");
  EXPECT_EQ(result.report.host_calls, 6u);
}

}  // namespace
}  // namespace waxvm::conformance
