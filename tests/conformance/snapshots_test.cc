// SPDX-License-Identifier: Apache-2.0
// Snapshots, clones and resets, Instance by Instance. The guest `keeper` keeps what it is told in
// every place that a program has.
#include <set>
#include <thread>

#include "snapshots.h"

namespace waxvm::conformance {
namespace {

using std::chrono_literals::operator""ms;

class Snapshots : public SnapshotBench {
 protected:
  void SetUp() override { SetUpGuest("keeper"); }
};

TEST_P(Snapshots, CloneGoesOnWhereTheSnapshotWasTaken) {
  EXPECT_EQ(Tell(*source_, "a5"), "5");
  EXPECT_EQ(Tell(*source_, "x77"), "77");
  EXPECT_EQ(Tell(*source_, "s1"), "1");
  ASSERT_NO_FATAL_FAILURE(Take());
  EXPECT_EQ(Tell(*source_, "a1"), "6") << "the source goes on as well";
  const auto clone = Clone();
  ASSERT_TRUE(clone);
  EXPECT_EQ(Tell(*clone, "x0"), "77") << "vector registers";
  EXPECT_EQ(Tell(*clone, "a2"), "7");
  EXPECT_EQ(Tell(*clone, "s0"), "1") << "signal handlers";
  source_.reset();
  const auto later = Clone();
  ASSERT_TRUE(later);
  EXPECT_EQ(Tell(*later, "a2"), "7") << "the snapshot outlives its source, and other clones";
}

TEST_P(Snapshots, ClonesShareNothingTheyWrite) {
  ASSERT_NO_FATAL_FAILURE(Take());
  const auto one = Clone(), two = Clone();
  ASSERT_TRUE(one && two);
  EXPECT_EQ(Tell(*one, "a1"), "1");
  EXPECT_EQ(Tell(*one, "d500"), "2");
  EXPECT_EQ(Tell(*two, "d1"), "2");
  EXPECT_EQ(Tell(*one, "d1"), "3");
  EXPECT_EQ(Tell(*two, "a1"), "1");
  EXPECT_EQ(Tell(*one, "f1"), "0");
  EXPECT_EQ(Tell(*one, "f0"), "1");
  EXPECT_EQ(Tell(*two, "f0"), "0");
}

// A guest that tries to carry something from one call into the next, by every way it has.
TEST_P(Snapshots, ResetUndoesEverything) {
  ASSERT_NO_FATAL_FAILURE(Take());
  const auto clone = Clone();
  ASSERT_TRUE(clone);
  const std::string descriptor = Tell(*Clone(), "o0");
  for (int round = 0; round < 20; ++round) {
    SCOPED_TRACE(round);
    EXPECT_EQ(Tell(*clone, "a3"), "3");
    EXPECT_EQ(Tell(*clone, "d1"), "2");
    EXPECT_EQ(Tell(*clone, "d1024"), "3");
    EXPECT_EQ(Tell(*clone, "x0"), "0");
    EXPECT_EQ(Tell(*clone, "x99"), "99");
    EXPECT_EQ(Tell(*clone, "f0"), "0");
    EXPECT_EQ(Tell(*clone, "f1"), "0");
    EXPECT_EQ(Tell(*clone, "s0"), "0");
    EXPECT_EQ(Tell(*clone, "s1"), "1");
    EXPECT_EQ(Tell(*clone, "p300"), "1") << "new memory is zero, whatever was in it before";
    EXPECT_EQ(Tell(*clone, "h3000000"), "0");
    EXPECT_EQ(Tell(*clone, "o3"), absl::StrCat(6 + std::stoi(descriptor))) << "descriptors";
    const absl::Status reset = clone->Reset();
    ASSERT_TRUE(reset.ok()) << reset;
  }
}

// Calls that leave no trace but in memory are undone without making the process anew.
TEST_P(Snapshots, ResetAfterMemoryAlone) {
  Tell(*source_, "d1024");
  ASSERT_NO_FATAL_FAILURE(Take());
  const auto clone = Clone();
  ASSERT_TRUE(clone);
  for (int round = 0; round < 200; ++round) {
    ASSERT_EQ(Tell(*clone, absl::StrCat("d", 1 + round * 5)), "3") << round;
    ASSERT_EQ(Tell(*clone, "a1"), "1");
    ASSERT_EQ(Tell(*clone, "x0"), "0");
    ASSERT_EQ(Tell(*clone, "x5"), "5");
    ASSERT_TRUE(clone->Reset().ok());
  }
  EXPECT_EQ(clone->usage().vm_exits, 0u);
}

// The same page fault in every call is no guest that faults for ever.
TEST_P(Snapshots, ResetAfterTheSameFaultOftenEnough) {
  ASSERT_NO_FATAL_FAILURE(Take());
  const auto clone = Clone();
  ASSERT_TRUE(clone);
  for (int round = 0; round < 250; ++round) {
    ASSERT_EQ(Tell(*clone, round % 2 == 0 ? "u1" : "u60"), "0") << round;
    ASSERT_EQ(Tell(*clone, "u0"), "7");
    ASSERT_TRUE(clone->Reset().ok());
  }
}

TEST_P(Snapshots, ResetUndoesProtectionKeys) {
  ASSERT_NO_FATAL_FAILURE(Take());
  const std::string first = Tell(*Clone(), "k5");
  if (first == "fault") GTEST_SKIP() << "programs have no protection keys here";
  const auto clone = Clone();
  ASSERT_TRUE(clone);
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(Tell(*clone, "k6"), first) << round;
    EXPECT_EQ(Tell(*clone, "k7"), "6");
    ASSERT_TRUE(clone->Reset().ok());
  }
  EXPECT_EQ(Tell(*Clone(), "k1"), first);
}

TEST_P(Snapshots, RandomnessIsNotRepeated) {
  ASSERT_NO_FATAL_FAILURE(Take());
  std::set<std::string> seen;
  for (int i = 0; i < 4; ++i) {
    const auto clone = Clone();
    ASSERT_TRUE(clone);
    EXPECT_TRUE(seen.insert(Tell(*clone, "r0")).second);
    ASSERT_TRUE(clone->Reset().ok());
    EXPECT_TRUE(seen.insert(Tell(*clone, "r0")).second);
  }
}

TEST_P(Snapshots, StatesThatDoNotAllowIt) {
  EXPECT_TRUE(absl::IsFailedPrecondition(source_->Reset())) << "not made from a snapshot";
  ASSERT_NO_FATAL_FAILURE(Take());
  const auto clone = Clone();
  ASSERT_TRUE(clone);
  EXPECT_TRUE(clone->Reset().ok()) << "nothing to undo";
  EXPECT_TRUE(absl::IsFailedPrecondition(clone->Resume().status())) << "the call is not answered";
  EXPECT_EQ(Tell(*clone, "z0"), "fault");
  EXPECT_TRUE(absl::IsFailedPrecondition(clone->Reset())) << "it has ended";
  EXPECT_TRUE(absl::IsFailedPrecondition(clone->TakeSnapshot().status()));
  bench_->spec.limits.memory_bytes = std::uint64_t{32} << 20;
  EXPECT_TRUE(absl::IsInvalidArgument(provider_->Clone(snapshot_, bench_->spec).status()));
}

TEST_P(Snapshots, LimitsOfOneCall) {
  ASSERT_NO_FATAL_FAILURE(Take());
  const auto clone = Clone();
  ASSERT_TRUE(clone);
  ASSERT_TRUE(clone->RestartLimits({.wall_time = 5000ms * Slowness()}).ok());
  EXPECT_EQ(Tell(*clone, "a1"), "1");
  ASSERT_TRUE(clone->RestartLimits({.wall_time = 50ms}).ok());
  EXPECT_EQ(Tell(*clone, "w0"), "limit wall");
  const auto other = Clone();
  ASSERT_TRUE(other->RestartLimits({.cpu_time = 50ms}).ok());
  EXPECT_EQ(Tell(*other, "w0"), "limit cpu");
  const auto unlimited = Clone();
  ASSERT_TRUE(unlimited->RestartLimits({.wall_time = 1ms}).ok());
  std::this_thread::sleep_for(5ms);
  ASSERT_TRUE(unlimited->RestartLimits({}).ok());
  EXPECT_EQ(Tell(*unlimited, "a1"), "1");
}

TEST_P(Snapshots, CloneOfAClone) {
  ASSERT_NO_FATAL_FAILURE(Take());
  const auto first = Clone();
  ASSERT_TRUE(first);
  EXPECT_EQ(Tell(*first, "a4"), "4");
  EXPECT_EQ(Tell(*first, "p64"), "1");
  auto second = first->TakeSnapshot();
  ASSERT_TRUE(second.ok()) << second.status();
  snapshot_ = *std::move(second);
  const auto clone = Clone();
  ASSERT_TRUE(clone);
  EXPECT_EQ(Tell(*clone, "a1"), "5");
  ASSERT_TRUE(clone->Reset().ok());
  EXPECT_EQ(Tell(*clone, "a1"), "5");
  ASSERT_TRUE(first->Reset().ok());
  EXPECT_EQ(Tell(*first, "a1"), "1") << "a clone goes back to its own snapshot";
}

TEST_P(Snapshots, ManyClonesOnSeveralThreads) {
  ASSERT_NO_FATAL_FAILURE(Take());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < 8; ++i) {
        auto clone = provider_->Clone(snapshot_, bench_->spec);
        ASSERT_TRUE(clone.ok()) << clone.status();
        EXPECT_EQ(Tell(**clone, absl::StrCat("a", t + 1)), absl::StrCat(t + 1));
        EXPECT_TRUE((*clone)->Reset().ok());
        EXPECT_EQ(Tell(**clone, "d64"), "2");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

INSTANTIATE_TEST_SUITE_P(EveryProvider, Snapshots, testing::ValuesIn(Subjects()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace waxvm::conformance
