// SPDX-License-Identifier: Apache-2.0
#include "src/isolation/limits_check.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace waxvm {
namespace {

using namespace std::chrono_literals;

constexpr LimitKind kAll[] = {LimitKind::kMemory,   LimitKind::kWallTime,  LimitKind::kCpuTime,
                              LimitKind::kOutput,   LimitKind::kOpenFiles, LimitKind::kProcesses,
                              LimitKind::kHostCalls};

std::string Refusal(const Limits& limits, std::span<const LimitKind> enforceable = kAll) {
  const absl::Status status = CheckLimits("paper", limits, enforceable);
  EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST(LimitsCheckTest, NothingSetNeedsNothing) { EXPECT_EQ(Refusal({}, {}), ""); }

TEST(LimitsCheckTest, EveryLimitCanBeSet) {
  EXPECT_EQ(Refusal({.memory_bytes = 1,
                     .wall_time = 1ns,
                     .cpu_time = 1ns,
                     .output_bytes = 0,
                     .open_files = 0,
                     .processes = 1,
                     .host_calls = 0}),
            "");
}

TEST(LimitsCheckTest, WhatCannotBeEnforcedIsRefusedByName) {
  const std::pair<Limits, const char*> cases[] = {
      {{.memory_bytes = 1}, "memory"},   {{.wall_time = 1s}, "wall"},
      {{.cpu_time = 1s}, "cpu"},         {{.output_bytes = 1}, "output"},
      {{.open_files = 1}, "open_files"}, {{.processes = 1}, "processes"},
      {{.host_calls = 1}, "host_calls"},
  };
  for (const auto& [limits, name] : cases) {
    EXPECT_EQ(Refusal(limits, {}),
              "the paper provider cannot enforce the limit `" + std::string(name) + "`");
    // All others do not help.
    std::vector<LimitKind> others;
    for (LimitKind kind : kAll) {
      if (LimitName(kind) != name) others.push_back(kind);
    }
    EXPECT_NE(Refusal(limits, others), "");
  }
}

TEST(LimitsCheckTest, ZeroIsNoBoundForMemoryTimeAndProcesses) {
  EXPECT_EQ(Refusal({.memory_bytes = 0}), "the limit `memory` is 0 bytes; it must be more than 0");
  EXPECT_EQ(Refusal({.wall_time = 0s}), "the limit `wall` is 0 ns; it must be more than 0");
  EXPECT_EQ(Refusal({.processes = 0}),
            "the limit `processes` is 0; the program itself is the first");
  EXPECT_EQ(Refusal({.cpu_time = -1ns}), "the limit `cpu` is -1 ns; it must be more than 0");
}

}  // namespace
}  // namespace waxvm
