// SPDX-License-Identifier: Apache-2.0
// What signals are to a process: actions, queues, and the frame that a handler runs on.
// Spec: signal(7); Linux arch/x86/kernel/signal_64.c for the frame.
#ifndef WAXVM_SRC_LINUX_ABI_SIGNALS_H_
#define WAXVM_SRC_LINUX_ABI_SIGNALS_H_

#include <signal.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "src/base/memory_account.h"
#include "src/linux_abi/host.h"
#include "waxvm/fault.h"

namespace waxvm::linux_abi {

class Process;
struct Thread;

inline constexpr int kSignals = 64;

/// A set of signals; bit n-1 stands for signal n.
using SignalSet = std::uint64_t;

constexpr SignalSet SignalBit(int signal) { return SignalSet{1} << (signal - 1); }

inline constexpr SignalSet kUnblockable = SignalBit(SIGKILL) | SignalBit(SIGSTOP);
/// Those that an instruction of the thread itself raises; delivered before all others.
inline constexpr SignalSet kSynchronous = SignalBit(SIGSEGV) | SignalBit(SIGBUS) |
                                          SignalBit(SIGILL) | SignalBit(SIGTRAP) |
                                          SignalBit(SIGFPE) | SignalBit(SIGSYS);

/// struct sigaction as the kernel has it.
struct SignalAction {
  std::uint64_t handler = 0;
  std::uint64_t flags = 0;
  std::uint64_t restorer = 0;
  SignalSet mask = 0;

  bool is_default() const { return handler == 0; }
  bool is_ignore() const { return handler == 1; }
};

/// Signals that were sent and not delivered yet: one of each below 32, and of the real-time ones
/// as many as were sent, up to a bound.
class SignalQueue {
 public:
  /// As RLIMIT_SIGPENDING: stops a guest that blocks a signal and sends it for ever.
  static constexpr std::size_t kMaxQueued = 1024;
  /// So many are paid for with their thread; a guest that fills the queues of all its threads pays
  /// for the others.
  static constexpr std::size_t kPrepaid = 32;

  /// False when the queue is full or `account` has no room.
  bool Add(const siginfo_t& info, MemoryAccount& account);
  SignalSet set() const { return set_; }
  std::size_t size() const { return queue_.size(); }
  /// Oldest first.
  std::vector<siginfo_t> All() const { return {queue_.begin(), queue_.end()}; }
  /// Takes the most urgent one of `wanted`.
  std::optional<siginfo_t> Take(SignalSet wanted);
  void Discard(int signal);
  /// True while a signal of that timer of timer_create waits.
  bool HasTimer(std::int32_t id) const;

 private:
  SignalSet set_ = 0;
  std::deque<siginfo_t> queue_;
  MemoryCharge charge_;
};

/// sigaltstack(2).
struct SignalStack {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
  std::uint32_t flags = SS_DISABLE;

  bool Holds(std::uint64_t stack_pointer) const {
    return (flags & SS_DISABLE) == 0 && stack_pointer > address && stack_pointer - address <= bytes;
  }
};

/// What all threads share.
struct SignalState {
  std::array<SignalAction, kSignals> actions;
  SignalQueue pending;
  std::uint64_t sent = 0;  ///< how many so far, to any thread

  SignalAction& action(int signal) { return actions[static_cast<std::size_t>(signal - 1)]; }
};

/// The processor's side of a fault, for the handler's context.
struct TrapState {
  std::uint64_t number = 0;
  std::uint64_t error_code = 0;
  std::uint64_t address = 0;
};

/// True for a signal that does nothing where it has no handler.
bool IgnoredByDefault(int signal);

/// A siginfo with a number and a code (SI_USER, SI_KERNEL …).
siginfo_t MakeSignalInfo(int signal, int code);

/// Sends a signal to one thread, or to the process where `thread` is null. Ignored ones are
/// dropped; one that ends the process does so at once where nobody blocks it. False when it would
/// have to be queued and the queue is full.
bool SendSignal(Process& process, Thread* thread, const siginfo_t& info);

/// Takes the most urgent signal of `wanted` that waits for `thread` or for the process.
std::optional<siginfo_t> TakeSignal(Process& process, Thread& thread, SignalSet wanted);

/// Raises what an instruction of `thread` has caused: its handler runs next, or, where there is
/// none or it is blocked, the process ends with `fault`.
void RaiseFault(Process& process, Thread& thread, const siginfo_t& info, const TrapState& trap,
                Fault fault);

/// Changes `registers` of `thread` so that it runs its handler for `info`: the frame on its stack
/// holds what it did before. False when the frame cannot be written.
bool EnterHandler(Process& process, Thread& thread, const siginfo_t& info,
                  const SignalAction& action, CpuRegisters& registers);

/// The most that EnterHandler puts on a stack, for so many bytes of extended state.
std::uint64_t SignalFrameBytes(std::size_t extended_bytes);

/// rt_sigreturn: undoes EnterHandler from the frame, which the guest may have changed in any way.
/// False when there is no readable frame or the machine refuses what is in it.
bool LeaveHandler(Process& process, Thread& thread);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_SIGNALS_H_
