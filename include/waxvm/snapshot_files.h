// SPDX-License-Identifier: Apache-2.0
// Snapshots of instances in files, where a provider has them.
#ifndef WAXVM_SNAPSHOT_FILES_H_
#define WAXVM_SNAPSHOT_FILES_H_

#include <memory>

#include "absl/status/statusor.h"
#include "waxvm/provider.h"

namespace waxvm {

/// What a Provider is besides (dynamic_cast) where its snapshots can be put into files. The format
/// is the provider's own; docs/formats/snapshot.md has that of the microVM. Thread safety: as
/// Provider.
class SnapshotFiles {
 public:
  virtual ~SnapshotFiles() = default;

  /// Writes `snapshot`, one of this provider's, to `file`, an empty regular file. Blocks: on
  /// writing. Errors: kInvalidArgument for another provider's; kFailedPrecondition with the name of
  /// what a file cannot keep; what writing gave.
  virtual absl::Status WriteSnapshot(const InstanceSnapshot& snapshot, int file) const = 0;

  /// The snapshot in `file`, to be cloned with `spec`, which has the program, the grants and the
  /// limits of the instance it is of. What the file holds is hostile; it may change or go
  /// afterwards. Blocks: on reading. Errors: kUnavailable as Provider::Available;
  /// kInvalidArgument for what is no snapshot; kDataLoss for one that is damaged, truncated or
  /// forged; kFailedPrecondition for another version, processor, program, grant or limit (the
  /// message says which).
  virtual absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> ReadSnapshot(
      int file, const InstanceSpec& spec) const = 0;
};

}  // namespace waxvm

#endif  // WAXVM_SNAPSHOT_FILES_H_
