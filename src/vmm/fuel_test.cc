// SPDX-License-Identifier: Apache-2.0
// The budget, with counters that count what a test says, and with one of the kernel's that every
// host has. Instructions are counted only where there is a counter for them.
#include "src/vmm/fuel.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <chrono>
#include <limits>
#include <thread>

namespace waxvm::vmm {
namespace {

/// What the counters of one gauge do.
struct Fake {
  std::uint64_t value = 0;
  bool broken = false;
  bool counting = true;
  int made = 0;
  std::uint64_t last_after = 0;

  class Counter final : public FuelCounter {
   public:
    explicit Counter(Fake& fake) : fake_(fake), from_(fake.value) {}
    absl::StatusOr<std::uint64_t> Read() const override {
      if (fake_.broken) return absl::InternalError("broken");
      return fake_.value - from_;
    }
    void Pause() override { fake_.counting = false; }
    void Continue() override { fake_.counting = true; }

   private:
    Fake& fake_;
    const std::uint64_t from_;
  };
  FuelMeter Meter() {
    return [this](std::optional<FuelAlarm> alarm) -> absl::StatusOr<std::unique_ptr<FuelCounter>> {
      ++made;
      last_after = alarm ? alarm->after : 0;
      return std::make_unique<Counter>(*this);
    };
  }
};

TEST(FuelGauge, CountsAgainstTheLimit) {
  Fake fake;
  FuelGauge gauge(fake.Meter());
  EXPECT_FALSE(gauge.active());
  ASSERT_TRUE(gauge.Enter(SIGRTMIN).ok());
  EXPECT_EQ(fake.made, 0) << "nothing is counted without a limit";
  EXPECT_FALSE(gauge.Over());

  gauge.Restart(100);
  ASSERT_TRUE(gauge.Enter(SIGRTMIN).ok());
  EXPECT_EQ(fake.last_after, 101u);
  fake.value = 100;
  EXPECT_FALSE(gauge.Over()) << "all of it may be used";
  gauge.Leave();
  EXPECT_FALSE(fake.counting);
  ASSERT_TRUE(gauge.Enter(SIGRTMIN).ok());
  EXPECT_EQ(fake.made, 1) << "the same counter goes on";
  EXPECT_TRUE(fake.counting);
  fake.value = 101;
  EXPECT_TRUE(gauge.Over());
  EXPECT_EQ(gauge.used(), 101u);

  gauge.Restart(100);
  EXPECT_FALSE(gauge.Over());
  EXPECT_EQ(gauge.used(), 0u);
}

TEST(FuelGauge, TheBudgetGoesFromThreadToThread) {
  Fake fake;
  FuelGauge gauge(fake.Meter());
  gauge.Restart(100);
  ASSERT_TRUE(gauge.Enter(SIGRTMIN).ok());
  fake.value = 60;
  std::thread([&] {
    ASSERT_TRUE(gauge.Enter(SIGRTMIN).ok());
    EXPECT_EQ(fake.made, 2);
    EXPECT_EQ(fake.last_after, 41u) << "what is left";
    EXPECT_EQ(gauge.used(), 60u);
    fake.value = 101;
    EXPECT_TRUE(gauge.Over());
  }).join();
  ASSERT_TRUE(gauge.Enter(SIGRTMIN).ok());
  EXPECT_TRUE(gauge.Over());
}

TEST(FuelGauge, WhatCannotBeReadIsUsedUp) {
  Fake fake;
  FuelGauge gauge(fake.Meter());
  gauge.Restart(std::numeric_limits<std::uint64_t>::max() - 1);
  ASSERT_TRUE(gauge.Enter(SIGRTMIN).ok());
  EXPECT_LE(fake.last_after, std::uint64_t{std::numeric_limits<std::int64_t>::max()});
  EXPECT_FALSE(gauge.Over());
  fake.broken = true;
  EXPECT_TRUE(gauge.Over());
}

std::chrono::nanoseconds ThreadTime() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

TEST(PerfCounter, TheAlarmReachesItsThreadOnce) {
  using std::chrono_literals::operator""ms;
  const int signal = SIGRTMIN + 5;
  sigset_t mine, before;
  sigemptyset(&mine);
  sigaddset(&mine, signal);
  ASSERT_EQ(::pthread_sigmask(SIG_BLOCK, &mine, &before), 0);
  const auto start = ThreadTime();
  const auto counter = NewPerfCounter(kTaskClock, FuelAlarm{.after = 20'000'000, .signal = signal});
  if (!counter.ok()) GTEST_SKIP() << counter.status();
  const timespec now{};
  while (::sigtimedwait(&mine, nullptr, &now) != signal && ThreadTime() - start < 5000ms) {
  }
  const auto taken = ThreadTime() - start;
  EXPECT_GE(taken, 10ms) << "the two clocks differ by what others take of the processor";
  EXPECT_LT(taken, 1000ms);
  const auto counted = (*counter)->Read();
  ASSERT_TRUE(counted.ok());
  EXPECT_GE(*counted, 20'000'000u);
  while (ThreadTime() - start < taken + 60ms) {
  }
  EXPECT_EQ(::sigtimedwait(&mine, nullptr, &now), -1) << "a second one";
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST(PerfCounter, SaysWhyItCannotCount) {
  const auto counter = NewPerfCounter(kGuestInstructions, {});
  if (counter.ok()) GTEST_SKIP() << "this host counts instructions";
  EXPECT_TRUE(absl::IsUnavailable(counter.status()));
  EXPECT_NE(counter.status().message().find("perf_event_open"), absl::string_view::npos)
      << counter.status();
}

}  // namespace
}  // namespace waxvm::vmm
