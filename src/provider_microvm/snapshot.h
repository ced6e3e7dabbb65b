// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_PROVIDER_MICROVM_SNAPSHOT_H_
#define WAXVM_SRC_PROVIDER_MICROVM_SNAPSHOT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "src/linux_abi/process_image.h"
#include "src/vmm/machine.h"
#include "waxvm/provider.h"

namespace waxvm::microvm {

struct HostSystem;

/// Of an instance without a memory limit of its own.
inline constexpr std::uint64_t kDefaultMemoryBytes = std::uint64_t{256} << 20;

/// The grants and limits that a snapshot is of, a line for each.
std::string TermsOf(const InstanceSpec& spec);
/// The program, and the processor as programs see it, in the same form.
std::string SubjectOf(const Program& program, const vmm::HostTraits& traits);

/// A program in its virtual machine at one moment. Immutable; may be shared between threads.
class MicroVmSnapshot final : public InstanceSnapshot {
 public:
  MicroVmSnapshot(std::shared_ptr<const HostSystem> host,
                  std::shared_ptr<const vmm::MachineImage> machine, linux_abi::ProcessImage process,
                  const InstanceSpec& spec, std::uint64_t memory_limit_bytes)
      : host_(std::move(host)),
        machine_(std::move(machine)),
        process_(std::move(process)),
        program_(spec.program),
        terms_(TermsOf(spec)),
        memory_limit_bytes_(memory_limit_bytes) {}

  std::uint64_t memory_bytes() const override { return machine_->memory->bytes; }
  /// Errors: as SnapshotFiles::WriteSnapshot.
  absl::Status WriteTo(int file) const;
  /// What WriteTo has written, checked. Errors: as SnapshotFiles::ReadSnapshot.
  static absl::StatusOr<std::shared_ptr<const MicroVmSnapshot>> Read(
      std::shared_ptr<const HostSystem> host, int file, const InstanceSpec& spec);

  const std::shared_ptr<const HostSystem>& host() const { return host_; }
  const vmm::MachineImage& machine() const { return *machine_; }
  const linux_abi::ProcessImage& process() const { return process_; }
  std::uint64_t memory_limit_bytes() const { return memory_limit_bytes_; }

 private:
  const std::shared_ptr<const HostSystem> host_;
  const std::shared_ptr<const vmm::MachineImage> machine_;
  const linux_abi::ProcessImage process_;
  const Program program_;
  const std::string terms_;  ///< TermsOf
  const std::uint64_t memory_limit_bytes_;
};

}  // namespace waxvm::microvm

#endif  // WAXVM_SRC_PROVIDER_MICROVM_SNAPSHOT_H_
