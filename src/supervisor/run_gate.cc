// SPDX-License-Identifier: Apache-2.0
#include "src/supervisor/run_gate.h"

#include <algorithm>

#include "src/base/status.h"

namespace waxvm {
namespace {

absl::Status Denied(const Access& access, std::string_view reason) {
  const std::string_view name = access.name.substr(0, kMaxDenialNameBytes);
  return absl::PermissionDeniedError(absl::StrFormat("%s%s%s%s: %s", ResourceName(access.resource),
                                                     name.empty() ? "" : " ", name,
                                                     access.write ? " (write)" : "", reason));
}

}  // namespace

absl::Status RunGate::Check(const Access& access) {
  absl::Status decision = Decide(access);
  if (!decision.ok()) RecordDenial(access);
  return decision;
}

absl::Status RunGate::Decide(const Access& access) const {
  if (!grants_.Allows(access)) return Denied(access, "not granted");
  if (!authorizer_) return absl::OkStatus();
  try {
    const absl::Status verdict = authorizer_(label_, access);
    if (verdict.ok()) return verdict;
    return Denied(access, ToStd(verdict.message()));
  } catch (...) {
    return Denied(access, "the authorizer failed with an exception");
  }
}

void RunGate::RecordDenial(const Access& access) {
  ++denials_;
  const std::string_view name = access.name.substr(0, kMaxDenialNameBytes);
  const auto known = std::ranges::find_if(denied_, [&](const Denial& denial) {
    return denial.resource == access.resource && denial.write == access.write &&
           denial.name == name;
  });
  if (known != denied_.end()) {
    ++known->count;
  } else if (denied_.size() < kMaxDistinctDenials) {
    denied_.push_back({access.resource, std::string(name), access.write, 1});
  }
}

}  // namespace waxvm
