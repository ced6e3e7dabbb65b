// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/process.h"

#include <sys/syscall.h>

#include <cerrno>

#include "src/base/status.h"
#include "src/base/strings.h"
#include "src/linux_abi/host_call.h"
#include "src/linux_abi/loader.h"
#include "src/linux_abi/process_view.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/file_system.h"
#include "waxvm/abi/host_call.h"

namespace waxvm::linux_abi {

Process::Process(const InstanceSpec& spec, PageMapper& mapper, Host& host, MemoryAccount& account)
    : spec_(spec),
      host_(host),
      account_(account),
      memory_(mapper, account),
      timers_(*this),
      scheduler_(*this) {}

// Mapped files are written back, and closed, while their file system is still there.
Process::~Process() { memory_.Close(); }

absl::StatusOr<std::unique_ptr<Process>> Process::CreateEmpty(const InstanceSpec& spec,
                                                              PageMapper& mapper, Host& host,
                                                              MemoryAccount& account) {
  std::unique_ptr<Process> process(new Process(spec, mapper, host, account));
  WAXVM_ASSIGN_OR_RETURN(process->file_system_, FileSystem::Create(spec, account, host));
  process->files_ = std::make_unique<FdTable>(
      spec, account, host, [raw = process.get()] { raw->End(LimitReached{LimitKind::kOutput}); });
  std::unique_ptr<ProcessView> view = MakeProcessView(*process);
  view->SetThreadName(kPid, view->ThreadName(kPid));
  process->file_system_->ShowProcess(std::move(view));
  return process;
}

absl::StatusOr<std::unique_ptr<Process>> Process::Create(const InstanceSpec& spec,
                                                         PageMapper& mapper, Host& host,
                                                         MemoryAccount& account,
                                                         const CpuFeatures& features) {
  WAXVM_ASSIGN_OR_RETURN(std::unique_ptr<Process> process,
                         CreateEmpty(spec, mapper, host, account));
  WAXVM_ASSIGN_OR_RETURN(process->entry_,
                         LoadProgram(spec, features, process->memory_, *process->file_system_));
  process->file_system_->context().changed = false;
  return process;
}

namespace {

// Calls after which a process is what it was, but for its memory. Everything else makes a reset
// build the process anew, which is slower and never wrong.
bool LeavesNoTrace(std::uint64_t number, const SyscallArguments& arguments, const FdTable& files) {
  switch (number) {
    case SYS_write:
      return files.StreamOf(files.Get(arguments[0])).has_value();
    case static_cast<std::uint64_t>(WAXVM_HOST_CALL_NUMBER):
    case SYS_sched_yield:
    case SYS_getpid:
    case SYS_gettid:
    case SYS_clock_gettime:
    case SYS_clock_getres:
    case SYS_gettimeofday:
    case SYS_time:
    case SYS_getrandom:
      return true;
    default:
      return false;
  }
}

}  // namespace

void Process::End(Ending ending) {
  if (!ending_) ending_ = std::move(ending);
}

void Process::EndBySignal(int signal) {
  Fault fault{.kind = FaultKind::kSignal, .signal = signal};
  fault.detail = absl::StrFormat("ended by signal %d, which has no handler", signal);
  End(std::move(fault));
}

std::optional<std::int64_t> Process::Dispatch(std::uint64_t number,
                                              const SyscallArguments& arguments) {
  return scheduler_.Serve(number, arguments);
}

std::int64_t Process::Call(std::uint64_t number, const SyscallArguments& arguments) {
  std::int64_t result = -ENOSYS;
  changed_ = changed_ || !LeavesNoTrace(number, arguments, *files_);
  if (number == static_cast<std::uint64_t>(WAXVM_HOST_CALL_NUMBER)) {
    result = StartHostCall(*this, arguments[0]);
  } else if (const SyscallEntry* entry = FindSyscall(number); entry != nullptr) {
    result = entry->handler(*this, arguments);
  } else {
    const std::string_view name = SyscallName(number);
    const std::string unknown = absl::StrFormat("number %d", number);
    gate().RecordDenial({.resource = Resource::kSystemCall, .name = name.empty() ? unknown : name});
  }
  if (memory_.out_of_memory()) End(LimitReached{LimitKind::kMemory});
  // Attempts to make more present than was asked for may be refused as well; only a call that
  // failed was denied something.
  const bool failed =
      result < 0 && result != kAsleep && result != kReplaced && result != kThreadGone;
  if (account_.TakeRefused() && failed && !ending_)
    gate().RecordDenial({.resource = Resource::kLimit, .name = LimitName(LimitKind::kMemory)});
  return result;
}

void Process::Raise(const siginfo_t& info, const TrapState& trap, Fault fault) {
  changed_ = true;
  RaiseFault(*this, thread(), info, trap, std::move(fault));
  if (!ending_) scheduler_.Reschedule();
}

void Process::SetTemporarySignalMask(SignalSet mask) {
  if (!thread().saved_mask) thread().saved_mask = thread().blocked;
  thread().blocked = mask & ~kUnblockable;
  scheduler_.NoteChange();
}

void Process::RaisePipeSignal() { SendSignal(*this, &thread(), MakeSignalInfo(SIGPIPE, SI_USER)); }

void Process::BeginHostCall(HostCallRequest request, MemoryCharge charge,
                            std::uint64_t call_address) {
  pending_host_call_ = true;
  host_call_ = std::move(request);
  host_call_charge_ = std::move(charge);
  host_call_address_ = call_address;
}

std::int64_t Process::CompleteHostCall(const absl::StatusOr<std::string>& reply) {
  pending_host_call_ = false;
  host_call_charge_.Reset();
  const std::int64_t result = FinishHostCall(*this, host_call_address_, reply);
  if (memory_.out_of_memory()) End(LimitReached{LimitKind::kMemory});
  return result;
}

}  // namespace waxvm::linux_abi
