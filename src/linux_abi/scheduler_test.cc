// SPDX-License-Identifier: Apache-2.0
// Threads, futexes, signals and timers on a fake machine: which thread the vCPU holds, and with
// which registers, after each call.
#include "src/linux_abi/scheduler.h"

#include <gtest/gtest.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <string>

#include "src/linux_abi/testing/fake_process.h"
#include "waxvm/abi/host_call.h"

namespace waxvm::linux_abi {
namespace {

using std::chrono::nanoseconds;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""us;

constexpr std::uint64_t kThreadFlags =
    CLONE_THREAD | CLONE_VM | CLONE_SIGHAND | CLONE_FS | CLONE_FILES;
constexpr std::uint64_t kWord = FakeProcess::kScratch + 0x10000;
constexpr std::uint64_t kOtherWord = kWord + 64;
constexpr std::uint64_t kHandler = 0x4242000;
constexpr std::uint64_t kRestorer = 0x4343000;

class SchedulerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(fake_.Start().ok());
    CpuRegisters& registers = fake_.host.registers;
    registers.rip = 0x401002;
    registers.rsp = FakeProcess::kScratch + 0x100000;
  }

  template <typename... Arguments>
  std::int64_t Call(long number, Arguments... arguments) {
    fake_.host.registers.rax = static_cast<std::uint64_t>(number);
    return fake_.Call(number, arguments...);
  }
  std::int32_t Live() { return fake_.process->thread().id; }
  std::int64_t Rax() const { return static_cast<std::int64_t>(fake_.host.registers.rax); }
  /// Starts a thread with a stack pointer of its own; the caller goes on.
  std::int32_t StartThread(std::uint64_t stack) {
    const std::int64_t id = Call(SYS_clone, kThreadFlags, stack, 0, 0, 0);
    EXPECT_GT(id, 0);
    return static_cast<std::int32_t>(id);
  }
  /// Lets the live thread's slice pass.
  void PassSlice() {
    fake_.host.now += Scheduler::kSlice;
    fake_.process->Tick();
  }
  void SetWord(std::uint64_t at, std::uint32_t value) {
    ASSERT_TRUE(fake_.process->memory().WriteObject(at, value));
  }
  std::uint32_t Word(std::uint64_t at) { return fake_.Object<std::uint32_t>(at); }
  void SetHandler(int signal, std::uint64_t flags = 0, SignalSet mask = 0) {
    const SignalAction action{
        .handler = kHandler, .flags = flags | 0x04000000, .restorer = kRestorer, .mask = mask};
    ASSERT_TRUE(fake_.process->memory().WriteObject(kWord + 256, action));
    ASSERT_EQ(Call(SYS_rt_sigaction, signal, kWord + 256, 0, 8), 0);
  }
  void ReturnFromHandler() {
    fake_.host.registers.rsp += 8;  // what `ret` takes
    Call(SYS_rt_sigreturn);
  }

  FakeProcess fake_;
};

TEST_F(SchedulerTest, ThreadGetsItsOwnRegisters) {
  fake_.host.registers.rbx = 7;
  fake_.host.extended.bytes[100] = std::byte{9};
  const std::int32_t id = StartThread(0x5000);
  EXPECT_EQ(Live(), Process::kPid) << "the caller goes on";
  ASSERT_TRUE(fake_.host.interrupt_at.has_value()) << "but not for ever";
  EXPECT_LE(*fake_.host.interrupt_at - fake_.host.now, Scheduler::kSlice);
  fake_.host.registers.rax = 1234;
  fake_.host.registers.rbx = 8;
  fake_.host.extended.bytes[100] = std::byte{1};
  PassSlice();
  EXPECT_EQ(Live(), id);
  EXPECT_EQ(fake_.host.thread_id, id);
  EXPECT_EQ(Rax(), 0) << "clone returns 0 in the child";
  EXPECT_EQ(fake_.host.registers.rsp, 0x5000u);
  EXPECT_EQ(fake_.host.registers.rbx, 7u);
  EXPECT_EQ(fake_.host.extended.bytes[100], std::byte{9});
  PassSlice();
  EXPECT_EQ(Live(), Process::kPid);
  EXPECT_EQ(Rax(), 1234);
  EXPECT_EQ(fake_.host.registers.rbx, 8u);
  EXPECT_EQ(fake_.host.extended.bytes[100], std::byte{1});
}

TEST_F(SchedulerTest, ThreadsTakeTurnsInOrder) {
  const std::int32_t first = StartThread(0x5000);
  const std::int32_t second = StartThread(0x6000);
  std::vector<std::int32_t> turns;
  for (int i = 0; i < 6; ++i) {
    PassSlice();
    turns.push_back(Live());
  }
  EXPECT_EQ(turns, (std::vector<std::int32_t>{first, second, Process::kPid, first, second,
                                              Process::kPid}));
  fake_.process->Tick();
  EXPECT_EQ(Live(), Process::kPid) << "its slice is not over";
  EXPECT_EQ(Call(SYS_sched_yield), FakeProcess::kEnded) << "others go first";
  EXPECT_EQ(Live(), first);
}

TEST_F(SchedulerTest, NobodyIsSwitchedInsideAStub) {
  StartThread(0x5000);
  fake_.host.at_user_mode = false;
  PassSlice();
  EXPECT_EQ(Live(), Process::kPid);
  fake_.host.at_user_mode = true;
  fake_.process->Tick();
  EXPECT_NE(Live(), Process::kPid);
}

TEST_F(SchedulerTest, FutexWaitsUntilItIsWoken) {
  SetWord(kWord, 5);
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_WAIT, 6, 0), -EAGAIN);
  EXPECT_EQ(Call(SYS_futex, kWord + 1, FUTEX_WAIT, 5, 0), -EINVAL);
  EXPECT_EQ(Call(SYS_futex, 8, FUTEX_WAIT, 5, 0), -EFAULT);
  const std::int32_t id = StartThread(0x5000);
  Call(SYS_futex, kWord, FUTEX_WAIT, 5, 0);
  EXPECT_EQ(Live(), id) << "the other one runs meanwhile";
  EXPECT_EQ(Call(SYS_futex, kOtherWord, FUTEX_WAKE, 1), 0);
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_WAKE, 1), 1);
  EXPECT_EQ(Live(), id) << "waking does not give up the vCPU";
  PassSlice();
  EXPECT_EQ(Live(), Process::kPid);
  EXPECT_EQ(Rax(), 0);
}

TEST_F(SchedulerTest, FutexThatIsNotThere) {
  constexpr std::uint64_t kNowhere = 0x700000000;
  EXPECT_EQ(Call(SYS_futex, kNowhere, FUTEX_WAKE, 1), -EFAULT);
  EXPECT_EQ(Call(SYS_futex, kNowhere, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1), 0);
}

// Without a file and without the right to write, the page that names the word could be replaced.
TEST_F(SchedulerTest, FutexThatOthersMightKnowInMemoryThatCannotBeWritten) {
  const auto map = [&](int protection, int type) {
    const std::int64_t at =
        Call(SYS_mmap, 0, kPageBytes, protection, type | MAP_ANONYMOUS, std::uint64_t(-1), 0);
    EXPECT_GT(at, 0);
    return static_cast<std::uint64_t>(at);
  };
  const std::uint64_t fixed = map(PROT_READ, MAP_PRIVATE);
  EXPECT_EQ(Call(SYS_futex, fixed, FUTEX_WAIT, 7, 0), -EFAULT);
  EXPECT_EQ(Call(SYS_futex, fixed, FUTEX_WAIT_BITSET, 7, 0, 0, 1), -EFAULT);
  EXPECT_EQ(Call(SYS_futex, fixed, FUTEX_WAKE, 1), -EFAULT);
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_REQUEUE, 1, 1, fixed), -EFAULT);
  EXPECT_EQ(Call(SYS_futex, fixed, FUTEX_LOCK_PI, 0, 0), -EFAULT);
  EXPECT_EQ(Call(SYS_futex, fixed, FUTEX_UNLOCK_PI, 0, 0), -EPERM);
  EXPECT_EQ(Call(SYS_futex, fixed, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 7, 0), -EAGAIN);
  EXPECT_EQ(Call(SYS_futex, fixed, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1), 0);
  EXPECT_EQ(Call(SYS_futex, map(PROT_READ, MAP_SHARED), FUTEX_WAIT, 7, 0), -EAGAIN);
  EXPECT_EQ(Call(SYS_futex, map(PROT_READ | PROT_WRITE, MAP_PRIVATE), FUTEX_WAIT, 7, 0), -EAGAIN);
}

TEST_F(SchedulerTest, FutexTimesOut) {
  SetWord(kWord, 5);
  const timespec relative{.tv_sec = 0, .tv_nsec = 3'000'000};
  const nanoseconds before = fake_.host.now;
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_WAIT, 5, fake_.PutObject(relative)), -ETIMEDOUT);
  EXPECT_EQ(fake_.host.now - before, 3ms);
  // An absolute one in the past, on the clock that stands still.
  const timespec past{.tv_sec = 1, .tv_nsec = 0};
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_WAIT_BITSET, 5, fake_.PutObject(past), 0, ~0u),
            -ETIMEDOUT);
  const timespec bad{.tv_sec = 0, .tv_nsec = 1'000'000'000};
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_WAIT, 5, fake_.PutObject(bad)), -EINVAL);
  // Whoever timed out waits no longer.
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_WAKE, 10), 0);
}

TEST_F(SchedulerTest, FutexBitsetsRequeueAndWakeOperation) {
  SetWord(kWord, 1);
  SetWord(kOtherWord, 10);
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(StartThread(0x5000));
  // The main thread goes to sleep first, then the first two threads; the last one acts.
  Call(SYS_futex, kWord, FUTEX_WAIT_BITSET, 1, 0, 0, 2);
  ASSERT_EQ(Live(), ids[0]);
  Call(SYS_futex, kWord, FUTEX_WAIT_BITSET, 1, 0, 0, 4);
  ASSERT_EQ(Live(), ids[1]);
  Call(SYS_futex, kWord, FUTEX_WAIT, 1, 0);
  ASSERT_EQ(Live(), ids[2]);
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_WAKE_BITSET, 9, 0, 0, 1), 1) << "only the one of all bits";
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_CMP_REQUEUE, 0, 9, kOtherWord, 2), -EAGAIN);
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_CMP_REQUEUE, 0, 1, kOtherWord, 1), 1);
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_WAKE, 9), 1);
  // other word: 10 + 5 = 15, and it was 10, so the second word's waiters are woken as well.
  const std::uint32_t operation = FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 10);
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_WAKE_OP, 1, 1, kOtherWord, operation), 1);
  EXPECT_EQ(Word(kOtherWord), 15u);
}

TEST_F(SchedulerTest, PriorityInheritingLockIsHandedOn) {
  SetWord(kWord, 0);
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_LOCK_PI, 0, 0), 0);
  EXPECT_EQ(Word(kWord), static_cast<std::uint32_t>(Process::kPid));
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_LOCK_PI, 0, 0), -EDEADLK);
  const std::int32_t id = StartThread(0x5000);
  PassSlice();
  ASSERT_EQ(Live(), id);
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_TRYLOCK_PI, 0, 0), -EAGAIN);
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_UNLOCK_PI, 0, 0), -EPERM);
  Call(SYS_futex, kWord, FUTEX_LOCK_PI, 0, 0);
  ASSERT_EQ(Live(), Process::kPid);
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_WAKE, 1), -EINVAL) << "it waits for the lock";
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_REQUEUE, 0, 1, kOtherWord), -EINVAL);
  EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_UNLOCK_PI, 0, 0), 0);
  EXPECT_EQ(Word(kWord) & FUTEX_TID_MASK, static_cast<std::uint32_t>(id));
}

TEST_F(SchedulerTest, EndOfAThreadWakesWhoJoins) {
  SetWord(kWord, 1);
  const std::int64_t id = Call(SYS_clone, kThreadFlags | CLONE_CHILD_CLEARTID | CLONE_PARENT_SETTID,
                               0x5000, kOtherWord, kWord, 0);
  EXPECT_EQ(Word(kOtherWord), static_cast<std::uint32_t>(id));
  Call(SYS_futex, kWord, FUTEX_WAIT, 1, 0);
  ASSERT_EQ(Live(), id);
  Call(SYS_exit, 3);
  EXPECT_EQ(Live(), Process::kPid);
  EXPECT_EQ(Rax(), 0);
  EXPECT_EQ(Word(kWord), 0u);
  EXPECT_EQ(fake_.process->scheduler().threads().size(), 1u);
  EXPECT_EQ(Call(SYS_tgkill, Process::kPid, id, 0), -ESRCH);
  EXPECT_EQ(Call(SYS_exit, 3), FakeProcess::kEnded);
  EXPECT_EQ(std::get<Exited>(*fake_.process->ending()).code, 3);
}

TEST_F(SchedulerTest, RobustLocksOfADeadThreadAreMarked) {
  const std::int32_t id = StartThread(0x5000);
  PassSlice();
  ASSERT_EQ(Live(), id);
  // A list of one lock, which has a waiter and whose list entry is 8 bytes before its word; the
  // list ends in a circle, as a hostile one might.
  const std::uint64_t head = kWord + 512;
  const std::uint64_t entry = kWord + 640;
  const std::uint64_t list[3] = {entry, 8, 0};
  ASSERT_TRUE(fake_.process->memory().WriteObject(head, list));
  ASSERT_TRUE(fake_.process->memory().WriteObject(entry, entry));
  SetWord(entry + 8, static_cast<std::uint32_t>(id) | FUTEX_WAITERS);
  EXPECT_EQ(Call(SYS_set_robust_list, head, 24), 0);
  EXPECT_EQ(Call(SYS_set_robust_list, head, 23), -EINVAL);
  Call(SYS_exit, 0);
  EXPECT_EQ(Word(entry + 8), FUTEX_WAITERS | FUTEX_OWNER_DIED);
}

TEST_F(SchedulerTest, SleepLetsOthersRunAndCountsFromItsStart) {
  const std::int32_t id = StartThread(0x5000);
  const timespec long_time{.tv_sec = 0, .tv_nsec = 20'000'000};
  Call(SYS_nanosleep, fake_.PutObject(long_time), 0);
  ASSERT_EQ(Live(), id);
  for (int i = 0; i < 3; ++i) PassSlice();
  EXPECT_EQ(Live(), id);
  ASSERT_TRUE(fake_.host.interrupt_at.has_value());
  EXPECT_EQ(*fake_.host.interrupt_at - fake_.host.now, 5ms);
  PassSlice();
  EXPECT_EQ(Live(), Process::kPid);
  EXPECT_EQ(Rax(), 0);
}

TEST_F(SchedulerTest, HandlerRunsAndReturns) {
  SetHandler(SIGUSR1, SA_SIGINFO, SignalBit(SIGUSR2));
  CpuRegisters& registers = fake_.host.registers;
  registers.r12 = 99;
  fake_.host.extended.bytes[160] = std::byte{5};
  const CpuRegisters before = registers;
  EXPECT_EQ(Call(SYS_kill, Process::kPid, SIGUSR1), FakeProcess::kEnded);
  ASSERT_FALSE(fake_.process->ending());
  EXPECT_EQ(registers.rip, kHandler);
  EXPECT_EQ(registers.rdi, static_cast<std::uint64_t>(SIGUSR1));
  EXPECT_EQ(registers.rsp % 16, 8u) << "as at a function's entry";
  EXPECT_LT(registers.rsp, before.rsp - 128) << "below the red zone";
  EXPECT_EQ(fake_.Object<std::uint64_t>(registers.rsp), kRestorer);
  EXPECT_EQ(fake_.Object<siginfo_t>(registers.rsi).si_code, SI_USER);
  const SignalSet blocked = fake_.process->thread().blocked;
  EXPECT_EQ(blocked, SignalBit(SIGUSR1) | SignalBit(SIGUSR2));
  registers.r12 = 1;
  fake_.host.extended.bytes[160] = std::byte{6};
  ReturnFromHandler();
  EXPECT_EQ(registers.rip, before.rip);
  EXPECT_EQ(registers.rsp, before.rsp);
  EXPECT_EQ(registers.r12, 99u);
  EXPECT_EQ(Rax(), 0) << "the result of kill";
  EXPECT_EQ(fake_.host.extended.bytes[160], std::byte{5});
  EXPECT_EQ(fake_.process->thread().blocked, 0u);
}

TEST_F(SchedulerTest, HandlerWithoutAStackEndsTheProcess) {
  SetHandler(SIGUSR1);
  fake_.host.registers.rsp = 0x100;
  EXPECT_EQ(Call(SYS_kill, Process::kPid, SIGUSR1), FakeProcess::kEnded);
  ASSERT_TRUE(fake_.process->ending());
  EXPECT_EQ(std::get<Fault>(*fake_.process->ending()).signal, SIGSEGV);
}

TEST_F(SchedulerTest, LostSignalGoesToTheHandlerOfFaults) {
  struct {
    std::uint64_t address, flags, bytes;
  } stack{kWord + 0x1000, 0, 0x8000};
  ASSERT_EQ(Call(SYS_sigaltstack, fake_.PutObject(stack), 0), 0);
  SetHandler(SIGUSR1);
  SetHandler(SIGSEGV, SA_ONSTACK | SA_SIGINFO);
  CpuRegisters& registers = fake_.host.registers;
  registers.rsp = 0x100;
  Call(SYS_kill, Process::kPid, SIGUSR1);
  ASSERT_FALSE(fake_.process->ending());
  EXPECT_EQ(registers.rdi, static_cast<std::uint64_t>(SIGSEGV));
  EXPECT_EQ(fake_.Object<siginfo_t>(registers.rsi).si_code, SI_KERNEL);
  EXPECT_GT(registers.rsp, stack.address);
  EXPECT_LE(registers.rsp, stack.address + stack.bytes);
}

TEST_F(SchedulerTest, ReturnWithAFrameOfTheGuestsMakingIsChecked) {
  fake_.host.registers.rsp = FakeProcess::kScratch + FakeProcess::kScratchBytes - 8;
  Call(SYS_rt_sigreturn);
  ASSERT_TRUE(fake_.process->ending());
  EXPECT_EQ(std::get<Fault>(*fake_.process->ending()).signal, SIGSEGV);
}

TEST_F(SchedulerTest, AlternateStackIsUsedOnce) {
  struct {
    std::uint64_t address, flags, bytes;
  } stack{kWord + 0x1000, 0, 0x8000};
  ASSERT_EQ(Call(SYS_sigaltstack, fake_.PutObject(stack), 0), 0);
  SetHandler(SIGUSR1, SA_ONSTACK | SA_NODEFER);
  CpuRegisters& registers = fake_.host.registers;
  Call(SYS_kill, Process::kPid, SIGUSR1);
  EXPECT_GT(registers.rsp, stack.address);
  EXPECT_LE(registers.rsp, stack.address + stack.bytes);
  const std::uint64_t first = registers.rsp;
  EXPECT_EQ(Call(SYS_sigaltstack, fake_.PutObject(stack), 0), -EPERM) << "it is in use";
  Call(SYS_kill, Process::kPid, SIGUSR1);
  EXPECT_LT(registers.rsp, first) << "nested, on the same stack";
  registers.rsp = stack.address + 300;
  Call(SYS_kill, Process::kPid, SIGUSR1);
  EXPECT_TRUE(fake_.process->ending()) << "what is left of it is too small";
}

TEST_F(SchedulerTest, InterruptedCallsRestartOrNot) {
  SetWord(kWord, 5);
  for (const bool restart : {false, true}) {
    SetHandler(SIGALRM, restart ? SA_RESTART : 0);
    const itimerval soon{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_usec = 1000}};
    ASSERT_EQ(Call(SYS_setitimer, ITIMER_REAL, fake_.PutObject(soon), 0), 0);
    fake_.host.registers.rip = 0x401002;
    EXPECT_EQ(Call(SYS_futex, kWord, FUTEX_WAIT, 5, 0), FakeProcess::kEnded);
    EXPECT_EQ(fake_.host.registers.rip, kHandler);
    ReturnFromHandler();
    if (restart) {
      EXPECT_EQ(fake_.host.registers.rip, 0x401000u) << "the instruction again";
      EXPECT_EQ(Rax(), SYS_futex);
    } else {
      EXPECT_EQ(fake_.host.registers.rip, 0x401002u);
      EXPECT_EQ(Rax(), -EINTR);
    }
  }
}

TEST_F(SchedulerTest, InterruptedSleepSaysWhatIsLeft) {
  fake_.spec.clock = std::make_shared<FakeClock>();
  SetHandler(SIGALRM, SA_RESTART);
  const itimerval soon{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_usec = 1000}};
  ASSERT_EQ(Call(SYS_setitimer, ITIMER_REAL, fake_.PutObject(soon), 0), 0);
  const timespec time{.tv_sec = 0, .tv_nsec = 5'000'000};
  Call(SYS_nanosleep, fake_.PutObject(time), kWord);
  EXPECT_EQ(fake_.host.registers.rip, kHandler);
  EXPECT_EQ(fake_.Object<timespec>(kWord).tv_nsec, 4'000'000);
  ReturnFromHandler();
  EXPECT_EQ(Rax(), -EINTR);
}

TEST_F(SchedulerTest, SuspendRestoresTheMaskBehindTheHandler) {
  SetHandler(SIGUSR1);
  const SignalSet mask = SignalBit(SIGUSR1);
  ASSERT_EQ(Call(SYS_rt_sigprocmask, SIG_BLOCK, fake_.PutObject(mask), 0, 8), 0);
  ASSERT_EQ(Call(SYS_kill, Process::kPid, SIGUSR1), 0) << "pending";
  const SignalSet none = 0;
  Call(SYS_rt_sigsuspend, fake_.PutObject(none), 8);
  EXPECT_EQ(fake_.host.registers.rip, kHandler);
  ReturnFromHandler();
  EXPECT_EQ(Rax(), -EINTR);
  EXPECT_EQ(fake_.process->thread().blocked, mask);
}

TEST_F(SchedulerTest, TimedWaitTakesABlockedSignal) {
  const SignalSet mask = SignalBit(SIGUSR1);
  ASSERT_EQ(Call(SYS_rt_sigprocmask, SIG_BLOCK, fake_.PutObject(mask), 0, 8), 0);
  const std::int32_t id = StartThread(0x5000);
  Call(SYS_rt_sigtimedwait, fake_.PutObject(mask), kWord, 0, 8);
  ASSERT_EQ(Live(), id);
  EXPECT_EQ(Call(SYS_kill, Process::kPid, SIGUSR1), 0);
  PassSlice();
  ASSERT_EQ(Live(), Process::kPid);
  EXPECT_EQ(Rax(), SIGUSR1);
  EXPECT_EQ(fake_.Object<siginfo_t>(kWord).si_signo, SIGUSR1);
}

TEST_F(SchedulerTest, RealTimeSignalsQueueOthersDoNot) {
  const SignalSet all = ~SignalSet{0};
  ASSERT_EQ(Call(SYS_rt_sigprocmask, SIG_BLOCK, fake_.PutObject(all), 0, 8), 0);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Call(SYS_kill, Process::kPid, SIGUSR1), 0);
    EXPECT_EQ(Call(SYS_kill, Process::kPid, 40), 0);
  }
  const auto take = [&](int signal) {
    const timespec none{};
    const SignalSet set = SignalBit(signal);
    return Call(SYS_rt_sigtimedwait, fake_.PutObject(set), 0, fake_.PutObject(none), 8);
  };
  EXPECT_EQ(take(SIGUSR1), SIGUSR1);
  EXPECT_EQ(take(SIGUSR1), -EAGAIN);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(take(40), 40);
  EXPECT_EQ(take(40), -EAGAIN);
  std::size_t sent = 0;
  while (sent < 2 * SignalQueue::kMaxQueued && Call(SYS_kill, Process::kPid, 40) == 0) ++sent;
  EXPECT_EQ(sent, SignalQueue::kMaxQueued) << "a guest cannot fill the host's memory";
}

TEST_F(SchedulerTest, FaultGoesToItsHandlerOrEndsTheProcess) {
  SetHandler(SIGSEGV, SA_SIGINFO);
  siginfo_t info = MakeSignalInfo(SIGSEGV, SEGV_MAPERR);
  info.si_addr = reinterpret_cast<void*>(0x1234);
  const TrapState trap{.number = 14, .error_code = 6, .address = 0x1234};
  fake_.process->Raise(info, trap, Fault{.kind = FaultKind::kSegmentation});
  ASSERT_FALSE(fake_.process->ending());
  EXPECT_EQ(fake_.host.registers.rip, kHandler);
  EXPECT_EQ(fake_.Object<siginfo_t>(fake_.host.registers.rsi).si_addr,
            reinterpret_cast<void*>(0x1234));
  // Within its own handler it is blocked: the same fault again is the end.
  fake_.process->Raise(info, trap, Fault{.kind = FaultKind::kSegmentation});
  EXPECT_TRUE(fake_.process->ending());
}

TEST_F(SchedulerTest, NoTimerShowsTheTimeWithoutTheClock) {
  const SignalSet mask = SignalBit(SIGALRM);
  ASSERT_EQ(Call(SYS_rt_sigprocmask, SIG_BLOCK, fake_.PutObject(mask), 0, 8), 0);
  ASSERT_EQ(Call(SYS_timer_create, CLOCK_MONOTONIC, 0, kWord), 0);
  const auto id = static_cast<int>(Word(kWord));
  const itimerspec period{.it_interval = {.tv_sec = 0, .tv_nsec = 1'000'000},
                          .it_value = {.tv_sec = 5, .tv_nsec = 0}};
  const itimerval interval{.it_interval = {}, .it_value = {.tv_sec = 5, .tv_usec = 0}};
  ASSERT_EQ(Call(SYS_timer_settime, id, 0, fake_.PutObject(period), 0), 0);
  for (const int which : {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF})
    ASSERT_EQ(Call(SYS_setitimer, which, fake_.PutObject(interval), 0), 0);
  fake_.host.now += 1234ms;
  fake_.host.cpu_time += 1234ms;
  EXPECT_EQ(Call(SYS_timer_gettime, id, kWord), 0);
  EXPECT_EQ(fake_.Object<itimerspec>(kWord).it_value.tv_sec, 5);
  for (const int which : {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF}) {
    EXPECT_EQ(Call(SYS_getitimer, which, kWord), 0);
    EXPECT_EQ(fake_.Object<itimerval>(kWord).it_value.tv_sec, 5);
  }
  EXPECT_EQ(Call(SYS_alarm, 0), 5);
  fake_.host.now += 5s;
  fake_.process->Tick();
  fake_.host.now += 5s;
  fake_.process->Tick();
  EXPECT_EQ(Call(SYS_timer_getoverrun, id), 0);
}

TEST_F(SchedulerTest, SignalsThatComeFasterThanTheyAreHandledDoNotHoldTheHost) {
  struct {
    std::uint64_t address, flags, bytes;
  } stack{~std::uint64_t{0} - 0xffff, 0, kWord + 0x8000 + 0x10000};
  ASSERT_EQ(Call(SYS_sigaltstack, fake_.PutObject(stack), 0), 0);
  SetHandler(SIGALRM, SA_ONSTACK | SA_NODEFER);
  const itimerval period{.it_interval = {.tv_sec = 0, .tv_usec = 50},
                         .it_value = {.tv_sec = 0, .tv_usec = 50}};
  ASSERT_EQ(Call(SYS_setitimer, ITIMER_REAL, fake_.PutObject(period), 0), 0);
  fake_.host.save_takes = 100us;
  fake_.host.now += 1ms;
  fake_.process->Tick();
  EXPECT_FALSE(fake_.process->ending());
  EXPECT_EQ(fake_.host.registers.rip, kHandler);
  EXPECT_LT(fake_.host.saves, 50) << "the guest runs, and its limits are looked at";
  ASSERT_TRUE(fake_.host.interrupt_at.has_value());
}

TEST_F(SchedulerTest, QueuedSignalsArePaidFor) {
  const SignalSet mask = SignalBit(40);
  ASSERT_EQ(Call(SYS_rt_sigprocmask, SIG_BLOCK, fake_.PutObject(mask), 0, 8), 0);
  const std::uint64_t before = fake_.account.used_bytes();
  for (std::size_t i = 0; i < SignalQueue::kMaxQueued; ++i)
    ASSERT_EQ(Call(SYS_kill, Process::kPid, 40), 0);
  EXPECT_GE(fake_.account.used_bytes() - before, SignalQueue::kMaxQueued * sizeof(siginfo_t));
  const SignalAction ignore{.handler = 1};
  ASSERT_EQ(Call(SYS_rt_sigaction, 40, fake_.PutObject(ignore), 0, 8), 0);
  EXPECT_EQ(fake_.account.used_bytes(), before);
}

TEST_F(SchedulerTest, AnswerOfAHostCallIsGivenOnce) {
  StartThread(0x5000);
  struct waxvm_host_call call {};
  call.version = WAXVM_HOST_CALL_VERSION;
  call.name = kWord;
  call.name_bytes = 1;
  EXPECT_EQ(Call(WAXVM_HOST_CALL_NUMBER, fake_.PutObject(call)), FakeProcess::kEnded);
  ASSERT_TRUE(fake_.process->pending_host_call());
  EXPECT_EQ(fake_.process->CompleteHostCall(std::string()), 0);
  fake_.host.registers.rax = 1234;
  PassSlice();
  PassSlice();
  ASSERT_EQ(Live(), Process::kPid);
  EXPECT_EQ(Rax(), 1234) << "what the guest has in the register by then";
}

TEST_F(SchedulerTest, TimerCountsWhatNobodySaw) {
  fake_.spec.clock = std::make_shared<FakeClock>();
  const SignalSet mask = SignalBit(40);
  ASSERT_EQ(Call(SYS_rt_sigprocmask, SIG_BLOCK, fake_.PutObject(mask), 0, 8), 0);
  struct {
    std::uint64_t value = 77;
    std::int32_t signal = 40, notify = SIGEV_SIGNAL;
    char rest[48] = {};
  } event;
  ASSERT_EQ(Call(SYS_timer_create, CLOCK_MONOTONIC, fake_.PutObject(event), kWord), 0);
  const auto id = static_cast<int>(Word(kWord));
  const itimerspec period{.it_interval = {.tv_sec = 0, .tv_nsec = 1'000'000},
                          .it_value = {.tv_sec = 0, .tv_nsec = 1'000'000}};
  ASSERT_EQ(Call(SYS_timer_settime, id, 0, fake_.PutObject(period), 0), 0);
  for (int i = 0; i < 5; ++i) {
    fake_.host.now += 1ms;
    fake_.process->Tick();
  }
  EXPECT_EQ(Call(SYS_timer_getoverrun, id), 0) << "none was delivered";
  EXPECT_EQ(Call(SYS_rt_sigtimedwait, fake_.PutObject(mask), kWord, 0, 8), 40);
  EXPECT_EQ(fake_.Object<siginfo_t>(kWord).si_overrun, 4);
  EXPECT_EQ(Call(SYS_timer_getoverrun, id), 4);
  EXPECT_EQ(fake_.Object<siginfo_t>(kWord).si_value.sival_int, 77);
  EXPECT_EQ(Call(SYS_timer_delete, id), 0);
  EXPECT_EQ(Call(SYS_timer_delete, id), -EINVAL);
}

TEST_F(SchedulerTest, RestartableSequenceIsAbortedByASwitch) {
  const std::uint64_t area = kWord + 1024;
  ASSERT_EQ(Call(SYS_rseq, area, 32, 0, 0x53053053), 0);
  EXPECT_EQ(Call(SYS_rseq, area, 32, 0, 0x53053053), -EBUSY);
  const std::uint64_t descriptor = kWord + 2048;
  const std::uint64_t abort_at = kWord + 4096;
  const std::uint64_t sequence[4] = {0, 0x401000, 0x10, abort_at};
  ASSERT_TRUE(fake_.process->memory().WriteObject(descriptor, sequence));
  ASSERT_TRUE(fake_.process->memory().WriteObject(area + 8, descriptor));
  SetWord(abort_at - 4, 0x53053053);
  StartThread(0x5000);
  fake_.host.registers.rip = 0x401008;
  PassSlice();
  PassSlice();
  ASSERT_EQ(Live(), Process::kPid);
  EXPECT_EQ(fake_.host.registers.rip, abort_at);
  EXPECT_EQ(fake_.Object<std::uint64_t>(area + 8), 0u);
}

}  // namespace
}  // namespace waxvm::linux_abi
