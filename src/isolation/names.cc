// SPDX-License-Identifier: Apache-2.0
// The words that reports and messages use.
#include <array>
#include <string_view>

#include "waxvm/access.h"
#include "waxvm/fault.h"
#include "waxvm/limits.h"
#include "waxvm/provider.h"

namespace waxvm {

std::string_view LimitName(LimitKind kind) {
  switch (kind) {
    case LimitKind::kMemory:
      return "memory";
    case LimitKind::kWallTime:
      return "wall";
    case LimitKind::kCpuTime:
      return "cpu";
    case LimitKind::kOutput:
      return "output";
    case LimitKind::kOpenFiles:
      return "open_files";
    case LimitKind::kProcesses:
      return "processes";
    case LimitKind::kHostCalls:
      return "host_calls";
    case LimitKind::kFuel:
      return "fuel";
  }
  return "unknown";
}

std::string_view FaultName(FaultKind kind) {
  switch (kind) {
    case FaultKind::kSegmentation:
      return "segmentation";
    case FaultKind::kStackOverflow:
      return "stack_overflow";
    case FaultKind::kBusError:
      return "bus_error";
    case FaultKind::kIllegalInstruction:
      return "illegal_instruction";
    case FaultKind::kPrivileged:
      return "privileged";
    case FaultKind::kArithmetic:
      return "arithmetic";
    case FaultKind::kTrap:
      return "trap";
    case FaultKind::kDoubleFault:
      return "double_fault";
    case FaultKind::kMachine:
      return "machine";
    case FaultKind::kSignal:
      return "signal";
  }
  return "unknown";
}

const std::array<std::string_view, 18>& GeneralRegisterNames() {
  static constexpr std::array<std::string_view, 18> kNames = {
      "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8",
      "r9",  "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags"};
  return kNames;
}

std::string_view IsolationName(IsolationClass isolation) {
  switch (isolation) {
    case IsolationClass::kNone:
      return "none";
    case IsolationClass::kProcess:
      return "process";
    case IsolationClass::kMicroVm:
      return "microvm";
  }
  return "unknown";
}

std::string_view ResourceName(Resource resource) {
  switch (resource) {
    case Resource::kClock:
      return "clock";
    case Resource::kRandom:
      return "random";
    case Resource::kFile:
      return "file";
    case Resource::kHostFunction:
      return "host_function";
    case Resource::kSystemCall:
      return "system_call";
    case Resource::kLimit:
      return "limit";
  }
  return "unknown";
}

}  // namespace waxvm
