// SPDX-License-Identifier: Apache-2.0
// What the kernel keeps for a program is in its snapshots: threads that sleep, files, pipes,
// sockets, timers. Every clone has its own, and a reset puts it back.
#include <fcntl.h>
#include <unistd.h>

#include "snapshots.h"

namespace waxvm::conformance {
namespace {

class KeptState : public SnapshotBench {
 protected:
  void SetUp() override { SetUpGuest("keep_open"); }

  struct Step {
    std::string command;
    std::string answer;
  };
  /// Each step must give its answer; several clones do it in turn, and again after a reset.
  void ExpectInEveryClone(const std::vector<Step>& steps) {
    ASSERT_NO_FATAL_FAILURE(Take());
    const auto one = Clone(), two = Clone();
    ASSERT_TRUE(one && two);
    for (int round = 0; round < 3; ++round) {
      SCOPED_TRACE(round);
      for (Instance* instance : {one.get(), two.get()}) {
        for (const Step& step : steps)
          ASSERT_EQ(Tell(*instance, step.command), step.answer) << step.command;
        const absl::Status reset = instance->Reset();
        ASSERT_TRUE(reset.ok()) << reset;
      }
    }
    // A snapshot of a clone has all of it, too.
    auto again = one->TakeSnapshot();
    ASSERT_TRUE(again.ok()) << again.status();
    snapshot_ = *again;
    const auto third = Clone();
    ASSERT_TRUE(third);
    for (const Step& step : steps)
      ASSERT_EQ(Tell(*third, step.command), step.answer) << step.command;
    for (const Step& step : steps)
      ASSERT_EQ(Tell(*source_, step.command), step.answer) << step.command << " in the source";
  }
  void Do(const std::string& command, const std::string& answer = "0") {
    ASSERT_EQ(Tell(*source_, command), answer) << command;
  }
};

TEST_P(KeptState, ThreadThatWaitsForACondition) {
  Do("T0");
  Do("t5", "5");
  ExpectInEveryClone({{"t1", "6"}, {"t10", "16"}, {"T0", "0"}});
}

TEST_P(KeptState, ThreadThatReadsAPipe) {
  Do("R0");
  Do("r3", "3");
  ExpectInEveryClone({{"r44", "44"}, {"r45", "45"}});
}

TEST_P(KeptState, ThreadThatSleepsForATime) {
  Do("Z0");
  Do("z1", "1");
  ExpectInEveryClone({{"z3", "1"}});
}

TEST_P(KeptState, ThreadThatRuns) {
  Do("C0");
  Do("c1", "1");
  ExpectInEveryClone({{"c1", "1"}, {"c1", "1"}});
}

TEST_P(KeptState, ThreadsThatHoldAndWantARobustMutex) {
  Do("H0");
  ExpectInEveryClone({{"h0", "1"}});
}

TEST_P(KeptState, Pipes) {
  Do("P100", "100");
  Do("p30", "30");
  ExpectInEveryClone({{"p50", "50"}, {"P5", "5"}, {"p4000", "25"}, {"p1", "-11"}});
}

TEST_P(KeptState, EventCounters) {
  Do("E5", "8");
  ExpectInEveryClone({{"E2", "8"}, {"e0", "7"}, {"e0", "-11"}});
}

TEST_P(KeptState, FilesInMemory) {
  Do("F100", "100");
  Do("O0");
  ExpectInEveryClone(
      {{"f0", "100100"}, {"F10", "10"}, {"f0", "110110"}, {"o0", "110"}, {"u0", "1"}, {"U0", "0"}});
}

TEST_P(KeptState, FilesWithoutAName) {
  Do("F100", "100");
  Do("U0");
  ExpectInEveryClone({{"u0", "0"}, {"F1", "1"}, {"f0", "101101"}, {"U0", "-1"}});
}

TEST_P(KeptState, TreesOfNames) {
  Do("B20", "20");
  ExpectInEveryClone({{"b20", "60"}});
}

TEST_P(KeptState, SharedMappings) {
  Do("M42");
  ExpectInEveryClone({{"m0", "42"}, {"M43", "0"}, {"m0", "43"}});
}

TEST_P(KeptState, MessagesWithDescriptors) {
  Do("S10", "10");
  Do("S20", "20");
  ExpectInEveryClone({{"s0", "17"}, {"s0", "27"}, {"s0", "-11"}, {"S1", "1"}, {"s0", "8"}});
}

TEST_P(KeptState, ConnectionsThatWait) {
  Do("X0", "1");
  ExpectInEveryClone({{"x0", "107"}});
}

TEST_P(KeptState, TimerDescriptors) {
  Do("I20");
  ExpectInEveryClone({{"i0", "1"}});
}

TEST_P(KeptState, TimersThatSendSignals) {
  Do("N2");
  Do("n2", "1");
  ExpectInEveryClone({{"n2", "1"}});
}

TEST_P(KeptState, Epoll) {
  Do("L0");
  Do("E1", "8");
  Do("P5", "5");
  Do("l0", "2");
  ExpectInEveryClone({{"l0", "1"}, {"P1", "1"}, {"l0", "2"}, {"e0", "1"}, {"l0", "0"}});
}

TEST_P(KeptState, WorkingDirectory) {
  Do("D0");
  ExpectInEveryClone({{"d0", "12"}});
}

TEST_P(KeptState, PendingSignals) {
  Do("G0");
  ExpectInEveryClone({{"g0", "1"}, {"g0", "0"}});
}

TEST_P(KeptState, Locks) {
  Do("K10");
  ExpectInEveryClone({{"k15", "1"}, {"k5", "0"}, {"k20", "0"}});
}

TEST_P(KeptState, OpenDirectories) {
  Do("B1", "1");
  Do("Y0");
  ExpectInEveryClone({{"y0", "3"}});
}

// The guest changes everything it can in a call; nothing of it is there after the reset.
TEST_P(KeptState, NothingIsCarriedAcrossAReset) {
  ASSERT_NO_FATAL_FAILURE(Take());
  const auto clone = Clone();
  ASSERT_TRUE(clone);
  for (int round = 0; round < 5; ++round) {
    SCOPED_TRACE(round);
    for (const Step& step : std::vector<Step>{{"p1", "-11"},
                                              {"e0", "-11"},
                                              {"f0", "0"},
                                              {"b1", "0"},
                                              {"l0", "-1"},
                                              {"d0", "1"},
                                              {"g0", "0"}})
      ASSERT_EQ(Tell(*clone, step.command), step.answer) << step.command;
    for (const std::string command : {"T0", "t1", "R0", "Z0", "C0", "P9", "E9", "F9", "B3", "M9",
                                      "S9", "X0", "I1", "N5", "L0", "D0", "G0", "K9", "O0"})
      ASSERT_NE(Tell(*clone, command), "-1") << command;
    ASSERT_TRUE(clone->Reset().ok());
  }
}

INSTANTIATE_TEST_SUITE_P(EveryProvider, KeptState, testing::ValuesIn(Subjects()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace waxvm::conformance
