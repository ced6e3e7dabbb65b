// SPDX-License-Identifier: Apache-2.0
// Pools over a provider whose clones cost nothing and do what a test asks for.
#include "waxvm/pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "src/supervisor/pool_fake_for_test.h"

namespace waxvm {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

/// Waits until it is so, for ten seconds at most.
bool Soon(const std::function<bool()>& so) {
  for (int i = 0; i < 10'000 && !so(); ++i) std::this_thread::sleep_for(1ms);
  return so();
}

class PoolTest : public ::testing::Test {
 protected:
  ~PoolTest() override {
    fake_.released = true;
    blocked_.clear();
    pool_.reset();
    EXPECT_EQ(fake_.alive, 0);
  }

  Snapshot MakeSnapshot(const RunOptions& options = {}) {
    auto session = Session::Start(provider_, Native(nullptr), options);
    EXPECT_TRUE(session.ok()) << session.status();
    return *(*session)->TakeSnapshot();
  }
  /// Makes a pool; what was counted before counts no more.
  void Make(const PoolOptions& options, const RunOptions& run = {}) {
    Snapshot snapshot = MakeSnapshot(run);
    fake_.most_alive = 0;
    auto pool = Pool::Create(std::move(snapshot), options);
    ASSERT_TRUE(pool.ok()) << pool.status();
    pool_ = *std::move(pool);
  }
  std::string Count() {
    const auto result = pool_->Call("count", "");
    return result.ok() ? *result : result.status().ToString();
  }
  bool WaitFor(std::size_t PoolStats::*field, std::size_t value) {
    return Soon([&] { return pool_->stats().*field == value; });
  }
  /// A thread's call is in the program until fake_.released.
  void Block() {
    const int before = fake_.blocked;
    blocked_.emplace_back([this] { (void)pool_->Call("block", ""); });
    EXPECT_TRUE(Soon([&] { return fake_.blocked > before; }));
  }

  const std::shared_ptr<FakeCloningProvider> provider_ = std::make_shared<FakeCloningProvider>();
  FakeCloning& fake_ = *provider_->all;
  std::unique_ptr<Pool> pool_;
  std::vector<std::jthread> blocked_;
};

TEST_F(PoolTest, OptionsThatContradictThemselves) {
  const Snapshot snapshot = MakeSnapshot();
  const auto refused = [&](const PoolOptions& options) {
    const absl::Status status = Pool::Create(snapshot, options).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return Message(status);
  };
  EXPECT_THAT(refused({.max_instances = 0}), HasSubstr("max_instances 0"));
  EXPECT_THAT(refused({.min_ready = 3, .max_instances = 2}), HasSubstr("min_ready is 3"));
  EXPECT_THAT(refused({.idle_time = 0ns}), HasSubstr("idle_time is 0 ns"));
  Make({.idle_time = std::chrono::nanoseconds::max()});
  EXPECT_EQ(Count(), "1") << "for ever is allowed";
}

TEST_F(PoolTest, CreateSaysWhyNothingCanBeMade) {
  const Snapshot snapshot = MakeSnapshot();
  fake_.SetCloneStatus(absl::ResourceExhaustedError("no memory"));
  EXPECT_EQ(Pool::Create(snapshot).status(), absl::ResourceExhaustedError("no memory"));
}

TEST_F(PoolTest, EveryCallFindsTheStateOfTheSnapshot) {
  Make({.min_ready = 1, .max_instances = 3});
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Count(), "1");
  ASSERT_TRUE(WaitFor(&PoolStats::ready, 1)) << "refilled in the background";
  const PoolStats stats = pool_->stats();
  EXPECT_EQ(stats.instances, 2u);
  EXPECT_EQ(stats.kept, 1u);
  EXPECT_EQ(stats.in_use, 0u);
  EXPECT_EQ(stats.calls, 5u);
  EXPECT_EQ(stats.resets, 5u);
  EXPECT_EQ(stats.created, 2u);
  EXPECT_EQ(stats.replaced, 0u);
}

TEST_F(PoolTest, StateIsKeptOnlyWhereThatIsAskedFor) {
  Make({.min_ready = 0, .max_instances = 3, .fresh_state = false});
  EXPECT_EQ(Count(), "1");
  EXPECT_EQ(Count(), "2");
  std::jthread([&] { EXPECT_EQ(Count(), "1") << "never from another thread"; }).join();
  EXPECT_EQ(Count(), "3");
  EXPECT_EQ(pool_->stats().resets, 0u);
}

TEST_F(PoolTest, ErrorsAreTheCallsOwnAndTheLostInstanceIsReplaced) {
  Make({.min_ready = 1, .max_instances = 2});
  EXPECT_EQ(pool_->Call("fail", "").status(), absl::FailedPreconditionError("as asked"));
  EXPECT_EQ(pool_->stats().replaced, 0u) << "the program's error is no loss";
  EXPECT_TRUE(absl::IsInvalidArgument(pool_->Call("", "").status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(pool_->Call("f", "", {.limits = {.wall_time = 0ns}}).status()));
  for (int i = 1; i <= 3; ++i) {
    const absl::Status status = pool_->Call("fault", "").status();
    EXPECT_TRUE(absl::IsAborted(status)) << status;
    EXPECT_THAT(Message(status), HasSubstr("asked for"));
    EXPECT_EQ(Count(), "1");
    EXPECT_EQ(pool_->stats().replaced, static_cast<std::uint64_t>(i));
  }
  EXPECT_LE(fake_.most_alive, 2);
}

TEST_F(PoolTest, CloneThatCannotBePutBackIsReplaced) {
  Make({.min_ready = 0, .max_instances = 1});
  EXPECT_EQ(*pool_->Call("spoil", ""), "") << "the call itself went well";
  EXPECT_EQ(Count(), "1");
  EXPECT_EQ(pool_->stats().replaced, 1u);
  fake_.has_reset = false;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Count(), "1") << "a provider without Reset";
  EXPECT_EQ(pool_->stats().replaced, 4u);
  EXPECT_LE(fake_.most_alive, 1);
}

TEST_F(PoolTest, CallThatRunsOutOfHostMemoryLosesItsInstance) {
  Make({.min_ready = 0, .max_instances = 1});
  for (std::uint64_t i = 1; i <= 3; ++i) {
    EXPECT_EQ(Count(), "1");
    EXPECT_THROW((void)pool_->Call("exhaust", ""), std::bad_alloc);
    const PoolStats stats = pool_->stats();
    EXPECT_EQ(stats.in_use, 0u);
    EXPECT_EQ(stats.instances, 0u);
    EXPECT_EQ(stats.replaced, i);
    EXPECT_EQ(fake_.alive, 0);
  }
}

TEST_F(PoolTest, FullQueueAndFullPool) {
  Make({.min_ready = 0, .max_instances = 1, .queue_limit = 1});
  Block();
  std::jthread waits([&] { EXPECT_EQ(Count(), "1"); });
  ASSERT_TRUE(WaitFor(&PoolStats::waiting, 1));
  const absl::Status full = pool_->Call("count", "").status();
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_THAT(Message(full), HasSubstr("all 1 instances"));
  EXPECT_THAT(Message(full), HasSubstr("1 calls wait for one already (queue_limit)"));
  EXPECT_EQ(pool_->stats().in_use, 1u);
  fake_.released = true;
  waits.join();
  EXPECT_LE(fake_.most_alive, 1) << "another thread's instance is destroyed first";
}

TEST_F(PoolTest, WaitingIsBoundedByTheWallTimeLimit) {
  Make({.min_ready = 0, .max_instances = 1});
  Block();
  const auto before = std::chrono::steady_clock::now();
  const absl::Status late = pool_->Call("count", "", {.limits = {.wall_time = 30ms}}).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(late)) << late;
  EXPECT_THAT(Message(late), HasSubstr("while all 1 instances of the pool were in use"));
  EXPECT_GE(std::chrono::steady_clock::now() - before, 30ms);
  EXPECT_EQ(pool_->stats().waiting, 0u);
}

TEST_F(PoolTest, WaitingIsCancelled) {
  Make({.min_ready = 0, .max_instances = 1});
  Block();
  std::stop_source stop;
  std::jthread stopper([&] {
    EXPECT_TRUE(WaitFor(&PoolStats::waiting, 1));
    stop.request_stop();
  });
  const absl::Status status = pool_->Call("count", "", {.stop = stop.get_token()}).status();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("while it waited"));
  EXPECT_TRUE(absl::IsCancelled(pool_->Call("count", "", {.stop = stop.get_token()}).status()));
  EXPECT_EQ(pool_->stats().waiting, 0u);
}

TEST_F(PoolTest, FirstComeFirstServed) {
  // Written in the calls, of which there is one at a time.
  std::vector<std::thread::id> order, came;
  RunOptions run;
  run.grants = {Function("back", [&](const HostCallContext&, std::string_view) {
    order.push_back(std::this_thread::get_id());
    return absl::StatusOr<std::string>("");
  })};
  Make({.min_ready = 0, .max_instances = 1}, run);
  Block();
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      // Who comes back at once stands behind those who wait.
      for (int turn = 0; turn < 2; ++turn) EXPECT_TRUE(pool_->Call("call", "").ok());
    });
    came.push_back(threads.back().get_id());
    ASSERT_TRUE(WaitFor(&PoolStats::waiting, i + 1));
  }
  fake_.released = true;
  threads.clear();
  ASSERT_EQ(order.size(), 12u);
  order.resize(6);
  EXPECT_EQ(order, came);
  EXPECT_LE(fake_.most_alive, 1);
}

TEST_F(PoolTest, CallFromAHostFunctionOfItsOwnCall) {
  RunOptions run;
  run.grants = {Function("back", [&](const HostCallContext&, std::string_view) {
    const auto inner = pool_->Call("count", "");
    return absl::StatusOr<std::string>(inner.ok() ? *inner : inner.status().ToString());
  })};
  Make({.min_ready = 0, .max_instances = 1}, run);
  EXPECT_THAT(*pool_->Call("call", ""), HasSubstr("does not wait for one"));
  EXPECT_THAT(*pool_->Call("call", ""), HasSubstr("all 1 instances of the pool are in use"));
  pool_.reset();
  Make({.min_ready = 0, .max_instances = 2}, run);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(*pool_->Call("call", ""), "1");
  EXPECT_EQ(pool_->stats().instances, 2u);
  EXPECT_EQ(pool_->stats().calls, 6u);
}

TEST_F(PoolTest, FailureToMakeClonesIsToldAndNotTriedForEveryCall) {
  Make({.min_ready = 1, .max_instances = 2});
  EXPECT_EQ(Count(), "1");
  ASSERT_TRUE(WaitFor(&PoolStats::ready, 1));
  fake_.SetCloneStatus(absl::ResourceExhaustedError("no descriptors left"));
  EXPECT_TRUE(absl::IsAborted(pool_->Call("fault", "").status()));
  EXPECT_TRUE(absl::IsAborted(pool_->Call("fault", "").status()));
  const absl::Status status = pool_->Call("count", "").status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("cannot make an instance"));
  EXPECT_THAT(Message(status), HasSubstr("no descriptors left"));
  int told = 0;
  const auto until = std::chrono::steady_clock::now() + 100ms;
  while (std::chrono::steady_clock::now() < until)
    if (absl::IsUnavailable(pool_->Call("count", "").status())) ++told;
  EXPECT_GT(told, 20) << "refused at once";
  // 10, 20, 40, 80, ms apart: never more than a few in 100 ms.
  const std::string last = Message(pool_->Call("count", "").status());
  EXPECT_TRUE(last.find("(2 failures") != std::string::npos ||
              last.find("(3 failures") != std::string::npos ||
              last.find("(4 failures") != std::string::npos)
      << last;
  fake_.SetCloneStatus(absl::OkStatus());
  EXPECT_TRUE(Soon([&] { return Count() == "1"; })) << "it recovers";
  ASSERT_TRUE(WaitFor(&PoolStats::ready, 1));
}

TEST_F(PoolTest, WhoWaitsForWhatCannotBeMadeIsTold) {
  Make({.min_ready = 0, .max_instances = 1});
  Block();
  absl::Status told;
  std::jthread waits([&] { told = pool_->Call("count", "").status(); });
  ASSERT_TRUE(WaitFor(&PoolStats::waiting, 1));
  fake_.SetCloneStatus(absl::InternalError("broken"));
  fake_.released = true;
  waits.join();
  EXPECT_TRUE(absl::IsUnavailable(told)) << told;
  EXPECT_THAT(Message(told), HasSubstr("broken"));
}

TEST_F(PoolTest, UnusedClonesAreGivenBack) {
  Make({.min_ready = 1, .max_instances = 8, .idle_time = 20ms});
  std::atomic<bool> leave = false;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      EXPECT_EQ(Count(), "1");
      while (!leave) std::this_thread::sleep_for(1ms);
    });
  ASSERT_TRUE(Soon([&] { return pool_->stats().calls == 4; }));
  EXPECT_TRUE(WaitFor(&PoolStats::kept, 0)) << "their threads live on";
  EXPECT_TRUE(WaitFor(&PoolStats::instances, 1)) << "min_ready";
  EXPECT_EQ(pool_->stats().ready, 1u);
  leave = true;
  EXPECT_EQ(Count(), "1");
}

TEST_F(PoolTest, CloneInUseIsNotGivenBack) {
  Make({.min_ready = 0, .max_instances = 8, .idle_time = 200ms});
  EXPECT_EQ(Count(), "1");
  for (const auto until = std::chrono::steady_clock::now() + 600ms;
       std::chrono::steady_clock::now() < until;)
    EXPECT_EQ(Count(), "1");
  EXPECT_EQ(pool_->stats().created, 1u);
}

TEST_F(PoolTest, TrimGivesBackNow) {
  Make({.min_ready = 2, .max_instances = 8});
  EXPECT_EQ(Count(), "1");
  ASSERT_TRUE(WaitFor(&PoolStats::ready, 2));
  EXPECT_EQ(fake_.alive, 3);
  pool_->Trim();
  EXPECT_EQ(fake_.alive, 2);
  EXPECT_EQ(pool_->stats().kept, 0u);
  EXPECT_EQ(pool_->stats().instances, 2u);
  EXPECT_EQ(Count(), "1");
}

TEST_F(PoolTest, ThreadsThatHaveGoneKeepNothing) {
  Make({.min_ready = 1, .max_instances = 4});
  for (int i = 0; i < 200; ++i) std::jthread([&] { EXPECT_EQ(Count(), "1"); }).join();
  EXPECT_LE(fake_.most_alive, 4);
  EXPECT_EQ(Count(), "1") << "finds them gone";
  EXPECT_TRUE(WaitFor(&PoolStats::kept, 1));
  EXPECT_TRUE(WaitFor(&PoolStats::instances, 2));
  EXPECT_EQ(pool_->stats().calls, 201u) << "what they did is remembered";
  EXPECT_EQ(pool_->stats().resets, 201u);
}

TEST_F(PoolTest, ThreadsOutliveTheirPools) {
  std::atomic<int> turn = 0;
  std::jthread thread([&] {
    for (int i = 0; i < 5; ++i) {
      while (turn != 2 * i + 1) std::this_thread::sleep_for(100us);
      EXPECT_EQ(Count(), "1");
      ++turn;
    }
  });
  for (int i = 0; i < 5; ++i) {
    Make({.min_ready = 0, .max_instances = 1});
    ++turn;
    ASSERT_TRUE(Soon([&] { return turn == 2 * i + 2; }));
    pool_.reset();
    EXPECT_EQ(fake_.alive, 0) << "its clone is gone, though the thread is not";
  }
}

TEST_F(PoolTest, SeveralPoolsAtOnce) {
  Make({.min_ready = 1, .max_instances = 2});
  auto other = *Pool::Create(MakeSnapshot(), {.fresh_state = false});
  for (int i = 1; i < 4; ++i) {
    EXPECT_EQ(Count(), "1");
    EXPECT_EQ(*other->Call("count", ""), std::to_string(i));
  }
}

TEST_F(PoolTest, TheEndWaitsForCallsAndCancelsThoseInTheQueue) {
  Make({.min_ready = 0, .max_instances = 1});
  absl::StatusOr<std::string> running = absl::UnknownError("");
  std::jthread busy([&] { running = pool_->Call("block", ""); });
  ASSERT_TRUE(Soon([&] { return fake_.blocked == 1; }));
  absl::Status queued;
  std::jthread waits([&] { queued = pool_->Call("count", "").status(); });
  ASSERT_TRUE(WaitFor(&PoolStats::waiting, 1));
  std::atomic<bool> gone = false;
  std::jthread end([&, pool = std::move(pool_).release()] {
    delete pool;
    gone = true;
  });
  waits.join();
  EXPECT_TRUE(absl::IsCancelled(queued)) << queued;
  std::this_thread::sleep_for(10ms);
  EXPECT_FALSE(gone);
  fake_.released = true;
  busy.join();
  end.join();
  EXPECT_TRUE(running.ok()) << running.status();
}

TEST_F(PoolTest, MemoryOfIdleClones) {
  Make({.min_ready = 2, .max_instances = 4});
  EXPECT_EQ(Count(), "1");
  ASSERT_TRUE(WaitFor(&PoolStats::ready, 2));
  const auto memory = pool_->MeasureMemory();
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->instances, 3u);
  EXPECT_EQ(memory->resident_bytes, 300u);
  EXPECT_EQ(memory->private_bytes, 90u);
  EXPECT_EQ(memory->shared_bytes, 210u);
}

// What ThreadSanitizer looks at: more threads than instances, threads that come and go, faults,
// limits, cancellation, shrinking and questions, all at once.
TEST_F(PoolTest, EverythingAtOnce) {
  Make({.min_ready = 1, .max_instances = 3, .queue_limit = 4, .idle_time = 2ms});
  std::atomic<std::uint64_t> good = 0, lost = 0;
  const auto work = [&](int seed, int calls) {
    for (int i = 0; i < calls; ++i) {
      std::stop_source stop;
      CallOptions options;
      if (i % 5 == 0) options.limits.wall_time = 50ms;
      if (i % 7 == 0) options.stop = stop.get_token();
      const bool fault = (i + seed) % 11 == 0;
      const auto result = pool_->Call(fault ? "fault" : "count", "", options);
      if (result.ok()) {
        EXPECT_EQ(*result, "1");
        ++good;
      } else if (absl::IsAborted(result.status())) {
        EXPECT_TRUE(fault);
        ++lost;
      } else {
        EXPECT_TRUE(absl::IsResourceExhausted(result.status()) ||
                    absl::IsDeadlineExceeded(result.status()))
            << result.status();
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 6; ++t) threads.emplace_back([&, t] { work(t, 300); });
    threads.emplace_back([&] {
      for (int i = 0; i < 40; ++i) std::jthread([&, i] { work(i, 2); }).join();
    });
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        pool_->Trim();
        EXPECT_LE(pool_->stats().instances, 3u);
        EXPECT_TRUE(pool_->MeasureMemory().ok());
        std::this_thread::sleep_for(1ms);
      }
    });
  }
  EXPECT_GT(good, 0u);
  const PoolStats stats = pool_->stats();
  EXPECT_EQ(stats.replaced, lost);
  EXPECT_EQ(stats.calls, good + lost);
  EXPECT_EQ(stats.waiting, 0u);
  EXPECT_EQ(stats.in_use, 0u);
  EXPECT_LE(fake_.most_alive, 3);
}

}  // namespace
}  // namespace waxvm
