// SPDX-License-Identifier: Apache-2.0
#include "src/vmm/system_pages.h"

#include <algorithm>
#include <array>

#include "src/vmm/vdso/page.h"

extern "C" {
extern const std::byte waxvm_vdso_image[];
extern const std::byte waxvm_vdso_image_end[];
}

namespace waxvm::vmm {
namespace {

constexpr int kDoubleFault = 8;

// AMD64 APM volume 2, figure 4-24: a 64-bit interrupt gate.
void PutGate(std::byte* idt, int vector, std::uint64_t handler, int stack_table, int ring) {
  std::byte* gate = idt + 16 * vector;
  Put<std::uint16_t>(gate, static_cast<std::uint16_t>(handler));
  Put<std::uint16_t>(gate + 2, kKernelCode);
  Put<std::uint16_t>(gate + 4, static_cast<std::uint16_t>(0x8e00 | (ring << 13) | stack_table));
  Put<std::uint16_t>(gate + 6, static_cast<std::uint16_t>(handler >> 16));
  Put<std::uint32_t>(gate + 8, static_cast<std::uint32_t>(handler >> 32));
}

void FillDescriptorPage(std::byte* page, bool open_system_call_port) {
  const std::array<std::uint64_t, 8> gdt = {
      0,
      0x00af9b000000ffff,  // 0x08 ring-0 code
      0x00cf93000000ffff,  // 0x10 ring-0 data
      0,
      0x00cff3000000ffff,  // 0x20 ring-3 data
      0x00affb000000ffff,  // 0x28 ring-3 code
      (kBitmapOffset + kBitmapBytes) | ((kDescriptorAddress + kTssOffset) << 16) |
          (std::uint64_t{0x8b} << 40),  // 0x30 busy TSS below 16 MiB
      0,
  };
  std::memcpy(page, gdt.data(), sizeof gdt);
  std::byte* tss = page + kTssOffset;
  Put<std::uint64_t>(tss + 0x04, kInterruptStackTop);
  Put<std::uint64_t>(tss + 0x24, kDoubleFaultStackTop);
  Put<std::uint16_t>(tss + 0x66, kBitmapOffset);
  std::memset(tss + kBitmapOffset, 0xff, kBitmapBytes + 1);
  if (open_system_call_port)
    tss[kBitmapOffset + kPortSystemCall / 8] &= ~(std::byte{1} << (kPortSystemCall % 8));
  const std::uint64_t stubs = kStubAddress + StubOffset(waxvm_stub_exceptions);
  for (int vector = 0; vector < kVectors; ++vector) {
    // Ring 3 may raise the breakpoint and overflow exceptions by instruction, nothing else.
    const int ring = vector == 3 || vector == 4 ? 3 : 0;
    PutGate(page + kIdtOffset, vector, stubs + static_cast<std::uint64_t>(vector * kStubBytes),
            vector == kDoubleFault ? 1 : 0, ring);
  }
}

void FillStubPage(std::byte* page, bool can_set_fs_base, std::span<const FixedAnswer> answers) {
  std::memcpy(page, waxvm_stub_start, static_cast<std::size_t>(waxvm_stub_end - waxvm_stub_start));
  for (const FixedAnswer& answer : answers)
    if (answer.number < kAnswers && answer.value > kLeave)
      PutAnswer(page, answer.number, answer.value);
  if (can_set_fs_base) PutAnswer(page, kArchPrctl, kSetFsBase);
}

}  // namespace

void PutAnswer(std::byte* stub_page, std::uint32_t number, std::int32_t value) {
  Put<std::int32_t>(stub_page + StubOffset(waxvm_stub_answers) + 4 * number, value);
}

// SystemFrames::Of knows the order of the first ones.
std::vector<SystemPage> SystemPages(const HostTraits& traits, const MachineOptions& options) {
  const bool paravirtual = traits.kind == VmKind::kParavirtual;
  std::vector<SystemPage> pages = {
      {.address = kDescriptorAddress},
      {.address = kStubAddress, .user = paravirtual},
      {.address = kStackAddress, .writable = true},
  };
  if (options.vdso) {
    pages.push_back({.address = WAXVM_VDSO_DATA_ADDRESS, .user = true});
    const auto bytes = static_cast<std::uint64_t>(waxvm_vdso_image_end - waxvm_vdso_image);
    for (std::uint64_t done = 0; done < bytes; done += kPageBytes)
      pages.push_back({.address = WAXVM_VDSO_IMAGE_ADDRESS + done, .user = true});
  }
  if (traits.loads_extended_inside) pages.push_back({.address = kExtendedAddress, .user = true});
  return pages;
}

SystemFrames SystemFrames::Of(std::span<const GuestPhysical> frames,
                              const MachineOptions& options) {
  SystemFrames some{.stub = frames[1], .stack = frames[2]};
  if (options.vdso) some.vdso_data = frames[3];
  return some;
}

void FillSystemPage(GuestVirtual address, const HostTraits& traits, const MachineOptions& options,
                    std::span<std::byte> page) {
  const bool paravirtual = traits.kind == VmKind::kParavirtual;
  std::ranges::fill(page, std::byte{0});
  if (address == kDescriptorAddress) FillDescriptorPage(page.data(), paravirtual);
  if (address == kStubAddress)
    FillStubPage(page.data(), paravirtual && traits.has_fsgsbase, options.fixed_answers);
  if (address < WAXVM_VDSO_IMAGE_ADDRESS) return;
  const std::span<const std::byte> vdso(waxvm_vdso_image, waxvm_vdso_image_end);
  const auto part = vdso.subspan(address - WAXVM_VDSO_IMAGE_ADDRESS);
  std::memcpy(page.data(), part.data(), std::min(page.size(), part.size()));
}

void FillExtendedPage(const HostTraits& traits, const MachineImage& image,
                      std::span<std::byte> page) {
  std::memcpy(page.data(), image.extended.data(), traits.extended_bytes);
  Put<std::uint64_t>(page.data() + WAXVM_EXTENDED_RDX, image.general.rdx);
}

}  // namespace waxvm::vmm
