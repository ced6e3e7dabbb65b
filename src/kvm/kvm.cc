// SPDX-License-Identifier: Apache-2.0
#include "src/kvm/kvm.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "src/base/status.h"

namespace waxvm::kvm {
namespace {

constexpr int kApiVersion = 12;

// The same structures as in the kernel's header, with the sizes that C gives them there.
struct MsrTable {
  std::uint32_t count;
  std::uint32_t padding;
  kvm_msr_entry entries[8];
};
static_assert(offsetof(MsrTable, entries) == 8 && sizeof(kvm_msr_entry) == 16);

struct [[gnu::packed]] SignalMask {
  std::uint32_t bytes;
  std::uint64_t mask;
};
static_assert(sizeof(SignalMask) == 12);

constexpr unsigned long kGetSupportedCpuid = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, 8);
constexpr unsigned long kSetCpuid2 = _IOC(_IOC_WRITE, KVMIO, 0x90, 8);
constexpr unsigned long kSetMsrs = _IOC(_IOC_WRITE, KVMIO, 0x89, 8);
constexpr unsigned long kSetSignalMask = _IOC(_IOC_WRITE, KVMIO, 0x8b, 4);
// struct kvm_xsave is 4096 bytes; its flexible array takes four more in C++.
constexpr unsigned long kGetXsave = _IOC(_IOC_READ, KVMIO, 0xa4, Vcpu::kExtendedBytes);
constexpr unsigned long kSetXsave = _IOC(_IOC_WRITE, KVMIO, 0xa5, Vcpu::kExtendedBytes);

absl::Status Check(int result, const char* what) {
  return result < 0 ? ErrnoStatus(errno, what) : absl::OkStatus();
}

absl::Status WhyNot(int error_number) {
  switch (error_number) {
    case ENOENT:
      return Unavailable(
          "/dev/kvm does not exist: this machine offers no KVM. Load kvm_intel or kvm_amd, or "
          "enable (nested) virtualisation for it");
    case EACCES:
    case EPERM:
      return Unavailable(
          "no permission to open /dev/kvm: add the user to the group that owns it (usually kvm) "
          "or change its mode");
    case ENODEV:
    case ENXIO:
      return Unavailable(
          "/dev/kvm is there but KVM is not: virtualisation is disabled in the firmware, or no "
          "KVM module supports this CPU");
    default:
      return Unavailable("cannot open /dev/kvm: %s",
                         std::string(ErrnoStatus(error_number, "open").message()));
  }
}

}  // namespace

absl::StatusOr<System> System::Open() {
  UniqueFd fd(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!fd) return WhyNot(errno);
  const int version = ::ioctl(fd.get(), KVM_GET_API_VERSION, 0);
  if (version != kApiVersion)
    return Unavailable("/dev/kvm speaks API version %d; version %d is needed", version,
                       kApiVersion);
  const int run_bytes = ::ioctl(fd.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_bytes < static_cast<int>(sizeof(kvm_run)))
    return Unavailable("/dev/kvm offers a vCPU area of %d bytes; at least %d are needed", run_bytes,
                       static_cast<int>(sizeof(kvm_run)));
  return System(std::move(fd), static_cast<std::size_t>(run_bytes));
}

absl::StatusOr<Vm> System::CreateVm() const {
  UniqueFd fd(::ioctl(fd_.get(), KVM_CREATE_VM, 0));
  if (!fd) return ErrnoStatus(errno, "KVM_CREATE_VM");
  return Vm(std::move(fd));
}

absl::StatusOr<CpuidTable> System::SupportedCpuid() const {
  CpuidTable table;
  WAXVM_RETURN_IF_ERROR(
      Check(::ioctl(fd_.get(), kGetSupportedCpuid, &table), "KVM_GET_SUPPORTED_CPUID"));
  return table;
}

int System::CheckExtension(int capability) const {
  return std::max(0, ::ioctl(fd_.get(), KVM_CHECK_EXTENSION, capability));
}

absl::Status Vm::SetMemory(std::uint32_t slot, std::uint64_t guest_address,
                           std::span<std::byte> memory) const {
  kvm_userspace_memory_region region{};
  region.slot = slot;
  region.guest_phys_addr = guest_address;
  region.memory_size = memory.size();
  region.userspace_addr = reinterpret_cast<std::uintptr_t>(memory.data());
  return Check(::ioctl(fd_.get(), KVM_SET_USER_MEMORY_REGION, &region),
               "KVM_SET_USER_MEMORY_REGION");
}

absl::StatusOr<Vcpu> Vm::CreateVcpu(const System& system, std::uint32_t id) const {
  UniqueFd fd(::ioctl(fd_.get(), KVM_CREATE_VCPU, id));
  if (!fd) return ErrnoStatus(errno, "KVM_CREATE_VCPU");
  WAXVM_ASSIGN_OR_RETURN(
      Mapping run, Mapping::Map(system.run_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get()));
  return Vcpu(std::move(fd), std::move(run));
}

absl::Status Vcpu::SetCpuid(const CpuidTable& table) const {
  return Check(::ioctl(fd_.get(), kSetCpuid2, &table), "KVM_SET_CPUID2");
}

absl::StatusOr<kvm_sregs> Vcpu::GetSregs() const {
  kvm_sregs registers;
  WAXVM_RETURN_IF_ERROR(Check(::ioctl(fd_.get(), KVM_GET_SREGS, &registers), "KVM_GET_SREGS"));
  return registers;
}

absl::Status Vcpu::SetSregs(const kvm_sregs& registers) const {
  return Check(::ioctl(fd_.get(), KVM_SET_SREGS, &registers), "KVM_SET_SREGS");
}

absl::StatusOr<kvm_regs> Vcpu::GetRegs() const {
  kvm_regs registers;
  WAXVM_RETURN_IF_ERROR(Check(::ioctl(fd_.get(), KVM_GET_REGS, &registers), "KVM_GET_REGS"));
  return registers;
}

absl::Status Vcpu::SetRegs(const kvm_regs& registers) const {
  return Check(::ioctl(fd_.get(), KVM_SET_REGS, &registers), "KVM_SET_REGS");
}

absl::Status Vcpu::SetXcr0(std::uint64_t value) const {
  kvm_xcrs registers{};
  registers.nr_xcrs = 1;
  registers.xcrs[0].xcr = 0;
  registers.xcrs[0].value = value;
  return Check(::ioctl(fd_.get(), KVM_SET_XCRS, &registers), "KVM_SET_XCRS");
}

absl::Status Vcpu::SetMsrs(std::initializer_list<Msr> msrs) const {
  MsrTable table{};
  for (const Msr& msr : msrs) {
    if (table.count == std::size(table.entries))
      return InvalidArgument("more than %d MSRs at once", table.count);
    table.entries[table.count++] = {.index = msr.index, .reserved = 0, .data = msr.value};
  }
  const int set = ::ioctl(fd_.get(), kSetMsrs, &table);
  if (set < 0) return ErrnoStatus(errno, "KVM_SET_MSRS");
  if (static_cast<std::uint32_t>(set) != table.count)
    return Internal("KVM_SET_MSRS refused MSR %#x", table.entries[set].index);
  return absl::OkStatus();
}

absl::Status Vcpu::GetExtended(std::span<std::byte, kExtendedBytes> state) const {
  return Check(::ioctl(fd_.get(), kGetXsave, state.data()), "KVM_GET_XSAVE");
}

absl::Status Vcpu::SetExtended(std::span<const std::byte, kExtendedBytes> state) const {
  return Check(::ioctl(fd_.get(), kSetXsave, state.data()), "KVM_SET_XSAVE");
}

absl::StatusOr<std::uint64_t> Vcpu::TscKhz() const {
  const int khz = ::ioctl(fd_.get(), KVM_GET_TSC_KHZ, 0);
  if (khz < 0) return ErrnoStatus(errno, "KVM_GET_TSC_KHZ");
  return static_cast<std::uint64_t>(khz);
}

absl::Status Vcpu::SetTscOffset(std::uint64_t offset) const {
  kvm_device_attr attribute{};
  attribute.group = KVM_VCPU_TSC_CTRL;
  attribute.attr = KVM_VCPU_TSC_OFFSET;
  attribute.addr = reinterpret_cast<std::uintptr_t>(&offset);
  return Check(::ioctl(fd_.get(), KVM_SET_DEVICE_ATTR, &attribute), "KVM_VCPU_TSC_OFFSET");
}

absl::Status Vcpu::SetSignalMask(std::uint64_t mask) const {
  const SignalMask argument{.bytes = 8, .mask = mask};
  return Check(::ioctl(fd_.get(), kSetSignalMask, &argument), "KVM_SET_SIGNAL_MASK");
}

int Vcpu::Run() const { return ::ioctl(fd_.get(), KVM_RUN, 0) < 0 ? errno : 0; }

}  // namespace waxvm::kvm
