// SPDX-License-Identifier: Apache-2.0
// Instances in which one program is run again and again, each time from its first instruction.
#include "src/provider_microvm/start.h"

#include <utility>

#include "src/base/status.h"
#include "src/base/strings.h"
#include "src/provider_microvm/instance.h"

namespace waxvm::microvm {
namespace {

constexpr std::uint64_t kFirstFlags = 0x202;  // interrupts on, and the bit that is always set

}  // namespace

absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> MicroVmInstance::TakeStart() const {
  WAXVM_ASSIGN_OR_RETURN(linux_abi::StartImage process, process_->TakeStartImage());
  WAXVM_ASSIGN_OR_RETURN(std::shared_ptr<const vmm::MachineImage> machine, machine_->TakeImage());
  return std::make_shared<const MicroVmStart>(host_, std::move(machine), std::move(process),
                                              account_.limit_bytes());
}

absl::StatusOr<std::unique_ptr<Instance>> MicroVmInstance::CloneStart(
    std::shared_ptr<const MicroVmStart> start, const InstanceSpec& spec, int kick_signal_offset) {
  std::unique_ptr<MicroVmInstance> instance(new MicroVmInstance(start->host(), spec));
  MicroVmInstance& self = *instance;
  self.start_ = std::move(start);
  WAXVM_RETURN_IF_ERROR(self.CheckLikeStart(spec));
  WAXVM_ASSIGN_OR_RETURN(self.kick_, vmm::Kick::Create(kick_signal_offset));
  WAXVM_ASSIGN_OR_RETURN(
      self.machine_, vmm::Machine::CreateFrom(self.host_->system, self.host_->traits, self.account_,
                                              self.start_->machine()));
  self.pages_ = std::make_unique<MachinePages>(*self.machine_);
  self.awaits_run_ = self.finished_ = true;
  return instance;
}

// The machine was made with these.
absl::Status MicroVmInstance::CheckLikeStart(const InstanceSpec& spec) const {
  const std::uint64_t limit = account_.limit_bytes();
  if (limit != start_->memory_limit_bytes() || spec.limits.memory_bytes.value_or(limit) != limit)
    return InvalidArgument("a run has the memory limit of its snapshot, %d bytes, not %d",
                           start_->memory_limit_bytes(), spec.limits.memory_bytes.value_or(limit));
  const vmm::MachineOptions& options = start_->machine().options;
  const bool vdso = spec.clock != nullptr && spec.host_clock;
  const bool trap_rdtsc = spec.clock == nullptr && host_->traits.traps_rdtsc;
  if (options.vdso != vdso || options.trap_rdtsc != trap_rdtsc ||
      options.hide_rdrand != (spec.random == nullptr))
    return InvalidArgument("a run has the grants of its snapshot, clock and random among them");
  return absl::OkStatus();
}

absl::Status MicroVmInstance::StartRun(const InstanceSpec& spec) {
  if (!awaits_run_)
    return start_ == nullptr
               ? FailedPrecondition("the instance is no clone of a program that has not started")
               : FailedPrecondition("the instance has to be put back before its next run");
  WAXVM_RETURN_IF_ERROR(CheckLimits(*host_, spec.limits));
  WAXVM_RETURN_IF_ERROR(CheckLikeStart(spec));
  spec_ = spec;
  output_ = OutputLimiter(spec.limits.output_bytes, spec.output);
  output_status_ = absl::OkStatus();
  cpu_limit_ = spec.limits.cpu_time;
  fuel_.Restart(spec.limits.fuel);
  awaits_run_ = started_ = false;
  const absl::Status loaded = LoadRun();
  if (loaded.ok()) {
    finished_ = false;
    return absl::OkStatus();
  }
  // Part of it may be in memory already.
  exited_ = true;
  WAXVM_RETURN_IF_ERROR(PutBackToStart());
  return loaded;
}

absl::Status MicroVmInstance::LoadRun() {
  machine_->memory().UsedByThisThread();
  ShareClock();
  WAXVM_ASSIGN_OR_RETURN(process_,
                         linux_abi::Process::CreateAtStart(start_->process(), spec_, *pages_, *this,
                                                           account_, Features()));
  const linux_abi::EntryState& entry = process_->entry();
  vmm::UserRegisters registers;
  registers.general.rip = entry.instruction_pointer;
  registers.general.rsp = entry.stack_pointer;
  registers.general.rflags = kFirstFlags;
  machine_->SetRegisters(registers);
  return absl::OkStatus();
}

// After an exit the machine has answered every doorbell, and memory, registers and the process are
// all there is to put back. After a fault, a limit or Stop it may stand anywhere, a kick may still
// be on its way, and a program that tried to break out is the likeliest to have got there: such a
// machine is not used again.
absl::Status MicroVmInstance::PutBackToStart() {
  if (awaits_run_) return absl::OkStatus();
  if (finished_ && !exited_)
    return FailedPrecondition("the instance has ended otherwise than by exiting");
  finished_ = true;
  exited_ = false;
  process_.reset();
  if (const absl::Status done = machine_->Restore(start_->machine()); !done.ok())
    return Internal("the instance cannot be put back: %s", ToStd(done.message()));
  fuel_.Restart({});
  // What belonged to the run may be gone.
  spec_.gate = nullptr;
  spec_.output = nullptr;
  spec_.clock = granted_clock_;
  account_.RestartPeak();
  peak_memory_bytes_.reset();
  memory_at_end_.reset();
  exits_before_ = machine_->exits();
  cpu_before_ = cpu_limit_from_ = nanoseconds(0);
  cpu_time_asked_ = false;
  deadline_.reset();
  fault_repeats_ = 0;
  last_fault_address_ = last_fault_rip_ = 0;
  awaits_run_ = true;
  return absl::OkStatus();
}

}  // namespace waxvm::microvm
