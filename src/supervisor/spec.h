// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_SUPERVISOR_SPEC_H_
#define WAXVM_SRC_SUPERVISOR_SPEC_H_

#include <cstdint>

#include "src/base/unique_fd.h"
#include "src/capability/grant_set.h"
#include "waxvm/provider.h"
#include "waxvm/supervisor.h"

namespace waxvm {

/// Bound on output that is collected in memory, where the embedder set none: a flood must not
/// take the host's memory.
inline constexpr std::uint64_t kDefaultCollectedBytes = std::uint64_t{16} << 20;

/// Everything that `options` grant. Errors: as OpenGrants and GrantIdentity.
absl::StatusOr<GrantSet> GrantsOf(const RunOptions& options);

/// What an instance of `program` is made from, but for its gate and its output. `input` holds the
/// descriptor behind standard input, where `options` have it as bytes; it outlives the instance.
/// Errors: kInvalidArgument for strings that cannot be passed; what the host is out of.
absl::StatusOr<InstanceSpec> MakeSpec(const Program& program, const RunOptions& options,
                                      const GrantSet& grants, const ProviderInfo& info,
                                      UniqueFd& input);

}  // namespace waxvm

#endif  // WAXVM_SRC_SUPERVISOR_SPEC_H_
