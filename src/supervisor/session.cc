// SPDX-License-Identifier: Apache-2.0
#include "waxvm/session.h"

#include <fcntl.h>

#include <cerrno>
#include <utility>
#include <variant>

#include "absl/cleanup/cleanup.h"
#include "src/base/atomic_file.h"
#include "src/base/status.h"
#include "src/base/unique_fd.h"
#include "src/supervisor/end_status.h"
#include "src/supervisor/session_state.h"
#include "src/supervisor/spec.h"
#include "waxvm/abi/host_call.h"
#include "waxvm/snapshot_files.h"

namespace waxvm {
namespace {

using SteadyClock = std::chrono::steady_clock;

// A program needs to ask once more at most once a call; one that never stops asking would keep its
// caller for ever.
constexpr int kMaxRepeats = 4;
// What stays allocated between two calls, for the next one.
constexpr std::size_t kKeptCallBytes = std::size_t{64} << 10;

absl::Status CheckLimit(std::string_view what, std::optional<std::chrono::nanoseconds> limit) {
  if (!limit || limit->count() > 0) return absl::OkStatus();
  return InvalidArgument("the %s time limit of a call is %d ns; it must be more than 0", what,
                         limit->count());
}

absl::Status CheckCall(std::string_view function, std::string_view arguments,
                       const CallOptions& options) {
  if (function.empty() || function.size() > WAXVM_HOST_CALL_MAX_NAME)
    return InvalidArgument("the name of a function has %d bytes, must be 1 to %d", function.size(),
                           WAXVM_HOST_CALL_MAX_NAME);
  if (arguments.size() > kMaxCallBytes)
    return InvalidArgument("the arguments of a call have %d bytes, at most %d", arguments.size(),
                           kMaxCallBytes);
  WAXVM_RETURN_IF_ERROR(CheckLimit("wall", options.limits.wall_time));
  if (options.limits.fuel == 0u)
    return InvalidArgument("the fuel of a call is 0 instructions; it must be more than 0");
  return CheckLimit("CPU", options.limits.cpu_time);
}

absl::Status NotReady(const absl::Status& end) {
  if (absl::IsCancelled(end)) return end;
  return FailedPrecondition(
      "%s before it was ready for calls; a program becomes ready in waxvm_serve_calls of "
      "waxvm/guest.h",
      ToStd(end.message()));
}

absl::Status NoSnapshotFiles(const std::string& provider) {
  return absl::UnimplementedError(
      absl::StrFormat("the %s provider has no snapshot files", provider));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const SessionOrigin>> SessionOrigin::Make(
    std::shared_ptr<Provider> provider, const absl::StatusOr<Program>& program,
    const RunOptions& options, bool of_start) {
  WAXVM_RETURN_IF_ERROR(program.status());
  if (provider == nullptr) return InvalidArgument("a session needs a provider");
  WAXVM_RETURN_IF_ERROR(provider->Available());
  auto origin = std::make_shared<SessionOrigin>(std::move(provider), *program, options);
  WAXVM_ASSIGN_OR_RETURN(origin->grants, GrantsOf(options));
  WAXVM_ASSIGN_OR_RETURN(origin->spec,
                         MakeSpec(*program, options, origin->grants, origin->info, origin->input));
  origin->of_start = origin->spec.for_runs = of_start;
  origin->spec.for_calls = !of_start;
  if (!of_start) origin->spec.host_functions_granted = true;  // kServeName at least
  return std::shared_ptr<const SessionOrigin>(std::move(origin));
}

Session::State::State(std::shared_ptr<const SessionOrigin> o)
    : origin(std::move(o)),
      host(origin->grants, origin->authorizer, origin->options, control),
      call(std::string()),
      started(SteadyClock::now()) {}

Session::State::~State() {
  stop.reset();
  attachment.reset();
}

void Session::State::Adopt(std::unique_ptr<Instance> made) {
  instance = std::move(made);
  attachment.emplace(control, *instance);
  if (origin->options.stop.stop_possible())
    stop.emplace(origin->options.stop, [this] { control.Stop(); });
  setup_time = SteadyClock::now() - started;
}

absl::Status Session::State::BecomeReady() {
  const Limits& limits = origin->options.limits;
  host.StartClock(limits.wall_time);
  limited = limits.wall_time || limits.cpu_time || limits.fuel;
  for (;;) {
    WAXVM_ASSIGN_OR_RETURN(const Event event, instance->Resume());
    const auto* request = std::get_if<HostCallRequest>(&event);
    if (request == nullptr) return NotReady(std::visit(EndStatus{}, event));
    if (request->name == kServeName) {
      const auto said = ParseServeRequest(request->request);
      if (!said.ok()) return NotReady(said.status());
      if (said->state != ServeRequest::State::kReady)
        return NotReady(absl::AbortedError(
            "the program breaks the format of calls: the answer to a call that was not made"));
      return SetLimits({});
    }
    WAXVM_ASSIGN_OR_RETURN(const std::optional<Event> end, host.Serve(*instance, *request));
    if (end) return NotReady(std::visit(EndStatus{}, *end));
  }
}

absl::Status Session::State::CheckTurn() {
  if (origin->fork_guard.InChild())
    return absl::FailedPreconditionError(
        "the session was made before a fork: the child process cannot use it");
  const std::thread::id self = std::this_thread::get_id();
  std::thread::id nobody{};
  if (owner.load(std::memory_order_relaxed) != self && !owner.compare_exchange_strong(nobody, self))
    return absl::FailedPreconditionError(
        "the session belongs to another thread: the one that started it, or made its first call");
  if (in_call)
    return absl::FailedPreconditionError(
        "the session is in a call: a host function cannot use the session that calls it");
  return poison;
}

absl::Status Session::State::SetLimits(const CallLimits& limits) {
  const bool wanted = limits.wall_time || limits.cpu_time || limits.fuel;
  if (!wanted && !limited) return absl::OkStatus();
  WAXVM_RETURN_IF_ERROR(instance->RestartLimits(limits));
  host.StartClock(limits.wall_time);
  limited = wanted;
  return absl::OkStatus();
}

absl::StatusOr<std::string> Session::State::Call(std::string_view function,
                                                 std::string_view arguments,
                                                 const CallOptions& options) {
  WAXVM_RETURN_IF_ERROR(CheckTurn());
  WAXVM_RETURN_IF_ERROR(CheckCall(function, arguments, options));
  host.RenewIdentity();
  if (options.stop.stop_requested())
    return absl::CancelledError("the call was cancelled before it began");
  WAXVM_RETURN_IF_ERROR(SetLimits(options.limits));

  EncodeCall(function, arguments, *call);
  in_call = true;
  const absl::Cleanup leave = [this] {
    in_call = false;
    if (call->capacity() > kKeptCallBytes) *call = std::string();
  };
  if (!options.stop.stop_possible()) return RunCall();
  absl::StatusOr<std::string> result;
  {
    const std::stop_callback cancel(options.stop, [this] { control.Stop(); });
    result = RunCall();
  }
  // Asked for at the last moment: it must not hit the next call instead.
  if (poison.ok() && options.stop.stop_requested())
    return Poison(absl::CancelledError("the call was cancelled"));
  return result;
}

absl::StatusOr<std::string> Session::State::RunCall() {
  repeats = 0;
  if (const absl::Status sent = instance->CompleteHostCall(call); !sent.ok()) return Poison(sent);
  for (;;) {
    absl::StatusOr<Event> event = instance->Resume();
    if (!event.ok()) return Poison(std::move(event).status());
    auto* request = std::get_if<HostCallRequest>(&*event);
    if (request == nullptr) return Poison(std::visit(EndStatus{}, *event));
    if (request->name == kServeName) {
      const absl::StatusOr<ServeRequest> said = ParseServeRequest(request->request);
      if (!said.ok()) return Poison(said.status());
      if (said->state == ServeRequest::State::kReturned) {
        request->request.erase(0, kCallHeaderBytes);  // in place: a result is not copied elsewhere
        return std::move(request->request);
      }
      if (said->state == ServeRequest::State::kFailed)
        return absl::Status(said->code,
                            ToAbsl(std::string_view(request->request).substr(kCallHeaderBytes)));
      if (const absl::Status again = CallAgain(*said); !again.ok()) return Poison(again);
      continue;
    }
    const absl::StatusOr<std::optional<Event>> end = host.Serve(*instance, *request);
    if (!end.ok()) return Poison(end.status());
    if (*end) return Poison(std::visit(EndStatus{}, **end));
  }
}

absl::Status Session::State::CallAgain(const ServeRequest& said) {
  if (said.state != ServeRequest::State::kAgain)
    return absl::AbortedError(
        "the program breaks the format of calls: it says in a call that nothing was called yet");
  if (++repeats > kMaxRepeats)
    return absl::AbortedError(absl::StrFormat(
        "the program breaks the format of calls: it asks for one call more than %d times",
        kMaxRepeats));
  return instance->CompleteHostCall(call);
}

absl::Status Session::State::Poison(absl::Status reason) {
  poison = FailedPrecondition("the session cannot be called any more: %s", ToStd(reason.message()));
  last_usage = instance->usage();
  stop.reset();
  attachment.reset();
  const auto before = SteadyClock::now();
  // At once: threads of the program could go on otherwise.
  instance.reset();
  host.EndIdentity();
  teardown_time = SteadyClock::now() - before;
  return reason;
}

Session::Session(std::unique_ptr<State> state) : state_(std::move(state)) {}

Session::~Session() {
  // In a forked child everything but memory is the parent's.
  if (state_->origin->fork_guard.InChild()) static_cast<void>(state_.release());
}

absl::StatusOr<std::unique_ptr<Session>> Session::Start(std::shared_ptr<Provider> provider,
                                                        const absl::StatusOr<Program>& program,
                                                        const RunOptions& options) {
  WAXVM_ASSIGN_OR_RETURN(
      std::shared_ptr<const SessionOrigin> origin,
      SessionOrigin::Make(std::move(provider), program, options, /*of_start=*/false));
  auto state = std::make_unique<State>(origin);
  state->owner = std::this_thread::get_id();
  InstanceSpec spec = origin->spec;
  state->host.Surround(spec);
  WAXVM_ASSIGN_OR_RETURN(std::unique_ptr<Instance> made, origin->provider->Create(spec));
  if (made == nullptr) return Internal("the %s provider made no instance", origin->info.name);
  WAXVM_RETURN_IF_ERROR(state->host.GiveIdentity());
  state->Adopt(std::move(made));
  WAXVM_RETURN_IF_ERROR(state->BecomeReady());
  return std::unique_ptr<Session>(new Session(std::move(state)));
}

absl::StatusOr<std::string> Session::Call(std::string_view function, std::string_view arguments,
                                          const CallOptions& options) {
  if (state_->origin->of_start)
    return absl::FailedPreconditionError("the session runs a program; Run it");
  return state_->Call(function, arguments, options);
}

absl::Status Session::Prepare() {
  if (state_->origin->fork_guard.InChild())
    return absl::FailedPreconditionError(
        "the session was made before a fork: the child process cannot use it");
  // Where it was used already there is nothing to prepare, and it may be another thread's.
  if (state_->owner.load() != std::thread::id() || !state_->instance) return absl::OkStatus();
  const absl::Status done = state_->instance->Prepare();
  return done.ok() ? done : state_->Poison(done);
}

void Session::Stop() {
  if (!state_->origin->fork_guard.InChild()) state_->control.Stop();
}

absl::Status Session::health() const { return state_->poison; }

absl::StatusOr<Snapshot> Session::TakeSnapshot() {
  WAXVM_RETURN_IF_ERROR(state_->CheckTurn());
  if (state_->origin->of_start)
    return absl::FailedPreconditionError("the session is where its snapshot was taken");
  // Two instances with one key are each other: whatever one signs, the other one has said.
  if (state_->host.HoldsPrivateKey())
    return absl::FailedPreconditionError(
        "the program has read its private key, which every clone of a snapshot would share; let it "
        "read the key after the snapshot, or sign with waxvm.identity.sign");
  WAXVM_ASSIGN_OR_RETURN(auto taken, state_->instance->TakeSnapshot());
  if (taken == nullptr)
    return Internal("the %s provider took no snapshot", state_->origin->info.name);
  return Snapshot(
      std::make_shared<const Snapshot::State>(Snapshot::State{state_->origin, std::move(taken)}));
}

absl::Status Session::Reset() {
  WAXVM_RETURN_IF_ERROR(state_->CheckTurn());
  if (state_->origin->of_start) return absl::OkStatus();
  const absl::Status done = state_->instance->Reset();
  if (done.ok()) {
    state_->host.StartAnew();
    state_->started = SteadyClock::now();
    // What this state says and signs must not be taken for what the one before did.
    if (const absl::Status given = state_->host.GiveIdentity(); !given.ok())
      return state_->Poison(given);
  } else if (!absl::IsUnimplemented(done) && !absl::IsFailedPrecondition(done)) {
    return state_->Poison(done);
  }
  return done;
}

Report Session::report() const {
  Report report;
  report.wall_time = SteadyClock::now() - state_->started;
  report.setup_time = state_->setup_time;
  report.teardown_time = state_->teardown_time;
  state_->host.FillReport(state_->origin->info, state_->CurrentUsage(), report);
  if (!report.memory) report.memory = memory();
  return report;
}

std::optional<InstanceMemory> Session::memory() const {
  return state_->instance ? state_->instance->memory() : std::nullopt;
}

std::string Session::TakeOutput() { return std::exchange(state_->host.output(), {}); }

std::string Session::TakeErrorOutput() { return std::exchange(state_->host.error_output(), {}); }

absl::StatusOr<std::unique_ptr<Session>> Snapshot::Clone() const {
  if (state_ == nullptr) return FailedPrecondition("the snapshot was moved from");
  if (state_->origin->fork_guard.InChild())
    return absl::FailedPreconditionError(
        "the snapshot was taken before a fork: the child process cannot use it");
  auto state = std::make_unique<Session::State>(state_->origin);
  InstanceSpec spec = state_->origin->spec;
  spec.limits.wall_time.reset();
  spec.limits.cpu_time.reset();
  spec.limits.fuel.reset();
  state->host.Surround(spec);
  WAXVM_ASSIGN_OR_RETURN(std::unique_ptr<Instance> made,
                         state_->origin->provider->Clone(state_->instance, spec));
  if (made == nullptr)
    return Internal("the %s provider made no instance", state_->origin->info.name);
  // A program that has not run gets one with each run.
  if (!is_of_start()) WAXVM_RETURN_IF_ERROR(state->host.GiveIdentity());
  state->Adopt(std::move(made));
  return std::unique_ptr<Session>(new Session(std::move(state)));
}

absl::Status Snapshot::Save(const std::string& path) const {
  if (state_ == nullptr) return FailedPrecondition("the snapshot was moved from");
  const auto* files = dynamic_cast<const SnapshotFiles*>(state_->origin->provider.get());
  if (files == nullptr) return NoSnapshotFiles(state_->origin->info.name);
  if (is_of_start())
    return absl::UnimplementedError(
        "a program that has not run is loaded from its own file, not from a snapshot's");
  return ReplaceFile(path, [&](int file) { return files->WriteSnapshot(*state_->instance, file); });
}

absl::StatusOr<Snapshot> Snapshot::Load(std::shared_ptr<Provider> provider,
                                        const absl::StatusOr<Program>& program,
                                        const RunOptions& options, const std::string& path) {
  WAXVM_ASSIGN_OR_RETURN(
      std::shared_ptr<const SessionOrigin> origin,
      SessionOrigin::Make(std::move(provider), program, options, /*of_start=*/false));
  const auto* files = dynamic_cast<const SnapshotFiles*>(origin->provider.get());
  if (files == nullptr) return NoSnapshotFiles(origin->info.name);
  // What is no file must not keep whoever opens it.
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file) return ErrnoStatus(errno, path);
  auto read = files->ReadSnapshot(file.get(), origin->spec);
  if (!read.ok()) return Annotate(read.status(), path);
  if (*read == nullptr) return Internal("the %s provider read no snapshot", origin->info.name);
  return Snapshot(std::make_shared<const State>(State{std::move(origin), *std::move(read)}));
}

std::uint64_t Snapshot::memory_bytes() const {
  return state_ != nullptr ? state_->instance->memory_bytes() : 0;
}

bool Snapshot::is_of_start() const { return state_ != nullptr && state_->origin->of_start; }

}  // namespace waxvm
