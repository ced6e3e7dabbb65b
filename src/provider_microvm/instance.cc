// SPDX-License-Identifier: Apache-2.0
#include "src/provider_microvm/instance.h"

#include <time.h>

#include <array>
#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "src/base/deadline.h"
#include "src/base/status.h"
#include "src/linux_abi/fixed_answers.h"
#include "src/linux_abi/registers.h"
#include "src/provider_microvm/exception.h"

namespace waxvm::microvm {
namespace {

using std::chrono::nanoseconds;

// A page fault that the page tables already answer can come once or twice where a hypervisor
// shadows them; a guest for which it never ends would otherwise spin for ever.
constexpr int kMaxFaultRepeats = 100;
constexpr std::uint64_t kHwcap2FsGsBase = 1 << 1;

nanoseconds ThreadCpuTime() {
  timespec now;
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + nanoseconds(now.tv_nsec);
}

linux_abi::CpuFeatures FeaturesOf(const vmm::HostTraits& traits) {
  linux_abi::CpuFeatures features;
  for (std::uint32_t i = 0; i < traits.cpuid.count; ++i)
    if (traits.cpuid.entries[i].function == 1) features.hwcap = traits.cpuid.entries[i].edx;
  if (traits.has_fsgsbase) features.hwcap2 = kHwcap2FsGsBase;
  features.minimum_signal_stack_bytes = linux_abi::SignalFrameBytes(traits.extended_bytes);
  return features;
}

auto MachineAnswers() {
  std::array<vmm::FixedAnswer, 16> answers{};
  std::size_t count = 0;
  for (const linux_abi::FixedAnswer& answer : linux_abi::FixedAnswers())
    if (count < answers.size()) answers[count++] = {answer.number, answer.value};
  return std::pair(answers, count);
}

}  // namespace

MicroVmInstance::MicroVmInstance(std::shared_ptr<const HostSystem> host, const InstanceSpec& spec)
    : host_(std::move(host)),
      spec_(spec),
      granted_clock_(spec.clock),
      account_(spec.limits.memory_bytes.value_or(kDefaultMemoryBytes)),
      output_(spec.limits.output_bytes, spec.output),
      fuel_(host_->fuel),
      cpu_limit_(spec.limits.cpu_time) {
  fuel_.Restart(spec.limits.fuel);
}

absl::StatusOr<std::unique_ptr<Instance>> MicroVmInstance::Create(
    std::shared_ptr<const HostSystem> host, const InstanceSpec& spec, int kick_signal_offset) {
  std::unique_ptr<MicroVmInstance> instance(new MicroVmInstance(std::move(host), spec));
  MicroVmInstance& self = *instance;
  WAXVM_ASSIGN_OR_RETURN(self.kick_, vmm::Kick::Create(kick_signal_offset));
  const auto [answers, count] = MachineAnswers();
  WAXVM_ASSIGN_OR_RETURN(self.machine_,
                         vmm::Machine::Create(self.host_->system, self.host_->traits, self.account_,
                                              {.trap_rdtsc = self.TrapsTimestamps(),
                                               .hide_rdrand = spec.random == nullptr,
                                               .fixed_answers = std::span(answers).first(count),
                                               .vdso = self.HasVdso()}));
  self.ShareClock();
  self.pages_ = std::make_unique<MachinePages>(*self.machine_);
  WAXVM_ASSIGN_OR_RETURN(self.process_, linux_abi::Process::Create(self.spec_, *self.pages_, self,
                                                                   self.account_, self.Features()));
  const linux_abi::EntryState entry = self.process_->entry();
  self.machine_->Start(entry.instruction_pointer, entry.stack_pointer);
  self.finished_ = spec.for_runs;  // there is nothing on its stack
  return instance;
}

linux_abi::CpuFeatures MicroVmInstance::Features() const {
  linux_abi::CpuFeatures features = FeaturesOf(host_->traits);
  if (const std::uint64_t vdso = machine_->vdso_address(); vdso != 0) features.vdso_address = vdso;
  features.host_call_entry = machine_->system_call_entry();
  return features;
}

void MicroVmInstance::ShareClock() {
  if (!HasVdso()) return;
  spec_.clock = machine_->MakeGuestClock(granted_clock_, [gate = spec_.gate] {
    return gate->Check({.resource = Resource::kClock, .name = "clock"}).ok();
  });
}

absl::StatusOr<Event> MicroVmInstance::Resume() {
  if (finished_) return absl::FailedPreconditionError("the instance has ended already");
  if (process_->pending_host_call())
    return absl::FailedPreconditionError("the pending host call has not been answered");
  if (!std::exchange(started_, true) && spec_.limits.wall_time)
    deadline_ = After(vmm::Kick::Clock::now(), *spec_.limits.wall_time);
  std::optional<nanoseconds> cpu_left;
  if (cpu_limit_) cpu_left = *cpu_limit_ - (cpu_before_ - cpu_limit_from_);

  WAXVM_RETURN_IF_ERROR(kick_->Enter(deadline_, cpu_left));
  if (ReadsCpuClock()) cpu_entered_ = CpuClock();
  in_resume_ = true;
  const absl::Cleanup leave = [this] {
    if (ReadsCpuClock()) cpu_before_ += CpuClock() - cpu_entered_;
    in_resume_ = false;
    if (fuel_.active()) {
      fuel_.Leave();
      kick_->Consume();
    }
    kick_->Leave();
  };
  process_->scheduler().Rearm();
  if (signal_mask_ != kick_->run_mask()) {
    WAXVM_RETURN_IF_ERROR(machine_->SetSignalMask(kick_->run_mask()));
    signal_mask_ = kick_->run_mask();
  }
  WAXVM_RETURN_IF_ERROR(fuel_.Enter(kick_->signal()));
  absl::StatusOr<Event> event = RunUntilEvent();
  // What was used decides, not whether the interruption came in time.
  if (event.ok() && fuel_.Over()) event = LimitReached{LimitKind::kFuel};
  finished_ = !event.ok() || !std::holds_alternative<HostCallRequest>(*event);
  exited_ = event.ok() && std::holds_alternative<Exited>(*event);
  if (finished_) {
    peak_memory_bytes_ = machine_->memory().PeakResidentBytes() + HostHeldBytes();
    memory_at_end_ = memory();
  }
  return event;
}

absl::StatusOr<Event> MicroVmInstance::RunUntilEvent() {
  std::optional<Event> event = Ended();
  while (!event) {
    const vmm::Exit exit = machine_->Run();
    switch (exit.kind) {
      case vmm::Exit::Kind::kSystemCall:
        event = ServeSystemCall();
        break;
      case vmm::Exit::Kind::kException:
        event = ServeException(exit);
        break;
      case vmm::Exit::Kind::kInterrupted:
        kick_->Consume();
        event = Ended();
        if (event) break;
        process_->Tick();
        event = AfterScheduling();
        break;
      case vmm::Exit::Kind::kShutdown:
      case vmm::Exit::Kind::kFailed:
        event = MachineFault(exit, machine_->registers());
        break;
    }
    if (!output_status_.ok()) return output_status_;
    if (!event && process_->pending_host_call()) return process_->TakeHostCall();
  }
  return *std::move(event);
}

std::optional<Event> MicroVmInstance::ServeSystemCall() {
  fault_repeats_ = 0;
  const kvm_regs& registers = machine_->general();
  const std::optional<std::int64_t> result = process_->Dispatch(
      registers.rax,
      {registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9});
  if (!result) return AfterScheduling();
  machine_->SetSystemCallResult(*result);
  if (std::exchange(wait_was_cut_short_, false) || kick_->requested()) return Ended();
  return std::nullopt;
}

std::optional<Event> MicroVmInstance::AfterScheduling() {
  if (process_->ending())
    return std::visit([](const auto& ending) -> Event { return ending; }, *process_->ending());
  if (process_->pending_host_call()) return std::nullopt;
  if (std::exchange(wait_was_cut_short_, false) || kick_->requested()) return Ended();
  return std::nullopt;
}

std::optional<Event> MicroVmInstance::ServeException(const vmm::Exit& exit) {
  using FaultResult = linux_abi::AddressSpace::FaultResult;
  const vmm::UserRegisters registers = machine_->registers();
  if (AnswerTimestamp(exit)) return std::nullopt;
  if (exit.vector != kPageFaultVector) {
    linux_abi::ExtendedState extended;
    SaveExtended(extended);
    return Raise(ExceptionFault(exit, registers), ExceptionSignal(exit, registers, extended), exit);
  }
  const FaultResult result =
      process_->memory().HandleFault(exit.address, (exit.error_code & kPageFaultWrite) != 0,
                                     (exit.error_code & kPageFaultFetch) != 0);
  if (result == FaultResult::kOutOfMemory) return LimitReached{LimitKind::kMemory};
  if (result != FaultResult::kHandled)
    return Raise(PageFault(exit, registers, result), PageFaultSignal(exit, result), exit);
  if (IsRepeating(exit))
    return MachineFault(
        {.kind = vmm::Exit::Kind::kFailed, .detail = "the same page fault again and again"},
        registers);
  return std::nullopt;
}

std::optional<Event> MicroVmInstance::Raise(Fault fault, const siginfo_t& info,
                                            const vmm::Exit& exit) {
  // What the processor itself could not get through is no signal of the program's.
  if (fault.kind == FaultKind::kDoubleFault || fault.kind == FaultKind::kMachine) return fault;
  process_->Raise(info,
                  {.number = static_cast<std::uint64_t>(exit.vector),
                   .error_code = exit.error_code,
                   .address = exit.vector == kPageFaultVector ? exit.address : 0},
                  std::move(fault));
  return AfterScheduling();
}

bool MicroVmInstance::AnswerTimestamp(const vmm::Exit& exit) {
  if (exit.vector != kGeneralProtectionVector || !TrapsTimestamps()) return false;
  std::array<unsigned char, 3> code{};
  const std::uint64_t rip = machine_->general().rip;
  if (!process_->memory().Read(rip, std::as_writable_bytes(std::span(code).first(2)))) return false;
  const bool rdtsc = code[0] == 0x0f && code[1] == 0x31;
  if (!rdtsc &&
      !(code[0] == 0x0f && code[1] == 0x01 &&
        process_->memory().Read(rip, std::as_writable_bytes(std::span(code))) && code[2] == 0xf9))
    return false;
  constexpr std::uint64_t kFixedTimestamp = 0;
  machine_->SkipInstruction(rdtsc ? 2 : 3, kFixedTimestamp, kFixedTimestamp);
  return true;
}

bool MicroVmInstance::TrapsTimestamps() const {
  return spec_.clock == nullptr && host_->traits.traps_rdtsc;
}

bool MicroVmInstance::HasVdso() const { return spec_.clock != nullptr && spec_.host_clock; }

bool MicroVmInstance::IsRepeating(const vmm::Exit& exit) {
  const std::uint64_t rip = machine_->general().rip;
  const bool same = exit.address == last_fault_address_ && rip == last_fault_rip_;
  last_fault_address_ = exit.address;
  last_fault_rip_ = rip;
  fault_repeats_ = same ? fault_repeats_ + 1 : 0;
  return fault_repeats_ > kMaxFaultRepeats;
}

bool MicroVmInstance::OverWallTime() const {
  return deadline_ && vmm::Kick::Clock::now() >= *deadline_;
}

bool MicroVmInstance::MeasuresCpuTime() const { return !spec_.for_calls || cpu_limit_; }

nanoseconds MicroVmInstance::CpuClock() const {
  return MeasuresCpuTime() ? ThreadCpuTime() : vmm::Kick::Clock::now().time_since_epoch();
}

bool MicroVmInstance::OverCpuTime() {
  return cpu_limit_ && CpuTime() - cpu_limit_from_ >= *cpu_limit_;
}

std::optional<Event> MicroVmInstance::Ended() {
  if (kick_->requested()) return Stopped{};
  if (process_->ending())
    return std::visit([](const auto& ending) -> Event { return ending; }, *process_->ending());
  if (fuel_.Over()) return LimitReached{LimitKind::kFuel};
  if (OverWallTime()) return LimitReached{LimitKind::kWallTime};
  if (OverCpuTime()) return LimitReached{LimitKind::kCpuTime};
  return std::nullopt;
}

absl::Status MicroVmInstance::CompleteHostCall(const absl::StatusOr<std::string>& reply) {
  if (finished_ || !process_->pending_host_call())
    return absl::FailedPreconditionError("no host call is pending");
  machine_->memory().UsedByThisThread();
  machine_->SetSystemCallResult(process_->CompleteHostCall(reply));
  return absl::OkStatus();
}

void MicroVmInstance::Stop() { kick_->Request(); }

Usage MicroVmInstance::usage() const {
  return {.cpu_time = MeasuresCpuTime() ? std::optional(cpu_before_) : std::nullopt,
          .peak_memory_bytes = peak_memory_bytes_,
          .vm_exits = machine_->exits() - exits_before_,
          .output_bytes = output_.bytes(),
          .memory = memory_at_end_,
          .fuel = fuel_.active() ? std::optional(fuel_.used()) : std::nullopt};
}

// What the host holds beside the guest's frames: files, pipes, descriptors.
std::uint64_t MicroVmInstance::HostHeldBytes() const {
  return account_.used_bytes() - machine_->memory().charged_bytes();
}

linux_abi::Host::OutputResult MicroVmInstance::WriteOutput(Stream stream, std::string_view data) {
  const absl::StatusOr<std::size_t> written = output_.Write(stream, data);
  if (!written.ok()) {
    output_status_ = written.status();
    return OutputResult::kFailed;
  }
  return output_.limit_reached() ? OutputResult::kLimit : OutputResult::kOk;
}

int MicroVmInstance::Wait(std::span<pollfd> descriptors, std::optional<nanoseconds> timeout) {
  int result = kick_->Wait(descriptors, timeout);
  // Timers that run out again and again for threads that all sleep keep the host busy without ever
  // entering the guest, where the kick would tell of this limit.
  if (OverCpuTime()) result = -EINTR;
  if (result == -EINTR) wait_was_cut_short_ = true;
  return result;
}

linux_abi::CpuRegisters MicroVmInstance::Registers() {
  const vmm::UserRegisters from = machine_->registers();
  linux_abi::CpuRegisters registers;
  linux_abi::CopyGeneralRegisters(from.general, registers);
  registers.fs_base = from.fs_base;
  registers.gs_base = from.gs_base;
  return registers;
}

void MicroVmInstance::SetRegisters(const linux_abi::CpuRegisters& registers) {
  vmm::UserRegisters to;
  linux_abi::CopyGeneralRegisters(registers, to.general);
  to.fs_base = registers.fs_base;
  to.gs_base = registers.gs_base;
  machine_->SetRegisters(to);
}

void MicroVmInstance::SaveExtended(linux_abi::ExtendedState& state) {
  machine_->SaveExtended(state.bytes);
}

bool MicroVmInstance::LoadExtended(const linux_abi::ExtendedState& state) {
  return machine_->LoadExtended(state.bytes);
}

nanoseconds MicroVmInstance::Now() { return vmm::Kick::Clock::now().time_since_epoch(); }

void MicroVmInstance::InterruptAt(std::optional<nanoseconds> when) {
  kick_->InterruptAt(when ? std::optional(vmm::Kick::Clock::time_point(*when)) : std::nullopt);
}

void MicroVmInstance::SetThreadId(std::int32_t id) {
  machine_->SetFixedAnswer(linux_abi::kGettidNumber, id);
}

nanoseconds MicroVmInstance::CpuTime() {
  if (!ReadsCpuClock()) {
    cpu_time_asked_ = true;
    cpu_entered_ = CpuClock();
  }
  return in_resume_ ? cpu_before_ + (CpuClock() - cpu_entered_) : cpu_before_;
}

}  // namespace waxvm::microvm
