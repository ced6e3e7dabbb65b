// SPDX-License-Identifier: Apache-2.0
// What a program finds when it starts, and the calls that are not about files.
#include "src/linux_abi/process.h"

#include <elf.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "src/linux_abi/fixed_answers.h"
#include "src/linux_abi/fixed_time.h"
#include "src/linux_abi/testing/fake_process.h"
#include "waxvm/abi/host_call.h"

namespace waxvm::linux_abi {
namespace {

using std::chrono_literals::operator""s;

class ProcessTest : public testing::Test {
 protected:
  void Start() { ASSERT_TRUE(fake_.Start().ok()); }
  template <typename... Arguments>
  std::int64_t Call(long number, Arguments... arguments) {
    return fake_.Call(number, arguments...);
  }
  template <typename T>
  T EndedWith() {
    const auto& ending = fake_.process->ending();
    if (!ending || !std::holds_alternative<T>(*ending)) {
      ADD_FAILURE() << "the process has not ended in that way";
      return T{};
    }
    return std::get<T>(*ending);
  }

  FakeProcess fake_;
};

// Walks the stack as a C library's start code does.
struct StartStack {
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  std::map<std::uint64_t, std::uint64_t> auxiliary;
};

StartStack ReadStartStack(FakeProcess& fake) {
  StartStack stack;
  std::uint64_t at = fake.process->entry().stack_pointer;
  const auto next = [&] {
    at += 8;
    return fake.Object<std::uint64_t>(at - 8);
  };
  const auto strings = [&](std::vector<std::string>& list) {
    while (const std::uint64_t address = next()) {
      std::string text;
      EXPECT_GE(fake.process->memory().ReadString(address, 4096, text), 0);
      list.push_back(text);
    }
  };
  const std::uint64_t count = next();
  strings(stack.arguments);
  strings(stack.environment);
  EXPECT_EQ(count, stack.arguments.size());
  while (const std::uint64_t type = next()) stack.auxiliary[type] = next();
  return stack;
}

TEST_F(ProcessTest, StackHoldsWhatTheAbiSays) {
  fake_.spec.arguments = {"name", "", "two words"};
  fake_.spec.environment = {"A=1", "B="};
  Start();
  EXPECT_EQ(fake_.process->entry().stack_pointer % 16, 0u);
  EXPECT_EQ(fake_.process->entry().instruction_pointer, 0x401100u);
  StartStack stack = ReadStartStack(fake_);
  EXPECT_EQ(stack.arguments, fake_.spec.arguments);
  EXPECT_EQ(stack.environment, fake_.spec.environment);
  EXPECT_EQ(stack.auxiliary[AT_PAGESZ], 4096u);
  EXPECT_EQ(stack.auxiliary[AT_ENTRY], 0x401100u);
  EXPECT_EQ(stack.auxiliary[AT_PHNUM], 3u);
  EXPECT_TRUE(stack.auxiliary.contains(AT_RANDOM));
  EXPECT_TRUE(stack.auxiliary.contains(AT_EXECFN));
  EXPECT_FALSE(stack.auxiliary.contains(AT_SYSINFO_EHDR)) << "the host's vDSO is not inside";
}

TEST_F(ProcessTest, WithoutTheGrantEvenAtRandomIsConstant) {
  Start();
  FakeProcess other;
  ASSERT_TRUE(other.Start().ok());
  const auto random = [](FakeProcess& fake) {
    return fake.Text(ReadStartStack(fake).auxiliary[AT_RANDOM], 16);
  };
  EXPECT_EQ(random(fake_), random(other));
  FakeProcess granted;
  granted.spec.random = std::make_shared<FakeRandom>();
  ASSERT_TRUE(granted.Start().ok());
  EXPECT_NE(random(granted), random(other));
}

TEST_F(ProcessTest, RefusesArgumentsThatDoNotFit) {
  fake_.spec.arguments = {std::string(200'000, 'x')};
  EXPECT_EQ(fake_.Start().code(), absl::StatusCode::kInvalidArgument);
  FakeProcess zero;
  zero.spec.environment = {std::string("A=\0B", 4)};
  EXPECT_EQ(zero.Start().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ProcessTest, RefusesAnImageThatDoesNotFit) {
  FakeProcess small(32 * 1024);
  EXPECT_EQ(small.Start().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(ProcessTest, SegmentsHaveTheirRightsAndZeroedTails) {
  Start();
  EXPECT_EQ(fake_.pages.RightsAt(0x401000), (PageRights{.read = true, .execute = true}));
  EXPECT_EQ(fake_.pages.RightsAt(0x402000), (PageRights{.read = true, .write = true}));
  EXPECT_EQ(fake_.Text(0x402300, 64), std::string(64, '\0')) << "after p_filesz";
  const std::byte byte{};
  EXPECT_FALSE(fake_.process->memory().Write(0x401000, {&byte, 1}));
}

TEST_F(ProcessTest, ExitEndsWithTheLowByte) {
  Start();
  EXPECT_EQ(Call(SYS_exit_group, 0x1ff), FakeProcess::kEnded);
  EXPECT_EQ(EndedWith<Exited>().code, 0xff);
}

TEST_F(ProcessTest, UnknownCallsAreEnosysAndNamed) {
  Start();
  EXPECT_EQ(Call(SYS_io_uring_setup, 1, 0), -ENOSYS);
  EXPECT_TRUE(fake_.gate.HasDenied(Resource::kSystemCall, "io_uring_setup"));
  EXPECT_EQ(Call(1'000'000), -ENOSYS);
  EXPECT_TRUE(fake_.gate.HasDenied(Resource::kSystemCall, "number 1000000"));
  EXPECT_EQ(Call(SYS_execve, 0, 0, 0), -ENOSYS);
  EXPECT_EQ(Call(SYS_fork), -ENOSYS);
  EXPECT_TRUE(fake_.gate.HasDenied(Resource::kSystemCall, "fork"));
}

TEST_F(ProcessTest, FixedAnswersAreWhatTheCallsSay) {
  Start();
  for (const FixedAnswer& answer : FixedAnswers())
    EXPECT_EQ(Call(answer.number), answer.value) << SyscallName(answer.number);
}

TEST_F(ProcessTest, ThreadsMeetTheLimit) {
  fake_.spec.limits.processes = 2;
  Start();
  constexpr std::uint64_t kThread =
      CLONE_THREAD | CLONE_VM | CLONE_SIGHAND | CLONE_FS | CLONE_FILES;
  EXPECT_EQ(Call(SYS_clone, kThread), Process::kPid + 1);
  EXPECT_EQ(Call(SYS_clone, kThread), -EAGAIN);
  EXPECT_TRUE(fake_.gate.HasDenied(Resource::kLimit, "processes"));
  EXPECT_EQ(Call(SYS_clone, SIGCHLD), -ENOSYS);
  EXPECT_TRUE(fake_.gate.HasDenied(Resource::kSystemCall, "fork"));
  EXPECT_EQ(Call(SYS_clone3, 0, 0), -EINVAL);
  EXPECT_EQ(Call(SYS_clone3, 0, 88), -EFAULT);
}

TEST_F(ProcessTest, ClocksStandStillWithoutTheGrant) {
  Start();
  const std::uint64_t at = fake_.Reserve(16);
  for (const clockid_t clock : {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME}) {
    ASSERT_EQ(Call(SYS_clock_gettime, clock, at), 0);
    EXPECT_EQ(fake_.Object<timespec>(at).tv_sec, kFixedTimeSeconds);
  }
  fake_.host.cpu_time = 5s;
  ASSERT_EQ(Call(SYS_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, at), 0);
  EXPECT_EQ(fake_.Object<timespec>(at).tv_sec, 0) << "CPU time is time, too";
  EXPECT_EQ(Call(SYS_time, 0), kFixedTimeSeconds);
  EXPECT_EQ(Call(SYS_clock_gettime, 99, at), -EINVAL);
  EXPECT_EQ(Call(SYS_clock_gettime, CLOCK_REALTIME, 8), -EFAULT);
}

TEST_F(ProcessTest, ClocksAreTheGrantedOne) {
  const auto clock = std::make_shared<FakeClock>();
  fake_.spec.clock = clock;
  Start();
  const std::uint64_t at = fake_.Reserve(16);
  ASSERT_EQ(Call(SYS_clock_gettime, CLOCK_REALTIME, at), 0);
  EXPECT_EQ(fake_.Object<timespec>(at).tv_sec, 1'700'000'000);
  fake_.gate.refuse = [](const Access& access) { return access.resource == Resource::kClock; };
  ASSERT_EQ(Call(SYS_clock_gettime, CLOCK_REALTIME, at), 0);
  EXPECT_EQ(fake_.Object<timespec>(at).tv_sec, kFixedTimeSeconds) << "refused by the authorizer";
}

TEST_F(ProcessTest, SleepingNeedsNoGrant) {
  Start();
  const timespec three{.tv_sec = 3, .tv_nsec = 5};
  EXPECT_EQ(Call(SYS_nanosleep, fake_.PutObject(three), 0), 0);
  EXPECT_EQ(fake_.host.waited, 3s + std::chrono::nanoseconds(5));
  const timespec bad{.tv_sec = 0, .tv_nsec = 1'000'000'000};
  EXPECT_EQ(Call(SYS_nanosleep, fake_.PutObject(bad), 0), -EINVAL);
  EXPECT_EQ(Call(SYS_nanosleep, 8, 0), -EFAULT);
  const timespec later{.tv_sec = kFixedTimeSeconds + 2, .tv_nsec = 0};
  fake_.host.waited = 0s;
  EXPECT_EQ(Call(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, fake_.PutObject(later), 0),
            0);
  EXPECT_EQ(fake_.host.waited, 2s);
}

TEST_F(ProcessTest, RandomnessFailsWithoutTheGrant) {
  fake_.gate.refuse = [](const Access& access) { return access.resource == Resource::kRandom; };
  Start();
  EXPECT_EQ(Call(SYS_getrandom, fake_.Reserve(16), 16, 0), -EPERM);
  EXPECT_TRUE(fake_.gate.HasDenied(Resource::kRandom, "getrandom"));
}

TEST_F(ProcessTest, RandomnessComesFromTheGrantedSource) {
  fake_.spec.random = std::make_shared<FakeRandom>();
  Start();
  const std::uint64_t at = fake_.Reserve(16);
  EXPECT_EQ(Call(SYS_getrandom, at, 16, 0), 16);
  EXPECT_EQ(fake_.Text(at + 1, 1)[0], fake_.Text(at, 1)[0] + 1);
  EXPECT_EQ(Call(SYS_getrandom, 8, 16, 0), -EFAULT);
  EXPECT_EQ(Call(SYS_getrandom, at, 16, 64), -EINVAL);
}

TEST_F(ProcessTest, MmapOfAFileCopiesItsBytes) {
  Start();
  const std::int64_t fd = Call(SYS_memfd_create, fake_.Put("x"), 0);
  ASSERT_GE(fd, 0);
  const std::string text(5000, 'q');
  ASSERT_EQ(Call(SYS_write, fd, fake_.Put(text), 5000), 5000);
  const std::int64_t at = Call(SYS_mmap, 0, 8192, PROT_READ, MAP_PRIVATE, fd, 0);
  ASSERT_GT(at, 0);
  EXPECT_EQ(fake_.Text(static_cast<std::uint64_t>(at), 5000), text);
  EXPECT_EQ(fake_.Text(static_cast<std::uint64_t>(at) + 5000, 1), std::string(1, '\0'));
  EXPECT_EQ(Call(SYS_mmap, 0, 8192, PROT_READ, MAP_PRIVATE, 77, 0), -EBADF);
  EXPECT_EQ(Call(SYS_mmap, 0, 8192, PROT_READ, MAP_PRIVATE, fd, 1), -EINVAL);
  EXPECT_GT(Call(SYS_mmap, 0, 8192, PROT_WRITE, MAP_SHARED, fd, 0), 0);
  EXPECT_EQ(Call(SYS_mmap, 0, 8192, PROT_READ, 0, fd, 0), -EINVAL) << "neither shared nor private";
}

TEST_F(ProcessTest, SignalsOfItsOwn) {
  Start();
  EXPECT_EQ(Call(SYS_kill, 12345, SIGTERM), -ESRCH);
  EXPECT_EQ(Call(SYS_kill, Process::kPid, 65), -EINVAL);
  EXPECT_EQ(Call(SYS_kill, Process::kPid, 0), 0);
  EXPECT_EQ(Call(SYS_kill, Process::kPid, SIGCHLD), 0) << "ignored by default";
  const std::uint64_t block = std::uint64_t{1} << (SIGTERM - 1);
  EXPECT_EQ(Call(SYS_rt_sigprocmask, SIG_BLOCK, fake_.PutObject(block), 0, 8), 0);
  EXPECT_EQ(Call(SYS_tgkill, Process::kPid, Process::kPid, SIGTERM), 0);
  EXPECT_FALSE(fake_.process->ending()) << "pending";
  EXPECT_EQ(Call(SYS_rt_sigprocmask, SIG_UNBLOCK, fake_.PutObject(block), 0, 8),
            FakeProcess::kEnded);
  EXPECT_EQ(EndedWith<Fault>().signal, SIGTERM);
}

TEST_F(ProcessTest, SignalActionsAreKept) {
  Start();
  const SignalAction ignore{.handler = 1, .flags = 0, .restorer = 0, .mask = 7};
  const std::uint64_t old = fake_.Reserve(sizeof(SignalAction));
  const std::uint64_t action = FakeProcess::kScratch + 4096;
  ASSERT_TRUE(fake_.process->memory().WriteObject(action, ignore));
  EXPECT_EQ(Call(SYS_rt_sigaction, SIGTERM, action, old, 8), 0);
  EXPECT_EQ(fake_.Object<SignalAction>(old).handler, 0u);
  EXPECT_EQ(Call(SYS_rt_sigaction, SIGTERM, 0, old, 8), 0);
  EXPECT_EQ(fake_.Object<SignalAction>(old).mask, 7u);
  EXPECT_EQ(Call(SYS_kill, 0, SIGTERM), 0) << "ignored";
  EXPECT_EQ(Call(SYS_rt_sigaction, SIGKILL, action, 0, 8), -EINVAL);
  EXPECT_EQ(Call(SYS_rt_sigaction, 0, action, 0, 8), -EINVAL);
  EXPECT_EQ(Call(SYS_rt_sigaction, 65, action, 0, 8), -EINVAL);
  EXPECT_EQ(Call(SYS_rt_sigaction, SIGTERM, action, 0, 4), -EINVAL);
  EXPECT_EQ(Call(SYS_kill, 0, SIGKILL), FakeProcess::kEnded);
  EXPECT_EQ(EndedWith<Fault>().signal, SIGKILL);
}

TEST_F(ProcessTest, TouchingBeyondTheLimitEndsTheRun) {
  Start();
  const std::int64_t at = Call(SYS_mmap, 0, std::int64_t{1} << 30, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_GT(at, 0) << "address space is not memory";
  fake_.spec.random = std::make_shared<FakeRandom>();
  std::int64_t result = 0;
  for (int i = 0; i < 64 && result != FakeProcess::kEnded; ++i)
    result = Call(SYS_getrandom, at + i * (std::int64_t{1} << 24), 1 << 24, 0);
  EXPECT_EQ(result, FakeProcess::kEnded);
  EXPECT_EQ(EndedWith<LimitReached>().limit, LimitKind::kMemory);
}

TEST_F(ProcessTest, MemoryRefusedToACallIsCounted) {
  Start();
  const std::int64_t fd = Call(SYS_memfd_create, fake_.Put("x"), 0);
  ASSERT_GE(fd, 0);
  std::int64_t written = 0;
  for (int i = 0; i < 64 && written >= 0; ++i)
    written = Call(SYS_write, fd, FakeProcess::kScratch, FakeProcess::kScratchBytes);
  EXPECT_EQ(written, -ENOSPC);
  EXPECT_TRUE(fake_.gate.HasDenied(Resource::kLimit, "memory"));
  EXPECT_FALSE(fake_.process->ending());
}

TEST_F(ProcessTest, HostCallGoesOutAndComesBack) {
  Start();
  struct waxvm_host_call call {};
  call.version = WAXVM_HOST_CALL_VERSION;
  const std::string name = "greet";
  const std::uint64_t text = FakeProcess::kScratch + 4096;
  ASSERT_TRUE(fake_.process->memory().Write(text, std::as_bytes(std::span(name))));
  call.name = text;
  call.name_bytes = 5;
  call.request = text;
  call.request_bytes = 3;
  call.reply = text + 64;
  call.reply_capacity = 4;
  EXPECT_EQ(Call(WAXVM_HOST_CALL_NUMBER, fake_.PutObject(call)), FakeProcess::kEnded);
  ASSERT_TRUE(fake_.process->pending_host_call());
  const HostCallRequest asked = fake_.process->TakeHostCall();
  EXPECT_EQ(asked.name, "greet");
  EXPECT_EQ(asked.request, "gre");
  EXPECT_EQ(fake_.process->CompleteHostCall(std::string("a longer reply")), 0);
  const auto answered = fake_.Object<struct waxvm_host_call>(FakeProcess::kScratch);
  EXPECT_EQ(answered.reply_bytes, 14u) << "the full size, though it was cut";
  EXPECT_EQ(answered.status, WAXVM_HOST_CALL_OK);
  EXPECT_EQ(fake_.Text(text + 64, 5), std::string("a lo\0", 5));
}

TEST_F(ProcessTest, BadHostCallsAreRefused) {
  Start();
  struct waxvm_host_call good {};
  good.version = WAXVM_HOST_CALL_VERSION;
  good.name = FakeProcess::kScratch;
  good.name_bytes = 1;
  const auto result = [&](auto change) {
    struct waxvm_host_call call = good;
    change(call);
    return Call(WAXVM_HOST_CALL_NUMBER, fake_.PutObject(call));
  };
  EXPECT_EQ(Call(WAXVM_HOST_CALL_NUMBER, 8), -EFAULT);
  EXPECT_EQ(result([](auto& call) { call.version = 2; }), -EINVAL);
  EXPECT_EQ(result([](auto& call) { call.reserved = 1; }), -EINVAL);
  EXPECT_EQ(result([](auto& call) { call.name_bytes = 0; }), -EINVAL);
  EXPECT_EQ(result([](auto& call) { call.name_bytes = 256; }), -EINVAL);
  EXPECT_EQ(result([](auto& call) { call.name = 8; }), -EFAULT);
  EXPECT_EQ(result([](auto& call) { call.request_bytes = ~std::uint64_t{0}; }), -E2BIG);
  EXPECT_EQ(result([](auto& call) { call.request_bytes = 4096; }), -EFAULT);
  EXPECT_FALSE(fake_.account.TakeRefused());
}

TEST_F(ProcessTest, LimitsAreTheInstances) {
  fake_.spec.limits.open_files = 17;
  Start();
  const std::uint64_t at = fake_.Reserve(sizeof(rlimit));
  EXPECT_EQ(Call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, at), 0);
  EXPECT_EQ(fake_.Object<rlimit>(at).rlim_cur, 17u);
  EXPECT_EQ(Call(SYS_prlimit64, 0, 99, 0, at), -EINVAL);
  EXPECT_EQ(Call(SYS_prlimit64, 55, RLIMIT_NOFILE, 0, at), -ESRCH);
  const rlimit more{.rlim_cur = 100, .rlim_max = 100};
  EXPECT_EQ(Call(SYS_setrlimit, RLIMIT_NOFILE, fake_.PutObject(more)), -EPERM);
}

TEST_F(ProcessTest, FsBaseStaysInTheUserHalf) {
  Start();
  constexpr int kArchSetFs = 0x1002;
  EXPECT_EQ(Call(SYS_arch_prctl, kArchSetFs, 0x12345000), 0);
  EXPECT_EQ(fake_.host.registers.fs_base, 0x12345000u);
  EXPECT_EQ(Call(SYS_arch_prctl, kArchSetFs, std::uint64_t{1} << 63), -EPERM);
  EXPECT_EQ(Call(SYS_arch_prctl, kArchSetFs, std::uint64_t{1} << 47), -EPERM);
}

TEST(SyscallTableTest, EveryEntryIsWhereItsNameSays) {
  int offered = 0;
  for (std::uint64_t number = 0; number < 512; ++number) {
    const SyscallEntry* entry = FindSyscall(number);
    if (entry == nullptr) continue;
    ++offered;
    EXPECT_EQ(entry->name, SyscallName(number));
    EXPECT_EQ(entry->missing.empty(), entry->support == Support::kFull) << entry->name;
  }
  EXPECT_GT(offered, 150);
  EXPECT_EQ(FindSyscall(~std::uint64_t{0}), nullptr);
  EXPECT_EQ(SyscallName(~std::uint64_t{0}), "");
}

}  // namespace
}  // namespace waxvm::linux_abi
