// SPDX-License-Identifier: Apache-2.0
// What this provider can enforce, which for fuel depends on the host.
#include "src/base/status.h"
#include "src/base/strings.h"
#include "src/isolation/limits_check.h"
#include "src/provider_microvm/instance.h"

namespace waxvm::microvm {

std::vector<LimitKind> EnforceableLimits(bool fuel) {
  std::vector<LimitKind> limits = {
      LimitKind::kMemory,    LimitKind::kWallTime,  LimitKind::kCpuTime,   LimitKind::kOutput,
      LimitKind::kOpenFiles, LimitKind::kProcesses, LimitKind::kHostCalls,
  };
  if (fuel) limits.push_back(LimitKind::kFuel);
  return limits;
}

absl::Status CheckLimits(const HostSystem& host, const Limits& limits) {
  if (limits.fuel && !host.traits.fuel.ok())
    return InvalidArgument("the microvm provider cannot enforce the limit `fuel` here: %s",
                           ToStd(host.traits.fuel.message()));
  return waxvm::CheckLimits("microvm", limits, EnforceableLimits(host.traits.fuel.ok()));
}

}  // namespace waxvm::microvm
