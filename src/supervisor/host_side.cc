// SPDX-License-Identifier: Apache-2.0
#include "src/supervisor/host_side.h"

#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "src/base/deadline.h"
#include "src/base/status.h"
#include "src/supervisor/call_format.h"
#include "src/supervisor/spec.h"
#include "waxvm/abi/host_call.h"

namespace waxvm {
namespace {

using Clock = std::chrono::steady_clock;

class CallContext final : public HostCallContext {
 public:
  CallContext(const std::string& label, const RunControl& control,
              std::optional<Clock::time_point> deadline)
      : label_(label), control_(control), deadline_(deadline) {}

  std::string_view label() const override { return label_; }
  bool StopRequested() const override {
    return control_.stopped() || (deadline_ && Clock::now() >= *deadline_);
  }

 private:
  const std::string& label_;
  const RunControl& control_;
  const std::optional<Clock::time_point> deadline_;
};

}  // namespace

HostSide::HostSide(const GrantSet& grants, const Authorizer& authorizer, const RunOptions& options,
                   const RunControl& control)
    : grants_(grants),
      options_(options),
      control_(control),
      gate_(grants, authorizer, options.label) {}

HostSide::~HostSide() { EndIdentity(); }

absl::Status HostSide::GiveIdentity() {
  if (!options_.identity) return absl::OkStatus();
  EndIdentity();
  identity_.reset();
  WAXVM_ASSIGN_OR_RETURN(identity_, InstanceIdentity::Make(*options_.identity));
  return absl::OkStatus();
}

void HostSide::RenewIdentity() {
  std::uint64_t next = 0;
  // What kept it from that is in the report; the program is not to blame.
  if (identity_ != nullptr) (void)identity_->RenewIfDue(next);
}

void HostSide::EndIdentity() {
  if (identity_ != nullptr) identity_->End();
}

bool HostSide::HoldsPrivateKey() const {
  return identity_ != nullptr && identity_->private_key_was_read();
}

void HostSide::Surround(InstanceSpec& spec) {
  collected_bound_bytes_ = spec.limits.output_bytes.value_or(kDefaultCollectedBytes);
  spec.gate = &gate_;
  spec.output = [this](Stream stream, std::string_view data) { return Write(stream, data); };
}

void HostSide::StartClock(std::optional<std::chrono::nanoseconds> limit) {
  deadline_.reset();
  if (limit) deadline_ = After(Clock::now(), *limit);
}

absl::Status HostSide::Write(Stream stream, std::string_view data) {
  if (options_.output) {
    try {
      return options_.output(stream, data);
    } catch (...) {
      return Internal("the output writer failed with an exception");
    }
  }
  // Providers apply the limit; this holds for one that does not.
  if (output_.size() + error_output_.size() + data.size() > collected_bound_bytes_)
    return absl::ResourceExhaustedError(absl::StrFormat(
        "the program wrote more than the %d bytes that are collected", collected_bound_bytes_));
  (stream == Stream::kOutput ? output_ : error_output_) += data;
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Event>> HostSide::Serve(Instance& instance,
                                                     const HostCallRequest& call) {
  RenewIdentity();
  absl::StatusOr<std::string> reply = std::string();
  // No trace of a key stays in the memory of the host, also where the run ends before it has it.
  const absl::Cleanup wipe = [&] {
    if (call.name == kPrivateKeyFunction && reply.ok())
      explicit_bzero(reply->data(), reply->size());
  };
  if (call.name == kServeName) {
    // Asking is no offence: a program made for calls can then do something else.
    reply = absl::UnavailableError("the program was not started for calls");
  } else if (absl::Status allowed =
                 gate_.Check({.resource = Resource::kHostFunction, .name = call.name});
             !allowed.ok()) {
    reply = std::move(allowed);
  } else {
    if (host_calls_ == options_.limits.host_calls) return LimitReached{LimitKind::kHostCalls};
    ++host_calls_;
    reply = CallFunction(call);
  }
  // A slow function may have outlived the limit while the provider's own timer was not running.
  if (deadline_ && Clock::now() >= *deadline_ && !control_.stopped())
    return LimitReached{LimitKind::kWallTime};
  WAXVM_RETURN_IF_ERROR(instance.CompleteHostCall(reply));
  return std::nullopt;
}

absl::StatusOr<std::string> HostSide::CallFunction(const HostCallRequest& call) const {
  const CallContext context(options_.label, control_, deadline_);
  absl::StatusOr<std::string> reply;
  try {
    const auto function = grants_.functions.find(call.name);
    reply =
        function != grants_.functions.end() ? function->second(context, call.request) : Ask(call);
  } catch (...) {
    // Without the exception's text, which may tell about the host.
    return Internal("the host function failed with an exception");
  }
  if (reply.ok() && reply->size() > WAXVM_HOST_CALL_MAX_REPLY)
    return Internal("the reply of the host function has %d bytes, at most %d", reply->size(),
                    WAXVM_HOST_CALL_MAX_REPLY);
  return reply;
}

absl::StatusOr<std::string> HostSide::Ask(const HostCallRequest& call) const {
  if (identity_ == nullptr) return Internal("the instance has no identity");
  return identity_->Answer(call.name, call.request);
}

void HostSide::FillReport(const ProviderInfo& info, const Usage& usage, Report& report) const {
  report.provider = info.name;
  report.isolation = info.isolation;
  report.ambient = info.ambient;
  report.cpu_time = usage.cpu_time;
  report.peak_memory_bytes = usage.peak_memory_bytes;
  report.memory = usage.memory;
  report.fuel = usage.fuel;
  report.vm_exits = usage.vm_exits;
  report.output_bytes = usage.output_bytes;
  report.host_calls = host_calls_;
  report.denials = gate_.denials();
  report.denied = gate_.denied();
  if (identity_ != nullptr) report.identity = identity_->report();
}

void HostSide::StartAnew() {
  gate_.Forget();
  host_calls_ = 0;
  output_.clear();
  error_output_.clear();
}

}  // namespace waxvm
