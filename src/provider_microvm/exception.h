// SPDX-License-Identifier: Apache-2.0
// From what the machine reports to a typed fault.
#ifndef WAXVM_SRC_PROVIDER_MICROVM_EXCEPTION_H_
#define WAXVM_SRC_PROVIDER_MICROVM_EXCEPTION_H_

#include <signal.h>

#include <cstdint>

#include "src/linux_abi/address_space.h"
#include "src/linux_abi/host.h"
#include "src/vmm/machine.h"
#include "waxvm/fault.h"

namespace waxvm::microvm {

/// The bits of a page fault's error code. Spec: AMD64 APM volume 2, section 8.2.15.
inline constexpr std::uint64_t kPageFaultWrite = 1 << 1;
inline constexpr std::uint64_t kPageFaultFetch = 1 << 4;
inline constexpr int kPageFaultVector = 14;
inline constexpr int kGeneralProtectionVector = 13;

/// A page fault that the address space could not answer; `result` is not kHandled.
Fault PageFault(const vmm::Exit& exit, const vmm::UserRegisters& registers,
                linux_abi::AddressSpace::FaultResult result);

/// Any other exception in ring 3.
Fault ExceptionFault(const vmm::Exit& exit, const vmm::UserRegisters& registers);

/// The same as the signals that Linux sends, for a program that handles them. `extended` tells
/// which floating-point exception it was.
siginfo_t PageFaultSignal(const vmm::Exit& exit, linux_abi::AddressSpace::FaultResult result);
siginfo_t ExceptionSignal(const vmm::Exit& exit, const vmm::UserRegisters& registers,
                          const linux_abi::ExtendedState& extended);

/// The end of a machine that KVM cannot continue (kShutdown, kFailed).
Fault MachineFault(const vmm::Exit& exit, const vmm::UserRegisters& registers);

Registers GeneralRegisters(const vmm::UserRegisters& registers);

}  // namespace waxvm::microvm

#endif  // WAXVM_SRC_PROVIDER_MICROVM_EXCEPTION_H_
