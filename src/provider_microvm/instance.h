// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_PROVIDER_MICROVM_INSTANCE_H_
#define WAXVM_SRC_PROVIDER_MICROVM_INSTANCE_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "src/base/memory_account.h"
#include "src/isolation/output_limiter.h"
#include "src/kvm/kvm.h"
#include "src/linux_abi/process.h"
#include "src/provider_microvm/page_mapper.h"
#include "src/provider_microvm/snapshot.h"
#include "src/provider_microvm/start.h"
#include "src/vmm/fuel.h"
#include "src/vmm/kick.h"
#include "src/vmm/machine.h"
#include "waxvm/provider.h"

namespace waxvm::microvm {

/// What all instances of one provider share, immutable.
struct HostSystem {
  kvm::System system;
  vmm::HostTraits traits;
  vmm::FuelMeter fuel = [](std::optional<vmm::FuelAlarm> alarm) {
    return vmm::NewPerfCounter(vmm::kGuestInstructions, alarm);
  };
};

/// What instances can enforce on a host that can count instructions, or not. CheckLimits: also why
/// not.
std::vector<LimitKind> EnforceableLimits(bool fuel);
absl::Status CheckLimits(const HostSystem& host, const Limits& limits);

/// A program in a virtual machine: the straight line from KVM_RUN to the Linux personality and
/// back. Thread safety: as Instance.
class MicroVmInstance final : public Instance, private linux_abi::Host {
 public:
  static absl::StatusOr<std::unique_ptr<Instance>> Create(std::shared_ptr<const HostSystem> host,
                                                          const InstanceSpec& spec,
                                                          int kick_signal_offset);

  static absl::StatusOr<std::unique_ptr<Instance>> Clone(
      std::shared_ptr<const MicroVmSnapshot> snapshot, const InstanceSpec& spec,
      int kick_signal_offset);
  /// A clone that waits for StartRun.
  static absl::StatusOr<std::unique_ptr<Instance>> CloneStart(
      std::shared_ptr<const MicroVmStart> start, const InstanceSpec& spec, int kick_signal_offset);

  absl::StatusOr<Event> Resume() override;
  absl::Status CompleteHostCall(const absl::StatusOr<std::string>& reply) override;
  void Stop() override;
  Usage usage() const override;
  std::optional<InstanceMemory> memory() const override;
  absl::Status Prepare() override;
  absl::Status RestartLimits(const CallLimits& limits) override;
  absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> TakeSnapshot() override;
  absl::Status Reset() override;
  absl::Status StartRun(const InstanceSpec& spec) override;

 private:
  using nanoseconds = std::chrono::nanoseconds;

  MicroVmInstance(std::shared_ptr<const HostSystem> host, const InstanceSpec& spec);

  // linux_abi::Host.
  OutputResult WriteOutput(Stream stream, std::string_view data) override;
  int Wait(std::span<pollfd> descriptors, std::optional<std::chrono::nanoseconds> timeout) override;
  linux_abi::CpuRegisters Registers() override;
  void SetRegisters(const linux_abi::CpuRegisters& registers) override;
  void SaveExtended(linux_abi::ExtendedState& state) override;
  bool LoadExtended(const linux_abi::ExtendedState& state) override;
  std::uint64_t ExtendedFeatures() override { return host_->traits.xcr0; }
  std::size_t ExtendedBytes() override { return host_->traits.extended_bytes; }
  bool AtUserMode() override { return machine_->AtUserMode(); }
  std::chrono::nanoseconds Now() override;
  void InterruptAt(std::optional<std::chrono::nanoseconds> when) override;
  void SetThreadId(std::int32_t id) override;
  std::chrono::nanoseconds CpuTime() override;

  absl::StatusOr<Event> RunUntilEvent();
  std::optional<Event> ServeSystemCall();
  std::optional<Event> ServeException(const vmm::Exit& exit);
  /// Answers a trapped rdtsc or rdtscp with a clock that stands still; false: it was neither.
  bool AnswerTimestamp(const vmm::Exit& exit);
  bool TrapsTimestamps() const;
  /// A fault that is the program's own: its handler's, or the end. Empty: it goes on.
  std::optional<Event> Raise(Fault fault, const siginfo_t& info, const vmm::Exit& exit);
  /// The event of a process that is over; empty: the guest goes on, or a host call waits.
  std::optional<Event> AfterScheduling();
  bool HasVdso() const;
  /// System calls and vDSO tell the same time.
  void ShareClock();
  /// The event that ends a run from outside: stopped, or out of wall or CPU time.
  std::optional<Event> Ended();
  bool OverWallTime() const;
  bool OverCpuTime();
  /// Not for calls without a limit on it: reading it twice is a tenth of what a call costs. A
  /// program that asks is shown the time spent in it since it first asked, which is no less.
  bool MeasuresCpuTime() const;
  nanoseconds CpuClock() const;
  bool ReadsCpuClock() const { return cpu_time_asked_ || MeasuresCpuTime(); }
  std::uint64_t HostHeldBytes() const;
  absl::Status PutBack();
  linux_abi::CpuFeatures Features() const;
  absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> TakeStart() const;
  absl::Status CheckLikeStart(const InstanceSpec& spec) const;
  absl::Status LoadRun();
  absl::Status PutBackToStart();
  bool IsRepeating(const vmm::Exit& exit);

  const std::shared_ptr<const HostSystem> host_;
  InstanceSpec spec_;  ///< as asked for, but that the clock is the vDSO's where there is one
  const std::shared_ptr<ClockSource> granted_clock_;
  MemoryAccount account_;
  OutputLimiter output_;
  absl::Status output_status_;
  std::unique_ptr<vmm::Kick> kick_;
  std::unique_ptr<vmm::Machine> machine_;
  std::unique_ptr<MachinePages> pages_;
  std::unique_ptr<linux_abi::Process> process_;
  std::shared_ptr<const MicroVmSnapshot> snapshot_;  ///< what it was made from, if anything
  std::uint64_t mapped_bytes_ = 0;                   ///< of the process in it
  std::shared_ptr<const MicroVmStart> start_;        ///< the same, before the first instruction
  bool awaits_run_ = false;                          ///< is there: no process, StartRun is next

  std::optional<vmm::Kick::Clock::time_point> deadline_;
  std::optional<std::uint64_t> signal_mask_;
  vmm::FuelGauge fuel_;
  std::optional<nanoseconds> cpu_limit_;
  nanoseconds cpu_limit_from_{0};           ///< what was used when it began to count
  std::uint64_t exits_before_ = 0;          ///< the last reset
  std::chrono::nanoseconds cpu_before_{0};  ///< used in earlier calls of Resume
  std::chrono::nanoseconds cpu_entered_{0};
  bool cpu_time_asked_ = false;
  bool in_resume_ = false;
  bool started_ = false;
  bool finished_ = false;
  bool exited_ = false;  ///< that is how
  bool wait_was_cut_short_ = false;
  std::optional<std::uint64_t> peak_memory_bytes_;
  std::optional<InstanceMemory> memory_at_end_;
  std::uint64_t last_fault_address_ = 0;
  std::uint64_t last_fault_rip_ = 0;
  int fault_repeats_ = 0;
};

}  // namespace waxvm::microvm

#endif  // WAXVM_SRC_PROVIDER_MICROVM_INSTANCE_H_
