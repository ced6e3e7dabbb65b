// SPDX-License-Identifier: Apache-2.0
#include "src/vmm/vdso/guest_clock.h"

#include <chrono>
#include <optional>
#include <random>

#include "gtest/gtest.h"

namespace waxvm::vmm {
namespace {

using std::chrono::nanoseconds;

constexpr std::uint64_t kKhz = 2'000'000;  // two cycles a nanosecond
constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kFirst = 1000 * kSecond;
constexpr std::int64_t kOffset = 1'700'000'000 * kSecond;

// A counter and a clock that run as told: the clock `speed` nanoseconds for each of the counter's.
class World final : public ClockSource {
 public:
  nanoseconds RealTime() override { return nanoseconds(Now() + offset); }
  nanoseconds MonotonicTime() override { return nanoseconds(Now()); }
  std::int64_t Now() {
    cycles += read_cycles;
    return static_cast<std::int64_t>(clock_ns);
  }
  std::uint64_t Tsc() { return cycles += read_cycles; }
  void Advance(std::int64_t ns) {
    cycles += static_cast<std::uint64_t>(ns) * 2;
    clock_ns += static_cast<double>(ns) * speed;
  }

  std::uint64_t cycles = 5'000'000;
  std::uint64_t read_cycles = 0;
  double clock_ns = kFirst;
  double speed = 1.0;
  std::int64_t offset = kOffset;
};

// As vdso.c does it; empty where it would make the system call.
std::optional<std::int64_t> ReadAsGuest(const waxvm_vdso_page& page, std::uint64_t tsc) {
  if ((page.sequence & 1) != 0 || page.valid == 0) return std::nullopt;
  const std::uint64_t cycles = tsc - page.tsc_base;
  if (cycles > page.tsc_limit) return std::nullopt;
  return waxvm_vdso_monotonic(&page, cycles);
}

class GuestClockTest : public testing::Test {
 protected:
  std::int64_t Read() {
    const auto inside = ReadAsGuest(page_, world_->Tsc());
    return inside ? *inside : clock_.MonotonicTime().count();
  }
  std::int64_t Error() { return Read() - static_cast<std::int64_t>(world_->clock_ns); }
  // Ends the two short lines at the start.
  void Settle() {
    for (int i = 0; i < 100; ++i) {
      world_->Advance(10'000'000);
      Read();
    }
  }

  std::shared_ptr<World> world_ = std::make_shared<World>();
  waxvm_vdso_page page_ = {};
  bool granted_ = true;
  GuestClock clock_{world_, kKhz, &page_, [this] { return world_->Tsc(); },
                    [this] { return granted_; }};
};

TEST_F(GuestClockTest, NothingIsShownBeforeAnybodyAsks) {
  EXPECT_FALSE(ReadAsGuest(page_, world_->Tsc()));
  EXPECT_EQ(page_.valid, 0u);
  EXPECT_EQ(page_.monotonic_ns, 0);
}

TEST_F(GuestClockTest, TheFirstReadingDrawsALineThatTheGuestReads) {
  EXPECT_EQ(clock_.MonotonicTime().count(), kFirst);
  EXPECT_EQ(clock_.RealTime().count(), kFirst + kOffset);
  world_->Advance(500'000);
  EXPECT_NEAR(static_cast<double>(*ReadAsGuest(page_, world_->Tsc()) - kFirst), 500'000, 1);
  EXPECT_EQ(page_.realtime_offset_ns, kOffset);
}

TEST_F(GuestClockTest, ALineEndsAndTheHostsReadingDrawsTheNext) {
  clock_.MonotonicTime();
  world_->Advance(1'100'000);
  EXPECT_FALSE(ReadAsGuest(page_, world_->Tsc()));
  clock_.MonotonicTime();
  EXPECT_TRUE(ReadAsGuest(page_, world_->Tsc()));
  Settle();
  world_->Advance(nanoseconds(GuestClock::kLongestLine).count() + 1000);
  EXPECT_FALSE(ReadAsGuest(page_, world_->Tsc())) << "no line is longer";
}

TEST_F(GuestClockTest, WhoeverDecidesIsAskedForEachLine) {
  Settle();
  granted_ = false;
  EXPECT_TRUE(ReadAsGuest(page_, world_->Tsc())) << "until the line ends";
  Settle();
  EXPECT_FALSE(ReadAsGuest(page_, world_->Tsc()));
  EXPECT_EQ(page_.monotonic_ns, 0);
  EXPECT_EQ(page_.tsc_base, 0u);
  granted_ = true;
  Settle();
  EXPECT_TRUE(ReadAsGuest(page_, world_->Tsc()));
}

TEST_F(GuestClockTest, HostAndGuestReadTheSame) {
  for (int i = 0; i < 1000; ++i) {
    world_->Advance(137'211);
    const std::int64_t host = clock_.MonotonicTime().count();
    ASSERT_EQ(ReadAsGuest(page_, world_->cycles), host) << i;
  }
}

TEST_F(GuestClockTest, FollowsAClockThatRunsFasterOrSlower) {
  for (const double speed : {1.0004, 0.9996, 1.0, 1.00002}) {
    world_->speed = speed;
    Settle();
    for (int i = 0; i < 1000; ++i) {
      world_->Advance(1'234'567);
      ASSERT_LT(std::abs(Error()), 1000) << speed << " " << i;
    }
  }
}

TEST_F(GuestClockTest, TheFirstLinesAreExactThoughTheSpeedIsNotKnown) {
  world_->speed = 1.0004;
  for (int i = 0; i < 5000; ++i) {
    world_->Advance(50'000);
    ASSERT_LT(std::abs(Error()), 5000) << i;
  }
}

TEST_F(GuestClockTest, NeverStepsBackWhateverTheHostsClockDoes) {
  std::minstd_rand random(7);
  world_->read_cycles = 60;
  std::int64_t last = 0;
  for (int i = 0; i < 200'000; ++i) {
    world_->speed = 0.9 + static_cast<double>(random() % 2000) * 1e-4;
    if (random() % 1000 == 0) world_->clock_ns -= 5'000'000;
    world_->Advance(static_cast<std::int64_t>(random() % 3'000'000));
    const std::int64_t now = random() % 2 == 0 ? clock_.MonotonicTime().count() : Read();
    ASSERT_GE(now, last) << i;
    last = now;
  }
}

TEST_F(GuestClockTest, WhatWasAheadIsCaughtUpWith) {
  Settle();
  world_->clock_ns -= 30'000'000;
  for (int i = 0; i < 200; ++i) {
    world_->Advance(10'000'000);
    Read();
  }
  EXPECT_LT(std::abs(Error()), 1000);
}

TEST_F(GuestClockTest, AfterALongSleepTheTimeIsTheHostsAtOnce) {
  Settle();
  world_->Advance(3600 * kSecond);
  EXPECT_LE(std::abs(Error()), 1);
  // The host was suspended: the counter stood still, or went on while the clock stood still.
  world_->clock_ns += 1e9 * 100;
  world_->Advance(200'000'000);
  EXPECT_LE(std::abs(Error()), 1);
  world_->Advance(50'000'000);
  EXPECT_LT(std::abs(Error()), 1000) << "that was no measurement of the speed";
}

TEST_F(GuestClockTest, ASetRealtimeClockIsSeenAndScatterIsNot) {
  Settle();
  world_->offset = kOffset + 300;
  Settle();
  EXPECT_EQ(page_.realtime_offset_ns, kOffset);
  world_->offset = kOffset - 5 * kSecond;
  Settle();
  EXPECT_EQ(page_.realtime_offset_ns, kOffset - 5 * kSecond);
}

TEST_F(GuestClockTest, ACounterThatIsAMomentBehindShowsTheStartOfTheLine) {
  clock_.MonotonicTime();
  const std::uint64_t now = world_->cycles;
  world_->cycles -= 40;
  EXPECT_FALSE(ReadAsGuest(page_, world_->cycles));
  EXPECT_EQ(clock_.MonotonicTime().count(), kFirst);
  EXPECT_EQ(page_.tsc_base, now) << "the line stays";
}

TEST_F(GuestClockTest, ACounterThatWasSetBackDrawsANewLine) {
  Settle();
  const std::int64_t before = Read();
  world_->cycles = 1000;
  EXPECT_GE(clock_.MonotonicTime().count(), before);
  EXPECT_EQ(page_.tsc_base, 1000u);
}

}  // namespace
}  // namespace waxvm::vmm
