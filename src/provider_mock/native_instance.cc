// SPDX-License-Identifier: Apache-2.0
#include "src/provider_mock/native_instance.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <exception>
#include <system_error>
#include <utility>

#include "src/base/status.h"
#include "src/image/program_rep.h"
#include "waxvm/abi/host_call.h"

namespace waxvm {
namespace {

absl::Status Cancelled() { return absl::CancelledError("the run has ended"); }

Fault ThrownFault(std::string_view what) {
  Fault fault;
  fault.kind = FaultKind::kSignal;
  fault.signal = SIGABRT;
  fault.detail = absl::StrFormat("the program threw an exception: %s", what);
  return fault;
}

absl::Status CheckHostCall(std::string_view name, std::string_view request) {
  if (name.empty() || name.size() > WAXVM_HOST_CALL_MAX_NAME)
    return InvalidArgument("the name of a host function has %d bytes, must be 1 to %d", name.size(),
                           WAXVM_HOST_CALL_MAX_NAME);
  if (request.size() > WAXVM_HOST_CALL_MAX_REQUEST)
    return InvalidArgument("the request of a host call has %d bytes, at most %d", request.size(),
                           WAXVM_HOST_CALL_MAX_REQUEST);
  return absl::OkStatus();
}

}  // namespace

/// What the function sees. Thread safety: as NativeContext.
class NativeInstance::Context final : public NativeContext {
 public:
  explicit Context(NativeInstance& instance) : instance_(instance) {}

  const std::vector<std::string>& arguments() const override { return instance_.spec_.arguments; }
  const std::vector<std::string>& environment() const override {
    return instance_.spec_.environment;
  }

  absl::Status WriteOutput(std::string_view data) override { return Write(Stream::kOutput, data); }
  absl::Status WriteError(std::string_view data) override { return Write(Stream::kError, data); }

  absl::StatusOr<std::size_t> ReadInput(std::span<char> buffer) override {
    absl::StatusOr<std::size_t> result = Cancelled();
    instance_.DoOnHost([&] { result = instance_.ReadInput(buffer); });
    return result;
  }

  absl::StatusOr<std::string> CallHost(std::string_view name, std::string_view request) override {
    WAXVM_RETURN_IF_ERROR(CheckHostCall(name, request));
    const bool done = instance_.DoOnHost([&] {
      instance_.event_ = HostCallRequest{std::string(name), std::string(request)};
    });
    if (!done || !instance_.reply_) return Cancelled();
    return *std::exchange(instance_.reply_, std::nullopt);
  }

  absl::StatusOr<std::chrono::nanoseconds> ReadClock() override {
    absl::StatusOr<std::chrono::nanoseconds> result = Cancelled();
    instance_.DoOnHost([&] { result = instance_.ReadClock(); });
    return result;
  }

  absl::Status ReadRandom(std::span<std::byte> buffer) override {
    absl::Status result = Cancelled();
    instance_.DoOnHost([&] { result = instance_.ReadRandom(buffer); });
    return result;
  }

 private:
  absl::Status Write(Stream stream, std::string_view data) {
    absl::Status result = Cancelled();
    instance_.DoOnHost([&] { instance_.WriteOutput(stream, data, result); });
    return result;
  }

  NativeInstance& instance_;
};

absl::StatusOr<std::unique_ptr<Instance>> NativeInstance::Create(const InstanceSpec& spec) {
  if (!spec.program.rep().function())
    return InvalidArgument("the native program \"%s\" has no function", spec.program.name());
  UniqueFd stop_event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_event) return ErrnoStatus(errno, "cannot create an event descriptor");
  return std::unique_ptr<Instance>(new NativeInstance(spec, std::move(stop_event)));
}

NativeInstance::NativeInstance(const InstanceSpec& spec, UniqueFd stop_event)
    : spec_(spec),
      stop_event_(std::move(stop_event)),
      output_(spec.limits.output_bytes, spec.output) {}

NativeInstance::~NativeInstance() {
  {
    MutexLock lock(mutex_);
    if (turn_ == Turn::kHost) reply_.reset();  // the program is cancelled before it could see it
    released_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void NativeInstance::Stop() {
  MutexLock lock(mutex_);
  stop_requested_ = true;
  changed_.NotifyAll();
  const std::uint64_t one = 1;
  // Fails only when the counter is full, and then the event is there already.
  [[maybe_unused]] const ssize_t written = ::write(stop_event_.get(), &one, sizeof one);
}

absl::StatusOr<Event> NativeInstance::Resume() {
  if (ended_) return FailedPrecondition("the instance has ended");
  if (host_call_pending_) return FailedPrecondition("a host call waits for its reply");
  absl::StatusOr<Event> event = RunUntilEvent();
  host_call_pending_ = event.ok() && std::holds_alternative<HostCallRequest>(*event);
  ended_ = !host_call_pending_;
  return event;
}

absl::Status NativeInstance::CompleteHostCall(const absl::StatusOr<std::string>& reply) {
  if (!host_call_pending_) return FailedPrecondition("no host call is pending");
  host_call_pending_ = false;
  reply_ = reply;
  return absl::OkStatus();
}

absl::StatusOr<Event> NativeInstance::RunUntilEvent() {
  if (!thread_.joinable()) WAXVM_RETURN_IF_ERROR(StartThread());
  while (GiveTurn()) {
    if (operation_) std::exchange(operation_, nullptr)();
    WAXVM_RETURN_IF_ERROR(failure_);
    if (event_) return *std::exchange(event_, std::nullopt);
  }
  return Stopped{};
}

absl::Status NativeInstance::StartThread() {
  // The embedder's signals are for the embedder's threads.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  absl::Status status;
  try {
    thread_ = std::thread(&NativeInstance::RunProgram, this);
  } catch (const std::system_error& error) {
    status = absl::ResourceExhaustedError(
        absl::StrFormat("cannot start a thread for the program: %s", error.what()));
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return status;
}

bool NativeInstance::GiveTurn() {
  MutexLock lock(mutex_);
  if (stop_requested_) return false;
  turn_ = Turn::kProgram;
  changed_.NotifyAll();
  while (turn_ == Turn::kProgram && !stop_requested_) changed_.Wait(mutex_);
  return !stop_requested_;
}

void NativeInstance::RunProgram() {
  {
    MutexLock lock(mutex_);
    while (turn_ != Turn::kProgram && !released_) changed_.Wait(mutex_);
    if (released_) return;
  }
  Context context(*this);
  Event result;
  try {
    result = Exited{spec_.program.rep().function()(context) & 0xff};
  } catch (const std::exception& exception) {
    result = ThrownFault(exception.what());
  } catch (...) {
    result = ThrownFault("of a type without a message");
  }
  event_ = std::move(result);
  EndTurn();
}

bool NativeInstance::DoOnHost(Operation operation) {
  {
    MutexLock lock(mutex_);
    if (released_) return false;
  }
  operation_ = std::move(operation);
  EndTurn();
  MutexLock lock(mutex_);
  while (turn_ != Turn::kProgram && !released_) changed_.Wait(mutex_);
  return !operation_;
}

void NativeInstance::EndTurn() {
  MutexLock lock(mutex_);
  turn_ = Turn::kHost;
  changed_.NotifyAll();
}

void NativeInstance::WriteOutput(Stream stream, std::string_view data, absl::Status& result) {
  const absl::StatusOr<std::size_t> written = output_.Write(stream, data);
  failure_ = result = written.status();
  if (!output_.limit_reached()) return;
  event_ = LimitReached{LimitKind::kOutput};
  result = absl::ResourceExhaustedError(
      absl::StrFormat("the output limit of %d bytes is reached", *spec_.limits.output_bytes));
}

absl::StatusOr<std::size_t> NativeInstance::ReadInput(std::span<char> buffer) {
  if (spec_.input_fd < 0 || buffer.empty()) return std::size_t{0};
  for (;;) {
    pollfd waits[] = {{spec_.input_fd, POLLIN, 0}, {stop_event_.get(), POLLIN, 0}};
    if (::poll(waits, std::size(waits), -1) < 0 && errno != EINTR)
      return ErrnoStatus(errno, "cannot wait for standard input");
    if (waits[1].revents != 0) return Cancelled();
    if (waits[0].revents == 0) continue;
    const ssize_t got = ::read(spec_.input_fd, buffer.data(), buffer.size());
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR && errno != EAGAIN) return ErrnoStatus(errno, "cannot read standard input");
  }
}

absl::StatusOr<std::chrono::nanoseconds> NativeInstance::ReadClock() {
  WAXVM_RETURN_IF_ERROR(spec_.gate->Check({.resource = Resource::kClock}));
  if (!spec_.clock) return absl::PermissionDeniedError("the clock is not granted");
  return spec_.clock->RealTime();
}

absl::Status NativeInstance::ReadRandom(std::span<std::byte> buffer) {
  WAXVM_RETURN_IF_ERROR(spec_.gate->Check({.resource = Resource::kRandom}));
  if (!spec_.random) return absl::PermissionDeniedError("randomness is not granted");
  spec_.random->Fill(buffer);
  return absl::OkStatus();
}

}  // namespace waxvm
