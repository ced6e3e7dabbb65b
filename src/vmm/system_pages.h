// SPDX-License-Identifier: Apache-2.0
// The pages of a machine's own: descriptor tables, stubs, ring 0's stack, the vDSO, and the vector
// registers of an image. Where they lie, and what they hold before the machine runs.
#ifndef WAXVM_SRC_VMM_SYSTEM_PAGES_H_
#define WAXVM_SRC_VMM_SYSTEM_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "src/vmm/machine.h"
#include "src/vmm/stubs.h"

extern "C" {
extern const std::byte waxvm_stub_start[];
extern const std::byte waxvm_stub_end[];
extern const std::byte waxvm_stub_syscall_paravirtual[];
extern const std::byte waxvm_stub_syscall_hardware[];
extern const std::byte waxvm_stub_flush_syscall[];
extern const std::byte waxvm_stub_flush_exception[];
extern const std::byte waxvm_stub_flush_exception_code[];
extern const std::byte waxvm_stub_load_extended[];
extern const std::byte waxvm_stub_load_extended_end[];
extern const std::byte waxvm_stub_saved_rax[];
extern const std::byte waxvm_stub_exceptions[];
extern const std::byte waxvm_stub_answers[];
}

namespace waxvm::vmm {

// Below the 64 KiB where no program may map anything; page 0 is absent.
inline constexpr GuestVirtual kDescriptorAddress = 0x1000;
inline constexpr GuestVirtual kStubAddress = WAXVM_STUB_ADDRESS;
inline constexpr GuestVirtual kStackAddress = 0x3000;
inline constexpr GuestVirtual kExtendedAddress = WAXVM_EXTENDED_ADDRESS;
// Inside the descriptor page. The TSS is followed by the bitmap of ports 0 to 0xff and a byte of
// ones that ends it.
inline constexpr std::uint64_t kTssOffset = 0x80;
inline constexpr std::uint64_t kBitmapOffset = 0x68;
inline constexpr std::uint64_t kBitmapBytes = 32;
inline constexpr std::uint64_t kIdtOffset = 0x200;
// On the stack page: double faults get a stack of their own.
inline constexpr std::uint64_t kInterruptStackTop = kStackAddress + 0xff0;
inline constexpr std::uint64_t kDoubleFaultStackTop = kStackAddress + 0x7f0;

inline constexpr int kVectors = 32;
inline constexpr int kStubBytes = 16;

inline constexpr std::uint16_t kPortSystemCall = 0xf0;
inline constexpr std::uint16_t kPortException = 0xf1;

// Selectors of the descriptor table.
inline constexpr std::uint16_t kKernelCode = 0x08;
inline constexpr std::uint16_t kKernelData = 0x10;
inline constexpr std::uint16_t kUserData = 0x20 | 3;
inline constexpr std::uint16_t kUserCode = 0x28 | 3;
inline constexpr std::uint16_t kTss = 0x30;

// What the stub answers: a call's number below kAnswers, a value above kLeave, which leaves.
inline constexpr std::int32_t kLeave = -4096;
inline constexpr std::int32_t kSetFsBase = -4097;
inline constexpr std::uint32_t kArchPrctl = 158;
inline constexpr std::uint32_t kAnswers = 512;

inline std::uint64_t StubOffset(const std::byte* symbol) {
  return static_cast<std::uint64_t>(symbol - waxvm_stub_start);
}

template <typename T>
void Put(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

/// One of them, as every machine with the same options has it.
struct SystemPage {
  GuestVirtual address = 0;
  bool user = false;
  bool writable = false;
};
std::vector<SystemPage> SystemPages(const HostTraits& traits, const MachineOptions& options);

/// What such a page holds; the one of vector registers nothing.
void FillSystemPage(GuestVirtual address, const HostTraits& traits, const MachineOptions& options,
                    std::span<std::byte> page);
/// What the page of vector registers holds in an image whose registers are set.
void FillExtendedPage(const HostTraits& traits, const MachineImage& image,
                      std::span<std::byte> page);

/// Sets one of the answers in the page of stubs.
void PutAnswer(std::byte* stub_page, std::uint32_t number, std::int32_t value);

}  // namespace waxvm::vmm

#endif  // WAXVM_SRC_VMM_SYSTEM_PAGES_H_
