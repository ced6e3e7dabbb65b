// SPDX-License-Identifier: Apache-2.0
// Whatever a program does to itself ends as a typed fault, and the host goes on.
#include <signal.h>

#include <set>

#include "absl/strings/str_format.h"
#include "conformance.h"

namespace waxvm::conformance {
namespace {

struct Deadly {
  std::string program;
  std::vector<std::string> arguments;
  int signal;
  FaultKind kind;
  std::optional<std::uint64_t> address;
};

std::vector<Deadly> DeadlyPrograms() {
  using enum FaultKind;
  return {{"segv", {"read"}, SIGSEGV, kSegmentation, 0x10},
          {"segv", {"write"}, SIGSEGV, kSegmentation, 0x10},
          {"segv", {"exec"}, SIGSEGV, kSegmentation, 0x10},
          {"stack_overflow", {}, SIGSEGV, kStackOverflow, {}},
          {"illegal_instruction", {}, SIGILL, kIllegalInstruction, {}},
          {"jump_nowhere", {"low"}, SIGSEGV, kSegmentation, 0x123456789000},
          {"jump_nowhere", {"high"}, SIGSEGV, kSegmentation, {}},
          {"jump_nowhere", {"noncanonical"}, SIGSEGV, kPrivileged, {}},
          {"jump_nowhere", {"stack"}, SIGSEGV, kSegmentation, {}},
          {"divide_by_zero", {}, SIGFPE, kArithmetic, {}},
          {"abort", {}, SIGABRT, kSignal, {}}};
}

/// The kinds that a provider may tell a signal's cause by when it knows nothing but the signal.
bool KindFitsSignal(FaultKind kind, int signal) {
  using enum FaultKind;
  switch (signal) {
    case SIGSEGV:
      return kind == kSegmentation || kind == kStackOverflow || kind == kPrivileged;
    case SIGBUS:
      return kind == kBusError;
    case SIGILL:
      return kind == kIllegalInstruction || kind == kPrivileged;
    case SIGFPE:
      return kind == kArithmetic;
    case SIGTRAP:
      return kind == kTrap;
    default:
      return kind == kSignal;
  }
}

void ExpectFault(const RunResult& result, int signal) {
  ASSERT_EQ(result.outcome, Outcome::kFault)
      << OutcomeName(result.outcome) << " " << result.exit_code << ": " << result.output;
  ASSERT_TRUE(result.fault.has_value());
  EXPECT_EQ(result.fault->signal, signal);
  EXPECT_EQ(result.exit_code, 128 + signal);
  EXPECT_TRUE(KindFitsSignal(result.fault->kind, signal)) << FaultName(result.fault->kind);
  EXPECT_FALSE(result.fault->detail.empty());
  EXPECT_FALSE(result.limit.has_value());
}

TEST_P(Conformance, FaultsAreTyped) {
  WAXVM_NEEDS_PROGRAM("segv");
  for (const Deadly& deadly : DeadlyPrograms()) {
    RunOptions options;
    options.arguments = deadly.arguments;
    options.limits.wall_time = std::chrono::seconds(20) * Slowness();
    const RunResult result = Run(deadly.program, options);
    SCOPED_TRACE(deadly.program + " " + (deadly.arguments.empty() ? "" : deadly.arguments[0]));
    ExpectFault(result, deadly.signal);
    // Who sees the machine's registers knows more than the signal.
    if (!result.fault || !result.fault->registers) continue;
    EXPECT_EQ(FaultName(result.fault->kind), FaultName(deadly.kind)) << result.fault->detail;
    EXPECT_NE(result.fault->registers->value[16], 0u) << "the instruction pointer";
    if (!deadly.address) continue;
    EXPECT_EQ(result.fault->address, deadly.address);
  }
}

TEST_P(Conformance, MicroVmFaultsHaveRegisters) {
  if (info_.isolation != IsolationClass::kMicroVm)
    GTEST_SKIP() << info_.name << " need not know a program's registers";
  const RunResult result = Run("segv", WithArguments({"write"}));
  ASSERT_TRUE(result.fault && result.fault->registers && result.fault->address);
  EXPECT_EQ(*result.fault->address, 0x10u);
  EXPECT_NE(result.fault->detail.find("0x10"), std::string::npos) << result.fault->detail;
}

TEST_P(Conformance, PrivilegedInstructionsFault) {
  WAXVM_NEEDS_PROGRAM("privileged");
  const std::set<int> deadly = {SIGSEGV, SIGILL};
  for (const char* instruction :
       {"hlt", "cli", "in", "out", "out_all", "read_cr3", "write_cr3", "write_cr0", "rdmsr",
        "wrmsr", "swapgs", "invlpg", "sysret", "lidt", "int2", "int14"}) {
    RunOptions options = WithArguments({instruction});
    options.limits.wall_time = std::chrono::seconds(10) * Slowness();
    const RunResult result = Run("privileged", options);
    SCOPED_TRACE(instruction);
    ASSERT_EQ(result.outcome, Outcome::kFault) << "exit code " << result.exit_code;
    EXPECT_TRUE(deadly.contains(result.fault->signal)) << result.fault->signal;
  }
}

// Where ring 3 can reach the machine's entry for system calls, it can do so with any address to
// come back to.
TEST_P(Conformance, EntryWithNowhereToComeBackToFaults) {
  WAXVM_NEEDS_PROGRAM("jump_into_stub");
  std::vector<std::string> addresses = {"8000000000000000", "0"};
  if (!InHardwareLane())
    addresses.insert(addresses.end(), {"800000000000", "ffff7fffffffffff", "ffff800000000000",
                                       "ffffffffffffffff", "7ffffffff000"});
  for (const std::string& back : addresses) {
    for (const char* how : {"answered", "leaves", "unknown", "sleeps", "signal", "handled"}) {
      SCOPED_TRACE(absl::StrFormat("%s %s", back, how));
      RunOptions options = WithArguments({back, how});
      options.limits.wall_time = std::chrono::seconds(10) * Slowness();
      const RunResult result = Run("jump_into_stub", options);
      if (how == std::string_view("handled")) {
        EXPECT_EQ(result.outcome, Outcome::kExited);
        EXPECT_EQ(result.exit_code, 3);
        EXPECT_EQ(result.output, "handled\n");
        continue;
      }
      ASSERT_TRUE(result.fault.has_value()) << OutcomeName(result.outcome);
      EXPECT_EQ(result.fault->signal, SIGSEGV);
      EXPECT_NE(result.fault->kind, FaultKind::kMachine) << result.fault->detail;
    }
  }
}

TEST_P(Conformance, OldSystemCallGateIsShut) {
  WAXVM_NEEDS_PROGRAM("privileged");
  const RunResult result = Run("privileged", WithArguments({"int80"}));
  EXPECT_TRUE(result.outcome == Outcome::kExited || result.outcome == Outcome::kFault);
}

TEST_P(Conformance, PageTablesAreOutOfReach) {
  WAXVM_NEEDS_PROGRAM("write_page_tables");
  // Each of them is tried first, so that no fault on another hides it.
  std::vector<std::uint64_t> targets = {0,
                                        0x1000,
                                        0x8000,
                                        0xf000,
                                        0x7fffffffe000,
                                        0x7ffffffff000,
                                        0xffff800000000000,
                                        0xffff800000001000,
                                        0xffff8000000ff000,
                                        0xfffffffffffff000,
                                        0xffffffff80000000};
  for (const std::uint64_t target : targets) {
    const RunResult result =
        Run("write_page_tables", WithArguments({absl::StrFormat("%x", target)}));
    SCOPED_TRACE(absl::StrFormat("%#x", target));
    ExpectFault(result, SIGSEGV);
    EXPECT_EQ(result.output.find("let through"), std::string::npos) << result.output;
  }
}

TEST_P(Conformance, OutputBeforeAFaultIsKept) {
  WAXVM_NEEDS_PROGRAM("write_page_tables");
  const RunResult result = Run("write_page_tables", WithArguments({"0"}));
  EXPECT_TRUE(result.output.starts_with("store to 0\n")) << result.output;
}

TEST_P(Conformance, NextRunIsUnharmedByAFault) {
  WAXVM_NEEDS_PROGRAM("segv");
  auto supervisor = Supervisor::Create(provider_);
  ASSERT_TRUE(supervisor.ok()) << supervisor.status();
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(supervisor->Run(*Find("segv")).ok());
    const auto result = supervisor->Run(*Find("hello"), WithArguments({"x"}));
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->exit_code, 2);
  }
}

}  // namespace
}  // namespace waxvm::conformance
