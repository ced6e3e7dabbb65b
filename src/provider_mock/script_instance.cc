// SPDX-License-Identifier: Apache-2.0
#include "src/provider_mock/script_instance.h"

#include <utility>

#include "src/base/status.h"

namespace waxvm {

absl::StatusOr<Event> ScriptInstance::Resume() {
  if (ended_) return FailedPrecondition("the instance has ended");
  if (host_call_pending_) return FailedPrecondition("a host call waits for its reply");
  while (next_ < script_.size() && !stop_requested_) {
    absl::StatusOr<std::optional<Event>> event = Play(script_[next_++]);
    if (!event.ok()) {
      ended_ = true;
      return std::move(event).status();
    }
    if (*event) {
      host_call_pending_ = std::holds_alternative<HostCallRequest>(**event);
      ended_ = !host_call_pending_;
      return **std::move(event);
    }
  }
  ended_ = true;
  if (stop_requested_) return Stopped{};
  return Exited{0};
}

absl::StatusOr<std::optional<Event>> ScriptInstance::Play(const MockStep& step) {
  switch (step.kind) {
    case MockStep::Kind::kOutput:
    case MockStep::Kind::kError: {
      const bool error = step.kind == MockStep::Kind::kError;
      WAXVM_RETURN_IF_ERROR(
          output_.Write(error ? Stream::kError : Stream::kOutput, step.text).status());
      if (output_.limit_reached()) return LimitReached{LimitKind::kOutput};
      return std::nullopt;
    }
    case MockStep::Kind::kHostCall:
      return HostCallRequest{step.name, step.text};
    case MockStep::Kind::kExit:
      return Exited{step.exit_code & 0xff};
    case MockStep::Kind::kFault:
      return step.fault;
    case MockStep::Kind::kLimit:
      return LimitReached{step.limit};
  }
  return Internal("the script has a step of an unknown kind");
}

absl::Status ScriptInstance::CompleteHostCall(const absl::StatusOr<std::string>&) {
  if (!host_call_pending_) return FailedPrecondition("no host call is pending");
  host_call_pending_ = false;
  return absl::OkStatus();
}

}  // namespace waxvm
