// SPDX-License-Identifier: Apache-2.0
#include "src/vmm/kick.h"

#include <signal.h>

#include <cstring>
#include <thread>

#include "src/vmm/machine_for_test.h"

namespace waxvm::vmm {
namespace {

using std::chrono_literals::operator""ms;

class KickTest : public MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    if (IsSkipped()) return;
    auto kick = Kick::Create(7);
    ASSERT_TRUE(kick.ok()) << kick.status();
    kick_ = *std::move(kick);
    pages().CopyTo(kCode, Code().Bytes({0xeb, 0xfe}).bytes());  // jmp to itself
    machine_->Start(kCode, kStack);
  }
  std::unique_ptr<Kick> kick_;
};

TEST_F(KickTest, InterruptsASpinningGuestFromAnotherThread) {
  ASSERT_TRUE(kick_->Enter(std::nullopt, std::nullopt).ok());
  ASSERT_TRUE(machine_->SetSignalMask(kick_->run_mask()).ok());
  std::thread other([&] {
    std::this_thread::sleep_for(20ms);
    kick_->Request();
  });
  EXPECT_EQ(machine_->Run().kind, Exit::Kind::kInterrupted);
  EXPECT_TRUE(kick_->requested());
  other.join();
  kick_->Leave();
}

TEST_F(KickTest, InterruptsAtAnyMomentAroundTheEntry) {
  for (int round = 0; round < 200; ++round) {
    auto kick = Kick::Create(7);
    ASSERT_TRUE(kick.ok());
    ASSERT_TRUE((*kick)->Enter(std::nullopt, std::nullopt).ok());
    ASSERT_TRUE(machine_->SetSignalMask((*kick)->run_mask()).ok());
    std::thread other([&] {
      for (volatile int i = 0; i < round * 100;) i = i + 1;
      (*kick)->Request();
    });
    while (!(*kick)->requested()) {
      EXPECT_EQ(machine_->Run().kind, Exit::Kind::kInterrupted);
      (*kick)->Consume();
    }
    other.join();
    (*kick)->Leave();
  }
}

TEST_F(KickTest, InterruptsByTheClocks) {
  const auto start = Kick::Clock::now();
  ASSERT_TRUE(kick_->Enter(start + 50ms, std::nullopt).ok());
  ASSERT_TRUE(machine_->SetSignalMask(kick_->run_mask()).ok());
  EXPECT_EQ(machine_->Run().kind, Exit::Kind::kInterrupted);
  EXPECT_GE(Kick::Clock::now() - start, 50ms);
  kick_->Leave();
  ASSERT_TRUE(kick_->Enter(std::nullopt, 50ms).ok());
  EXPECT_EQ(machine_->Run().kind, Exit::Kind::kInterrupted);
  EXPECT_GE(Kick::Clock::now() - start, 95ms);
  kick_->Leave();
}

TEST_F(KickTest, LeavesTheThreadsSignalsAsTheyWere) {
  sigset_t before, after;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  ASSERT_TRUE(kick_->Enter(std::nullopt, std::nullopt).ok());
  kick_->Request();
  kick_->Leave();
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  EXPECT_EQ(std::memcmp(&before, &after, 8), 0);
  sigset_t pending;
  sigpending(&pending);
  EXPECT_EQ(sigismember(&pending, SIGRTMIN + 7), 0);
}

TEST_F(KickTest, WaitEndsByRequestDeadlineAndTimeout) {
  ASSERT_TRUE(kick_->Enter(Kick::Clock::now() + 60ms, std::nullopt).ok());
  EXPECT_EQ(kick_->Wait({}, 5ms), 0);
  EXPECT_EQ(kick_->Wait({}, std::nullopt), -EINTR) << "the deadline";
  kick_->Leave();
  ASSERT_TRUE(kick_->Enter(std::nullopt, std::nullopt).ok());
  kick_->Request();
  EXPECT_EQ(kick_->Wait({}, std::nullopt), -EINTR);
  kick_->Leave();
}

TEST(KickOptionsTest, RefusesWhatIsNoRealTimeSignal) {
  EXPECT_EQ(Kick::Create(-1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Kick::Create(64).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace waxvm::vmm
