// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/signals.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "src/linux_abi/process.h"

namespace waxvm::linux_abi {
namespace {

constexpr int kFirstRealTime = 32;

bool IsIgnored(const SignalAction& action, int signal) {
  return action.is_ignore() || (action.is_default() && IgnoredByDefault(signal));
}

// Whether `thread` would take the signal at once.
bool Takes(const Thread& thread, SignalSet bit) {
  return (thread.blocked & bit) == 0 || (thread.asleep && (thread.call.wait.signals & bit) != 0);
}

// As Linux: the main thread if it takes it, then any other.
Thread* TargetOf(Process& process, SignalSet bit) {
  for (const auto& thread : process.scheduler().threads())
    if (Takes(*thread, bit)) return thread.get();
  return nullptr;
}

}  // namespace

bool SignalQueue::Add(const siginfo_t& info, MemoryAccount& account) {
  const SignalSet bit = SignalBit(info.si_signo);
  if (info.si_signo < kFirstRealTime && (set_ & bit) != 0) return true;  // one is enough
  if (queue_.size() >= kMaxQueued) return false;
  constexpr std::size_t kPerCharge = 64;
  if (queue_.size() >= kPrepaid) {
    const std::uint64_t bytes = (queue_.size() / kPerCharge + 1) * kPerCharge * sizeof info;
    if (bytes > charge_.bytes() && !charge_.Resize(account, bytes)) return false;
  }
  queue_.push_back(info);
  set_ |= bit;
  return true;
}

std::optional<siginfo_t> SignalQueue::Take(SignalSet wanted) {
  const SignalSet there = set_ & wanted;
  if (there == 0) return std::nullopt;
  const int signal = std::countr_zero(there) + 1;
  const auto is_it = [signal](const siginfo_t& info) { return info.si_signo == signal; };
  const auto found = std::ranges::find_if(queue_, is_it);
  const siginfo_t info = *found;
  const auto after = queue_.erase(found);
  if (std::none_of(after, queue_.end(), is_it)) set_ &= ~SignalBit(signal);
  if (queue_.empty()) charge_.Reset();
  return info;
}

void SignalQueue::Discard(int signal) {
  if ((set_ & SignalBit(signal)) == 0) return;
  std::erase_if(queue_, [signal](const siginfo_t& info) { return info.si_signo == signal; });
  set_ &= ~SignalBit(signal);
  if (queue_.empty()) charge_.Reset();
}

bool SignalQueue::HasTimer(std::int32_t id) const {
  return std::ranges::any_of(queue_, [id](const siginfo_t& info) {
    return info.si_code == SI_TIMER && info.si_timerid == id;
  });
}

bool IgnoredByDefault(int signal) {
  // Stopping is not offered: there is nobody inside to continue the process.
  return signal == SIGCHLD || signal == SIGCONT || signal == SIGURG || signal == SIGWINCH ||
         signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

siginfo_t MakeSignalInfo(int signal, int code) {
  siginfo_t info{};
  info.si_signo = signal;
  info.si_code = code;
  if (code == SI_USER || code == SI_TKILL) info.si_pid = Process::kPid;
  return info;
}

std::optional<siginfo_t> TakeSignal(Process& process, Thread& thread, SignalSet wanted) {
  std::optional<siginfo_t> info = thread.pending.Take(wanted & kSynchronous);
  if (!info) info = thread.pending.Take(wanted);
  if (!info) info = process.signals().pending.Take(wanted);
  if (info && info->si_code == SI_TIMER) process.timers().NoteDelivered(*info);
  return info;
}

bool SendSignal(Process& process, Thread* thread, const siginfo_t& info) {
  const int signal = info.si_signo;
  const SignalSet bit = SignalBit(signal);
  const SignalAction& action = process.signals().action(signal);
  Thread* target = thread != nullptr ? thread : TargetOf(process, bit);
  const bool takes = target != nullptr && Takes(*target, bit);
  const bool waited_for = takes && (target->blocked & bit) != 0;
  if (signal == SIGKILL ||
      (takes && !waited_for && action.is_default() && !IgnoredByDefault(signal))) {
    process.EndBySignal(signal);
    return true;
  }
  if (takes && !waited_for && IsIgnored(action, signal)) return true;
  process.scheduler().NoteChange();
  ++process.signals().sent;
  return (target != nullptr ? target->pending : process.signals().pending)
      .Add(info, process.account());
}

void RaiseFault(Process& process, Thread& thread, const siginfo_t& info, const TrapState& trap,
                Fault fault) {
  const SignalAction& action = process.signals().action(info.si_signo);
  const bool blocked = (thread.blocked & SignalBit(info.si_signo)) != 0;
  // A fault cannot be waited out: where nobody handles it, it would only come again.
  if (blocked || action.is_default() || action.is_ignore() ||
      !thread.pending.Add(info, process.account())) {
    process.End(std::move(fault));
    return;
  }
  thread.trap = trap;
  process.scheduler().NoteChange();
}

}  // namespace waxvm::linux_abi
