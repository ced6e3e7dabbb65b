// SPDX-License-Identifier: Apache-2.0
// Looks at all processes of an instance from outside, through the host's /proc.
#ifndef WAXVM_SRC_PROVIDER_PROCESS_PROCESS_TREE_H_
#define WAXVM_SRC_PROVIDER_PROCESS_PROCESS_TREE_H_

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>

namespace waxvm::process {

struct TreeSample {
  std::chrono::nanoseconds cpu_time{0};  ///< of living processes and of children they waited for
  std::uint64_t resident_bytes = 0;      ///< pages shared by several processes count in each
  std::uint64_t tasks = 0;               ///< threads, of living processes
};

/// Adds up the descendants of process `init`, itself not counted (but the children it waited for
/// are). The tree changes meanwhile; what ends between two looks is in the next sample. Empty when
/// /proc does not show the tree.
std::optional<TreeSample> SampleTree(pid_t init);

/// The highest resident set that the one child of `init` has had; empty unless it is known.
std::optional<std::uint64_t> PeakOfOnlyChild(pid_t init);

/// CPU time of one process alone; zero when it is gone.
std::chrono::nanoseconds ProcessCpuTime(pid_t pid);

/// Descriptors that process or thread `pid` holds; empty where they cannot be seen.
std::optional<std::uint64_t> CountDescriptors(pid_t pid);

}  // namespace waxvm::process

#endif  // WAXVM_SRC_PROVIDER_PROCESS_PROCESS_TREE_H_
