// SPDX-License-Identifier: Apache-2.0
// Time that is read without a system call: by every C library, never backwards, never ungranted.
#include <atomic>
#include <chrono>
#include <optional>

#include "absl/strings/match.h"
#include "conformance.h"

namespace waxvm::conformance {
namespace {

constexpr const char* kVariants[] = {"clock_vdso_musl", "clock_vdso_musl_pie", "clock_vdso_glibc",
                                     "clock_vdso_glibc_pie"};

RunOptions WithClock(std::initializer_list<std::string> arguments) {
  RunOptions options = WithArguments(arguments);
  options.grants = {Clock()};
  return options;
}

TEST_P(Conformance, VdsoAndSystemCallsShowOneClock) {
  WAXVM_NEEDS_PROGRAM("clock_vdso");
  for (const char* variant : kVariants) {
    const bool often = variant == kVariants[0] && !InHardwareLane();
    const RunResult result = Run(variant, WithClock({"turns", often ? "100000" : "2000"}));
    EXPECT_EQ(result.exit_code, 0) << variant << ": " << result.output;
    EXPECT_EQ(result.output, "ok\n") << variant;
    EXPECT_EQ(Denials(result.report, Resource::kClock), 0u);
  }
}

TEST_P(Conformance, VdsoIsWithheldWithTheClock) {
  WAXVM_NEEDS_PROGRAM("clock_vdso");
  if (IsAmbient("clock")) GTEST_SKIP() << info_.name << " cannot withhold the clock";
  for (const char* variant : kVariants) {
    const RunResult result = Run(variant, WithArguments({"turns", "100"}));
    EXPECT_EQ(result.output, "no vdso\n") << variant;
    EXPECT_EQ(result.exit_code, 0) << variant << ": a clock that stands still";
  }
}

class StepClock final : public ClockSource {
 public:
  std::chrono::nanoseconds RealTime() override { return MonotonicTime(); }
  std::chrono::nanoseconds MonotonicTime() override { return std::chrono::seconds(++reads_); }

 private:
  std::atomic<std::int64_t> reads_ = 1'000'000;
};

TEST_P(Conformance, InjectedClockIsAskedEachTime) {
  WAXVM_NEEDS_PROGRAM("clock_vdso");
  RunOptions options = WithArguments({"cost", "100"});
  options.grants = {Clock(std::make_shared<StepClock>())};
  const auto result = RunOnce(provider_, *Find("clock_vdso"), options);
  if (!result.ok()) GTEST_SKIP() << result.status();
  EXPECT_TRUE(absl::StrContains(result->output, "libc 1010000000.0 ns")) << result->output;
}

TEST_P(Conformance, VdsoCannotBeWritten) {
  WAXVM_NEEDS_PROGRAM("clock_vdso");
  const RunResult result = Run("clock_vdso", WithClock({"write"}));
  EXPECT_EQ(result.outcome, Outcome::kFault);
}

TEST_P(Conformance, VdsoOfAMicroVmCannotBeUnmapped) {
  if (info_.isolation != IsolationClass::kMicroVm)
    GTEST_SKIP() << info_.name << " leaves the mappings to the host's kernel";
  const RunResult result = Run("clock_vdso", WithClock({"unmap"}));
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.output, "ok\n");
}

// The gate is asked whenever a line is drawn, so the clock can be refused, and taken away later.
TEST_P(Conformance, ClockThatTheAuthorizerRefusesIsNotShown) {
  if (info_.isolation != IsolationClass::kMicroVm)
    GTEST_SKIP() << info_.name << " does not ask for each reading";
  if (InHardwareLane()) GTEST_SKIP() << "the emulated machine is too slow to say when";
  using std::chrono::steady_clock;
  for (const auto granted : {std::chrono::milliseconds(0), std::chrono::milliseconds(250)}) {
    std::optional<steady_clock::time_point> end;
    SupervisorOptions strict;
    strict.authorizer = [&](std::string_view, const Access& access) {
      if (access.resource != Resource::kClock) return absl::OkStatus();
      if (!end) end = steady_clock::now() + granted;
      return steady_clock::now() >= *end ? absl::PermissionDeniedError("enough") : absl::OkStatus();
    };
    auto supervisor = Supervisor::Create(provider_, strict);
    ASSERT_TRUE(supervisor.ok()) << supervisor.status();
    const auto result = supervisor->Run(*Find("clock_vdso"), WithClock({"twice"}));
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->output, granted.count() == 0 ? "on 946684800\n" : "back 946684800\n")
        << "the time that programs without the grant see";
    EXPECT_GE(Denials(result->report, Resource::kClock), 1u);
  }
}

TEST_P(Conformance, ReadingTheClockDoesNotLeaveTheMicroVm) {
  if (info_.isolation != IsolationClass::kMicroVm)
    GTEST_SKIP() << info_.name << " has no virtual machine";
  if (InHardwareLane()) GTEST_SKIP() << "the emulated counter is not invariant";
  const RunResult few = Run("clock_vdso_glibc", WithClock({"cost", "100"}));
  const RunResult many = Run("clock_vdso_glibc", WithClock({"cost", "5000"}));
  ASSERT_TRUE(few.report.vm_exits && many.report.vm_exits);
  // 98 more are the raw system calls.
  EXPECT_LT(*many.report.vm_exits - *few.report.vm_exits, 98 + 20) << many.output;
}

}  // namespace
}  // namespace waxvm::conformance
