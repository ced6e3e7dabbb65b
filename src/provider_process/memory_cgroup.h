// SPDX-License-Identifier: Apache-2.0
// A memory cgroup (v1 or v2) for one instance, where the host lets us make one.
#ifndef WAXVM_SRC_PROVIDER_PROCESS_MEMORY_CGROUP_H_
#define WAXVM_SRC_PROVIDER_PROCESS_MEMORY_CGROUP_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "src/base/unique_fd.h"

namespace waxvm::process {

/// Where memory cgroups of this process go.
struct CgroupParent {
  std::string path;  ///< a folder of a mounted cgroup hierarchy
  bool v2 = false;
};

/// Works out the parent folder from the texts of /proc/self/cgroup and /proc/self/mountinfo: the
/// embedder's own cgroup under v1; under v2 the one above it, since a cgroup that holds processes
/// cannot pass controllers on. Empty where there is no memory controller.
std::optional<CgroupParent> FindMemoryCgroupParent(std::string_view cgroups,
                                                   std::string_view mount_info);

/// The same for this process, and only if a cgroup can be made there.
std::optional<CgroupParent> ProbeMemoryCgroups();

/// Owns the folder and removes it. Move-only. Thread safety: none.
class MemoryCgroup {
 public:
  /// Errors: what mkdir or writing the limit said.
  static absl::StatusOr<MemoryCgroup> Create(const CgroupParent& parent, std::uint64_t limit_bytes);
  MemoryCgroup(MemoryCgroup&& other) noexcept;
  MemoryCgroup& operator=(MemoryCgroup&&) = delete;
  /// All its processes must be gone. Blocks: up to a second while the kernel lets go of them.
  ~MemoryCgroup();

  /// cgroup.procs, open for writing.
  int processes() const { return processes_.get(); }
  /// Whether the kernel killed a process inside for the limit.
  bool Exhausted() const;
  /// The highest use so far; empty where the kernel does not keep it.
  std::optional<std::uint64_t> PeakBytes() const;

 private:
  MemoryCgroup(std::string path, bool v2) : path_(std::move(path)), v2_(v2) {}

  std::string path_;
  bool v2_;
  UniqueFd folder_;
  UniqueFd processes_;
};

}  // namespace waxvm::process

#endif  // WAXVM_SRC_PROVIDER_PROCESS_MEMORY_CGROUP_H_
