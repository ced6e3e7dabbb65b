// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_SUPERVISOR_RUN_GATE_H_
#define WAXVM_SRC_SUPERVISOR_RUN_GATE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/capability/grant_set.h"
#include "waxvm/access.h"
#include "waxvm/report.h"

namespace waxvm {

/// Bounds on what a program can make the host remember by asking for what it may not have.
inline constexpr std::size_t kMaxDistinctDenials = 256;
inline constexpr std::size_t kMaxDenialNameBytes = 4096;

/// The policy of one run: the grants, then the authorizer; refusals are kept for the report.
/// Thread safety: as AccessGate.
class RunGate final : public AccessGate {
 public:
  /// All three must outlive the gate.
  RunGate(const GrantSet& grants, const Authorizer& authorizer, std::string_view label)
      : grants_(grants), authorizer_(authorizer), label_(label) {}

  absl::Status Check(const Access& access) override;
  void RecordDenial(const Access& access) override;

  /// All refusals, also those beyond the distinct ones that are kept.
  std::uint64_t denials() const { return denials_; }
  const std::vector<Denial>& denied() const { return denied_; }
  /// Forgets all refusals.
  void Forget() {
    denials_ = 0;
    denied_.clear();
  }

 private:
  absl::Status Decide(const Access& access) const;

  const GrantSet& grants_;
  const Authorizer& authorizer_;
  const std::string_view label_;
  std::uint64_t denials_ = 0;
  std::vector<Denial> denied_;
};

}  // namespace waxvm

#endif  // WAXVM_SRC_SUPERVISOR_RUN_GATE_H_
