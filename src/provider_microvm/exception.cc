// SPDX-License-Identifier: Apache-2.0
#include "src/provider_microvm/exception.h"

#include <signal.h>

#include <cstring>

#include "src/base/strings.h"

namespace waxvm::microvm {
namespace {

using FaultResult = linux_abi::AddressSpace::FaultResult;

struct VectorMeaning {
  FaultKind kind;
  int signal;
  const char* name;
};

// The signals are those Linux sends: arch/x86/kernel/traps.c gives each vector its own.
VectorMeaning MeaningOf(int vector) {
  switch (vector) {
    case 0:
      return {FaultKind::kArithmetic, SIGFPE, "division error"};
    case 1:
      return {FaultKind::kTrap, SIGTRAP, "debug exception"};
    case 3:
      return {FaultKind::kTrap, SIGTRAP, "breakpoint"};
    case 4:
      return {FaultKind::kSegmentation, SIGSEGV, "overflow"};
    case 5:
      return {FaultKind::kSegmentation, SIGSEGV, "bound range exceeded"};
    case 6:
      return {FaultKind::kIllegalInstruction, SIGILL, "undefined instruction"};
    case 7:
      return {FaultKind::kIllegalInstruction, SIGILL, "device not available"};
    case 8:
      return {FaultKind::kDoubleFault, SIGSEGV, "double fault"};
    case 11:
      return {FaultKind::kBusError, SIGBUS, "segment not present"};
    case 12:
      return {FaultKind::kBusError, SIGBUS, "stack segment fault"};
    case 13:
      return {FaultKind::kPrivileged, SIGSEGV,
              "general protection: a privileged instruction or a non-canonical address"};
    case 16:
      return {FaultKind::kArithmetic, SIGFPE, "x87 floating-point exception"};
    case 17:
      return {FaultKind::kBusError, SIGBUS, "alignment check"};
    case 19:
      return {FaultKind::kArithmetic, SIGFPE, "SIMD floating-point exception"};
    default:
      return {FaultKind::kMachine, SIGSEGV, "unexpected exception"};
  }
}

// Which exception was raised and not masked, in the order in which Linux names them.
// Spec: Intel SDM volume 1, sections 8.1.3 to 8.1.5 and 10.2.3.
int FloatingPointCode(int vector, const linux_abi::ExtendedState& extended) {
  std::uint16_t control = 0;
  std::uint16_t status = 0;
  std::uint32_t mxcsr = 0;
  std::memcpy(&control, extended.bytes.data(), sizeof control);
  std::memcpy(&status, extended.bytes.data() + 2, sizeof status);
  std::memcpy(&mxcsr, extended.bytes.data() + 24, sizeof mxcsr);
  const unsigned raised = vector == 16 ? status & ~unsigned{control} : mxcsr & ~(mxcsr >> 7);
  if ((raised & 0x01) != 0) return FPE_FLTINV;
  if ((raised & 0x04) != 0) return FPE_FLTDIV;
  if ((raised & 0x08) != 0) return FPE_FLTOVF;
  if ((raised & 0x12) != 0) return FPE_FLTUND;
  if ((raised & 0x20) != 0) return FPE_FLTRES;
  return SI_KERNEL;
}

}  // namespace

Registers GeneralRegisters(const vmm::UserRegisters& registers) {
  const kvm_regs& r = registers.general;
  return {.value = {r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10,
                    r.r11, r.r12, r.r13, r.r14, r.r15, r.rip, r.rflags}};
}

Fault PageFault(const vmm::Exit& exit, const vmm::UserRegisters& registers, FaultResult result) {
  Fault fault;
  fault.kind = result == FaultResult::kStackGuard   ? FaultKind::kStackOverflow
               : result == FaultResult::kBeyondFile ? FaultKind::kBusError
                                                    : FaultKind::kSegmentation;
  fault.signal = result == FaultResult::kBeyondFile ? SIGBUS : SIGSEGV;
  fault.address = exit.address;
  fault.registers = GeneralRegisters(registers);
  const char* access = (exit.error_code & kPageFaultFetch) != 0   ? "execution"
                       : (exit.error_code & kPageFaultWrite) != 0 ? "write"
                                                                  : "read";
  const char* reason = result == FaultResult::kStackGuard    ? "below the stack"
                       : result == FaultResult::kWrongRights ? "not allowed there"
                       : result == FaultResult::kBeyondFile  ? "beyond the end of the mapped file"
                                                             : "not mapped";
  fault.detail = absl::StrFormat("%s at 0x%x from rip 0x%x: %s", access, exit.address,
                                 registers.general.rip, reason);
  return fault;
}

Fault ExceptionFault(const vmm::Exit& exit, const vmm::UserRegisters& registers) {
  const VectorMeaning meaning = MeaningOf(exit.vector);
  Fault fault{.kind = meaning.kind, .signal = meaning.signal};
  fault.address = registers.general.rip;
  fault.registers = GeneralRegisters(registers);
  fault.detail = absl::StrFormat("%s (vector %d, error code 0x%x) at rip 0x%x", meaning.name,
                                 exit.vector, exit.error_code, registers.general.rip);
  return fault;
}

siginfo_t PageFaultSignal(const vmm::Exit& exit, FaultResult result) {
  siginfo_t info{};
  info.si_signo = SIGSEGV;
  info.si_code = result == FaultResult::kWrongRights ? SEGV_ACCERR : SEGV_MAPERR;
  if (result == FaultResult::kBeyondFile) {
    info.si_signo = SIGBUS;
    info.si_code = BUS_ADRERR;
  }
  info.si_addr = reinterpret_cast<void*>(exit.address);
  return info;
}

siginfo_t ExceptionSignal(const vmm::Exit& exit, const vmm::UserRegisters& registers,
                          const linux_abi::ExtendedState& extended) {
  siginfo_t info{};
  info.si_signo = MeaningOf(exit.vector).signal;
  info.si_code = SI_KERNEL;
  const auto here = reinterpret_cast<void*>(registers.general.rip);
  switch (exit.vector) {
    case 0:
      info.si_code = FPE_INTDIV;
      info.si_addr = here;
      break;
    case 1:
      info.si_code = TRAP_TRACE;
      info.si_addr = here;
      break;
    case 6:
      info.si_code = ILL_ILLOPN;
      info.si_addr = here;
      break;
    case 16:
    case 19:
      info.si_code = FloatingPointCode(exit.vector, extended);
      info.si_addr = here;
      break;
    case 17:
      info.si_code = BUS_ADRALN;
      break;
    default:
      break;
  }
  return info;
}

Fault MachineFault(const vmm::Exit& exit, const vmm::UserRegisters& registers) {
  const bool shutdown = exit.kind == vmm::Exit::Kind::kShutdown;
  Fault fault{.kind = shutdown ? FaultKind::kDoubleFault : FaultKind::kMachine, .signal = SIGSEGV};
  fault.address = registers.general.rip;
  fault.registers = GeneralRegisters(registers);
  fault.detail = shutdown ? "the virtual machine shut down (triple fault)"
                          : absl::StrFormat("the virtual machine stopped: %s", exit.detail);
  return fault;
}

}  // namespace waxvm::microvm
