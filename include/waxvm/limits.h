// SPDX-License-Identifier: Apache-2.0
// What one instance may use up.
#ifndef WAXVM_LIMITS_H_
#define WAXVM_LIMITS_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

namespace waxvm {

enum class LimitKind {
  kMemory,
  kWallTime,
  kCpuTime,
  kOutput,
  kOpenFiles,
  kProcesses,
  kHostCalls,
  kFuel,
};

/// The name used in reports: "memory", "wall", "cpu", "output", "open_files", "processes",
/// "host_calls", "fuel".
std::string_view LimitName(LimitKind kind);

/// Upper bounds for one instance. A field left empty takes the provider's default, given below; a
/// field that is set is enforced, or the provider refuses to create the instance
/// (kInvalidArgument naming the limit): a limit is never silently ignored. Zero is a valid bound
/// and means "none at all", except for memory, wall time, CPU time, processes and fuel, where it
/// is refused.
struct Limits {
  /// Bytes of memory that the program touches, together with everything the host holds on its
  /// behalf (in-memory files, pipes, descriptors). Touching more memory ends the run; a file, pipe
  /// or descriptor that would not fit is refused inside (ENOSPC, ENOMEM) and counted.
  /// Default: 256 MiB in a microVM, unlimited elsewhere.
  std::optional<std::uint64_t> memory_bytes = {};

  /// Time since the start, host calls included. Default: unlimited.
  std::optional<std::chrono::nanoseconds> wall_time = {};

  /// CPU time used by the program itself. Default: unlimited.
  std::optional<std::chrono::nanoseconds> cpu_time = {};

  /// Bytes written to standard output and standard error together. What was written up to the
  /// bound is delivered, then the run ends. Default: 16 MiB where the output is collected in
  /// memory, unlimited where the embedder takes it with a writer of its own.
  std::optional<std::uint64_t> output_bytes = {};

  /// Descriptors open at once, the three standard streams included; opening one more fails with
  /// EMFILE inside and is counted. Default: 1024.
  std::optional<std::uint64_t> open_files = {};

  /// Threads and processes alive at once, the first included; starting one more fails with
  /// EAGAIN inside and is counted. Default: 256. (In a microVM: threads of its one process.)
  std::optional<std::uint64_t> processes = {};

  /// Calls of granted host functions. One more ends the run. Default: unlimited.
  std::optional<std::uint64_t> host_calls = {};

  /// Instructions that the program itself executes, counted by the processor: a budget that does
  /// not depend on how fast or how busy the machine is. The run ends soon after the bound, and
  /// whether it is met does not depend on how soon. Only where the host can count them
  /// (ProviderInfo::enforceable_limits). Default: unlimited.
  std::optional<std::uint64_t> fuel = {};
};

}  // namespace waxvm

#endif  // WAXVM_LIMITS_H_
