// SPDX-License-Identifier: Apache-2.0
// What a provider that has no snapshots says of them.
#include "waxvm/provider.h"

#include "absl/status/status.h"

namespace waxvm {
namespace {

absl::Status NoSnapshots() { return absl::UnimplementedError("this provider has no snapshots"); }

}  // namespace

std::optional<InstanceMemory> Instance::memory() const { return std::nullopt; }

absl::Status Instance::Prepare() { return absl::OkStatus(); }

absl::Status Instance::RestartLimits(const CallLimits& limits) {
  if (!limits.wall_time && !limits.cpu_time && !limits.fuel) return absl::OkStatus();
  return absl::UnimplementedError("this provider cannot limit a single call");
}

absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> Instance::TakeSnapshot() {
  return NoSnapshots();
}

absl::Status Instance::Reset() { return NoSnapshots(); }

absl::Status Instance::StartRun(const InstanceSpec&) { return NoSnapshots(); }

absl::StatusOr<std::unique_ptr<Instance>> Provider::Clone(std::shared_ptr<const InstanceSnapshot>,
                                                          const InstanceSpec&) {
  return NoSnapshots();
}

}  // namespace waxvm
