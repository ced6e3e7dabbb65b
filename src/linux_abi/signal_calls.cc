// SPDX-License-Identifier: Apache-2.0
// Signals: actions, masks, sending, waiting.
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "src/linux_abi/duration.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/signal_file.h"
#include "src/linux_abi/vfs/fd_table.h"

namespace waxvm::linux_abi {
namespace {

constexpr std::uint64_t kSetBytes = 8;

std::int64_t RtSigaction(Process& process, const SyscallArguments& a) {
  if (a[3] != kSetBytes || a[0] < 1 || a[0] > kSignals) return -EINVAL;
  const int signal = static_cast<int>(a[0]);
  SignalAction& action = process.signals().action(signal);
  const SignalAction before = action;
  if (a[1] != 0) {
    SignalAction next;
    if (!process.memory().ReadObject(a[1], next)) return -EFAULT;
    if (signal == SIGKILL || signal == SIGSTOP) return -EINVAL;
    next.mask &= ~kUnblockable;
    action = next;
    // POSIX: to ignore a signal is to forget those that are pending.
    if (next.is_ignore() || (next.is_default() && IgnoredByDefault(signal))) {
      process.signals().pending.Discard(signal);
      for (const auto& thread : process.scheduler().threads()) thread->pending.Discard(signal);
    }
  }
  if (a[2] != 0 && !process.memory().WriteObject(a[2], before)) return -EFAULT;
  return 0;
}

std::int64_t RtSigprocmask(Process& process, const SyscallArguments& a) {
  if (a[3] != kSetBytes) return -EINVAL;
  SignalSet& blocked = process.thread().blocked;
  const SignalSet before = blocked;
  if (a[1] != 0) {
    SignalSet set;
    if (!process.memory().ReadObject(a[1], set)) return -EFAULT;
    set &= ~kUnblockable;
    switch (static_cast<std::int32_t>(a[0])) {
      case SIG_BLOCK:
        blocked |= set;
        break;
      case SIG_UNBLOCK:
        blocked &= ~set;
        break;
      case SIG_SETMASK:
        blocked = set;
        break;
      default:
        return -EINVAL;
    }
    if ((before & ~blocked) != 0) process.scheduler().NoteChange();
  }
  if (a[2] != 0 && !process.memory().WriteObject(a[2], before)) return -EFAULT;
  return 0;
}

std::int64_t RtSigpending(Process& process, const SyscallArguments& a) {
  if (a[1] > kSetBytes) return -EINVAL;
  const Thread& thread = process.thread();
  const SignalSet pending =
      (thread.pending.set() | process.signals().pending.set()) & thread.blocked;
  return process.memory().Write(a[0], std::as_bytes(std::span(&pending, 1)).first(a[1])) ? 0
                                                                                         : -EFAULT;
}

std::int64_t Sigaltstack(Process& process, const SyscallArguments& a) {
  struct Stack {
    std::uint64_t address;
    std::uint32_t flags;
    std::uint32_t padding;
    std::uint64_t bytes;
  };
  SignalStack& stack = process.thread().signal_stack;
  const bool active = stack.Holds(process.host().Registers().rsp);
  const Stack before{stack.address, active ? stack.flags | SS_ONSTACK : stack.flags, 0,
                     stack.bytes};
  if (a[0] != 0) {
    constexpr std::uint32_t kAutoDisarm = 1u << 31;  // SS_AUTODISARM
    Stack next;
    if (!process.memory().ReadObject(a[0], next)) return -EFAULT;
    if (active) return -EPERM;
    const std::uint32_t mode = next.flags & ~kAutoDisarm;
    if (mode != 0 && mode != SS_DISABLE && mode != SS_ONSTACK) return -EINVAL;
    if (mode == SS_DISABLE) {
      stack = {.address = 0, .bytes = 0, .flags = next.flags};
    } else {
      constexpr std::uint64_t kMinimumBytes = 2048;  // MINSIGSTKSZ
      if (next.bytes < kMinimumBytes) return -ENOMEM;
      stack = {.address = next.address, .bytes = next.bytes, .flags = next.flags & kAutoDisarm};
    }
  }
  if (a[1] != 0 && !process.memory().WriteObject(a[1], before)) return -EFAULT;
  return 0;
}

std::int64_t SendToProcess(Process& process, std::int64_t pid, const siginfo_t& info) {
  // The process, its group, or everybody: there is nobody else.
  if (pid != Process::kPid && pid != 0 && pid != -1 && pid != -Process::kPid) return -ESRCH;
  if (info.si_signo == 0) return 0;
  return SendSignal(process, nullptr, info) ? 0 : -EAGAIN;
}

std::int64_t SendToThread(Process& process, std::int32_t tid, const siginfo_t& info) {
  Thread* thread = process.scheduler().Find(tid);
  if (thread == nullptr) return -ESRCH;
  if (info.si_signo == 0) return 0;
  return SendSignal(process, thread, info) ? 0 : -EAGAIN;
}

bool IsSignal(std::uint64_t number) { return static_cast<std::uint32_t>(number) <= kSignals; }

std::int64_t Kill(Process& process, const SyscallArguments& a) {
  if (!IsSignal(a[1])) return -EINVAL;
  return SendToProcess(process, static_cast<std::int32_t>(a[0]),
                       MakeSignalInfo(static_cast<int>(a[1]), SI_USER));
}

std::int64_t Tkill(Process& process, const SyscallArguments& a) {
  const auto tid = static_cast<std::int32_t>(a[0]);
  if (tid <= 0 || !IsSignal(a[1])) return -EINVAL;
  return SendToThread(process, tid, MakeSignalInfo(static_cast<int>(a[1]), SI_TKILL));
}

std::int64_t Tgkill(Process& process, const SyscallArguments& a) {
  const auto tgid = static_cast<std::int32_t>(a[0]);
  const auto tid = static_cast<std::int32_t>(a[1]);
  if (tgid <= 0 || tid <= 0 || !IsSignal(a[2])) return -EINVAL;
  if (tgid != Process::kPid) return -ESRCH;
  return SendToThread(process, tid, MakeSignalInfo(static_cast<int>(a[2]), SI_TKILL));
}

// The sender's own siginfo; nothing in it is believed but by the program itself.
ErrnoOr<siginfo_t> ReadInfo(Process& process, std::uint64_t signal, std::uint64_t address) {
  siginfo_t info;
  if (!process.memory().ReadObject(address, info)) return Errno{EFAULT};
  if (!IsSignal(signal)) return Errno{EINVAL};
  info.si_signo = static_cast<int>(signal);
  return info;
}

std::int64_t RtSigqueueinfo(Process& process, const SyscallArguments& a) {
  const auto info = ReadInfo(process, a[1], a[2]);
  return info.ok() ? SendToProcess(process, static_cast<std::int32_t>(a[0]), *info) : info.result();
}

std::int64_t RtTgsigqueueinfo(Process& process, const SyscallArguments& a) {
  const auto tgid = static_cast<std::int32_t>(a[0]);
  const auto info = ReadInfo(process, a[2], a[3]);
  if (!info.ok()) return info.result();
  if (tgid <= 0 || static_cast<std::int32_t>(a[1]) <= 0) return -EINVAL;
  if (tgid != Process::kPid) return -ESRCH;
  return SendToThread(process, static_cast<std::int32_t>(a[1]), *info);
}

std::int64_t RtSigsuspend(Process& process, const SyscallArguments& a) {
  SignalSet set;
  if (a[1] != kSetBytes) return -EINVAL;
  if (!process.memory().ReadObject(a[0], set)) return -EFAULT;
  process.SetTemporarySignalMask(set);
  return process.Sleep({.interrupted = kRestartWithoutHandler});
}

std::int64_t Pause(Process& process, const SyscallArguments&) {
  return process.Sleep({.interrupted = kRestartWithoutHandler});
}

std::int64_t RtSigtimedwait(Process& process, const SyscallArguments& a) {
  SignalSet set;
  if (a[3] != kSetBytes) return -EINVAL;
  if (!process.memory().ReadObject(a[0], set)) return -EFAULT;
  set &= ~kUnblockable;
  std::optional<std::chrono::nanoseconds> timeout;
  if (a[2] != 0) {
    const auto given = ReadDuration(process, a[2]);
    if (!given.ok()) return given.result();
    timeout = *given;
  }
  const auto info = TakeSignal(process, process.thread(), set);
  if (!info) {
    const std::int64_t slept = process.Sleep({.timeout = timeout, .signals = set});
    return slept == 0 ? -EAGAIN : slept;
  }
  if (a[1] != 0 && !process.memory().WriteObject(a[1], *info)) return -EFAULT;
  return info->si_signo;
}

std::int64_t RtSigreturn(Process& process, const SyscallArguments&) {
  if (LeaveHandler(process, process.thread())) return Process::kReplaced;
  process.EndBySignal(SIGSEGV);
  return 0;
}

std::int64_t MakeSignalFile(Process& process, const SyscallArguments& a, std::uint64_t flags) {
  SignalSet set;
  if (a[2] != kSetBytes || (flags & ~std::uint64_t{SFD_CLOEXEC | SFD_NONBLOCK}) != 0)
    return -EINVAL;
  if (!process.memory().ReadObject(a[1], set)) return -EFAULT;
  if (static_cast<std::int32_t>(a[0]) != -1) {
    const auto file = process.files().Share(a[0]);
    if (file == nullptr) return -EBADF;
    const auto signals = std::dynamic_pointer_cast<SignalFile>(file);
    if (signals == nullptr) return -EINVAL;
    signals->set_signals(set);
    process.scheduler().NoteChange();
    return static_cast<std::int32_t>(a[0]);
  }
  const int status = (flags & SFD_NONBLOCK) != 0 ? O_NONBLOCK : 0;
  return process.files().Add(std::make_shared<SignalFile>(process, set, status),
                             (flags & SFD_CLOEXEC) != 0);
}

std::int64_t Signalfd(Process& process, const SyscallArguments& a) {
  return MakeSignalFile(process, a, 0);
}
std::int64_t Signalfd4(Process& process, const SyscallArguments& a) {
  return MakeSignalFile(process, a, static_cast<std::uint32_t>(a[3]));
}

constexpr std::string_view kNoStopping = "signals that stop a process are ignored";

constexpr SyscallEntry kCalls[] = {
    {SYS_rt_sigaction, "rt_sigaction", RtSigaction},
    {SYS_rt_sigprocmask, "rt_sigprocmask", RtSigprocmask},
    {SYS_rt_sigpending, "rt_sigpending", RtSigpending},
    {SYS_rt_sigsuspend, "rt_sigsuspend", RtSigsuspend},
    {SYS_rt_sigtimedwait, "rt_sigtimedwait", RtSigtimedwait},
    {SYS_rt_sigreturn, "rt_sigreturn", RtSigreturn},
    {SYS_rt_sigqueueinfo, "rt_sigqueueinfo", RtSigqueueinfo, Support::kPartial, kNoStopping},
    {SYS_rt_tgsigqueueinfo, "rt_tgsigqueueinfo", RtTgsigqueueinfo, Support::kPartial, kNoStopping},
    {SYS_sigaltstack, "sigaltstack", Sigaltstack},
    {SYS_kill, "kill", Kill, Support::kPartial, kNoStopping},
    {SYS_tkill, "tkill", Tkill, Support::kPartial, kNoStopping},
    {SYS_tgkill, "tgkill", Tgkill, Support::kPartial, kNoStopping},
    {SYS_pause, "pause", Pause},
    {SYS_signalfd, "signalfd", Signalfd},
    {SYS_signalfd4, "signalfd4", Signalfd4},
};

}  // namespace

std::span<const SyscallEntry> SignalCalls() { return kCalls; }

}  // namespace waxvm::linux_abi
