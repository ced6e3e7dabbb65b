// SPDX-License-Identifier: Apache-2.0
// How a program died that did something its boundary does not allow.
#ifndef WAXVM_FAULT_H_
#define WAXVM_FAULT_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace waxvm {

enum class FaultKind {
  kSegmentation,        ///< access to memory that is not mapped or not with that right (SIGSEGV)
  kStackOverflow,       ///< the same, at the guard below the stack (SIGSEGV)
  kBusError,            ///< memory whose backing is gone, or misaligned access (SIGBUS)
  kIllegalInstruction,  ///< undefined or privileged by decoding (SIGILL)
  kPrivileged,          ///< a privileged instruction or segment violation (#GP; SIGSEGV)
  kArithmetic,          ///< division by zero, x87 and SIMD exceptions (SIGFPE)
  kTrap,                ///< breakpoint or single step (SIGTRAP)
  kDoubleFault,         ///< a fault while delivering one; the machine cannot continue
  kMachine,             ///< the virtual machine could not execute the guest's instruction
  kSignal,              ///< ended by another signal (abort, kill); `signal` says which
};

/// "segmentation", "stack_overflow", "bus_error", "illegal_instruction", "privileged",
/// "arithmetic", "trap", "double_fault", "machine", "signal".
std::string_view FaultName(FaultKind kind);

/// General registers at the fault, in the order of GeneralRegisterNames().
struct Registers {
  std::array<std::uint64_t, 18> value{};
};

/// rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags.
const std::array<std::string_view, 18>& GeneralRegisterNames();

struct Fault {
  FaultKind kind = FaultKind::kSegmentation;
  /// The Linux signal number this death is equivalent to (11 for a segmentation fault).
  int signal = 11;
  /// The address that was touched or executed, where the provider knows it.
  std::optional<std::uint64_t> address = {};
  /// The registers, where the provider knows them.
  std::optional<Registers> registers = {};
  /// One sentence for people: "write to 0x10 at rip 0x401136: not mapped".
  std::string detail = {};
};

}  // namespace waxvm

#endif  // WAXVM_FAULT_H_
