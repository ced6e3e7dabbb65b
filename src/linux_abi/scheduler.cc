// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/scheduler.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "src/linux_abi/process.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {
namespace {

using std::chrono::nanoseconds;

constexpr std::int32_t kMaxThreadId = 4'000'000;
// How often files of the host are looked at while other threads keep the vCPU busy.
constexpr nanoseconds kHostFilePeriod = std::chrono::milliseconds(2);
// How soon to try again after a stub was found in the way.
constexpr nanoseconds kStubPeriod = std::chrono::microseconds(200);
// Signals and calls that are due while one is let run are seen to at once, this many times over.
// Entering a handler takes the host longer than some timers' periods, and a signal stack can be
// placed so that frames lie over each other: without a bound such a guest would never be entered
// again, and nobody would look at its limits.
constexpr int kMaxRounds = 8;
// The guest runs so long between two looks at all that sleep, however long one takes: it would be
// interrupted before its first instruction, again and again, where many threads watch many files.
constexpr nanoseconds kLeastRun = std::chrono::microseconds(100);

// A look at all that sleep, which takes seconds where hundreds of threads watch a thousand epoll
// instances of a thousand descriptors each, looks at the run's limits this often.
constexpr nanoseconds kLookPeriod = std::chrono::milliseconds(20);
// So many entries for descriptors of the host are collected before they are merged.
constexpr std::size_t kMergeAt = 4096;

bool IsRestart(std::int64_t result) {
  return result == kRestart || result == kRestartWithoutHandler;
}

// One entry for each descriptor of the host, which is what ppoll(2) takes: a thousand epoll
// instances may watch the same one.
void Merge(std::vector<pollfd>& descriptors) {
  std::ranges::sort(descriptors, {}, &pollfd::fd);
  std::size_t kept = 0;
  for (const pollfd& next : descriptors) {
    if (kept != 0 && descriptors[kept - 1].fd == next.fd)
      descriptors[kept - 1].events = static_cast<short>(descriptors[kept - 1].events | next.events);
    else
      descriptors[kept++] = next;
  }
  descriptors.resize(kept);
}

std::optional<nanoseconds> Earlier(std::optional<nanoseconds> a, std::optional<nanoseconds> b) {
  if (!a) return b;
  return b ? std::min(*a, *b) : a;
}

// A new call in the place of one that is over, waits for nothing and keeps no files: cheaper than
// another PendingCall for every call.
void Begin(PendingCall& call, std::uint64_t number, const SyscallArguments& arguments) {
  call.number = number;
  call.arguments = arguments;
  call.progress = 0;
  call.deadline.reset();
  call.wake = Wake::kNone;
  call.used_count = 0;
  call.kept.reset();
  call.woken = false;
}

}  // namespace

Scheduler::Scheduler(Process& process) : process_(process), next_id_(Process::kPid + 1) {
  threads_.push_back(std::make_unique<Thread>(Process::kPid));
  live_ = current_ = threads_.back().get();
  // No charge for the first one: it is part of the process.
}

Scheduler::~Scheduler() = default;

Thread* Scheduler::Find(std::int32_t id) {
  const auto found =
      std::ranges::find_if(threads_, [id](const auto& thread) { return thread->id == id; });
  return found != threads_.end() ? found->get() : nullptr;
}

ErrnoOr<Thread*> Scheduler::Create(const CpuRegisters& registers) {
  if (threads_.size() >= MaxThreads(process_.spec().limits)) {
    process_.gate().RecordDenial(
        {.resource = Resource::kLimit, .name = LimitName(LimitKind::kProcesses)});
    return Errno{EAGAIN};
  }
  MemoryCharge charge;
  if (!charge.Resize(process_.account(), kThreadBytes)) return Errno{ENOMEM};
  while (Find(next_id_) != nullptr || next_id_ <= Process::kPid || next_id_ > kMaxThreadId)
    next_id_ = next_id_ > kMaxThreadId ? Process::kPid + 1 : next_id_ + 1;
  auto thread = std::make_unique<Thread>(next_id_++);
  thread->charge = std::move(charge);
  thread->name = current_->name;
  thread->registers = registers;
  thread->blocked = current_->blocked;
  thread->extended = std::make_unique<ExtendedState>();
  process_.host().SaveExtended(*thread->extended);
  Thread* added = thread.get();
  threads_.push_back(std::move(thread));
  runnable_.push_back(added);
  changed_ = true;
  return added;
}

void Scheduler::RemoveCurrent() {
  const Thread* gone = std::exchange(current_, nullptr);
  live_ = nullptr;
  // Who waits for a word sleeps, and does not end: whatever went wrong, nobody wakes what is gone.
  while (process_.futexes().Remove(*gone)) continue;
  std::erase(runnable_, gone);
  std::erase(sleepers_, gone);
  std::erase_if(threads_, [gone](const auto& thread) { return thread.get() == gone; });
}

bool Scheduler::over() const {
  return process_.ending().has_value() || process_.pending_host_call();
}

std::int64_t Scheduler::Sleep(Wait wait) {
  PendingCall& call = current_->call;
  if (call.wake == Wake::kSignal) return wait.interrupted;
  const nanoseconds now = process_.host().Now();
  if (wait.timeout && !call.deadline) {
    const nanoseconds far = nanoseconds::max() - now;
    call.deadline = now + std::clamp(*wait.timeout, nanoseconds(0), far);
  }
  if (call.deadline && now >= *call.deadline) return 0;
  // A guest of many threads could otherwise have the host keep a list of files for each.
  if (!call.wait_charge.Resize(process_.account(), wait.files.size() * sizeof(WatchedFile)))
    return -ENOMEM;
  call.wait = std::move(wait);
  for (std::size_t i = 0; i < call.used_count; ++i) {
    UsedDescriptor& used = call.used[i];
    if (used.file == nullptr) used.file = process_.files().Share(used.number);
  }
  return kAsleep;
}

void Scheduler::WakeUp(Thread& thread) {
  thread.call.woken = true;
  changed_ = true;
}

void Scheduler::Try(Thread& thread) {
  current_ = &thread;
  thread.call.again = false;
  const std::int64_t result = process_.Call(thread.call.number, thread.call.arguments);
  if (result == Process::kThreadGone) return;
  if (result == kAsleep) {
    if (!std::exchange(thread.asleep, true)) sleepers_.push_back(&thread);
    return;
  }
  if (thread.asleep) {
    thread.asleep = false;
    std::erase(sleepers_, &thread);
    if (&thread != live_) {
      runnable_.push_back(&thread);
      // Who has slept does not wait behind one that has had the vCPU to itself for long.
      if (!slice_end_ && process_.host().Now() - live_from_ >= kSlice) Yield();
    }
  }
  thread.call.wait = {};
  thread.call.wait_charge.Reset();
  for (UsedDescriptor& used : thread.call.used) used.file.reset();
  if (result != Process::kReplaced) thread.unsettled = result;
}

std::optional<std::int64_t> Scheduler::Serve(std::uint64_t number,
                                             const SyscallArguments& arguments) {
  Thread& thread = *live_;
  Begin(thread.call, number, arguments);
  const std::int32_t id = thread.id;
  Try(thread);
  // The answer of a host call goes into the registers when it comes; nothing else may.
  if (process_.pending_host_call()) live_->unsettled.reset();
  if (over()) return std::nullopt;
  const bool simple = live_ == &thread && !thread.asleep && thread.unsettled &&
                      !IsRestart(*thread.unsettled) && !thread.saved_mask;
  // The usual case: one thread, nothing pending.
  if (simple && !changed_ && sleepers_.empty() && runnable_.empty())
    return std::exchange(thread.unsettled, std::nullopt);
  Reschedule();
  if (over() || live_ == nullptr || live_->id != id || !live_->unsettled) return std::nullopt;
  return std::exchange(live_->unsettled, std::nullopt);
}

Wake Scheduler::ReasonToWake(const Thread& thread, nanoseconds now) const {
  const PendingCall& call = thread.call;
  if (call.woken || call.again) return Wake::kReady;
  const SignalSet pending = thread.pending.set() | process_.signals().pending.set();
  if ((pending & call.wait.signals) != 0) return Wake::kReady;
  if ((pending & ~thread.blocked) != 0) return Wake::kSignal;
  for (const WatchedFile& watched : call.wait.files) {
    const short wanted = static_cast<short>(watched.events | POLLERR | POLLHUP);
    if ((watched.file->Poll() & wanted) != 0) return Wake::kReady;
  }
  return call.deadline && now >= *call.deadline ? Wake::kTimeout : Wake::kNone;
}

void Scheduler::TryDue(nanoseconds now) {
  // Retrying one may give others a reason, or take it away: each is asked when its turn comes.
  const std::vector<Thread*> asked = sleepers_;
  nanoseconds looked = now;
  for (Thread* thread : asked) {
    if (over()) return;
    if (const nanoseconds time = process_.host().Now(); time - looked >= kLookPeriod) {
      looked = time;
      if (process_.host().Wait({}, nanoseconds(0)) < 0) return;  // whoever called finds out
    }
    current_ = thread;  // a signalfd answers for whoever asks
    const Wake reason = ReasonToWake(*thread, now);
    if (reason == Wake::kNone) continue;
    thread->call.wake = reason;
    Try(*thread);
  }
}

std::optional<nanoseconds> Scheduler::NextEvent() const {
  std::optional<nanoseconds> next = process_.timers().Next();
  for (const Thread* thread : sleepers_) {
    next = Earlier(next, thread->call.deadline);
    for (const WatchedFile& watched : thread->call.wait.files)
      next = Earlier(next, watched.file->ReadyAt());
  }
  return next;
}

bool Scheduler::Idle(nanoseconds now) {
  std::vector<pollfd> descriptors;
  for (const Thread* thread : sleepers_)
    for (const WatchedFile& watched : thread->call.wait.files) {
      watched.file->AddHostDescriptors(descriptors);
      if (descriptors.size() >= kMergeAt) Merge(descriptors);
    }
  Merge(descriptors);
  std::optional<nanoseconds> timeout;
  if (const auto next = NextEvent()) timeout = std::max(nanoseconds(0), *next - now);
  if (in_vain_) {
    // What is ready on the host is nothing that anybody waits for (an edge that was reported, the
    // other direction): looking again at once would spin.
    descriptors.clear();
    timeout = std::min(timeout.value_or(kHostFilePeriod), kHostFilePeriod);
  }
  const int ready = process_.host().Wait(descriptors, timeout);
  in_vain_ = ready > 0;
  return ready >= 0;
}

bool Scheduler::WatchesHost() const {
  std::vector<pollfd> descriptors;
  for (const Thread* thread : sleepers_)
    for (const WatchedFile& watched : thread->call.wait.files) {
      watched.file->AddHostDescriptors(descriptors);
      if (!descriptors.empty()) return true;
    }
  return false;
}

void Scheduler::ArmInterrupt(nanoseconds now) {
  std::optional<nanoseconds> when = NextEvent();
  if (!runnable_.empty()) when = Earlier(when, slice_end_.value_or(now + kSlice));
  if (WatchesHost()) when = Earlier(when, now + kHostFilePeriod);
  // Something was left for the next time.
  if (changed_) when = Earlier(when, now + kStubPeriod);
  if (when) when = std::max(*when, process_.host().Now() + kLeastRun);
  process_.host().InterruptAt(when);
}

void Scheduler::Rearm() {
  if (!runnable_.empty() || !sleepers_.empty() || process_.timers().Next())
    ArmInterrupt(process_.host().Now());
}

void Scheduler::Reschedule() {
  const bool movable = live_ == nullptr || process_.host().AtUserMode();
  nanoseconds now = process_.host().Now();
  int rounds = 0;
  while (!over()) {
    changed_ = false;
    process_.timers().Fire();
    TryDue(now);
    if (over()) return;
    const bool live_can_run = live_ != nullptr && !live_->asleep;
    // A slice begins when there is somebody to share with.
    if (runnable_.empty())
      slice_end_.reset();
    else if (!slice_end_)
      slice_end_ = now + kSlice;
    if (!movable) {
      // The vCPU stands in a stub of the machine's; the next exit comes at once.
      changed_ = true;
      process_.host().InterruptAt(now + kStubPeriod);
      current_ = live_;
      return;
    }
    if (live_can_run || !runnable_.empty()) {
      in_vain_ = false;
      Thread* next = live_;
      if (!live_can_run || (slice_end_ && now >= *slice_end_)) {
        next = runnable_.front();
        runnable_.pop_front();
        if (live_can_run) runnable_.push_back(live_);
      }
      Enter(*next, now);
      if (over()) return;
      if (live_ != nullptr && (!changed_ || ++rounds == kMaxRounds)) break;
    } else if (!Idle(now)) {
      break;  // the run is being ended: the guest does not go on
    }
    now = process_.host().Now();
  }
  current_ = live_;
  ArmInterrupt(now);
}

void Scheduler::SaveLive() {
  if (live_ == nullptr) return;
  live_->registers = process_.host().Registers();
  AbortRestartableSequence(*live_, live_->registers);
  if (live_->extended == nullptr) live_->extended = std::make_unique<ExtendedState>();
  process_.host().SaveExtended(*live_->extended);
}

void Scheduler::Enter(Thread& thread, nanoseconds now) {
  CpuRegisters registers;
  bool loaded = false;
  if (&thread != live_) {
    const nanoseconds used = process_.host().CpuTime();
    SaveLive();
    if (live_ != nullptr) live_->cpu_time += used - live_since_;
    process_.NoteChange();
    live_since_ = used;
    registers = thread.registers;
    loaded = true;
    live_ = &thread;
    live_from_ = now;
    slice_end_ = now + kSlice;
    // What was saved from this machine it takes back.
    static_cast<void>(process_.host().LoadExtended(*thread.extended));
    process_.host().SetThreadId(thread.id);
  }
  current_ = &thread;
  const bool handled = DeliverSignals(thread, registers, loaded);
  if (process_.ending()) return;
  if (thread.saved_mask && !handled)
    thread.blocked = *std::exchange(thread.saved_mask, std::nullopt);
  if (thread.unsettled && IsRestart(*thread.unsettled)) {
    if (!std::exchange(loaded, true)) registers = process_.host().Registers();
    // Back onto the instruction, which is two bytes.
    registers.rip -= 2;
    registers.rax = thread.call.number;
    thread.unsettled.reset();
  }
  if (!loaded) return;
  if (thread.unsettled)
    registers.rax = static_cast<std::uint64_t>(*std::exchange(thread.unsettled, std::nullopt));
  process_.host().SetRegisters(registers);
}

bool Scheduler::DeliverSignals(Thread& thread, CpuRegisters& registers, bool& loaded) {
  bool handled = false;
  std::optional<siginfo_t> forced;
  for (;;) {
    SignalState& signals = process_.signals();
    const std::optional<siginfo_t> info = forced ? std::exchange(forced, std::nullopt)
                                                 : TakeSignal(process_, thread, ~thread.blocked);
    if (!info) return handled;
    const SignalAction action = signals.action(info->si_signo);
    if (action.is_ignore() || (action.is_default() && IgnoredByDefault(info->si_signo))) continue;
    if (action.is_default() || info->si_signo == SIGKILL) {
      process_.EndBySignal(info->si_signo);
      return handled;
    }
    if (!std::exchange(loaded, true)) registers = process_.host().Registers();
    AbortRestartableSequence(thread, registers);
    if (thread.unsettled) {
      const bool again = *thread.unsettled == kRestart && (action.flags & SA_RESTART) != 0;
      if (again) registers.rip -= 2;
      const std::int64_t result = IsRestart(*thread.unsettled) ? -EINTR : *thread.unsettled;
      registers.rax = again ? thread.call.number : static_cast<std::uint64_t>(result);
      thread.unsettled.reset();
    }
    if (!EnterHandler(process_, thread, *info, action, registers)) {
      // A SIGSEGV takes its place, whose handler may have a stack of its own.
      const SignalAction& segv = signals.action(SIGSEGV);
      const bool caught =
          !segv.is_default() && !segv.is_ignore() && (thread.blocked & SignalBit(SIGSEGV)) == 0;
      if (info->si_signo == SIGSEGV || !caught) {
        process_.EndBySignal(SIGSEGV);
        return handled;
      }
      forced.emplace();
      forced->si_signo = SIGSEGV;
      forced->si_code = SI_KERNEL;
      continue;
    }
    handled = true;
    if ((action.flags & SA_RESETHAND) != 0) signals.action(info->si_signo) = {};
  }
}

// A thread that is taken off the vCPU within its restartable sequence starts over at the abort
// address. Spec: rseq(2), Linux include/uapi/linux/rseq.h.
void Scheduler::AbortRestartableSequence(Thread& thread, CpuRegisters& registers) {
  if (thread.rseq_address == 0) return;
  constexpr std::uint64_t kDescriptorOffset = 8;
  struct Descriptor {
    std::uint32_t version, flags;
    std::uint64_t start, bytes, abort;
  } sequence{};
  std::uint64_t address = 0;
  AddressSpace& memory = process_.memory();
  if (!memory.ReadObject(thread.rseq_address + kDescriptorOffset, address) || address == 0) return;
  if (!memory.ReadObject(address, sequence)) return;
  const bool inside = registers.rip - sequence.start < sequence.bytes;
  std::uint32_t signature = 0;
  if (inside && (!memory.ReadObject(sequence.abort - sizeof signature, signature) ||
                 signature != thread.rseq_signature))
    return;
  const std::uint64_t none = 0;
  static_cast<void>(memory.WriteObject(thread.rseq_address + kDescriptorOffset, none));
  if (inside) registers.rip = sequence.abort;
}

nanoseconds Scheduler::CpuTime(const Thread& thread) const {
  const nanoseconds running =
      &thread == live_ ? process_.host().CpuTime() - live_since_ : nanoseconds(0);
  return thread.cpu_time + running;
}

}  // namespace waxvm::linux_abi
