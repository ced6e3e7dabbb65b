// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_PROVIDER_MICROVM_START_H_
#define WAXVM_SRC_PROVIDER_MICROVM_START_H_

#include <cstdint>
#include <memory>

#include "src/linux_abi/start_image.h"
#include "src/vmm/machine.h"
#include "waxvm/provider.h"

namespace waxvm::microvm {

struct HostSystem;

/// A program in its virtual machine before its first instruction, with an empty stack. Immutable;
/// may be shared between threads.
class MicroVmStart final : public InstanceSnapshot {
 public:
  MicroVmStart(std::shared_ptr<const HostSystem> host,
               std::shared_ptr<const vmm::MachineImage> machine, linux_abi::StartImage process,
               std::uint64_t memory_limit_bytes)
      : host_(std::move(host)),
        machine_(std::move(machine)),
        process_(std::move(process)),
        memory_limit_bytes_(memory_limit_bytes) {}

  std::uint64_t memory_bytes() const override { return machine_->memory->bytes; }

  const std::shared_ptr<const HostSystem>& host() const { return host_; }
  const vmm::MachineImage& machine() const { return *machine_; }
  const linux_abi::StartImage& process() const { return process_; }
  std::uint64_t memory_limit_bytes() const { return memory_limit_bytes_; }

 private:
  const std::shared_ptr<const HostSystem> host_;
  const std::shared_ptr<const vmm::MachineImage> machine_;
  const linux_abi::StartImage process_;
  const std::uint64_t memory_limit_bytes_;
};

}  // namespace waxvm::microvm

#endif  // WAXVM_SRC_PROVIDER_MICROVM_START_H_
