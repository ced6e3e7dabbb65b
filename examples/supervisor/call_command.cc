// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "commands.h"
#include "flags.h"
#include "prepare.h"
#include "run_often.h"
#include "signals.h"
#include "streams.h"
#include "waxvm/pool.h"
#include "waxvm/session.h"

namespace waxvm::cli {
namespace {

using std::chrono::nanoseconds;

constexpr int kExitLimit = 124;

// Times that --repeat keeps: above it they are of the first calls.
constexpr std::uint64_t kMaxTimes = 1'000'000;

/// All of standard input. Errors: kInvalidArgument where no call could take it.
absl::StatusOr<std::string> ReadInput() {
  std::string input;
  char part[65536];
  for (;;) {
    if (input.size() > kMaxCallBytes)
      return absl::InvalidArgumentError(absl::StrFormat(
          "standard input has more than the %d bytes that a call takes", kMaxCallBytes));
    const ssize_t bytes = read(STDIN_FILENO, part, sizeof part);
    if (bytes == 0) return input;
    if (bytes > 0) input.append(part, static_cast<std::size_t>(bytes));
    if (bytes < 0 && errno != EINTR)
      return absl::ErrnoToStatus(errno, "cannot read standard input");
  }
}

RunOptions ToOptions(const RunFlags& flags, StopOnSignal& signals, OutputPassThrough& output,
                     std::mutex& output_turn) {
  RunOptions options;
  options.argument_zero = flags.program;
  options.environment = flags.environment;
  options.limits = flags.limits;
  options.grants = flags.grants;
  options.label = flags.program;
  options.stop = signals.source().get_token();
  // Standard output is for the result alone.
  options.output = [&](Stream, std::string_view data) {
    const std::lock_guard lock(output_turn);  // the instances of a pool write at once
    return output.Write(Stream::kError, data);
  };
  return options;
}

/// Nothing else stops it.
int ExitCodeForStop(const StopOnSignal& signals) {
  return kExitSignal + (signals.signal() != 0 ? signals.signal() : SIGPIPE);
}

int ExitCodeForStart(const absl::Status& status, const Prepared& prepared,
                     const StopOnSignal& signals) {
  if (absl::IsCancelled(status)) return ExitCodeForStop(signals);
  const bool cannot_run =
      absl::IsFailedPrecondition(status) ||
      (absl::IsInvalidArgument(status) && RefusesProgram(*prepared.provider, prepared.program));
  return cannot_run ? kExitCannotRun : kExitFailed;
}

int ExitCodeForCall(const absl::Status& status, bool lost, const StopOnSignal& signals) {
  // A function may fail with any code; what a pool says of a call that it did not make begins so.
  const bool no_clone =
      absl::IsUnavailable(status) && absl::StartsWith(status.message(), "the pool cannot make");
  if (!lost) return no_clone ? kExitFailed : kExitRefused;
  switch (status.code()) {
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kResourceExhausted:
      return kExitLimit;
    case absl::StatusCode::kCancelled:
      return ExitCodeForStop(signals);
    case absl::StatusCode::kAborted:
      return kExitLost;
    default:
      return kExitFailed;
  }
}

/// What came of some calls.
struct Calls {
  absl::StatusOr<std::string> result;  ///< of the last one, or the first error
  bool lost = false;                   ///< the program did not survive it
  std::vector<nanoseconds> times;
};

using Call = std::function<absl::StatusOr<std::string>(const CallOptions&)>;

Calls CallOften(const Call& call, const RunFlags& flags, std::uint64_t count,
                std::atomic<bool>& enough) {
  Calls calls;
  CallOptions options;
  options.limits = {.wall_time = flags.limits.wall_time,
                    .cpu_time = flags.limits.cpu_time,
                    .fuel = flags.limits.fuel};
  calls.times.reserve(static_cast<std::size_t>(std::min(count, kMaxTimes)));
  for (std::uint64_t i = 0; i < count && !enough; ++i) {
    const auto start = std::chrono::steady_clock::now();
    calls.result = call(options);
    if (calls.times.size() < kMaxTimes)
      calls.times.push_back(std::chrono::steady_clock::now() - start);
    if (!calls.result.ok()) enough = true;
  }
  return calls;
}

Calls CallInSession(Session& session, const RunFlags& flags, std::string_view argument) {
  std::atomic<bool> enough = false;
  Calls calls = CallOften(
      [&](const CallOptions& options) {
        return session.Call(flags.arguments[0], argument, options);
      },
      flags, flags.repeat, enough);
  calls.lost = !session.health().ok();
  return calls;
}

/// The same from as many threads as there are instances.
absl::StatusOr<Calls> CallInPool(Snapshot snapshot, const RunFlags& flags,
                                 std::string_view argument) {
  const std::uint64_t threads = std::min(flags.pool, flags.repeat);
  const auto pool =
      Pool::Create(std::move(snapshot),
                   {.min_ready = static_cast<std::size_t>(threads), .max_instances = flags.pool});
  if (!pool.ok()) return pool.status();
  std::vector<Calls> parts(static_cast<std::size_t>(threads));
  {
    std::vector<std::jthread> callers;
    std::atomic<bool> enough = false;
    for (std::uint64_t i = 0; i < threads; ++i)
      callers.emplace_back([&, i] {
        const std::uint64_t count = flags.repeat / threads + (i < flags.repeat % threads ? 1 : 0);
        parts[i] = CallOften(
            [&](const CallOptions& options) {
              return (*pool)->Call(flags.arguments[0], argument, options);
            },
            flags, count, enough);
      });
    callers.clear();
  }
  Calls all;
  for (const Calls& part : parts) {
    if (part.times.empty()) continue;  // another one failed before it began
    if (all.times.empty() || !part.result.ok()) all.result = part.result;
    all.times.insert(all.times.end(), part.times.begin(), part.times.end());
  }
  all.lost = (*pool)->stats().replaced > 0;
  return all;
}

/// What the calls are made in: one program, or a snapshot of it for a pool.
struct Started {
  std::unique_ptr<Session> session;
  std::optional<Snapshot> snapshot;
};

/// The program from the file of --snapshot. Empty where it has to be started: there is no file, or
/// one of something else, which is then replaced. Errors: a file that is no snapshot at all, which
/// is nobody's to replace.
absl::StatusOr<std::optional<Snapshot>> LoadSnapshot(const Prepared& prepared,
                                                     const RunOptions& options,
                                                     const std::string& path) {
  auto loaded = Snapshot::Load(prepared.provider, prepared.program, options, path);
  if (loaded.ok()) {
    absl::FPrintF(stderr, "waxvm: begins with the snapshot %s\n", path);
    return std::optional(*std::move(loaded));
  }
  const absl::Status& status = loaded.status();
  const bool replaces = absl::IsDataLoss(status) || absl::IsFailedPrecondition(status);
  if (!replaces && !absl::IsNotFound(status)) return status;
  if (replaces)
    absl::FPrintF(stderr, "waxvm: %s; starts the program\n", std::string(status.message()));
  return std::optional<Snapshot>();
}

absl::StatusOr<Started> Start(const Prepared& prepared, const RunOptions& options,
                              const RunFlags& flags) {
  Started started;
  const std::string& path = flags.snapshot_path;
  if (!path.empty()) {
    auto loaded = LoadSnapshot(prepared, options, path);
    if (!loaded.ok()) return loaded.status();
    started.snapshot = *std::move(loaded);
  }
  if (!started.snapshot) {
    auto session = Session::Start(prepared.provider, prepared.program, options);
    if (!session.ok()) return session.status();
    started.session = *std::move(session);
    if (path.empty() && flags.pool == 0) return started;
    auto taken = started.session->TakeSnapshot();
    if (!taken.ok()) return taken.status();
    if (!path.empty()) {
      if (absl::Status saved = taken->Save(path); !saved.ok()) return saved;
      absl::FPrintF(stderr, "waxvm: made the snapshot %s\n", path);
    }
    started.snapshot = *std::move(taken);
  }
  if (flags.pool > 0) {
    started.session.reset();
  } else if (started.session == nullptr) {
    auto clone = started.snapshot->Clone();
    if (!clone.ok()) return clone.status();
    started.session = *std::move(clone);
  }
  return started;
}

absl::Status PrintResult(const std::string& result, OutputPassThrough& output) {
  const absl::Status status = output.Write(Stream::kOutput, result);
  const bool whole_line = !result.empty() && result.back() == '\n';
  // The result is bytes; a person's prompt begins on a line of its own all the same.
  if (!status.ok() || whole_line || isatty(STDOUT_FILENO) == 0) return status;
  return output.Write(Stream::kOutput, "\n");
}

}  // namespace

int CallCommand(std::span<const std::string_view> arguments) {
  auto flags = ParseCallFlags(arguments);
  if (!flags.ok()) return Fail(kExitFailed, flags.status());
  if (flags->help) {
    absl::PrintF("%s", CallHelp());
    return kExitOk;
  }
  std::string argument = flags->arguments.size() > 1 ? flags->arguments[1] : "";
  auto start = PrepareProgram(*flags);
  if (const int* exit_code = std::get_if<int>(&start)) return *exit_code;
  const Prepared& prepared = std::get<Prepared>(start);
  if (argument == "-") {
    auto input = ReadInput();
    if (!input.ok()) return Fail(kExitFailed, input.status());
    argument = *std::move(input);
  }
  StopOnSignal signals;
  OutputPassThrough output(signals.source(), std::nullopt);
  std::mutex output_turn;
  auto started = Start(prepared, ToOptions(*flags, signals, output, output_turn), *flags);
  if (!started.ok())
    return Fail(ExitCodeForStart(started.status(), prepared, signals), started.status());
  absl::StatusOr<Calls> calls = flags->pool > 0
                                    ? CallInPool(*std::move(started->snapshot), *flags, argument)
                                    : CallInSession(*started->session, *flags, argument);
  if (!calls.ok())
    return Fail(absl::IsFailedPrecondition(calls.status()) ? kExitCannotRun : kExitFailed,
                calls.status());
  const auto& result = calls->result;
  if (flags->repeat > 1 && result.ok()) PrintTimes(std::move(calls->times), flags->repeat, "calls");
  if (!result.ok()) {
    return Fail(ExitCodeForCall(result.status(), calls->lost, signals),
                absl::Status(result.status().code(),
                             absl::StrFormat("%s: %s: %s", flags->arguments[0],
                                             absl::StatusCodeToString(result.status().code()),
                                             std::string(result.status().message()))));
  }
  if (const absl::Status status = PrintResult(*result, output); !status.ok())
    return Fail(kExitFailed, status);
  return output.broken() ? kExitSignal + SIGPIPE : kExitOk;
}

std::string CallHelp() {
  return "  waxvm call [flags] -- PROGRAM FUNCTION [ARGUMENT]\n\n"
         "Starts PROGRAM, which was built with waxvm/guest.h, and calls a function that it "
         "exports.\n"
         "ARGUMENT is its bytes; - reads them from standard input, none is no bytes. The result "
         "is\n"
         "printed as it is; what the program writes goes to standard error. The flags are those "
         "of\n"
         "run, but for --report; --wall and --cpu bound the start, and each call anew.\n\n" +
         CallFlagsHelp() +
         "\nexit codes of call:\n"
         "  0   the result was printed    1   the function failed; its code and message were "
         "printed\n"
         "  2   the program faulted, ended or broke the format in the call\n"
         "  124 the call met a limit      125 waxvm itself failed; nothing ran\n"
         "  126 it cannot be run, or was never ready for calls\n"
         "  127 it was not found          128+n the command was stopped by signal n\n";
}

}  // namespace waxvm::cli
