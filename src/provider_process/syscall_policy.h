// SPDX-License-Identifier: Apache-2.0
// Which system calls a program in the process provider may make, as a seccomp filter.
#ifndef WAXVM_SRC_PROVIDER_PROCESS_SYSCALL_POLICY_H_
#define WAXVM_SRC_PROVIDER_PROCESS_SYSCALL_POLICY_H_

#include <linux/filter.h>
#include <linux/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace waxvm::process {

/// What differs between the filters of instances.
struct PolicyOptions {
  /// The program may draw random numbers.
  bool random = false;
  /// Memory is bounded by sampling, which cannot see files that exist in memory only.
  bool deny_memory_files = false;
  /// Calls that open descriptors are announced, so that the ones that fail can be counted.
  bool announce_opens = false;
  /// Refusals are announced to the embedder, which names and counts them, and so is the start of
  /// threads and processes. Without: they only fail, and their number is not bounded here.
  bool notify = true;

  int Key() const { return random | deny_memory_files << 1 | announce_opens << 2 | notify << 3; }
};

/// Builds the filter: an allow-list; everything else is announced and refused.
absl::StatusOr<std::vector<sock_filter>> BuildFilter(const PolicyOptions& options);

/// The errno for a refused call: ENOSYS for one this list does not know, so that programs fall back
/// as on an older kernel.
int RefusalErrno(int number);

/// The Linux name of call `number` on x86-64, or "syscall_<number>".
std::string SystemCallName(int number);

/// Whether the call starts a thread or process, in the namespaces that it is in.
bool IsFork(int number, std::uint64_t flags);

/// Whether the call asks for a file with a set-user-ID or set-group-ID bit.
bool SetsId(int number, std::span<const __u64, 6> arguments);

/// How many descriptors the call opens when it succeeds: 0, 1 or 2. 0 for one that is refused.
int DescriptorsOpened(int number, std::uint64_t first, std::uint64_t second);

}  // namespace waxvm::process

#endif  // WAXVM_SRC_PROVIDER_PROCESS_SYSCALL_POLICY_H_
