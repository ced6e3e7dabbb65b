// SPDX-License-Identifier: Apache-2.0
// Signals: actions and masks are kept; delivery to handlers is not offered yet.
#include <signal.h>
#include <sys/syscall.h>

#include <cerrno>

#include "src/base/strings.h"
#include "src/linux_abi/process.h"

namespace waxvm::linux_abi {
namespace {

constexpr std::uint64_t kSetBytes = 8;
constexpr std::uint64_t kUnblockable =
    (std::uint64_t{1} << (SIGKILL - 1)) | (std::uint64_t{1} << (SIGSTOP - 1));
constexpr std::uint64_t kDefaultHandler = 0;
constexpr std::uint64_t kIgnoreHandler = 1;

constexpr std::uint64_t BitOf(int signal) { return std::uint64_t{1} << (signal - 1); }

bool IgnoredByDefault(int signal) {
  // Stopping is not offered: there is nobody inside to continue the process.
  return signal == SIGCHLD || signal == SIGCONT || signal == SIGURG || signal == SIGWINCH ||
         signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

void DeliverPending(Process& process) {
  SignalState& signals = process.signals();
  for (int signal = 1; signal <= kSignals && !process.ending(); ++signal) {
    if ((signals.pending & ~signals.blocked & BitOf(signal)) == 0) continue;
    signals.pending &= ~BitOf(signal);
    RaiseSignal(process, signal);
  }
}

std::int64_t RtSigaction(Process& process, const SyscallArguments& a) {
  if (a[3] != kSetBytes || a[0] < 1 || a[0] > kSignals) return -EINVAL;
  SignalAction& action = process.signals().actions[a[0] - 1];
  const SignalAction before = action;
  if (a[1] != 0) {
    SignalAction next;
    if (!process.memory().ReadObject(a[1], next)) return -EFAULT;
    if (a[0] == SIGKILL || a[0] == SIGSTOP) return -EINVAL;
    action = next;
  }
  if (a[2] != 0 && !process.memory().WriteObject(a[2], before)) return -EFAULT;
  return 0;
}

std::int64_t RtSigprocmask(Process& process, const SyscallArguments& a) {
  if (a[3] != kSetBytes) return -EINVAL;
  SignalState& signals = process.signals();
  const std::uint64_t before = signals.blocked;
  if (a[1] != 0) {
    std::uint64_t set;
    if (!process.memory().ReadObject(a[1], set)) return -EFAULT;
    switch (a[0]) {
      case SIG_BLOCK:
        signals.blocked |= set;
        break;
      case SIG_UNBLOCK:
        signals.blocked &= ~set;
        break;
      case SIG_SETMASK:
        signals.blocked = set;
        break;
      default:
        return -EINVAL;
    }
    signals.blocked &= ~kUnblockable;
  }
  if (a[2] != 0 && !process.memory().WriteObject(a[2], before)) return -EFAULT;
  DeliverPending(process);
  return 0;
}

std::int64_t RtSigpending(Process& process, const SyscallArguments& a) {
  if (a[1] > kSetBytes) return -EINVAL;
  return process.memory().WriteObject(a[0], process.signals().pending) ? 0 : -EFAULT;
}

std::int64_t Sigaltstack(Process& process, const SyscallArguments& a) {
  struct Stack {
    std::uint64_t address;
    std::int32_t flags;
    std::int32_t padding;
    std::uint64_t bytes;
  };
  SignalState& signals = process.signals();
  const Stack before{signals.stack_address, signals.stack_flags, 0, signals.stack_bytes};
  if (a[0] != 0) {
    Stack next;
    if (!process.memory().ReadObject(a[0], next)) return -EFAULT;
    constexpr std::uint64_t kMinimumBytes = 2048;
    if ((next.flags & SS_DISABLE) == 0 && next.bytes < kMinimumBytes) return -ENOMEM;
    signals.stack_address = next.address;
    signals.stack_bytes = next.bytes;
    signals.stack_flags = next.flags;
  }
  if (a[1] != 0 && !process.memory().WriteObject(a[1], before)) return -EFAULT;
  return 0;
}

std::int64_t SendTo(Process& process, std::int64_t pid, std::uint64_t signal) {
  if (signal > kSignals) return -EINVAL;
  // The process, its group, or everybody: there is nobody else.
  if (pid != Process::kPid && pid != 0 && pid != -1 && pid != -Process::kPid) return -ESRCH;
  if (signal != 0) RaiseSignal(process, static_cast<int>(signal));
  return 0;
}

std::int64_t Kill(Process& process, const SyscallArguments& a) {
  return SendTo(process, static_cast<std::int32_t>(a[0]), a[1]);
}

std::int64_t Tkill(Process& process, const SyscallArguments& a) {
  const auto tid = static_cast<std::int32_t>(a[0]);
  return tid <= 0 ? -EINVAL : SendTo(process, tid, a[1]);
}

std::int64_t Tgkill(Process& process, const SyscallArguments& a) {
  const auto tgid = static_cast<std::int32_t>(a[0]);
  const auto tid = static_cast<std::int32_t>(a[1]);
  if (tgid <= 0 || tid <= 0) return -EINVAL;
  return tgid != Process::kPid ? -ESRCH : SendTo(process, tid, a[2]);
}

std::int64_t RtSigsuspend(Process& process, const SyscallArguments& a) {
  std::uint64_t set;
  if (a[1] != kSetBytes) return -EINVAL;
  if (!process.memory().ReadObject(a[0], set)) return -EFAULT;
  SignalState& signals = process.signals();
  signals.blocked = set & ~kUnblockable;
  DeliverPending(process);
  // Nothing can arrive any more; wait until the run is ended.
  if (!process.ending()) process.host().Wait({}, std::nullopt);
  return -EINTR;
}

std::int64_t Pause(Process& process, const SyscallArguments&) {
  process.host().Wait({}, std::nullopt);
  return -EINTR;
}

constexpr std::string_view kNoHandlers =
    "handlers are kept but never run: a signal with a handler ends the program";

constexpr SyscallEntry kCalls[] = {
    {SYS_rt_sigaction, "rt_sigaction", RtSigaction, Support::kPartial, kNoHandlers},
    {SYS_rt_sigprocmask, "rt_sigprocmask", RtSigprocmask},
    {SYS_rt_sigpending, "rt_sigpending", RtSigpending},
    {SYS_rt_sigsuspend, "rt_sigsuspend", RtSigsuspend, Support::kPartial, kNoHandlers},
    {SYS_sigaltstack, "sigaltstack", Sigaltstack, Support::kPartial, "kept, never used"},
    {SYS_kill, "kill", Kill, Support::kPartial, kNoHandlers},
    {SYS_tkill, "tkill", Tkill, Support::kPartial, kNoHandlers},
    {SYS_tgkill, "tgkill", Tgkill, Support::kPartial, kNoHandlers},
    {SYS_pause, "pause", Pause},
};

}  // namespace

void RaiseSignal(Process& process, int signal) {
  SignalState& signals = process.signals();
  const std::uint64_t handler = signals.actions[static_cast<std::size_t>(signal - 1)].handler;
  const bool unstoppable = signal == SIGKILL;
  if (!unstoppable &&
      (handler == kIgnoreHandler || (handler == kDefaultHandler && IgnoredByDefault(signal))))
    return;
  if (!unstoppable && (signals.blocked & BitOf(signal)) != 0) {
    signals.pending |= BitOf(signal);
    return;
  }
  Fault fault{.kind = FaultKind::kSignal, .signal = signal};
  fault.detail = handler == kDefaultHandler || unstoppable
                     ? absl::StrFormat("the program sent itself signal %d", signal)
                     : absl::StrFormat(
                           "the program sent itself signal %d, whose handler at %#x "
                           "the microVM cannot run",
                           signal, handler);
  process.End(std::move(fault));
}

std::span<const SyscallEntry> SignalCalls() { return kCalls; }

}  // namespace waxvm::linux_abi
