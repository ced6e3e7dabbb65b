// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/process.h"

#include <signal.h>

#include <cerrno>
#include <vector>

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
    : spec_(spec), host_(host), account_(account), memory_(mapper, account) {}

Process::~Process() = default;

absl::StatusOr<std::unique_ptr<Process>> Process::Create(const InstanceSpec& spec,
                                                         PageMapper& mapper, Host& host,
                                                         MemoryAccount& account,
                                                         const CpuFeatures& features) {
  std::unique_ptr<Process> process(new Process(spec, mapper, host, account));
  WAXVM_ASSIGN_OR_RETURN(process->file_system_, FileSystem::Create(spec, account, host));
  process->files_ = std::make_unique<FdTable>(
      spec, account, host, [raw = process.get()] { raw->End(LimitReached{LimitKind::kOutput}); });
  process->file_system_->ShowProcess(MakeProcessView(*process));
  WAXVM_ASSIGN_OR_RETURN(process->entry_, LoadProgram(spec, features, process->memory_));
  return process;
}

void Process::End(Ending ending) {
  if (!ending_) ending_ = std::move(ending);
}

std::optional<std::int64_t> Process::Dispatch(std::uint64_t number,
                                              const SyscallArguments& arguments) {
  std::int64_t result = -ENOSYS;
  if (number == static_cast<std::uint64_t>(WAXVM_HOST_CALL_NUMBER)) {
    result = StartHostCall(*this, arguments[0]);
  } else if (const SyscallEntry* entry = FindSyscall(number); entry != nullptr) {
    call_progress_ = 0;
    do {
      result = entry->handler(*this, arguments);
    } while (result == kAsleep && !ending_);
  } else {
    const std::string_view name = SyscallName(number);
    const std::string unknown = absl::StrFormat("number %d", number);
    gate().RecordDenial({.resource = Resource::kSystemCall, .name = name.empty() ? unknown : name});
  }
  if (memory_.out_of_memory()) End(LimitReached{LimitKind::kMemory});
  // Attempts to make more present than was asked for may be refused as well; only a call that
  // failed was denied something.
  if (account_.TakeRefused() && result < 0 && !ending_)
    gate().RecordDenial({.resource = Resource::kLimit, .name = LimitName(LimitKind::kMemory)});
  if (ending_ || pending_host_call_) return std::nullopt;
  return result;
}

std::int64_t Process::Sleep(Wait wait) {
  std::vector<pollfd> descriptors;
  for (const WatchedFile& watched : wait.files) watched.file->AddHostDescriptors(descriptors);
  const int result = host_.Wait(descriptors, wait.timeout);
  if (result > 0) return kAsleep;
  return result < 0 ? -EINTR : 0;
}

void Process::RaisePipeSignal() { RaiseSignal(*this, SIGPIPE); }

void Process::BeginHostCall(HostCallRequest request, MemoryCharge charge,
                            std::uint64_t call_address) {
  pending_host_call_ = std::move(request);
  host_call_charge_ = std::move(charge);
  host_call_address_ = call_address;
}

std::int64_t Process::CompleteHostCall(const absl::StatusOr<std::string>& reply) {
  pending_host_call_.reset();
  host_call_charge_.Reset();
  const std::int64_t result = FinishHostCall(*this, host_call_address_, reply);
  if (memory_.out_of_memory()) End(LimitReached{LimitKind::kMemory});
  return result;
}

}  // namespace waxvm::linux_abi
