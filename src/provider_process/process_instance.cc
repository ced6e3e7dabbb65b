// SPDX-License-Identifier: Apache-2.0
#include "src/provider_process/process_instance.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <string>
#include <utility>

#include "src/base/deadline.h"
#include "src/base/status.h"
#include "src/image/program_rep.h"
#include "src/provider_process/setup_error.h"
#include "waxvm/abi/host_call.h"

namespace waxvm::process {
namespace {

using std::chrono::nanoseconds;

// How often memory is looked at where no cgroup bounds it.
constexpr std::chrono::milliseconds kMemoryPeriod{5};
// The shortest time between two looks at the CPU time.
constexpr std::chrono::milliseconds kShortestPeriod{2};
// How often a cgroup is asked whether the kernel killed a process for memory.
constexpr std::chrono::milliseconds kCgroupPeriod{20};

FaultKind KindOfSignal(int signal) {
  switch (signal) {
    case SIGSEGV:
      return FaultKind::kSegmentation;
    case SIGBUS:
      return FaultKind::kBusError;
    case SIGILL:
      return FaultKind::kIllegalInstruction;
    case SIGFPE:
      return FaultKind::kArithmetic;
    case SIGTRAP:
      return FaultKind::kTrap;
    default:
      return FaultKind::kSignal;
  }
}

Fault FaultOfSignal(int signal) {
  Fault fault;
  fault.kind = KindOfSignal(signal);
  fault.signal = signal;
  const char* name = sigabbrev_np(signal);
  fault.detail = name != nullptr ? absl::StrFormat("ended by SIG%s", name)
                                 : absl::StrFormat("ended by signal %d", signal);
  return fault;
}

unsigned OnlineCpus() { return static_cast<unsigned>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN))); }

/// Bytes of files in the in-memory root, which are in no process's resident set. By descriptor: the
/// program's own "/tmp" may be a granted folder.
std::uint64_t RootBytes(int root) {
  struct statfs about {};
  if (fstatfs(root, &about) != 0) return 0;
  return (about.f_blocks - about.f_bfree) * static_cast<std::uint64_t>(about.f_bsize);
}

std::uint64_t MaxRequest(const Limits& limits) {
  return std::min<std::uint64_t>(limits.memory_bytes.value_or(WAXVM_HOST_CALL_MAX_REQUEST),
                                 WAXVM_HOST_CALL_MAX_REQUEST);
}

RefusalOptions OptionsFor(const InstanceSpec& spec, const ProcessInstance::Parts& parts,
                          pid_t init) {
  RefusalOptions options;
  options.policy = parts.policy;
  options.init = init;
  options.max_tasks = parts.limits.processes.value_or(std::numeric_limits<std::uint64_t>::max());
  options.max_descriptors = parts.limits.open_files;
  options.gate = spec.gate;
  return options;
}

}  // namespace

/// What poll() found.
struct ProcessInstance::Ready {
  bool stop = false, control = false, ended = false, input = false;
  bool output = false, error = false, host_call = false, refusal = false, refusal_closed = false;
};

ProcessInstance::ProcessInstance(const InstanceSpec& spec, Sandbox sandbox, Parts parts)
    : cgroup_(std::move(parts.cgroup)),
      limits_(parts.limits),
      sandbox_(std::move(sandbox)),
      stop_(std::move(parts.stop)),
      output_(std::move(sandbox_.output), std::move(sandbox_.error), spec.output,
              parts.limits.output_bytes),
      host_calls_(std::move(sandbox_.host_call), MaxRequest(parts.limits)),
      refusals_(std::move(sandbox_.listener), OptionsFor(spec, parts, sandbox_.init.pid())),
      samples_memory_(parts.limits.memory_bytes.has_value() && !cgroup_.has_value()) {}

absl::StatusOr<Event> ProcessInstance::Resume() {
  if (state_ == State::kEnded) return FailedPrecondition("the instance has ended");
  if (host_calls_.pending()) return FailedPrecondition("a host call has not been answered");
  if (state_ == State::kCreated && !stop_requested_) {
    WAXVM_RETURN_IF_ERROR(StartProgram(sandbox_));
    started_ = next_sample_ = Clock::now();
    state_ = State::kRunning;
  }
  for (;;) {
    auto event = Step();
    if (!event.ok()) {
      KillAndMeasure();
      return event.status();
    }
    if (*event) return **std::move(event);
  }
}

absl::StatusOr<std::optional<Event>> ProcessInstance::Step() {
  if (stop_requested_) return End(Stopped{});
  if (auto event = CheckLimits()) return End(*std::move(event));
  WAXVM_ASSIGN_OR_RETURN(const Ready ready, Poll());
  if (ready.input) WAXVM_RETURN_IF_ERROR(sandbox_.input.Move());
  if (ready.output) WAXVM_RETURN_IF_ERROR(output_.Move(Stream::kOutput));
  if (ready.error) WAXVM_RETURN_IF_ERROR(output_.Move(Stream::kError));
  if (output_.limit_passed()) return End(LimitReached{LimitKind::kOutput});
  if (ready.refusal) refusals_.Serve();
  if (ready.refusal_closed) refusals_.Close();
  if (ready.host_call) {
    if (auto request = host_calls_.Advance()) return Event(*std::move(request));
  }
  if (ready.control) return TakeReport();
  if (ready.ended) return OnSilentEnd();
  return std::optional<Event>();
}

absl::StatusOr<ProcessInstance::Ready> ProcessInstance::Poll() {
  enum { kStop, kControl, kEnded, kInput, kOutput, kError, kHostCall, kRefusal, kCount };
  std::array<pollfd, kCount> watched;
  watched[kStop] = {stop_.get(), POLLIN, 0};
  watched[kControl] = {control_open_ ? sandbox_.control.get() : -1, POLLIN, 0};
  watched[kEnded] = {sandbox_.init.pidfd(), POLLIN, 0};
  watched[kInput] = sandbox_.input.Watched();
  watched[kOutput] = {output_.fd(Stream::kOutput), POLLIN, 0};
  watched[kError] = {output_.fd(Stream::kError), POLLIN, 0};
  watched[kHostCall] = {host_calls_.fd(), host_calls_.events(), 0};
  watched[kRefusal] = {refusals_.fd(), POLLIN, 0};

  auto until = Clock::time_point::max();
  if (limits_.wall_time) until = After(started_, *limits_.wall_time);
  if (limits_.cpu_time || limits_.memory_bytes) until = std::min(until, next_sample_);
  timespec wait{};
  const bool forever = until == Clock::time_point::max();
  if (!forever) {
    const auto left = std::max(nanoseconds(0), nanoseconds(until - Clock::now()));
    wait.tv_sec = left.count() / 1'000'000'000;
    wait.tv_nsec = left.count() % 1'000'000'000;
  }
  if (ppoll(watched.data(), watched.size(), forever ? nullptr : &wait, nullptr) < 0) {
    if (errno == EINTR) return Ready{};
    return ErrnoStatus(errno, "poll");
  }
  const auto found = [&](int index) {
    return watched[static_cast<std::size_t>(index)].revents != 0;
  };
  return Ready{.stop = found(kStop),
               .control = found(kControl),
               .ended = found(kEnded),
               .input = found(kInput),
               .output = found(kOutput),
               .error = found(kError),
               .host_call = found(kHostCall),
               .refusal = (watched[kRefusal].revents & POLLIN) != 0,
               .refusal_closed = (watched[kRefusal].revents & ~POLLIN) != 0};
}

std::optional<Event> ProcessInstance::CheckLimits() {
  const auto now = Clock::now();
  if (limits_.wall_time && now - started_ >= *limits_.wall_time) {
    return LimitReached{LimitKind::kWallTime};
  }
  if ((limits_.cpu_time || limits_.memory_bytes) && now >= next_sample_) return Sample(now);
  return std::nullopt;
}

std::optional<Event> ProcessInstance::Sample(Clock::time_point now) {
  auto next = now + std::chrono::hours(1);
  if (cgroup_) {
    if (cgroup_->Exhausted()) return LimitReached{LimitKind::kMemory};
    next = now + kCgroupPeriod;
  }
  if (limits_.cpu_time || samples_memory_) {
    const auto sample = Look();
    if (sample && limits_.cpu_time) {
      const nanoseconds left = *limits_.cpu_time - (sample->cpu_time - cpu_before_);
      if (left <= nanoseconds(0)) return LimitReached{LimitKind::kCpuTime};
      // With all processors busy the rest cannot be used up sooner.
      next = std::min(next, now + std::max<nanoseconds>(left / OnlineCpus(), kShortestPeriod));
    }
    if (samples_memory_) {
      if (sampled_peak_bytes_ > *limits_.memory_bytes) return LimitReached{LimitKind::kMemory};
      next = std::min(next, now + kMemoryPeriod);
    }
  }
  next_sample_ = next;
  return std::nullopt;
}

std::optional<TreeSample> ProcessInstance::Look() {
  auto sample = SampleTree(sandbox_.init.pid());
  if (samples_memory_) {
    const std::uint64_t resident = sample ? sample->resident_bytes : 0;
    sampled_peak_bytes_ = std::max(sampled_peak_bytes_, resident + RootBytes(sandbox_.root.get()));
  }
  return sample;
}

absl::StatusOr<std::optional<Event>> ProcessInstance::TakeReport() {
  const auto report = ReceiveReport(sandbox_.control.get());
  if (!report) {
    control_open_ = false;  // the end of the process follows
    return std::optional<Event>();
  }
  if (report->kind == WX_EXITED) return OnExit(*report);
  if (report->kind != WX_FAILED)
    return Internal("unexpected report %d of the sandbox", report->kind);
  if (report->step == WX_STEP_EXEC && report->error == ENOENT) {
    return InvalidArgument(
        "the program cannot be started: the interpreter it names (its dynamic loader) does not "
        "exist inside; grant the folders it needs, or link it statically");
  }
  if (report->step == WX_STEP_EXEC) {
    return Annotate(ErrnoStatus(report->error, "execveat"), "the program cannot be started");
  }
  return StepError(report->step, report->error, {});
}

bool ProcessInstance::MemoryExhausted(bool failed) const {
  if (cgroup_) return cgroup_->Exhausted();
  if (!samples_memory_) return false;
  const std::uint64_t peak = std::max(sampled_peak_bytes_, usage_.peak_memory_bytes.value_or(0));
  // RLIMIT_DATA refuses memory a little past the limit; a program that died of it had most of it.
  return peak > *limits_.memory_bytes || (failed && peak >= *limits_.memory_bytes / 10 * 9);
}

absl::StatusOr<Event> ProcessInstance::OnExit(const wx_report& report) {
  state_ = State::kEnded;
  const int status = report.status;
  const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  usage_.cpu_time = nanoseconds(report.cpu_ns);
  // The processes are gone, the files are still there.
  if (samples_memory_) Look();
  // The kernel counts in batches: a small program has none.
  SetPeak(report.peak_bytes != 0 ? std::optional(report.peak_bytes) : std::nullopt);
  WAXVM_RETURN_IF_ERROR(output_.Drain());
  if (output_.limit_passed()) return Event(LimitReached{LimitKind::kOutput});
  if (MemoryExhausted(signal != 0 || WEXITSTATUS(status) != 0)) {
    return Event(LimitReached{LimitKind::kMemory});
  }
  const bool killed = signal == SIGKILL || signal == SIGXCPU;
  if (killed && limits_.cpu_time && *usage_.cpu_time - cpu_before_ >= *limits_.cpu_time) {
    return Event(LimitReached{LimitKind::kCpuTime});
  }
  if (signal != 0) return Event(FaultOfSignal(signal));
  return Event(Exited{WEXITSTATUS(status)});
}

absl::StatusOr<Event> ProcessInstance::OnSilentEnd() {
  // Its last words may have come after poll() looked.
  if (const auto report = ReceiveReport(sandbox_.control.get())) {
    if (report->kind == WX_EXITED) return OnExit(*report);
  }
  if (cgroup_ && cgroup_->Exhausted()) return End(LimitReached{LimitKind::kMemory});
  return End(FaultOfSignal(SIGKILL));
}

void ProcessInstance::KillAndMeasure() {
  // Looked at just before: of a pid namespace that is killed as a whole, the kernel adds nothing
  // to the use that wait() returns.
  if (state_ == State::kRunning) {
    if (const auto sample = Look()) usage_.cpu_time = sample->cpu_time;
    SetPeak(PeakOfOnlyChild(sandbox_.init.pid()));
  }
  state_ = State::kEnded;
  sandbox_.init.Kill();
  sandbox_.init.Wait();
  if (cgroup_) usage_.peak_memory_bytes = cgroup_->PeakBytes();
}

void ProcessInstance::SetPeak(std::optional<std::uint64_t> of_first_process) {
  // With several processes, the largest one's figure is not the peak of them all.
  if (!refusals_.started_processes()) usage_.peak_memory_bytes = of_first_process;
  if (samples_memory_) {
    usage_.peak_memory_bytes = std::max(sampled_peak_bytes_, usage_.peak_memory_bytes.value_or(0));
  }
  if (cgroup_) usage_.peak_memory_bytes = cgroup_->PeakBytes();
}

absl::StatusOr<Event> ProcessInstance::End(Event event) {
  KillAndMeasure();
  WAXVM_RETURN_IF_ERROR(output_.Drain());
  return event;
}

absl::Status ProcessInstance::CompleteHostCall(const absl::StatusOr<std::string>& reply) {
  if (!host_calls_.pending()) return FailedPrecondition("no host call is pending");
  host_calls_.Reply(reply);
  return absl::OkStatus();
}

absl::Status ProcessInstance::RestartLimits(const CallLimits& limits) {
  if (limits.fuel)
    return absl::UnimplementedError("the process provider cannot enforce the limit `fuel`");
  if (!host_calls_.pending()) return FailedPrecondition("no host call is pending");
  if (limits.cpu_time) {
    const auto sample = Look();
    if (!sample)
      return absl::UnimplementedError("the CPU time of the program cannot be seen in /proc");
    cpu_before_ = sample->cpu_time;
  }
  limits_.wall_time = limits.wall_time;
  limits_.cpu_time = limits.cpu_time;
  started_ = next_sample_ = Clock::now();
  return absl::OkStatus();
}

void ProcessInstance::Stop() {
  stop_requested_ = true;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(stop_.get(), &one, sizeof one);
}

Usage ProcessInstance::usage() const {
  Usage usage = usage_;
  usage.output_bytes = output_.bytes();
  return usage;
}

}  // namespace waxvm::process
