// SPDX-License-Identifier: Apache-2.0
#include "src/supervisor/run.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "src/base/sealed_file.h"
#include "src/base/status.h"
#include "waxvm/abi/host_call.h"

namespace waxvm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kLimitExitCode = 124;
constexpr int kStoppedExitCode = 143;  // 128 + SIGTERM

/// Turns the final event of an instance into the result's fields.
struct OutcomeSetter {
  RunResult& result;

  void operator()(const HostCallRequest&) {}
  void operator()(const Exited& exited) {
    result.outcome = Outcome::kExited;
    result.exit_code = exited.code & 0xff;
  }
  void operator()(Fault& fault) {
    result.outcome = Outcome::kFault;
    result.exit_code = 128 + fault.signal;
    result.fault = std::move(fault);
  }
  void operator()(const LimitReached& reached) {
    result.outcome = Outcome::kLimit;
    result.exit_code = kLimitExitCode;
    result.limit = reached.limit;
  }
  void operator()(const Stopped&) {
    result.outcome = Outcome::kStopped;
    result.exit_code = kStoppedExitCode;
  }
};

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

/// A zero byte would silently cut a string on its way to the program.
absl::Status CheckStrings(std::string_view what, const std::vector<std::string>& strings) {
  for (std::size_t i = 0; i < strings.size(); ++i) {
    if (strings[i].find('\0') != std::string::npos)
      return InvalidArgument("%s %d contains a zero byte", what, i);
  }
  return absl::OkStatus();
}

absl::Status CheckEnvironment(const std::vector<std::string>& environment) {
  WAXVM_RETURN_IF_ERROR(CheckStrings("environment string", environment));
  for (const std::string& entry : environment) {
    if (entry.find('=') == std::string::npos || entry.front() == '=')
      return InvalidArgument("environment string \"%s\" is not of the form NAME=value", entry);
  }
  return absl::OkStatus();
}

/// The time `limit` after now, or the last there is.
Clock::time_point After(std::chrono::nanoseconds limit) {
  const auto now = Clock::now();
  return limit < Clock::time_point::max() - now ? now + limit : Clock::time_point::max();
}

}  // namespace

ProgramRun::ProgramRun(Provider& provider, const ProviderInfo& info, const Authorizer& authorizer,
                       const Program& program, const RunOptions& options, RunControl& control)
    : provider_(provider),
      info_(info),
      program_(program),
      options_(options),
      control_(control),
      authorizer_(authorizer) {}

absl::StatusOr<RunResult> ProgramRun::Execute() {
  const auto start = Clock::now();
  WAXVM_ASSIGN_OR_RETURN(const InstanceSpec spec, MakeSpec());
  WAXVM_ASSIGN_OR_RETURN(std::unique_ptr<Instance> instance, provider_.Create(spec));
  if (instance == nullptr) return Internal("the %s provider made no instance", info_.name);
  result_.report.setup_time = Clock::now() - start;

  if (options_.limits.wall_time) deadline_ = After(*options_.limits.wall_time);
  absl::StatusOr<Event> event = RunToEnd(*instance);
  const Usage usage = instance->usage();

  const auto teardown = Clock::now();
  instance.reset();
  result_.report.teardown_time = Clock::now() - teardown;
  result_.report.wall_time = Clock::now() - start;
  if (!event.ok()) return std::move(event).status();
  std::visit(OutcomeSetter{result_}, *event);
  FillReport(usage);
  return std::move(result_);
}

absl::StatusOr<InstanceSpec> ProgramRun::MakeSpec() {
  InstanceSpec spec(program_);
  spec.arguments.push_back(options_.argument_zero.empty() ? program_.name()
                                                          : options_.argument_zero);
  std::ranges::copy(options_.arguments, std::back_inserter(spec.arguments));
  WAXVM_RETURN_IF_ERROR(CheckStrings("argument", spec.arguments));
  spec.environment = options_.environment;
  WAXVM_RETURN_IF_ERROR(CheckEnvironment(spec.environment));

  WAXVM_ASSIGN_OR_RETURN(grants_, OpenGrants(options_.grants));
  spec.clock = grants_.clock;
  spec.random = grants_.random;
  spec.host_clock = grants_.host_clock;
  spec.host_random = grants_.host_random;
  spec.mounts = grants_.mounts;
  spec.root_image = grants_.root_image;
  spec.host_functions_granted = !grants_.functions.empty();
  spec.gate = &gate_.emplace(grants_, authorizer_, options_.label);

  spec.limits = options_.limits;
  if (!options_.output && !spec.limits.output_bytes &&
      std::ranges::count(info_.enforceable_limits, LimitKind::kOutput) != 0)
    spec.limits.output_bytes = kDefaultCollectedBytes;
  spec.output = MakeWriter(spec.limits.output_bytes.value_or(kDefaultCollectedBytes));
  WAXVM_RETURN_IF_ERROR(OpenInput(spec));
  return spec;
}

absl::Status ProgramRun::OpenInput(InstanceSpec& spec) {
  spec.input_fd = options_.input_fd;
  if (spec.input_fd >= 0 || options_.input.empty()) return absl::OkStatus();
  WAXVM_ASSIGN_OR_RETURN(input_, NewSealedFile("waxvm-input", Executable::kNo,
                                               std::as_bytes(std::span(options_.input))));
  spec.input_fd = input_.get();
  return absl::OkStatus();
}

OutputWriter ProgramRun::MakeWriter(std::uint64_t bound_bytes) {
  if (options_.output) {
    return [this](Stream stream, std::string_view data) -> absl::Status {
      try {
        return options_.output(stream, data);
      } catch (...) {
        return Internal("the output writer failed with an exception");
      }
    };
  }
  return [this, bound_bytes](Stream stream, std::string_view data) -> absl::Status {
    // Providers apply the limit; this holds for one that does not.
    if (result_.output.size() + result_.error_output.size() + data.size() > bound_bytes)
      return absl::ResourceExhaustedError(absl::StrFormat(
          "the program wrote more than the %d bytes that are collected", bound_bytes));
    (stream == Stream::kOutput ? result_.output : result_.error_output) += data;
    return absl::OkStatus();
  };
}

absl::StatusOr<Event> ProgramRun::RunToEnd(Instance& instance) {
  const RunControl::Attachment attachment(control_, instance);
  for (;;) {
    WAXVM_ASSIGN_OR_RETURN(Event event, instance.Resume());
    const auto* call = std::get_if<HostCallRequest>(&event);
    if (call == nullptr) return event;
    WAXVM_ASSIGN_OR_RETURN(std::optional<Event> end, Serve(instance, *call));
    if (end) return *std::move(end);
  }
}

absl::StatusOr<std::optional<Event>> ProgramRun::Serve(Instance& instance,
                                                       const HostCallRequest& call) {
  const absl::Status allowed =
      gate_->Check({.resource = Resource::kHostFunction, .name = call.name});
  absl::StatusOr<std::string> reply = std::string();
  if (!allowed.ok()) {
    reply = allowed;
  } else {
    if (result_.report.host_calls == options_.limits.host_calls)
      return LimitReached{LimitKind::kHostCalls};
    ++result_.report.host_calls;
    reply = CallFunction(call);
  }
  // A slow function may have outlived the limit while the provider's own timer was not running.
  if (deadline_ && Clock::now() >= *deadline_ && !control_.stopped())
    return LimitReached{LimitKind::kWallTime};
  WAXVM_RETURN_IF_ERROR(instance.CompleteHostCall(reply));
  return std::nullopt;
}

absl::StatusOr<std::string> ProgramRun::CallFunction(const HostCallRequest& call) {
  const CallContext context(options_.label, control_, deadline_);
  absl::StatusOr<std::string> reply;
  try {
    reply = grants_.functions.find(call.name)->second(context, call.request);
  } catch (...) {
    // Without the exception's text, which may tell about the host.
    return Internal("the host function failed with an exception");
  }
  if (reply.ok() && reply->size() > WAXVM_HOST_CALL_MAX_REPLY)
    return Internal("the reply of the host function has %d bytes, at most %d", reply->size(),
                    WAXVM_HOST_CALL_MAX_REPLY);
  return reply;
}

void ProgramRun::FillReport(const Usage& usage) {
  Report& report = result_.report;
  report.provider = info_.name;
  report.isolation = info_.isolation;
  report.ambient = info_.ambient;
  report.cpu_time = usage.cpu_time;
  report.peak_memory_bytes = usage.peak_memory_bytes;
  report.vm_exits = usage.vm_exits;
  report.output_bytes = usage.output_bytes;
  report.denials = gate_->denials();
  report.denied = gate_->denied();
}

}  // namespace waxvm
