// SPDX-License-Identifier: Apache-2.0
#include "src/isolation/limits_check.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "src/base/status.h"

namespace waxvm {
namespace {

absl::Status CheckPositive(LimitKind kind, std::optional<std::chrono::nanoseconds> bound) {
  if (!bound || bound->count() > 0) return absl::OkStatus();
  return InvalidArgument("the limit `%s` is %d ns; it must be more than 0", LimitName(kind),
                         bound->count());
}

}  // namespace

absl::Status CheckLimits(std::string_view provider, const Limits& limits,
                         std::span<const LimitKind> enforceable) {
  const struct {
    LimitKind kind;
    bool set;
  } wanted[] = {
      {LimitKind::kMemory, limits.memory_bytes.has_value()},
      {LimitKind::kWallTime, limits.wall_time.has_value()},
      {LimitKind::kCpuTime, limits.cpu_time.has_value()},
      {LimitKind::kOutput, limits.output_bytes.has_value()},
      {LimitKind::kOpenFiles, limits.open_files.has_value()},
      {LimitKind::kProcesses, limits.processes.has_value()},
      {LimitKind::kHostCalls, limits.host_calls.has_value()},
      {LimitKind::kFuel, limits.fuel.has_value()},
  };
  for (const auto& limit : wanted) {
    if (limit.set && std::ranges::find(enforceable, limit.kind) == enforceable.end())
      return InvalidArgument("the %s provider cannot enforce the limit `%s`", provider,
                             LimitName(limit.kind));
  }
  if (limits.memory_bytes == 0u)
    return InvalidArgument("the limit `memory` is 0 bytes; it must be more than 0");
  if (limits.processes == 0u)
    return InvalidArgument("the limit `processes` is 0; the program itself is the first");
  if (limits.fuel == 0u)
    return InvalidArgument("the limit `fuel` is 0 instructions; it must be more than 0");
  WAXVM_RETURN_IF_ERROR(CheckPositive(LimitKind::kWallTime, limits.wall_time));
  return CheckPositive(LimitKind::kCpuTime, limits.cpu_time);
}

}  // namespace waxvm
