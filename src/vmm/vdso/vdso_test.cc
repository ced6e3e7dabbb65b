// SPDX-License-Identifier: Apache-2.0
// Time inside a machine, as its vDSO and the host read it.
#include <elf.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>

#include "src/vmm/machine_for_test.h"
#include "src/vmm/vdso/guest_clock.h"
#include "src/vmm/vdso/page.h"

extern "C" const std::byte waxvm_vdso_image[];

namespace waxvm::vmm {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""us;

class HostClockForTest final : public ClockSource {
 public:
  std::chrono::nanoseconds RealTime() override {
    return std::chrono::system_clock::now().time_since_epoch();
  }
  std::chrono::nanoseconds MonotonicTime() override {
    return std::chrono::steady_clock::now().time_since_epoch();
  }
};

class VdsoTest : public MachineTest {
 protected:
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
};

TEST_F(VdsoTest, TimestampsInsideAreTheHosts) {
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

TEST_F(VdsoTest, VdsoIsThereOnlyWhenAskedForAndCannotBeWritten) {
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
TEST_F(VdsoTest, GuestAndHostReadOneClock) {
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

TEST_F(VdsoTest, GuestClockFollowsTheHostsToMicroseconds) {
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

}  // namespace
}  // namespace waxvm::vmm
