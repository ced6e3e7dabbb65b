// SPDX-License-Identifier: Apache-2.0
// Runs guests of a few instructions on this host's KVM, of whichever kind it is.
#include "src/vmm/machine.h"

#include <elf.h>
#include <signal.h>
#include <time.h>

#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "src/vmm/kick.h"
#include "src/vmm/vdso/guest_clock.h"
#include "src/vmm/vdso/page.h"

extern "C" const std::byte waxvm_vdso_image[];

namespace waxvm::vmm {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""us;

constexpr GuestVirtual kCode = 0x400000;
constexpr GuestVirtual kData = 0x10000000;
constexpr GuestVirtual kStack = 0x500000;
constexpr std::uint64_t kMemoryBytes = 64 << 20;
constexpr PageAccess kReadWrite{.read = true, .write = true};
constexpr PageAccess kReadOnly{.read = true};
constexpr PageAccess kAll{.read = true, .write = true, .execute = true};
constexpr int kPageFault = 14;
// No stub answers this call: it means "done".
constexpr std::uint32_t kDone = 600;

// Machine code, instruction by instruction.
class Code {
 public:
  Code& Bytes(std::initializer_list<int> bytes) {
    for (const int byte : bytes) bytes_.push_back(static_cast<std::byte>(byte));
    return *this;
  }
  Code& SetRdi(std::uint64_t value) { return Bytes({0x48, 0xbf}).Immediate(value, 8); }
  Code& SetRsi(std::uint64_t value) { return Bytes({0x48, 0xbe}).Immediate(value, 8); }
  Code& SetRax(std::uint64_t value) { return Bytes({0x48, 0xb8}).Immediate(value, 8); }
  Code& SetEax(std::uint32_t value) { return Bytes({0xb8}).Immediate(value, 4); }
  Code& Store() { return Bytes({0x48, 0x89, 0x37}); }  // mov %rsi, (%rdi)
  Code& Load() { return Bytes({0x48, 0x8b, 0x1f}); }   // mov (%rdi), %rbx
  Code& SystemCall() { return Bytes({0x0f, 0x05}); }
  Code& CopyRaxToRbx() { return Bytes({0x48, 0x89, 0xc3}); }
  Code& Done() { return SetEax(kDone).SystemCall(); }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  Code& Immediate(std::uint64_t value, int count) {
    for (int i = 0; i < count; ++i) bytes_.push_back(static_cast<std::byte>(value >> (8 * i)));
    return *this;
  }
  std::vector<std::byte> bytes_;
};

class HostClockForTest final : public ClockSource {
 public:
  std::chrono::nanoseconds RealTime() override {
    return std::chrono::system_clock::now().time_since_epoch();
  }
  std::chrono::nanoseconds MonotonicTime() override {
    return std::chrono::steady_clock::now().time_since_epoch();
  }
};

class MachineTest : public testing::Test {
 protected:
  void SetUp() override {
    auto system = kvm::System::Open();
    if (!system.ok()) GTEST_SKIP() << system.status();
    system_.emplace(*std::move(system));
    auto traits = ProbeHost(*system_);
    if (!traits.ok()) GTEST_SKIP() << traits.status();
    traits_ = *std::move(traits);
    Make({});
  }

  void Make(const MachineOptions& options) {
    machine_.reset();
    account_.emplace(kMemoryBytes);
    auto machine = Machine::Create(*system_, traits_, *account_, options);
    ASSERT_TRUE(machine.ok()) << machine.status();
    machine_ = *std::move(machine);
    ASSERT_TRUE(pages().Populate(kCode, kPageBytes, kAll));
    ASSERT_TRUE(pages().Populate(kStack - kPageBytes, kPageBytes, kReadWrite));
  }

  PageTable& pages() { return machine_->pages(); }

  // Runs `code` from its start to its next stop.
  Exit Run(const Code& code) {
    pages().CopyTo(kCode, code.bytes());
    machine_->Start(kCode, kStack);
    return machine_->Run();
  }
  bool IsDone(const Exit& exit) {
    return exit.kind == Exit::Kind::kSystemCall && machine_->registers().general.rax == kDone;
  }
  bool CanStore(GuestVirtual address, std::uint64_t value = 1) {
    const Exit exit = Run(Code().SetRdi(address).SetRsi(value).Store().Done());
    if (IsDone(exit)) return true;
    EXPECT_EQ(exit.kind, Exit::Kind::kException) << exit.detail;
    EXPECT_EQ(exit.vector, kPageFault);
    EXPECT_EQ(exit.address, address);
    return false;
  }
  std::optional<std::uint64_t> Load(GuestVirtual address) {
    const Exit exit = Run(Code().SetRdi(address).Load().Done());
    if (IsDone(exit)) return machine_->registers().general.rbx;
    EXPECT_EQ(exit.kind, Exit::Kind::kException) << exit.detail;
    EXPECT_EQ(exit.vector, kPageFault);
    return std::nullopt;
  }

  // Where the guest finds a function of its vDSO.
  std::uint64_t VdsoFunction(std::string_view name) {
    const std::uint64_t base = machine_->vdso_address();
    Elf64_Ehdr header;
    std::memcpy(&header, waxvm_vdso_image, sizeof header);
    for (int i = 0; i < header.e_shnum; ++i) {
      Elf64_Shdr symbols, strings;
      const std::byte* sections = waxvm_vdso_image + header.e_shoff;
      std::memcpy(&symbols, sections + sizeof symbols * static_cast<std::size_t>(i),
                  sizeof symbols);
      if (symbols.sh_type != SHT_DYNSYM) continue;
      std::memcpy(&strings, sections + sizeof strings * symbols.sh_link, sizeof strings);
      for (std::uint64_t at = 0; at < symbols.sh_size; at += sizeof(Elf64_Sym)) {
        Elf64_Sym symbol;
        std::memcpy(&symbol, waxvm_vdso_image + symbols.sh_offset + at, sizeof symbol);
        if (name ==
            reinterpret_cast<const char*>(waxvm_vdso_image + strings.sh_offset + symbol.st_name))
          return base + symbol.st_value;
      }
    }
    ADD_FAILURE() << "the vDSO has no " << name;
    return 0;
  }

  std::optional<kvm::System> system_;
  HostTraits traits_;
  std::optional<MemoryAccount> account_;
  std::unique_ptr<Machine> machine_;
};

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

TEST_F(MachineTest, TimestampsInsideAreTheHosts) {
  if (!traits_.tsc_is_hosts) GTEST_SKIP() << "this KVM shifts the guest's timestamp counter";
  for (int round = 0; round < 20; ++round) {
    Make({});
    const std::uint64_t before = ReadTsc();
    // rdtsc; mov %rax, %rbx
    ASSERT_TRUE(IsDone(Run(Code().Bytes({0x0f, 0x31}).CopyRaxToRbx().Done())));
    const kvm_regs registers = machine_->registers().general;
    const std::uint64_t inside = registers.rdx << 32 | registers.rbx;
    EXPECT_GE(inside, before);
    EXPECT_LE(inside, ReadTsc());
  }
}

TEST_F(MachineTest, VdsoIsThereOnlyWhenAskedForAndCannotBeWritten) {
  EXPECT_EQ(machine_->vdso_address(), 0u);
  EXPECT_FALSE(Load(WAXVM_VDSO_IMAGE_ADDRESS));
  EXPECT_FALSE(Load(WAXVM_VDSO_DATA_ADDRESS));
  const auto host = std::make_shared<HostClockForTest>();
  EXPECT_EQ(machine_->MakeGuestClock(host, [] { return true; }), host);
  Make({.vdso = true});
  EXPECT_EQ(machine_->vdso_address(), WAXVM_VDSO_IMAGE_ADDRESS);
  EXPECT_EQ(*Load(WAXVM_VDSO_IMAGE_ADDRESS) & 0xffffffff, 0x464c457fu);
  EXPECT_EQ(Load(WAXVM_VDSO_DATA_ADDRESS), 0u) << "no time before it was asked for";
  EXPECT_FALSE(CanStore(WAXVM_VDSO_IMAGE_ADDRESS));
  EXPECT_FALSE(CanStore(WAXVM_VDSO_DATA_ADDRESS));
  EXPECT_FALSE(Load(WAXVM_VDSO_DATA_ADDRESS - kPageBytes));
}

// Also where the counter's speed may change: a test takes no time.
TEST_F(MachineTest, GuestAndHostReadOneClock) {
  if (!traits_.tsc_is_hosts || traits_.tsc_khz == 0)
    GTEST_SKIP() << "this KVM shifts the guest's timestamp counter";
  traits_.invariant_tsc = true;
  Make({.vdso = true});
  const auto clock =
      machine_->MakeGuestClock(std::make_shared<HostClockForTest>(), [] { return true; });
  ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadWrite));
  const std::uint64_t entry = VdsoFunction("__vdso_clock_gettime");
  // mov $CLOCK_MONOTONIC, %edi; mov $kData, %rsi; mov $entry, %rax; call *%rax
  const Code code =
      Code().SetRdi(CLOCK_MONOTONIC).SetRsi(kData).SetRax(entry).Bytes({0xff, 0xd0}).Done();
  ASSERT_EQ(Run(code).kind, Exit::Kind::kSystemCall);
  EXPECT_EQ(machine_->registers().general.rax, 228u) << "no line was drawn yet";
  int inside = 0;
  for (int round = 0; round < 2000; ++round) {
    const std::int64_t before = clock->MonotonicTime().count();
    const Exit exit = Run(code);
    if (!IsDone(exit)) continue;  // a line ended
    ++inside;
    std::int64_t time[2];
    pages().CopyFrom(kData, std::as_writable_bytes(std::span(time)));
    const std::int64_t guest = time[0] * 1'000'000'000 + time[1];
    ASSERT_GE(guest, before) << round;
    ASSERT_LE(guest, clock->MonotonicTime().count()) << round;
  }
  EXPECT_GE(inside, 1900);
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

TEST_F(MachineTest, RightsAreThoseAskedFor) {
  ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadOnly));
  EXPECT_EQ(Load(kData), 0u);
  EXPECT_FALSE(CanStore(kData));
  // jmp *%rdi into a page without the right to execute.
  const Exit exit = Run(Code().SetRdi(kData).Bytes({0xff, 0xe7}));
  EXPECT_EQ(exit.vector, kPageFault);
  EXPECT_EQ(exit.error_code & 16, 16u) << "an instruction fetch";
}

// The guest writes first, so that every cache between it and the page table is filled.
TEST_F(MachineTest, TakenRightsAreGoneAtOnce) {
  ASSERT_TRUE(pages().Populate(kData, 4 * kPageBytes, kReadWrite));
  for (int round = 0; round < 20; ++round) {
    ASSERT_TRUE(CanStore(kData + kPageBytes, 9));
    pages().Protect(kData + kPageBytes, kPageBytes, kReadOnly);
    ASSERT_FALSE(CanStore(kData + kPageBytes)) << "round " << round;
    ASSERT_EQ(Load(kData + kPageBytes), 9u);
    pages().Protect(kData + kPageBytes, kPageBytes, {});
    ASSERT_FALSE(Load(kData + kPageBytes)) << "round " << round;
    pages().Protect(kData + kPageBytes, kPageBytes, kReadWrite);
    ASSERT_EQ(Load(kData + kPageBytes), 9u) << "contents were kept";
  }
}

// The same while a guest runs on: no Start in between that would load everything anew.
TEST_F(MachineTest, TakenRightsAreGoneWhenTheSystemCallReturns) {
  ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadWrite));
  const Exit first =
      Run(Code().SetRdi(kData).SetRsi(3).Store().SetEax(601).SystemCall().Store().Done());
  ASSERT_EQ(first.kind, Exit::Kind::kSystemCall);
  pages().Protect(kData, kPageBytes, kReadOnly);
  machine_->SetSystemCallResult(0);
  const Exit second = machine_->Run();
  EXPECT_EQ(second.kind, Exit::Kind::kException) << second.detail;
  EXPECT_EQ(second.vector, kPageFault);
  EXPECT_EQ(second.address, kData);
  EXPECT_EQ(machine_->registers().general.rax, 0u) << "the result survived the flush";
  // And from a fault: give it back, then take another page away before it returns.
  pages().Protect(kData, kPageBytes, kReadWrite);
  ASSERT_TRUE(IsDone(machine_->Run()));
}

TEST_F(MachineTest, UnmappedPageIsGoneAndComesBackZeroed) {
  ASSERT_TRUE(pages().Populate(kData, 2 * kPageBytes, kReadWrite));
  for (int round = 0; round < 20; ++round) {
    ASSERT_TRUE(CanStore(kData, 0x1234));
    pages().Unmap(kData, kPageBytes);
    ASSERT_FALSE(Load(kData));
    ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadWrite));
    ASSERT_EQ(Load(kData), 0u);
  }
}

TEST_F(MachineTest, LargePageCanBeSplit) {
  constexpr GuestVirtual kMiddle = kData + kLargePageBytes + 7 * kPageBytes;
  ASSERT_TRUE(pages().Populate(kData, 2 * kLargePageBytes, kReadWrite));
  ASSERT_TRUE(CanStore(kMiddle, 1));
  ASSERT_TRUE(CanStore(kMiddle + kPageBytes, 2));
  ASSERT_TRUE(CanStore(kData, 3));
  pages().Protect(kMiddle, kPageBytes, kReadOnly);
  EXPECT_FALSE(CanStore(kMiddle));
  EXPECT_EQ(Load(kMiddle), 1u);
  EXPECT_TRUE(CanStore(kMiddle + kPageBytes, 4));
  EXPECT_TRUE(CanStore(kMiddle - kPageBytes, 5));
  pages().Unmap(kMiddle + kPageBytes, kPageBytes);
  EXPECT_FALSE(Load(kMiddle + kPageBytes));
  EXPECT_EQ(Load(kMiddle - kPageBytes), 5u);
  EXPECT_EQ(Load(kData), 3u);
}

TEST_F(MachineTest, MovedPagesKeepTheirContents) {
  constexpr GuestVirtual kTarget = kData + 64 * kLargePageBytes + kPageBytes;
  ASSERT_TRUE(pages().Populate(kData, kLargePageBytes + kPageBytes, kReadWrite));
  ASSERT_TRUE(CanStore(kData, 11));
  ASSERT_TRUE(CanStore(kData + kLargePageBytes, 22));
  ASSERT_TRUE(pages().Move(kData, kTarget, kLargePageBytes + kPageBytes));
  EXPECT_FALSE(Load(kData));
  EXPECT_FALSE(Load(kData + kLargePageBytes));
  EXPECT_EQ(Load(kTarget), 11u);
  EXPECT_EQ(Load(kTarget + kLargePageBytes), 22u);
}

// What a guest could reach with munmap, mprotect and mremap of addresses it was not given.
TEST_F(MachineTest, SystemPagesAreChangedByNobody) {
  const auto frame = machine_->memory().AllocateFrame();
  ASSERT_TRUE(frame);
  const std::uint64_t value = 0x5eed;
  std::memcpy(machine_->memory().At(*frame), &value, sizeof value);
  ASSERT_TRUE(pages().MapSystemPage(kData, *frame, /*user=*/true, /*write=*/false));
  EXPECT_FALSE(pages().MapSystemPage(kData, *frame, true, true)) << "it is there already";
  ASSERT_EQ(Load(kData), value);
  pages().Unmap(kData, kPageBytes);
  pages().Protect(kData, kPageBytes, kReadWrite);
  pages().Protect(kData, kPageBytes, {});
  ASSERT_TRUE(pages().Move(kData, kData + 64 * kPageBytes, kPageBytes));
  ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadWrite));
  pages().ReclaimUntouched();
  EXPECT_EQ(Load(kData), value);
  EXPECT_FALSE(CanStore(kData));
  EXPECT_FALSE(Load(kData + 64 * kPageBytes));
  EXPECT_EQ(pages().CopyTo(kData, std::as_bytes(std::span(&value, 1))), 0u);
}

// Whatever takes rights away leaves a flush pending, and nothing else does: a missing one would
// only be seen on the kind of KVM that this host does not have.
TEST_F(MachineTest, EveryReductionGoesThroughRevoke) {
  constexpr GuestVirtual kFar = kData + 64 * kLargePageBytes;
  const auto flushes = [&](auto&& change) {
    pages().TakeFlushPending();
    change();
    return pages().TakeFlushPending();
  };
  EXPECT_FALSE(flushes([&] { ASSERT_TRUE(pages().Populate(kData, 8 * kPageBytes, kReadOnly)); }));
  EXPECT_FALSE(flushes([&] { pages().Protect(kData, kPageBytes, kReadWrite); }));
  EXPECT_FALSE(flushes([&] { pages().Protect(kData, kPageBytes, kAll); }));
  EXPECT_TRUE(flushes([&] { pages().Protect(kData, kPageBytes, kReadWrite); })) << "execute";
  EXPECT_TRUE(flushes([&] { pages().Protect(kData, kPageBytes, kReadOnly); })) << "write";
  EXPECT_TRUE(flushes([&] { pages().Protect(kData, kPageBytes, {}); })) << "all";
  EXPECT_FALSE(flushes([&] { pages().Protect(kData, kPageBytes, kReadWrite); }));
  EXPECT_FALSE(flushes([&] { ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadOnly)); }))
      << "what is present stays as it is";
  EXPECT_TRUE(CanStore(kData));
  EXPECT_TRUE(flushes([&] { ASSERT_TRUE(pages().Move(kData, kFar, kPageBytes)); }));
  EXPECT_TRUE(flushes([&] { pages().Unmap(kFar, kPageBytes); }));
  EXPECT_FALSE(flushes([&] { pages().Unmap(kFar, kPageBytes); })) << "nothing is there";
  EXPECT_TRUE(flushes([&] { EXPECT_GT(pages().ReclaimUntouched(), 0u); }));
  constexpr GuestVirtual kLarge = kFar + 64 * kLargePageBytes;
  ASSERT_TRUE(pages().Populate(kLarge, kLargePageBytes, kReadWrite));
  ASSERT_TRUE(CanStore(kLarge));
  EXPECT_TRUE(flushes([&] { pages().Protect(kLarge, kPageBytes, kAll); })) << "a split";
}

TEST_F(MachineTest, SharedFrameIsSeenWhereverItIsMapped) {
  constexpr GuestVirtual kOther = kData + 512 * kPageBytes;
  const auto frame = machine_->memory().AllocateFrame();
  ASSERT_TRUE(frame);
  ASSERT_TRUE(pages().MapShared(kData, *frame, kReadWrite));
  ASSERT_TRUE(pages().MapShared(kOther, *frame, kReadOnly));
  EXPECT_TRUE(CanStore(kData, 77));
  EXPECT_EQ(Load(kOther), 77u);
  EXPECT_FALSE(CanStore(kOther));
  ASSERT_TRUE(pages().MapShared(kData, *frame, kReadOnly));
  EXPECT_FALSE(CanStore(kData)) << "the right was taken back";
  ASSERT_TRUE(pages().MapShared(kOther, *frame, kReadWrite));
  EXPECT_TRUE(CanStore(kOther, 78));
  const std::uint64_t used = account_->used_bytes();
  pages().Unmap(kData, kPageBytes);
  EXPECT_EQ(account_->used_bytes(), used) << "the frame is still somebody's";
  EXPECT_FALSE(Load(kData));
  EXPECT_EQ(Load(kOther), 78u);
  ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadWrite));
  EXPECT_FALSE(pages().MapShared(kData, *frame, kReadOnly)) << "a page of its own is there";
}

// A target whose table of small pages is there already.
TEST_F(MachineTest, LargePageMovesOverAnEmptyTable) {
  constexpr GuestVirtual kTarget = kData + 64 * kLargePageBytes;
  ASSERT_TRUE(pages().Populate(kTarget, kPageBytes, kReadWrite));
  pages().Unmap(kTarget, kPageBytes);
  ASSERT_TRUE(pages().Populate(kData, kLargePageBytes, kReadWrite));
  ASSERT_TRUE(CanStore(kData + 5 * kPageBytes, 55));
  ASSERT_TRUE(pages().Move(kData, kTarget, kLargePageBytes));
  EXPECT_EQ(Load(kTarget + 5 * kPageBytes), 55u);
  EXPECT_FALSE(Load(kData));
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

TEST_F(MachineTest, MemoryIsBoundedAndOnlyPaidForWhenTouched) {
  const std::uint64_t before = machine_->memory().ResidentBytes();
  ASSERT_TRUE(pages().Populate(kData + kPageBytes, 1 << 20, kReadWrite));
  EXPECT_LT(machine_->memory().ResidentBytes() - before, 8 * kPageBytes) << "tables only";
  EXPECT_FALSE(pages().Populate(kData + (1 << 21), 2 * kMemoryBytes, kReadWrite));
  EXPECT_LE(account_->used_bytes(), kMemoryBytes);
  pages().Unmap(kData, 4 * kMemoryBytes);
  EXPECT_TRUE(pages().Populate(kData, kMemoryBytes / 2, kReadWrite)) << "frames were given back";
}

TEST_F(MachineTest, OnlyUntouchedPagesAreReclaimed) {
  constexpr GuestVirtual kLarge = kData + 16 * kLargePageBytes;
  ASSERT_TRUE(pages().Populate(kData, 64 * kPageBytes, kReadWrite));
  ASSERT_TRUE(pages().Populate(kLarge, 2 * kLargePageBytes, kReadWrite));
  ASSERT_TRUE(CanStore(kData + 5 * kPageBytes, 42));
  ASSERT_TRUE(CanStore(kLarge, 43));
  const std::uint64_t before = account_->used_bytes();
  const std::uint64_t gained = pages().ReclaimUntouched();
  EXPECT_GE(gained, 63 * kPageBytes + kLargePageBytes);
  EXPECT_EQ(before - account_->used_bytes(), gained);
  EXPECT_EQ(Load(kData + 5 * kPageBytes), 42u);
  EXPECT_EQ(Load(kLarge), 43u);
  EXPECT_FALSE(Load(kData)) << "absent again";
  ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadWrite));
  EXPECT_EQ(Load(kData), 0u);
}

TEST_F(MachineTest, CopiesStopAtTheFirstAbsentPage) {
  ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadOnly));
  std::vector<std::byte> bytes(2 * kPageBytes, std::byte{7});
  EXPECT_EQ(pages().CopyTo(kData + 100, bytes), kPageBytes - 100);
  EXPECT_EQ(pages().CopyFrom(kData + kPageBytes, bytes), 0u);
  EXPECT_EQ(pages().CopyFrom(0x1000, bytes), 0u) << "the machine's own pages";
  EXPECT_EQ(pages().CopyFrom(0x2000, bytes), 0u) << "the machine's own pages";
}

TEST_F(MachineTest, GuestClockFollowsTheHostsToMicroseconds) {
  if (!traits_.CanTellTime()) GTEST_SKIP() << "this KVM's guests cannot tell the time";
  Make({.vdso = true});
  HostClockForTest host;
  const auto clock =
      machine_->MakeGuestClock(std::make_shared<HostClockForTest>(), [] { return true; });
  std::chrono::nanoseconds worst(0), worst_real(0);
  const auto end = host.MonotonicTime() + 700ms;
  for (auto before = host.MonotonicTime(); before < end; before = host.MonotonicTime()) {
    const auto inside = clock->MonotonicTime();
    const auto after = host.MonotonicTime();
    worst = std::max({worst, before - inside, inside - after});
    const auto real_before = host.RealTime();
    const auto real_inside = clock->RealTime();
    worst_real = std::max({worst_real, real_before - real_inside, real_inside - host.RealTime()});
  }
  RecordProperty("worst_ns", std::to_string(worst.count()));
  RecordProperty("worst_realtime_ns", std::to_string(worst_real.count()));
  EXPECT_LT(worst, 5us);
  EXPECT_LT(worst_real, 8us);
}

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
