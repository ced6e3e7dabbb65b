// SPDX-License-Identifier: Apache-2.0
// What a provider says of itself, and what it refuses to make.
#include <set>

#include "conformance.h"
#include "waxvm/native.h"

namespace waxvm::conformance {
namespace {

constexpr LimitKind kAllLimits[] = {
    LimitKind::kMemory,    LimitKind::kWallTime,  LimitKind::kCpuTime,   LimitKind::kOutput,
    LimitKind::kOpenFiles, LimitKind::kProcesses, LimitKind::kHostCalls, LimitKind::kFuel};

Limits With(LimitKind kind, std::uint64_t value) {
  Limits limits;
  switch (kind) {
    case LimitKind::kMemory:
      limits.memory_bytes = value;
      break;
    case LimitKind::kWallTime:
      limits.wall_time = std::chrono::nanoseconds(value);
      break;
    case LimitKind::kCpuTime:
      limits.cpu_time = std::chrono::nanoseconds(value);
      break;
    case LimitKind::kOutput:
      limits.output_bytes = value;
      break;
    case LimitKind::kOpenFiles:
      limits.open_files = value;
      break;
    case LimitKind::kProcesses:
      limits.processes = value;
      break;
    case LimitKind::kHostCalls:
      limits.host_calls = value;
      break;
    case LimitKind::kFuel:
      limits.fuel = value;
      break;
  }
  return limits;
}

/// A value that is large enough for any program, in the limit's own unit.
std::uint64_t Ample(LimitKind kind) {
  if (kind == LimitKind::kMemory) return 128 << 20;
  if (kind == LimitKind::kWallTime || kind == LimitKind::kCpuTime) return 60'000'000'000;
  if (kind == LimitKind::kFuel) return 60'000'000'000;
  return 64;
}

TEST_P(Conformance, InfoIsComplete) {
  EXPECT_FALSE(info_.name.empty());
  EXPECT_FALSE(info_.mechanism.empty());
  EXPECT_FALSE(info_.does_not_protect_against.empty()) << "no boundary protects against everything";
  EXPECT_EQ(info_.protects_against.empty(), info_.isolation == IsolationClass::kNone);
  for (const auto* list :
       {&info_.protects_against, &info_.does_not_protect_against, &info_.ambient})
    for (const std::string& entry : *list) EXPECT_FALSE(entry.empty());
  const std::set<LimitKind> distinct(info_.enforceable_limits.begin(),
                                     info_.enforceable_limits.end());
  EXPECT_EQ(distinct.size(), info_.enforceable_limits.size());
}

TEST_P(Conformance, AvailableIsCheapAndStable) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(provider_->Available().ok());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1) * Slowness());
}

TEST_P(Conformance, EnforceableLimitsAreAccepted) {
  for (const LimitKind kind : kAllLimits) {
    if (!Enforces(kind)) continue;
    RunOptions options;
    options.limits = With(kind, Ample(kind));
    const RunResult result = Run("true", options);
    EXPECT_EQ(result.outcome, Outcome::kExited) << LimitName(kind);
    EXPECT_EQ(result.exit_code, 0) << LimitName(kind);
  }
}

TEST_P(Conformance, OtherLimitsAreRefusedByName) {
  for (const LimitKind kind : kAllLimits) {
    if (Enforces(kind)) continue;
    OpenGate gate;
    InstanceSpec spec(*Find("true"));
    spec.arguments = {"true"};
    spec.limits = With(kind, Ample(kind));
    spec.gate = &gate;
    const absl::Status status = provider_->Create(spec).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << LimitName(kind) << ": " << status;
    EXPECT_NE(status.ToString().find(LimitName(kind)), std::string::npos) << status;
  }
}

TEST_P(Conformance, ZeroMemoryTimeOrFuelIsRefused) {
  for (const LimitKind kind :
       {LimitKind::kMemory, LimitKind::kWallTime, LimitKind::kCpuTime, LimitKind::kFuel}) {
    RunOptions options;
    options.limits = With(kind, 0);
    EXPECT_TRUE(absl::IsInvalidArgument(StatusOf("true", options))) << LimitName(kind);
  }
}

TEST_P(Conformance, ProgramsOfAnotherKindAreRefused) {
  // Which kinds there are is known from the subjects: the microVM runs files only, and what runs
  // in the embedder's own process runs no files.
  std::optional<Program> other;
  if (info_.isolation == IsolationClass::kMicroVm) {
    other = Program::FromFunction("function", [](NativeContext&) { return 0; });
  } else if (info_.isolation == IsolationClass::kNone) {
    const auto file = Program::FromFile("/proc/self/exe");
    ASSERT_TRUE(file.ok()) << file.status();
    other = *file;
  } else {
    GTEST_SKIP() << info_.name << " runs both kinds of program";
  }
  OpenGate gate;
  InstanceSpec spec(*other);
  spec.arguments = {"other"};
  spec.gate = &gate;
  const absl::Status status = provider_->Create(spec).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
}

TEST_P(Conformance, DynamicProgramsAreServedOrRefusedNeverMisrun) {
  if (native()) GTEST_SKIP() << GetParam().name << " is given native functions here";
  const auto dynamic = Program::FromFile("/proc/self/exe");
  ASSERT_TRUE(dynamic.ok()) << dynamic.status();
  // Its interpreter is not in the program's own root, so nothing of it can run.
  const auto result = RunOnce(provider_, dynamic, WithArguments({"--gtest_list_tests"}));
  if (result.ok()) {
    EXPECT_NE(result->exit_code, 0);
    EXPECT_EQ(result->output, "");
  } else {
    EXPECT_TRUE(absl::IsInvalidArgument(result.status())) << result.status();
  }
}

}  // namespace
}  // namespace waxvm::conformance
