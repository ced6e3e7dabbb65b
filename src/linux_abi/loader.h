// SPDX-License-Identifier: Apache-2.0
// Puts a program, the interpreter it asks for, and its first stack into a new address space.
#ifndef WAXVM_SRC_LINUX_ABI_LOADER_H_
#define WAXVM_SRC_LINUX_ABI_LOADER_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "src/linux_abi/address_space.h"
#include "waxvm/provider.h"

namespace waxvm::linux_abi {

class FileSystem;

/// What the machine offers the guest, for the auxiliary vector.
struct CpuFeatures {
  std::uint64_t hwcap = 0;   ///< AT_HWCAP
  std::uint64_t hwcap2 = 0;  ///< AT_HWCAP2
  /// Where an ELF image of the vDSO is mapped, AT_SYSINFO_EHDR; empty: there is none.
  std::optional<std::uint64_t> vdso_address;
  /// Where a host call can be entered without `syscall`, WAXVM_HOST_CALL_AUXV_ENTRY; empty:
  /// nowhere.
  std::optional<std::uint64_t> host_call_entry;
  /// The smallest alternate signal stack that holds a frame, AT_MINSIGSTKSZ.
  std::uint64_t minimum_signal_stack_bytes = 4096;
};

/// Where the first instruction runs.
struct EntryState {
  std::uint64_t program_base = 0;      ///< added to the addresses of the program's file
  std::uint64_t interpreter_base = 0;  ///< 0 without one
  std::uint64_t instruction_pointer = 0;
  std::uint64_t stack_pointer = 0;
  std::string auxiliary_vector = {};  ///< its bytes, for /proc/self/auxv
};

/// Maps the segments of `spec.program` and, for a dynamic executable, those of its interpreter,
/// which is opened in `files` as the guest itself could. Then the heap's start, and the stack with
/// arguments, environment and auxiliary vector; with `spec.for_runs` it is left empty for
/// BuildStack. Large segments are read when they are touched.
/// Errors: kInvalidArgument (the interpreter is not visible inside, or is no shared object that can
/// be one; more than 128 KiB of arguments), kResourceExhausted (it does not fit into the memory
/// limit).
/// Spec: System V ABI, AMD64 supplement, section 3.4.1; getauxval(3).
absl::StatusOr<EntryState> LoadProgram(const InstanceSpec& spec, const CpuFeatures& features,
                                       AddressSpace& memory, FileSystem& files);

/// Writes arguments, environment and auxiliary vector onto the stack of a program that is loaded,
/// and fills in what of `entry` depends on them. Errors: as LoadProgram.
absl::Status BuildStack(const InstanceSpec& spec, const CpuFeatures& features, AddressSpace& memory,
                        EntryState& entry);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_LOADER_H_
