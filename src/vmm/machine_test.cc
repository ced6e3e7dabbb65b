// SPDX-License-Identifier: Apache-2.0
#include "src/vmm/machine.h"

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <span>
#include <thread>

#include "src/vmm/kick.h"
#include "src/vmm/machine_for_test.h"
#include "src/vmm/thread_faults.h"

namespace waxvm::vmm {
namespace {

TEST_F(MachineTest, SystemCallLeavesAndReturnsWithItsResult) {
  const Exit exit = Run(Code().SetEax(601).SystemCall().CopyRaxToRbx().Done());
  ASSERT_EQ(exit.kind, Exit::Kind::kSystemCall) << exit.detail;
  EXPECT_EQ(machine_->registers().general.rax, 601u);
  EXPECT_EQ(machine_->registers().general.rip, kCode + 7);
  machine_->SetSystemCallResult(-38);
  ASSERT_TRUE(IsDone(machine_->Run()));
  EXPECT_EQ(machine_->registers().general.rbx, static_cast<std::uint64_t>(-38));
}

TEST_F(MachineTest, FixedAnswersStayInside) {
  const FixedAnswer answers[] = {{39, 4242}, {0, -4095}, {511, -1}, {512, 7}, {40, -4096}};
  Make({.fixed_answers = answers});
  const struct {
    std::uint32_t number;
    std::int64_t answer;
  } cases[] = {{39, 4242}, {0, -4095}, {511, -1}};
  for (const auto& item : cases) {
    const Exit exit = Run(Code().SetEax(item.number).SystemCall().CopyRaxToRbx().Done());
    ASSERT_TRUE(IsDone(exit)) << item.number << ": " << machine_->registers().general.rax;
    EXPECT_EQ(machine_->registers().general.rbx, static_cast<std::uint64_t>(item.answer));
    EXPECT_EQ(machine_->registers().general.rsp, kStack);
  }
  for (const std::uint32_t number : {1u, 38u, 40u, 510u, 512u, 0x80000027u}) {
    ASSERT_EQ(Run(Code().SetEax(number).SystemCall()).kind, Exit::Kind::kSystemCall);
    EXPECT_EQ(machine_->registers().general.rax, number);
  }
  // mov $-1, %rax
  ASSERT_EQ(Run(Code().Bytes({0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff}).SystemCall()).kind,
            Exit::Kind::kSystemCall);
  EXPECT_EQ(machine_->registers().general.rax, ~std::uint64_t{0});
}

// Only rcx and r11 may change, as the ABI says, and the program goes on in ring 3.
TEST_F(MachineTest, FixedAnswerChangesNoOtherRegister) {
  const FixedAnswer answers[] = {{39, 1}};
  Make({.fixed_answers = answers});
  const Code code = Code()
                        .SetRdi(0x1111)
                        .SetRsi(0x2222)
                        .Bytes({0xba, 0x33, 0, 0, 0})  // mov $0x33, %edx
                        .SetEax(39)
                        .SystemCall()
                        .Bytes({0x8c, 0xcb});  // mov %cs, %ebx
  ASSERT_TRUE(IsDone(Run(Code(code).Done())));
  const kvm_regs registers = machine_->registers().general;
  EXPECT_EQ(registers.rdi, 0x1111u);
  EXPECT_EQ(registers.rsi, 0x2222u);
  EXPECT_EQ(registers.rdx, 0x33u);
  EXPECT_EQ(registers.rbx & 3, 3u);
}

TEST_F(MachineTest, FixedAnswerCanBeChangedWhileTheGuestRuns) {
  const FixedAnswer answers[] = {{186, 2}};
  Make({.fixed_answers = answers});
  const Code code = Code()
                        .SetEax(186)
                        .SystemCall()
                        .CopyRaxToRbx()
                        .SetEax(601)
                        .SystemCall()
                        .SetEax(186)
                        .SystemCall();
  ASSERT_EQ(Run(Code(code).CopyRaxToRbx().Done()).kind, Exit::Kind::kSystemCall);
  EXPECT_EQ(machine_->registers().general.rbx, 2u);
  machine_->SetFixedAnswer(186, 77);
  machine_->SetFixedAnswer(186, -4096);
  machine_->SetFixedAnswer(512, 1);
  machine_->SetFixedAnswer(0xffffffff, 1);
  machine_->SetSystemCallResult(0);
  ASSERT_TRUE(IsDone(machine_->Run()));
  EXPECT_EQ(machine_->registers().general.rbx, 77u);
}

TEST_F(MachineTest, FsBaseIsSetByHostAndSeenInside) {
  ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadWrite));
  const std::uint64_t value = 77;
  pages().CopyTo(kData + 8, std::as_bytes(std::span(&value, 1)));
  // mov %fs:8, %rbx
  const Code code =
      Code().SetEax(601).SystemCall().Bytes({0x64, 0x48, 0x8b, 0x1c, 0x25, 8, 0, 0, 0}).Done();
  ASSERT_EQ(Run(code).kind, Exit::Kind::kSystemCall);
  UserRegisters registers = machine_->registers();
  registers.fs_base = kData;
  machine_->SetRegisters(registers);
  machine_->SetSystemCallResult(0);
  ASSERT_TRUE(IsDone(machine_->Run()));
  EXPECT_EQ(machine_->registers().general.rbx, 77u);
  EXPECT_EQ(machine_->registers().fs_base, kData);
}

TEST_F(MachineTest, FaultIsAnsweredAndTheInstructionRunsAgain) {
  const Exit exit = Run(Code().SetRdi(kData + 16).SetRsi(5).Store().Load().Done());
  ASSERT_EQ(exit.kind, Exit::Kind::kException) << exit.detail;
  EXPECT_EQ(exit.vector, kPageFault);
  EXPECT_EQ(exit.address, kData + 16);
  EXPECT_EQ(exit.error_code & 2, 2u) << "a write";
  EXPECT_EQ(machine_->registers().general.rsp, kStack);
  ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadWrite));
  ASSERT_TRUE(IsDone(machine_->Run()));
  EXPECT_EQ(machine_->registers().general.rbx, 5u);
}

TEST_F(MachineTest, TrappedTimestampCanBeAnswered) {
  if (!traits_.traps_rdtsc) GTEST_SKIP() << "this KVM does not honour CR4.TSD";
  Make({.trap_rdtsc = true});
  const Exit exit = Run(Code().Bytes({0x0f, 0x31}).CopyRaxToRbx().Done());
  ASSERT_EQ(exit.kind, Exit::Kind::kException) << exit.detail;
  EXPECT_EQ(exit.vector, 13);
  EXPECT_EQ(machine_->registers().general.rip, kCode);
  machine_->SkipInstruction(2, 4711, 0);
  ASSERT_TRUE(IsDone(machine_->Run()));
  EXPECT_EQ(machine_->registers().general.rbx, 4711u);
  EXPECT_EQ(machine_->registers().general.rsp, kStack);
}

TEST_F(MachineTest, ForbiddenInstructionsFault) {
  const struct {
    const char* name;
    std::initializer_list<int> bytes;
    int vector;
  } cases[] = {
      {"hlt", {0xf4}, 13},
      {"out to the doorbell, outside the stub", {0xe6, 0xf0}, 13},
      {"out to the exception port", {0xe6, 0xf1}, 13},
      {"out to another port", {0xe6, 0x80}, 13},
      {"in", {0xe4, 0xf0}, 13},
      {"cli", {0xfa}, 13},
      {"mov %cr3, %rax", {0x0f, 0x20, 0xd8}, 13},
      {"wrmsr", {0x0f, 0x30}, 13},
      {"ud2", {0x0f, 0x0b}, 6},
      {"non-canonical load", {0x48, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x48, 0x8b, 0x03}, 13},
  };
  for (const auto& item : cases) {
    const Exit exit = Run(Code().Bytes(item.bytes).Done());
    EXPECT_EQ(exit.kind, Exit::Kind::kException) << item.name << " " << exit.detail;
    EXPECT_EQ(exit.vector, item.vector)
        << item.name << ": address " << std::hex << exit.address << ", code " << exit.error_code
        << ", rip " << machine_->registers().general.rip;
  }
}

// Where ring 3 can enter the stub by a jump, rcx is whatever the guest likes.
TEST_F(MachineTest, CallWithNowhereToComeBackToIsAFault) {
  if (traits_.kind == VmKind::kHardware) GTEST_SKIP() << "ring 3 cannot reach the stub on this KVM";
  const auto enter = [&](std::uint64_t back) {
    // movabs $back, %rcx; mov $0x2000, %edi; jmp *%rdi
    Code code;
    code.Bytes({0x48, 0xb9});
    for (int i = 0; i < 8; ++i) code.Bytes({static_cast<int>(back >> (8 * i) & 0xff)});
    return Run(code.SetEax(kDone).SetRdi(0x2000).Bytes({0xff, 0xe7}));
  };
  EXPECT_TRUE(IsDone(enter(kCode)));
  EXPECT_EQ(machine_->registers().general.rip, kCode);
  for (const std::uint64_t back : {std::uint64_t{1} << 63, std::uint64_t{1} << 47,
                                   std::uint64_t{0xffff800000000000}, ~std::uint64_t{0}}) {
    const Exit exit = enter(back);
    ASSERT_EQ(exit.kind, Exit::Kind::kException) << std::hex << back << " " << exit.detail;
    EXPECT_EQ(exit.vector, 13);
    EXPECT_LT(machine_->registers().general.rip, 0x3000u) << "it is still in the stub";
    EXPECT_TRUE(machine_->AtUserMode());
  }
}

TEST_F(MachineTest, TheMachinesOwnPagesAreOutOfReach) {
  for (const GuestVirtual address : {0x0u, 0x1000u, 0x2000u, 0x3000u, 0x3ff0u, 0x4000u})
    EXPECT_FALSE(CanStore(address)) << address;
  for (const GuestVirtual address : {0x0u, 0x1000u, 0x3000u})
    EXPECT_FALSE(Load(address)) << address;
  EXPECT_FALSE(CanStore(0xffff800000000000));
}

TEST_F(MachineTest, WithoutAnInterruptTableTheMachineShutsDown) {
  std::memset(machine_->memory().At(pages().root()), 0, kPageBytes);
  const Exit exit = Run(Code().Bytes({0x0f, 0x0b}));
  EXPECT_TRUE(exit.kind == Exit::Kind::kShutdown || exit.kind == Exit::Kind::kFailed)
      << static_cast<int>(exit.kind);
}

// The frame of a table that came after the image is a table for other addresses next time: what a
// hypervisor has made of it must be linked nowhere any more.
TEST_F(MachineTest, RestoreForgetsTablesThatCameLater) {
  constexpr GuestVirtual kOther = 2 * kData;
  ASSERT_TRUE(IsDone(Run(Code().Done())));
  const auto image = machine_->TakeImage();
  ASSERT_TRUE(image.ok()) << image.status();
  account_.emplace(kMemoryBytes);
  auto clone = Machine::CreateFrom(*system_, traits_, *account_, **image);
  ASSERT_TRUE(clone.ok()) << clone.status();
  machine_ = *std::move(clone);
  for (int round = 0; round < 4; ++round) {
    const GuestVirtual one = round % 2 == 0 ? kData : kOther;
    const GuestVirtual two = round % 2 == 0 ? kOther : kData;
    EXPECT_FALSE(Load(one)) << round;
    ASSERT_TRUE(pages().Populate(one, kPageBytes, kReadWrite));
    EXPECT_TRUE(CanStore(one, 1111));
    ASSERT_TRUE(machine_->Restore(**image).ok());
    EXPECT_FALSE(Load(one)) << round;
    ASSERT_TRUE(machine_->Restore(**image).ok());
    ASSERT_TRUE(pages().Populate(two, kPageBytes, kReadWrite));
    EXPECT_TRUE(CanStore(two, 2222));
    EXPECT_FALSE(Load(one)) << round << ": it is not mapped";
    ASSERT_TRUE(pages().Populate(one, kPageBytes, kReadWrite));
    EXPECT_EQ(Load(one), 0u) << round;
    EXPECT_TRUE(CanStore(one, 3333));
    EXPECT_EQ(Load(two), 2222u) << round;
    ASSERT_TRUE(machine_->Restore(**image).ok());
  }
}

// movq %rsi, %xmm0 and movq %xmm0, %rbx.
constexpr std::initializer_list<int> kRsiToVector = {0x66, 0x48, 0x0f, 0x6e, 0xc6};
constexpr std::initializer_list<int> kVectorToRbx = {0x66, 0x48, 0x0f, 0x7e, 0xc3};

/// A machine that was taken as it had 1111 in a vector register and made a call; the guest goes on
/// with what it finds there in rbx, and 2222 in it.
class RestoreTest : public MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    if (IsSkipped()) return;
    ASSERT_TRUE(pages().Populate(kData, kPages * kPageBytes, kReadWrite));
    Code code;
    code.SetRsi(1111).Bytes(kRsiToVector).Done();
    code.Bytes(kVectorToRbx).SetRsi(2222).Bytes(kRsiToVector).Done();
    ASSERT_TRUE(IsDone(Run(code)));
    auto image = machine_->TakeImage();
    ASSERT_TRUE(image.ok()) << image.status();
    image_ = *std::move(image);
    account_.emplace(kMemoryBytes);
    auto clone = Machine::CreateFrom(*system_, traits_, *account_, *image_);
    ASSERT_TRUE(clone.ok()) << clone.status();
    machine_ = *std::move(clone);
  }
  std::uint64_t FoundInVector() {
    EXPECT_TRUE(IsDone(machine_->Run()));
    return machine_->registers().general.rbx;
  }

  static constexpr std::uint64_t kPages = 64;
  std::shared_ptr<const MachineImage> image_;
};

TEST_F(RestoreTest, PutsVectorRegistersBack) {
  for (int round = 0; round < 4; ++round) {
    machine_->SetSystemCallResult(round);
    const std::uint64_t rdx = machine_->registers().general.rdx;
    EXPECT_EQ(FoundInVector(), 1111u) << round;
    EXPECT_EQ(machine_->registers().general.rdx, rdx) << round;
    ASSERT_TRUE(machine_->Restore(*image_).ok());
  }
}

TEST_F(RestoreTest, ShowsNobodyTheVectorRegistersOfBefore) {
  const auto low = [](std::span<const std::byte> state) {
    std::uint64_t word;
    std::memcpy(&word, state.data() + 160, sizeof word);  // xmm0
    return word;
  };
  std::array<std::byte, kvm::Vcpu::kExtendedBytes> state;
  EXPECT_EQ(FoundInVector(), 1111u);
  machine_->SaveExtended(state);
  EXPECT_EQ(low(state), 2222u);
  ASSERT_TRUE(machine_->Restore(*image_).ok());
  machine_->SaveExtended(state);
  EXPECT_EQ(low(state), 1111u);
  EXPECT_EQ(FoundInVector(), 1111u);

  // What interrupts the guest on its way back finds it there.
  auto kick = Kick::Create(7);
  ASSERT_TRUE(kick.ok()) << kick.status();
  ASSERT_TRUE(machine_->Restore(*image_).ok());
  machine_->SetSystemCallResult(3333);
  ASSERT_TRUE((*kick)->Enter(std::nullopt, std::nullopt).ok());
  ASSERT_TRUE(machine_->SetSignalMask((*kick)->run_mask()).ok());
  (*kick)->Request();
  EXPECT_EQ(machine_->Run().kind, Exit::Kind::kInterrupted);
  (*kick)->Leave();
  EXPECT_EQ(machine_->general().rip, image_->general.rip);
  EXPECT_EQ(machine_->general().rax, 3333u);
  machine_->SaveExtended(state);
  EXPECT_EQ(low(state), 1111u);
  EXPECT_EQ(FoundInVector(), 1111u);
}

// Once nothing new was written to, nobody looks; whatever is new must be found all the same.
TEST_F(RestoreTest, FindsWhatWasWrittenToForTheFirstTime) {
  const auto use = [&](std::uint64_t page) {
    const GuestVirtual at = kData + page * kPageBytes;
    for (int again = 0; again < 3; ++again) {
      EXPECT_TRUE(CanStore(at, 7777));
      ASSERT_TRUE(machine_->Restore(*image_).ok());
      EXPECT_EQ(Load(at), 0u) << page;
      ASSERT_TRUE(machine_->Restore(*image_).ok());
    }
  };
  for (const std::uint64_t page : {0u, 1u, 40u, 2u, 63u}) use(page);
  std::thread([&] { use(20); }).join();
  use(21);
  // Written to by the host.
  const std::uint64_t value = 8888;
  pages().CopyTo(kData + 30 * kPageBytes, std::as_bytes(std::span(&value, 1)));
  ASSERT_TRUE(machine_->Restore(*image_).ok());
  EXPECT_EQ(Load(kData + 30 * kPageBytes), 0u);
}

// The thread that puts the memory back has had no fault in between.
TEST_F(RestoreTest, FindsWhatAnotherThreadHasWrittenTo) {
  std::atomic<int> turn = 0;  // odd: the other thread's
  std::thread other([&] {
    for (const int page : {10, 12}) {
      while (turn % 2 == 0) std::this_thread::yield();
      EXPECT_TRUE(CanStore(kData + static_cast<std::uint64_t>(page) * kPageBytes, 7777));
      ++turn;
    }
  });
  for (const std::uint64_t page : {10u, 12u}) {
    for (int again = 0; again < 3; ++again) ASSERT_TRUE(machine_->Restore(*image_).ok());
    ++turn;
    while (turn % 2 == 1) std::this_thread::yield();
    ASSERT_TRUE(machine_->Restore(*image_).ok());
    EXPECT_EQ(Load(kData + page * kPageBytes), 0u) << page;
  }
  other.join();
}

// mlock gives the process copies of all pages at once, which are not taken back then.
TEST_F(RestoreTest, FindsWhatWasWrittenToInLockedMemory) {
  constexpr GuestVirtual kMuch = 2 * kData;
  constexpr std::uint64_t kMuchBytes = 3 * kLargePageBytes;
  Make({});
  ASSERT_TRUE(pages().Populate(kMuch, kMuchBytes, kReadWrite));
  ASSERT_TRUE(IsDone(Run(Code().Done())));
  const auto image = machine_->TakeImage();
  ASSERT_TRUE(image.ok()) << image.status();
  account_.emplace(kMemoryBytes);
  auto clone = Machine::CreateFrom(*system_, traits_, *account_, **image);
  ASSERT_TRUE(clone.ok()) << clone.status();
  machine_ = *std::move(clone);
  const auto is_put_back = [&](GuestVirtual at) {
    for (int again = 0; again < 3; ++again) {
      EXPECT_TRUE(CanStore(at, 7777));
      EXPECT_TRUE(machine_->Restore(**image).ok());
      EXPECT_EQ(Load(at), 0u) << again;
      EXPECT_TRUE(machine_->Restore(**image).ok());
    }
  };
  is_put_back(kMuch);
  int error = 0;
  std::thread([&] {
    GuestMemory& memory = machine_->memory();
    error = ::mlock(memory.At(0), memory.image_end() + kLargePageBytes) == 0 ? 0 : errno;
  }).join();
  if (error != 0) GTEST_SKIP() << "mlock: " << std::strerror(error);
  is_put_back(kMuch + kPageBytes);
  is_put_back(kMuch + kMuchBytes - kPageBytes);
  // Memory that comes after the image begins as zeroes.
  for (int again = 0; again < 3; ++again) {
    constexpr GuestVirtual kLater = 3 * kData;
    ASSERT_TRUE(pages().Populate(kLater, kPageBytes, kReadWrite));
    EXPECT_EQ(Load(kLater), 0u);
    EXPECT_TRUE(CanStore(kLater, 7777));
    ASSERT_TRUE(machine_->Restore(**image).ok());
  }
}

// A trap at the first instruction of the way back shows the registers of the image.
TEST_F(RestoreTest, ShowsNoTrapTheVectorRegistersOfBefore) {
  Make({});
  Code code;
  code.SetRsi(1111).Bytes(kRsiToVector);
  code.Bytes({0x9c, 0x81, 0x0c, 0x24, 0x00, 0x01, 0x00, 0x00, 0x9d});  // pushf; or; popf
  code.Done().SetRsi(2222).Bytes(kRsiToVector).Done();
  const auto run_on = [&](Exit exit) {
    int traps = 0;
    while (exit.kind == Exit::Kind::kException && exit.vector == 1 && traps++ < 100)
      exit = machine_->Run();
    return IsDone(exit);
  };
  ASSERT_TRUE(run_on(Run(code)));
  if ((machine_->general().rflags & 0x100) == 0) GTEST_SKIP() << "KVM does not keep the trap flag";
  const auto image = machine_->TakeImage();
  ASSERT_TRUE(image.ok()) << image.status();
  account_.emplace(kMemoryBytes);
  auto clone = Machine::CreateFrom(*system_, traits_, *account_, **image);
  ASSERT_TRUE(clone.ok()) << clone.status();
  machine_ = *std::move(clone);
  ASSERT_TRUE(run_on(machine_->Run()));
  ASSERT_TRUE(machine_->Restore(**image).ok());
  const Exit exit = machine_->Run();
  EXPECT_EQ(exit.kind, Exit::Kind::kException) << exit.detail;
  EXPECT_EQ(exit.vector, 1);
  std::array<std::byte, kvm::Vcpu::kExtendedBytes> state;
  machine_->SaveExtended(state);
  std::uint64_t low;
  std::memcpy(&low, state.data() + 160, sizeof low);  // xmm0
  EXPECT_EQ(low, 1111u);
  EXPECT_GE(machine_->general().rip, kCode);
}

TEST_F(RestoreTest, ProbeKnowsThisKernel) {
  if (!traits_.faults_tell) GTEST_SKIP() << "this kernel does not count the faults of guests";
  const auto before = ThreadFaults::OfThisThread();
  ASSERT_TRUE(before);
  EXPECT_TRUE(CanStore(kData + 50 * kPageBytes, 1));
  EXPECT_NE(ThreadFaults::OfThisThread(), before);
  const auto after = ThreadFaults::OfThisThread();
  EXPECT_EQ(ThreadFaults::OfThisThread(), after);
}

}  // namespace
}  // namespace waxvm::vmm
