// SPDX-License-Identifier: Apache-2.0
// Compiles a table of system calls to a seccomp filter. Small filters matter: the kernel checks and
// translates one for every instance.
#ifndef WAXVM_SRC_PROVIDER_PROCESS_FILTER_PROGRAM_H_
#define WAXVM_SRC_PROVIDER_PROCESS_FILTER_PROGRAM_H_

#include <linux/filter.h>

#include <cstdint>
#include <map>
#include <vector>

#include "absl/status/statusor.h"

namespace waxvm::process {

/// The low half of argument `argument`, all that the kernel reads of an int, is one of `values`
/// where `mask` has bits.
struct ArgumentTest {
  unsigned argument = 0;
  std::vector<std::uint32_t> values;
  std::uint32_t mask = 0xffffffff;
};

struct FilterTable {
  /// What seccomp returns for calls that are not listed, and for those whose arguments do not pass.
  std::uint32_t refuse = 0;
  /// The same for `absent`, and for every entry into the kernel but that of x86-64 programs.
  std::uint32_t unknown = 0;
  std::vector<int> absent;
  /// By number, the tests that must all pass; without tests the call is let through.
  std::map<int, std::vector<ArgumentTest>> allowed;
};

/// Spec: seccomp(2); Linux Documentation/networking/filter.rst.
/// Errors: kInternal for a table that is larger than the filter's jumps are long.
absl::StatusOr<std::vector<sock_filter>> CompileFilter(const FilterTable& table);

}  // namespace waxvm::process

#endif  // WAXVM_SRC_PROVIDER_PROCESS_FILTER_PROGRAM_H_
