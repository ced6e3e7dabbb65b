// SPDX-License-Identifier: Apache-2.0
// Instances that begin where another one was, and go back there.
#include "src/provider_microvm/snapshot.h"

#include <utility>

#include "src/base/deadline.h"
#include "src/base/status.h"
#include "src/base/strings.h"
#include "src/provider_microvm/instance.h"

namespace waxvm::microvm {

absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> MicroVmInstance::TakeSnapshot() {
  if (spec_.for_runs && start_ == nullptr) return TakeStart();
  if (finished_ || !process_->pending_host_call())
    return FailedPrecondition("a snapshot is taken while a host call waits for its answer");
  // Refusals first: they cost nothing.
  WAXVM_ASSIGN_OR_RETURN(linux_abi::ProcessImage process, process_->TakeImage());
  WAXVM_ASSIGN_OR_RETURN(std::shared_ptr<const vmm::MachineImage> machine, machine_->TakeImage());
  return std::make_shared<const MicroVmSnapshot>(host_, std::move(machine), std::move(process),
                                                 spec_, account_.limit_bytes());
}

absl::StatusOr<std::unique_ptr<Instance>> MicroVmInstance::Clone(
    std::shared_ptr<const MicroVmSnapshot> snapshot, const InstanceSpec& spec,
    int kick_signal_offset) {
  std::unique_ptr<MicroVmInstance> instance(new MicroVmInstance(snapshot->host(), spec));
  MicroVmInstance& self = *instance;
  const vmm::MachineOptions& options = snapshot->machine().options;
  if (self.account_.limit_bytes() != snapshot->memory_limit_bytes())
    return InvalidArgument("a clone has the memory limit of its snapshot, %d bytes, not %d",
                           snapshot->memory_limit_bytes(), self.account_.limit_bytes());
  if (options.vdso != self.HasVdso() || options.trap_rdtsc != self.TrapsTimestamps() ||
      options.hide_rdrand != (spec.random == nullptr))
    return InvalidArgument("a clone has the grants of its snapshot, clock and random among them");
  WAXVM_ASSIGN_OR_RETURN(self.kick_, vmm::Kick::Create(kick_signal_offset));
  WAXVM_ASSIGN_OR_RETURN(
      self.machine_, vmm::Machine::CreateFrom(self.host_->system, self.host_->traits, self.account_,
                                              snapshot->machine()));
  self.ShareClock();
  self.pages_ = std::make_unique<MachinePages>(*self.machine_);
  WAXVM_ASSIGN_OR_RETURN(
      self.process_, linux_abi::Process::CreateFrom(snapshot->process(), self.spec_, *self.pages_,
                                                    self, self.account_));
  self.started_ = true;
  self.mapped_bytes_ = self.process_->memory().mapped_bytes();
  self.snapshot_ = std::move(snapshot);
  return instance;
}

absl::Status MicroVmInstance::Reset() {
  if (start_ != nullptr) return PutBackToStart();
  if (snapshot_ == nullptr) return FailedPrecondition("the instance was not made from a snapshot");
  if (finished_) return FailedPrecondition("the instance has ended already");
  finished_ = true;  // until all of it is done
  if (const absl::Status done = PutBack(); !done.ok())
    return Internal("the instance cannot be put back: %s", ToStd(done.message()));
  finished_ = false;
  output_.Restart();
  account_.RestartPeak();
  exits_before_ = machine_->exits();
  cpu_before_ = cpu_limit_from_ = nanoseconds(0);
  cpu_limit_.reset();
  cpu_time_asked_ = false;
  fuel_.Restart({});
  deadline_.reset();
  fault_repeats_ = 0;
  last_fault_address_ = last_fault_rip_ = 0;
  return absl::OkStatus();
}

absl::Status MicroVmInstance::PutBack() {
  // A stack that has grown is a mapping that has changed, without a call; and a page of a shared
  // file that was touched for the first time has a frame, which is to be somebody else's now.
  const bool changed = process_->changed() || snapshot_->process().keeps_time ||
                       process_->memory().has_shared_files() ||
                       process_->memory().mapped_bytes() != mapped_bytes_;
  // Its mappings are taken away in memory that is put back afterwards.
  if (changed) process_.reset();
  if (process_ != nullptr) process_->ReleaseHostCall();
  WAXVM_RETURN_IF_ERROR(machine_->Restore(snapshot_->machine()));
  ShareClock();  // on a page that is empty again
  if (process_ != nullptr) {
    process_->RestoreHostCall(snapshot_->process());
    return absl::OkStatus();
  }
  // Timers on the CPU clock are set from what it says now.
  cpu_before_ = cpu_limit_from_ = nanoseconds(0);
  WAXVM_ASSIGN_OR_RETURN(process_, linux_abi::Process::CreateFrom(snapshot_->process(), spec_,
                                                                  *pages_, *this, account_));
  return absl::OkStatus();
}

absl::Status MicroVmInstance::Prepare() {
  if (start_ != nullptr)
    return awaits_run_ ? machine_->Prepare(start_->machine()) : absl::OkStatus();
  return snapshot_ != nullptr ? machine_->Prepare(snapshot_->machine()) : absl::OkStatus();
}

std::optional<InstanceMemory> MicroVmInstance::memory() const {
  const absl::StatusOr<vmm::MemoryUse> use = machine_->memory().Use();
  if (!use.ok()) return std::nullopt;
  return InstanceMemory{.resident_bytes = use->resident_bytes, .private_bytes = use->private_bytes};
}

absl::Status MicroVmInstance::RestartLimits(const CallLimits& limits) {
  if (finished_ || !process_->pending_host_call())
    return FailedPrecondition("limits are restarted while a host call waits for its answer");
  if (limits.fuel && !host_->traits.fuel.ok())
    return absl::UnimplementedError(
        absl::StrFormat("the microvm provider cannot enforce the limit `fuel` here: %s",
                        ToStd(host_->traits.fuel.message())));
  fuel_.Restart(limits.fuel);
  deadline_.reset();
  if (limits.wall_time) deadline_ = After(vmm::Kick::Clock::now(), *limits.wall_time);
  cpu_limit_ = limits.cpu_time;
  cpu_limit_from_ = cpu_before_;
  return absl::OkStatus();
}

}  // namespace waxvm::microvm
