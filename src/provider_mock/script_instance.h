// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_PROVIDER_MOCK_SCRIPT_INSTANCE_H_
#define WAXVM_SRC_PROVIDER_MOCK_SCRIPT_INSTANCE_H_

#include <atomic>
#include <cstddef>
#include <optional>
#include <vector>

#include "src/isolation/output_limiter.h"
#include "waxvm/provider.h"
#include "waxvm/providers.h"

namespace waxvm {

/// Plays MockSteps; a script that ends without a final step exits with 0.
/// Thread safety: as Instance.
class ScriptInstance final : public Instance {
 public:
  ScriptInstance(const InstanceSpec& spec, std::vector<MockStep> script)
      : script_(std::move(script)), output_(spec.limits.output_bytes, spec.output) {}

  absl::StatusOr<Event> Resume() override;
  absl::Status CompleteHostCall(const absl::StatusOr<std::string>& reply) override;
  void Stop() override { stop_requested_ = true; }
  Usage usage() const override { return {.output_bytes = output_.bytes()}; }

 private:
  absl::StatusOr<std::optional<Event>> Play(const MockStep& step);

  const std::vector<MockStep> script_;
  OutputLimiter output_;
  std::size_t next_ = 0;
  bool host_call_pending_ = false;
  bool ended_ = false;
  std::atomic<bool> stop_requested_ = false;
};

}  // namespace waxvm

#endif  // WAXVM_SRC_PROVIDER_MOCK_SCRIPT_INSTANCE_H_
