// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_SIGNALS_H_
#define WAXVM_SRC_LINUX_ABI_SIGNALS_H_

#include <array>
#include <cstdint>

namespace waxvm::linux_abi {

class Process;

inline constexpr int kSignals = 64;

/// struct sigaction as the kernel has it.
struct SignalAction {
  std::uint64_t handler = 0;
  std::uint64_t flags = 0;
  std::uint64_t restorer = 0;
  std::uint64_t mask = 0;
};

/// What the process asked to happen on signals. Bit n-1 stands for signal n.
struct SignalState {
  std::array<SignalAction, kSignals> actions;
  std::uint64_t blocked = 0;
  std::uint64_t pending = 0;
  std::uint64_t stack_address = 0;
  std::uint64_t stack_bytes = 0;
  std::int32_t stack_flags = 2;  // SS_DISABLE
};

/// Sends `signal` (1 to 64) to the process itself: ignored, kept pending while blocked, or the
/// end of the process. A handler cannot be run yet: a signal that has one ends the process as if
/// it had none, and the report says so.
void RaiseSignal(Process& process, int signal);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_SIGNALS_H_
