// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <optional>

#include "src/base/mutex.h"
#include "src/base/status.h"
#include "src/image/program_rep.h"
#include "src/provider_microvm/instance.h"
#include "src/provider_microvm/snapshot.h"
#include "waxvm/providers.h"
#include "waxvm/snapshot_files.h"

namespace waxvm {
namespace {

using microvm::HostSystem;

constexpr std::string_view kName = "microvm";

class MicroVmProvider final : public Provider, public SnapshotFiles {
 public:
  explicit MicroVmProvider(const MicroVmOptions& options) : options_(options) {}

  ProviderInfo info() const override;
  absl::Status Available() const override { return Host().status(); }
  absl::StatusOr<std::unique_ptr<Instance>> Create(const InstanceSpec& spec) override;
  absl::StatusOr<std::unique_ptr<Instance>> Clone(std::shared_ptr<const InstanceSnapshot> snapshot,
                                                  const InstanceSpec& spec) override;
  absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> ReadSnapshot(
      int file, const InstanceSpec& spec) const override;
  absl::Status WriteSnapshot(const InstanceSnapshot& snapshot, int file) const override;

 private:
  /// Opens KVM and probes it, once.
  absl::StatusOr<std::shared_ptr<const HostSystem>> Host() const;

  const MicroVmOptions options_;
  mutable Mutex mutex_;
  mutable std::optional<absl::StatusOr<std::shared_ptr<const HostSystem>>> host_
      ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<std::shared_ptr<const HostSystem>> OpenHost() {
  WAXVM_ASSIGN_OR_RETURN(kvm::System system, kvm::System::Open());
  WAXVM_ASSIGN_OR_RETURN(vmm::HostTraits traits, vmm::ProbeHost(system));
  return std::make_shared<const HostSystem>(HostSystem{std::move(system), std::move(traits)});
}

absl::StatusOr<std::shared_ptr<const HostSystem>> MicroVmProvider::Host() const {
  const MutexLock lock(mutex_);
  if (!host_) host_ = OpenHost();
  return *host_;
}

ProviderInfo MicroVmProvider::info() const {
  ProviderInfo info;
  info.name = kName;
  info.isolation = IsolationClass::kMicroVm;
  const auto host = Host();
  info.enforceable_limits = microvm::EnforceableLimits(host.ok() && (*host)->traits.fuel.ok());
  info.protects_against = {
      "reading or changing the host's memory, files, processes and network",
      "bugs in the host kernel's system calls: none is reachable from the program",
      "using up memory, time, output, descriptors or host calls beyond the limits",
      "seeing time, randomness or files that were not granted, by any system call",
  };
  info.does_not_protect_against = {
      "bugs in KVM, in the CPU, and in waxvm's own system-call layer",
      "side channels through caches and other shared hardware",
      "what a granted host function or a folder granted read-write lets the program do",
  };
  if (!host.ok()) {
    info.mechanism = "a virtual machine of its own, made with KVM in this process";
    info.ambient = {"rdrand", "rdtsc"};
    return info;
  }
  const vmm::HostTraits& traits = (*host)->traits;
  info.mechanism = traits.kind == vmm::VmKind::kHardware
                       ? "a virtual machine of its own, made with hardware KVM in this process"
                       : "a virtual machine of its own, made with paravirtual KVM in this process";
  if (traits.has_rdrand) info.ambient.push_back("rdrand");
  if (!traits.traps_rdtsc) info.ambient.push_back("rdtsc");
  if (traits.kind == vmm::VmKind::kParavirtual)
    info.does_not_protect_against.push_back(
        "a narrow covert channel: on paravirtual KVM, segment selectors that one program loads can "
        "be read by the next one on the same host thread");
  return info;
}

absl::StatusOr<std::unique_ptr<Instance>> MicroVmProvider::Create(const InstanceSpec& spec) {
  WAXVM_ASSIGN_OR_RETURN(std::shared_ptr<const HostSystem> host, Host());
  WAXVM_RETURN_IF_ERROR(microvm::CheckLimits(*host, spec.limits));
  if (spec.program.kind() != Program::Kind::kElf)
    return InvalidArgument(
        "the microvm provider runs ELF programs; '%s' is a native function (use mock or process)",
        spec.program.name());
  return microvm::MicroVmInstance::Create(std::move(host), spec, options_.kick_signal_offset);
}

absl::StatusOr<std::unique_ptr<Instance>> MicroVmProvider::Clone(
    std::shared_ptr<const InstanceSnapshot> snapshot, const InstanceSpec& spec) {
  WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<const HostSystem> host, Host());
  WAXVM_RETURN_IF_ERROR(microvm::CheckLimits(*host, spec.limits));
  if (auto start = std::dynamic_pointer_cast<const microvm::MicroVmStart>(snapshot))
    return microvm::MicroVmInstance::CloneStart(std::move(start), spec,
                                                options_.kick_signal_offset);
  auto own = std::dynamic_pointer_cast<const microvm::MicroVmSnapshot>(std::move(snapshot));
  if (own == nullptr) return InvalidArgument("the snapshot is not one of the microvm provider");
  return microvm::MicroVmInstance::Clone(std::move(own), spec, options_.kick_signal_offset);
}

absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> MicroVmProvider::ReadSnapshot(
    int file, const InstanceSpec& spec) const {
  WAXVM_ASSIGN_OR_RETURN(std::shared_ptr<const HostSystem> host, Host());
  WAXVM_RETURN_IF_ERROR(microvm::CheckLimits(*host, spec.limits));
  return microvm::MicroVmSnapshot::Read(std::move(host), file, spec);
}

absl::Status MicroVmProvider::WriteSnapshot(const InstanceSnapshot& snapshot, int file) const {
  const auto* own = dynamic_cast<const microvm::MicroVmSnapshot*>(&snapshot);
  if (own == nullptr) return InvalidArgument("the snapshot is not one of the microvm provider");
  return own->WriteTo(file);
}

}  // namespace

std::shared_ptr<Provider> NewMicroVmProvider(MicroVmOptions options) {
  return std::make_shared<MicroVmProvider>(options);
}

}  // namespace waxvm
