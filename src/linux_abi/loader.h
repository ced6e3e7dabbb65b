// SPDX-License-Identifier: Apache-2.0
// Puts a program and its first stack into a new address space.
#ifndef WAXVM_SRC_LINUX_ABI_LOADER_H_
#define WAXVM_SRC_LINUX_ABI_LOADER_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "src/linux_abi/address_space.h"
#include "waxvm/provider.h"

namespace waxvm::linux_abi {

/// What the machine offers the guest, for the auxiliary vector.
struct CpuFeatures {
  std::uint64_t hwcap = 0;
  std::uint64_t hwcap2 = 0;
  std::uint64_t vdso_address = 0;  ///< AT_SYSINFO_EHDR; 0: none
};

/// Where the first instruction runs.
struct EntryState {
  std::uint64_t instruction_pointer = 0;
  std::uint64_t stack_pointer = 0;
};

/// Maps the segments of `spec.program`, the heap's start, and the stack with arguments,
/// environment and auxiliary vector.
/// Errors: kInvalidArgument (a dynamic executable; more than 128 KiB of arguments),
/// kResourceExhausted (it does not fit into the memory limit).
/// Spec: System V ABI, AMD64 supplement, section 3.4.1; getauxval(3).
absl::StatusOr<EntryState> LoadProgram(const InstanceSpec& spec, const CpuFeatures& features,
                                       AddressSpace& memory);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_LOADER_H_
