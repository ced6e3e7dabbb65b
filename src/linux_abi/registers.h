// SPDX-License-Identifier: Apache-2.0
// The general registers by name, for every structure that calls them what the processor does:
// CpuRegisters, KVM's and the kernel's signal frame.
#ifndef WAXVM_SRC_LINUX_ABI_REGISTERS_H_
#define WAXVM_SRC_LINUX_ABI_REGISTERS_H_

namespace waxvm::linux_abi {

/// Copies the sixteen general registers, rip and rflags; whatever else `to` has stays as it is.
template <typename From, typename To>
constexpr void CopyGeneralRegisters(const From& from, To& to) {
  to.rax = from.rax;
  to.rbx = from.rbx;
  to.rcx = from.rcx;
  to.rdx = from.rdx;
  to.rsi = from.rsi;
  to.rdi = from.rdi;
  to.rbp = from.rbp;
  to.rsp = from.rsp;
  to.r8 = from.r8;
  to.r9 = from.r9;
  to.r10 = from.r10;
  to.r11 = from.r11;
  to.r12 = from.r12;
  to.r13 = from.r13;
  to.r14 = from.r14;
  to.r15 = from.r15;
  to.rip = from.rip;
  to.rflags = from.rflags;
}

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_REGISTERS_H_
