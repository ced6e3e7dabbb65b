// SPDX-License-Identifier: Apache-2.0
// A machine on this host's KVM, of whichever kind it is, and guests of a few instructions for it.
#ifndef WAXVM_SRC_VMM_MACHINE_FOR_TEST_H_
#define WAXVM_SRC_VMM_MACHINE_FOR_TEST_H_

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "src/vmm/machine.h"

namespace waxvm::vmm {

inline constexpr GuestVirtual kCode = 0x400000;
inline constexpr GuestVirtual kData = 0x10000000;
inline constexpr GuestVirtual kStack = 0x500000;
inline constexpr std::uint64_t kMemoryBytes = 64 << 20;
inline constexpr PageAccess kReadWrite{.read = true, .write = true};
inline constexpr PageAccess kReadOnly{.read = true};
inline constexpr PageAccess kAll{.read = true, .write = true, .execute = true};
inline constexpr int kPageFault = 14;
/// No stub answers this call: it means "done".
inline constexpr std::uint32_t kDone = 600;

/// Machine code, instruction by instruction.
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

/// Skips where this host has no KVM that works.
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

  /// Runs `code` from its start to its next stop.
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

  std::optional<kvm::System> system_;
  HostTraits traits_;
  std::optional<MemoryAccount> account_;
  std::unique_ptr<Machine> machine_;
};

}  // namespace waxvm::vmm

#endif  // WAXVM_SRC_VMM_MACHINE_FOR_TEST_H_
