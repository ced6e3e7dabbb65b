// SPDX-License-Identifier: Apache-2.0
#include "src/coap/timer_wheel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "src/coap/siphash.h"

namespace waxvm::coap {
namespace {

TEST(TimerWheelTest, NothingIsDueInAnEmptyWheel) {
  TimerWheel wheel;
  EXPECT_EQ(wheel.NextTick(), TimerWheel::kNever);
  EXPECT_EQ(wheel.PopDue(1'000'000'000), nullptr);
}

TEST(TimerWheelTest, EachTimerComesAtItsTickAndInOrder) {
  TimerWheel wheel;
  const std::vector<std::uint64_t> ticks = {1,        63,       64,         65,           4095,
                                            4096,     4097,     262143,     262144,       16777215,
                                            16777216, 16777300, 50'000'000, 1'000'000'000};
  std::vector<Timer> timers(ticks.size());
  for (std::size_t i = ticks.size(); i-- > 0;) {
    timers[i].index = static_cast<std::uint32_t>(i);
    wheel.Set(timers[i], ticks[i]);
  }
  for (std::size_t i = 0; i < ticks.size(); ++i) {
    EXPECT_LE(wheel.NextTick(), ticks[i]);
    EXPECT_EQ(wheel.PopDue(ticks[i] - 1), nullptr);
    Timer* const due = wheel.PopDue(ticks[i]);
    ASSERT_NE(due, nullptr) << ticks[i];
    EXPECT_EQ(due->index, i);
    EXPECT_FALSE(due->is_set());
  }
  EXPECT_EQ(wheel.NextTick(), TimerWheel::kNever);
}

TEST(TimerWheelTest, APastTickIsDueAtOnce) {
  TimerWheel wheel;
  EXPECT_EQ(wheel.PopDue(500), nullptr);
  Timer timer;
  wheel.Set(timer, 3);
  EXPECT_LE(wheel.NextTick(), 500u);
  EXPECT_EQ(wheel.PopDue(500), &timer);
}

TEST(TimerWheelTest, ADueTimerCanBeCancelledBeforeItIsTaken) {
  TimerWheel wheel;
  Timer first;
  Timer second;
  wheel.Set(first, 10);
  wheel.Set(second, 10);
  EXPECT_EQ(wheel.PopDue(20), &first);
  wheel.Cancel(second);
  EXPECT_EQ(wheel.PopDue(20), nullptr);
  EXPECT_EQ(wheel.NextTick(), TimerWheel::kNever);
}

TEST(TimerWheelTest, AgreesWithASortedMapUnderRandomUse) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    std::mt19937_64 random(seed);
    TimerWheel wheel;
    std::vector<Timer> timers(200);
    std::multimap<std::uint64_t, Timer*> model;
    const auto forget = [&](Timer* timer) {
      const auto found = std::find_if(model.begin(), model.end(),
                                      [&](const auto& entry) { return entry.second == timer; });
      if (found != model.end()) model.erase(found);
    };
    std::uint64_t now = 0;
    for (int step = 0; step < 3000; ++step) {
      Timer& timer = timers[random() % timers.size()];
      switch (random() % 4) {
        case 0:
        case 1: {
          forget(&timer);
          const std::uint64_t tick = now + 1 + (random() >> (34 + random() % 29));
          wheel.Set(timer, tick);
          model.emplace(tick, &timer);
          break;
        }
        case 2:
          forget(&timer);
          wheel.Cancel(timer);
          break;
        default: {
          now += random() >> (36 + random() % 27);
          std::uint64_t last = 0;
          while (Timer* const due = wheel.PopDue(now)) {
            ASSERT_LE(due->tick, now);
            ASSERT_GE(due->tick, last);
            last = due->tick;
            forget(due);
          }
          ASSERT_TRUE(model.empty() || model.begin()->first > now);
          ASSERT_LE(wheel.NextTick(), model.empty() ? TimerWheel::kNever : model.begin()->first);
          ASSERT_EQ(wheel.NextTick() == TimerWheel::kNever, model.empty());
        }
      }
    }
  }
}

TEST(SipHashTest, KnownAnswers) {
  // The vectors of the reference implementation: key 00 01 … 0f, message 00 01 …
  const SipKey key = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
  const std::uint64_t words[] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
  using Sip24 = SipHash<2, 4>;
  EXPECT_EQ(Sip24::Of(key, {}), 0x726fdb47dd0e0e31);
  EXPECT_EQ(Sip24::Of(key, {words, 1}), 0x93f5f5799a932462);
  EXPECT_EQ(Sip24::Of(key, {words, 2}), 0x3f2acc7f57c29bdb);
  using Sip13 = SipHash<1, 3>;
  EXPECT_EQ(Sip13::Of(key, {}), 0xabac0158050fc4dc);
}

}  // namespace
}  // namespace waxvm::coap
