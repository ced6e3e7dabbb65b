// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_CAPABILITY_GRANT_SET_H_
#define WAXVM_SRC_CAPABILITY_GRANT_SET_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/access.h"
#include "waxvm/grant.h"
#include "waxvm/provider.h"

namespace waxvm {

/// All grants of one run, checked and opened. Immutable once made.
struct GrantSet {
  std::shared_ptr<ClockSource> clock;    ///< null: not granted
  std::shared_ptr<RandomSource> random;  ///< null: not granted
  bool host_clock = false;
  bool host_random = false;
  std::vector<FileMount> mounts;
  std::optional<RootImage> root_image;
  std::map<std::string, HostFunction, std::less<>> functions;
  /// What the supervisor itself answers for each instance.
  std::set<std::string, std::less<>> own_functions;

  /// True when a grant covers `access`. Files: the grant with the longest guest path that
  /// contains the file decides about the right to write.
  bool Allows(const Access& access) const;
};

/// Errors: kInvalidArgument for a grant that makes no sense or is given twice; otherwise as
/// OpenFileGrant and NewHostRandom.
absl::StatusOr<GrantSet> OpenGrants(std::span<const Grant> grants);

}  // namespace waxvm

#endif  // WAXVM_SRC_CAPABILITY_GRANT_SET_H_
