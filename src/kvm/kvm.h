// SPDX-License-Identifier: Apache-2.0
// One safe wrapper per KVM ioctl, and nothing else.
// Spec: Linux Documentation/virt/kvm/api.rst.
#ifndef WAXVM_SRC_KVM_KVM_H_
#define WAXVM_SRC_KVM_KVM_H_

#include <linux/kvm.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/base/mapping.h"
#include "src/base/unique_fd.h"

namespace waxvm::kvm {

/// struct kvm_cpuid2 with room for its entries. The kernel header's own type has another size in
/// C++ (an empty struct takes a byte there), and with it another ioctl number.
struct CpuidTable {
  static constexpr std::uint32_t kCapacity = 192;  // 75 entries seen; E2BIG above the capacity
  std::uint32_t count = kCapacity;
  std::uint32_t padding = 0;
  kvm_cpuid_entry2 entries[kCapacity] = {};
};
static_assert(offsetof(CpuidTable, entries) == 8);

class Vm;
class Vcpu;

/// An open /dev/kvm. Thread safety: may be shared between threads.
class System {
 public:
  /// Errors: kUnavailable with the reason and the remedy.
  static absl::StatusOr<System> Open();

  absl::StatusOr<Vm> CreateVm() const;
  absl::StatusOr<CpuidTable> SupportedCpuid() const;
  /// KVM_CHECK_EXTENSION; 0: not there.
  int CheckExtension(int capability) const;
  /// KVM_GET_VCPU_MMAP_SIZE, read once. Units: bytes.
  std::size_t run_bytes() const { return run_bytes_; }

 private:
  System(UniqueFd fd, std::size_t run_bytes) : fd_(std::move(fd)), run_bytes_(run_bytes) {}
  UniqueFd fd_;
  std::size_t run_bytes_;
};

/// Thread safety: as the kernel's: calls are serialised there.
class Vm {
 public:
  explicit Vm(UniqueFd fd) : fd_(std::move(fd)) {}

  /// KVM_SET_USER_MEMORY_REGION: guest-physical [guest_address, +bytes) is `memory`, which the
  /// caller keeps mapped for as long as the VM lives.
  absl::Status SetMemory(std::uint32_t slot, std::uint64_t guest_address,
                         std::span<std::byte> memory) const;
  absl::StatusOr<Vcpu> CreateVcpu(const System& system, std::uint32_t id) const;

 private:
  UniqueFd fd_;
};

/// Thread safety: none.
class Vcpu {
 public:
  Vcpu(UniqueFd fd, Mapping run) : run_(std::move(run)), fd_(std::move(fd)) {}

  absl::Status SetCpuid(const CpuidTable& table) const;
  absl::StatusOr<kvm_sregs> GetSregs() const;
  absl::Status SetSregs(const kvm_sregs& registers) const;
  absl::StatusOr<kvm_regs> GetRegs() const;
  absl::Status SetRegs(const kvm_regs& registers) const;
  absl::Status SetXcr0(std::uint64_t value) const;
  struct Msr {
    std::uint32_t index;
    std::uint64_t value;
  };
  absl::Status SetMsrs(std::initializer_list<Msr> msrs) const;
  /// KVM_GET_XSAVE and KVM_SET_XSAVE: x87 and vector registers in XSAVE's standard format.
  static constexpr std::size_t kExtendedBytes = 4096;
  absl::Status GetExtended(std::span<std::byte, kExtendedBytes> state) const;
  absl::Status SetExtended(std::span<const std::byte, kExtendedBytes> state) const;
  /// KVM_GET_TSC_KHZ: cycles of the guest's timestamp counter in a millisecond.
  absl::StatusOr<std::uint64_t> TscKhz() const;
  /// KVM_VCPU_TSC_OFFSET: what is added to the host's timestamp counter inside.
  absl::Status SetTscOffset(std::uint64_t offset) const;
  /// KVM_SET_SIGNAL_MASK: the signals blocked while the guest runs, bit n-1 for signal n.
  absl::Status SetSignalMask(std::uint64_t mask) const;

  /// KVM_RUN. Returns 0 or the errno value. Blocks.
  int Run() const;

  kvm_run& run() const { return *reinterpret_cast<kvm_run*>(run_.data()); }

 private:
  Mapping run_;
  UniqueFd fd_;
};

}  // namespace waxvm::kvm

#endif  // WAXVM_SRC_KVM_KVM_H_
