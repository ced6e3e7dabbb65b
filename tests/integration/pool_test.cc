// SPDX-License-Identifier: Apache-2.0
// A pool of microVMs: many threads, faults in between, and a guest that tries to carry state from
// one call into the next. `pool_test --soak` makes 100,000 calls instead of 2,000.
#include "waxvm/pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "waxvm/providers.h"

namespace waxvm {
namespace {

using namespace std::chrono_literals;

int soak_calls = 2'000;  // NOLINT: main sets it

std::string GuestPath(const std::string& name) {
  const char* folder = std::getenv("WAXVM_GUEST_DIR");
  return std::string(folder != nullptr ? folder : WAXVM_GUEST_DIR) + "/" + name;
}

std::size_t Entries(const char* folder) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

/// Waits until it is so, for ten seconds at most.
bool Soon(const std::function<bool()>& so) {
  for (int i = 0; i < 10'000 && !so(); ++i) std::this_thread::sleep_for(1ms);
  return so();
}

class PooledMicroVms : public ::testing::Test {
 protected:
  void SetUp() override {
    provider_ = NewMicroVmProvider();
    if (const absl::Status status = provider_->Available(); !status.ok())
      GTEST_SKIP() << std::string(status.message());
  }

  absl::StatusOr<Snapshot> Take(const std::string& guest) {
    RunOptions options;
    options.limits.memory_bytes = std::uint64_t{64} << 20;
    const auto session = Session::Start(provider_, Program::FromFile(GuestPath(guest)), options);
    if (!session.ok()) return session.status();
    return (*session)->TakeSnapshot();
  }
  void Make(const std::string& guest, const PoolOptions& options) {
    auto snapshot = Take(guest);
    ASSERT_TRUE(snapshot.ok()) << snapshot.status();
    auto pool = Pool::Create(*std::move(snapshot), options);
    ASSERT_TRUE(pool.ok()) << pool.status();
    pool_ = *std::move(pool);
  }

  std::shared_ptr<Provider> provider_;
  std::unique_ptr<Pool> pool_;
};

TEST_F(PooledMicroVms, TheGuestDoesCarryStateWhereItMay) {
  // Or the tests below would show nothing.
  ASSERT_NO_FATAL_FAILURE(Make("carry_state_musl", {.fresh_state = false}));
  EXPECT_EQ(*pool_->Call("visit", "mine"), "");
  const auto found = pool_->Call("visit", "mine");
  ASSERT_TRUE(found.ok()) << found.status();
  for (const char* place :
       {"bss:mine", "data:mine", "tls:mine", "heap:mine", "mapping:mine", "page:written",
        "environment:mine", "file:mine", "descriptor:open", "folder:/tmp", "umask:0123",
        "handler:set", "signal mask:set", "signal:pending"})
    EXPECT_NE(found->find(place), std::string::npos) << place << " in " << *found;
}

TEST_F(PooledMicroVms, NothingCrossesFromCallToCall) {
  for (const char* guest : {"carry_state_musl", "carry_state_glibc"}) {
    SCOPED_TRACE(guest);
    ASSERT_NO_FATAL_FAILURE(Make(guest, {}));
    for (int i = 0; i < 20; ++i) {
      const auto found = pool_->Call("visit", "of call " + std::to_string(i));
      ASSERT_TRUE(found.ok()) << found.status();
      EXPECT_EQ(*found, "");
    }
    EXPECT_EQ(pool_->stats().replaced, 0u);
  }
}

TEST_F(PooledMicroVms, MemoryIsSharedWithTheSnapshot) {
  ASSERT_NO_FATAL_FAILURE(Make("carry_state_musl", {.min_ready = 3}));
  EXPECT_TRUE(pool_->Call("visit", "x").ok());
  ASSERT_TRUE(Soon([&] { return pool_->stats().ready == 3; }));
  const auto memory = pool_->MeasureMemory();
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->instances, 4u);
  EXPECT_GT(memory->private_bytes, 20u * 4096) << "the pages it writes to";
  EXPECT_LT(memory->private_bytes, 1u << 20);
  EXPECT_EQ(memory->resident_bytes, memory->shared_bytes + memory->private_bytes);
}

std::uint64_t ProcessKib(const std::string& name) {
  std::ifstream file("/proc/self/smaps_rollup");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(name + ":")) return std::stoull(line.substr(name.size() + 1));
  return 0;
}

TEST_F(PooledMicroVms, AnIdlePoolGivesItsMemoryBack) {
  ASSERT_NO_FATAL_FAILURE(
      Make("call_bench_musl", {.min_ready = 1, .max_instances = 20, .idle_time = 200ms}));
  ASSERT_TRUE(pool_->Call("dirty", "200").ok());
  const std::uint64_t before = ProcessKib("Private_Dirty");
  constexpr int kThreads = 12;
  std::atomic<int> done = 0;
  std::atomic<bool> leave = false;
  std::vector<std::jthread> threads;
  const absl::Cleanup let_them_end = [&] { leave = true; };
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&] {
      EXPECT_TRUE(pool_->Call("dirty", "200").ok());
      ++done;
      while (!leave) std::this_thread::sleep_for(1ms);  // it could call again
    });
  ASSERT_TRUE(Soon([&] { return done == kThreads; }));
  const auto used = pool_->MeasureMemory();
  ASSERT_TRUE(used.ok()) << used.status();
  EXPECT_GT(used->private_bytes, kThreads * 200u * 4096) << "what they keep for the next call";
  const std::uint64_t most = ProcessKib("Private_Dirty");
  EXPECT_GT(most, before + kThreads * 200u * 4);
  // Twice the idle time, and some.
  EXPECT_TRUE(Soon([&] { return pool_->stats().kept == 0 && pool_->stats().instances <= 1; }));
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr std::uint64_t kRestKib = 4096;  // the sanitizer keeps what is freed for a while
#else
  constexpr std::uint64_t kRestKib = 1024;
#endif
  EXPECT_LT(ProcessKib("Private_Dirty"), before + kRestKib) << "of " << most;
}

TEST_F(PooledMicroVms, WhatAProgramFreesIsTheHostsAgain) {
  RunOptions options;
  options.limits.memory_bytes = std::uint64_t{64} << 20;
  const auto session =
      Session::Start(provider_, Program::FromFile(GuestPath("call_bench_musl")), options);
  ASSERT_TRUE(session.ok()) << session.status();
  const auto resident = [&] { return (*session)->report().memory.value().resident_bytes; };
  const std::uint64_t before = resident();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE((*session)->Call("hold", std::to_string(32 << 20)).ok());
    EXPECT_GE(resident(), before + (32u << 20));
    ASSERT_TRUE((*session)->Call("hold", "0").ok());
    EXPECT_LE(resident(), before + (256u << 10)) << "page tables and the like";
  }
}

/// What threads of a soak do and count.
struct Soak {
  Pool& pool;
  std::atomic<int> visits = 0, faults = 0, exits = 0, limits = 0, cancels = 0;
  // Of the limits and cancels: refused by the pool, and by an instance that was not lost.
  std::atomic<int> never_began = 0, too_late = 0;

  void Count(const absl::Status& status) {
    // What the pool itself says of a call that it did not make speaks of instances.
    if (status.message().find("instance") != status.message().npos) ++never_began;
    if (status.message().find("before it began") != status.message().npos) ++too_late;
  }

  void OneCall(int i) {
    const std::string arguments = "secret " + std::to_string(i);
    if (i % 97 == 13) {
      EXPECT_TRUE(absl::IsAborted(pool.Call("fault", arguments).status()));
      ++faults;
    } else if (i % 97 == 29) {
      EXPECT_TRUE(absl::IsAborted(pool.Call("leave", arguments).status()));
      ++exits;
    } else if (i % 499 == 41) {
      const absl::Status status =
          pool.Call("spin", arguments, {.limits = {.wall_time = 20ms}}).status();
      EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
      Count(status);
      ++limits;
    } else if (i % 499 == 77) {
      std::stop_source stop;
      std::jthread later([&] {
        std::this_thread::sleep_for(5ms);
        stop.request_stop();
      });
      const absl::Status status = pool.Call("spin", arguments, {.stop = stop.get_token()}).status();
      EXPECT_TRUE(absl::IsCancelled(status)) << status;
      Count(status);
      ++cancels;
    } else {
      const auto found = pool.Call("visit", arguments);
      ASSERT_TRUE(found.ok()) << found.status();
      ASSERT_EQ(*found, "") << "of an earlier call, in call " << i;
      ++visits;
    }
  }
};

TEST_F(PooledMicroVms, SoakLeavesNothing) {
  constexpr int kThreads = 4;
  // What the provider keeps, and what the first thread of a process brings along, is there before.
  std::jthread([] {}).join();
  const std::size_t descriptors = Entries("/proc/self/fd"), threads = Entries("/proc/self/task");
  // Enough for all, and not: then they stand in the queue.
  for (const std::size_t instances : {std::size_t{6}, std::size_t{2}}) {
    const int calls = instances > kThreads ? soak_calls : soak_calls / 10;
    ASSERT_NO_FATAL_FAILURE(
        Make("carry_state_musl", {.min_ready = 1, .max_instances = instances, .idle_time = 50ms}));
    Soak soak{*pool_};
    {
      std::vector<std::jthread> callers;
      for (int t = 0; t < kThreads; ++t)
        callers.emplace_back([&, t] {
          for (int i = t; i < calls && !HasFatalFailure(); i += kThreads) soak.OneCall(i);
        });
    }
    EXPECT_EQ(soak.visits + soak.faults + soak.exits + soak.limits + soak.cancels, calls);
    EXPECT_GT(soak.faults * soak.exits * soak.cancels, 0);
    const PoolStats stats = pool_->stats();
    EXPECT_EQ(stats.calls, static_cast<std::uint64_t>(calls - soak.never_began));
    EXPECT_EQ(stats.replaced,
              static_cast<std::uint64_t>(calls - soak.visits - soak.never_began - soak.too_late));
    EXPECT_EQ(stats.in_use + stats.waiting, 0u);
    EXPECT_LE(stats.instances, instances);
    EXPECT_TRUE(Soon([&] { return pool_->stats().kept == 0; })) << "their threads are gone";
    std::cout << calls << " calls, " << instances << " instances: " << stats.created << " made, "
              << stats.replaced << " lost\n";
    pool_.reset();
    EXPECT_EQ(Entries("/proc/self/fd"), descriptors);
    EXPECT_TRUE(Soon([&] { return Entries("/proc/self/task") == threads; }));
  }
}

}  // namespace
}  // namespace waxvm

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc > 1 && std::strcmp(argv[1], "--soak") == 0) waxvm::soak_calls = 100'000;
  return RUN_ALL_TESTS();
}
