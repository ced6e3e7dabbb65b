// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_format.h"
#include "session_support.h"

using waxvm::c::Guard;

namespace waxvm::c {
namespace {

constexpr std::size_t kFirstCallOptionsSize = 32;
static_assert(offsetof(waxvm_call_options, fuel) == kFirstCallOptionsSize);
static_assert(sizeof(waxvm_call_options) == 40 && sizeof(waxvm_memory) == 24);
static_assert(WAXVM_MOST_CALL_BYTES == kMaxCallBytes);

/// Options, and what ends everything that begins with them.
struct Beginning {
  RunOptions options;
  std::shared_ptr<const JoinedStop> stop;
};

absl::StatusOr<Beginning> Begin(waxvm_supervisor& host, const waxvm_run_options* options) {
  const auto from = CopyRunOptions(options);
  if (!from.ok()) return from.status();
  auto run_options = ToRunOptions(*from);
  if (!run_options.ok()) return run_options.status();
  if (host.stop.stop_requested()) return absl::CancelledError("the supervisor was stopped");
  const std::stop_token own =
      from->stop != nullptr ? from->stop->source.get_token() : std::stop_token();
  auto stop = std::make_shared<const JoinedStop>(host.stop.get_token(), own);
  run_options->stop = stop->token();
  return Beginning{*std::move(run_options), std::move(stop)};
}

absl::Status Start(waxvm_supervisor& host, const Program& program, const waxvm_run_options* options,
                   waxvm_session** session) {
  auto beginning = Begin(host, options);
  if (!beginning.ok()) return beginning.status();
  auto made = std::make_unique<waxvm_session>();
  auto started = Session::Start(host.provider, program, beginning->options);
  if (!started.ok()) return started.status();
  made->stop = std::move(beginning->stop);
  made->session = *std::move(started);
  *session = made.release();
  return absl::OkStatus();
}

absl::Status TakeStart(waxvm_supervisor& host, const Program& program,
                       const waxvm_run_options* options, waxvm_snapshot** snapshot) {
  auto beginning = Begin(host, options);
  if (!beginning.ok()) return beginning.status();
  auto taken = Snapshot::OfStart(host.provider, program, beginning->options);
  if (!taken.ok()) return taken.status();
  *snapshot = new waxvm_snapshot{std::move(beginning->stop), *std::move(taken)};
  return absl::OkStatus();
}

absl::Status Load(waxvm_supervisor& host, const Program& program, const waxvm_run_options* options,
                  const char* path, waxvm_snapshot** snapshot) {
  auto beginning = Begin(host, options);
  if (!beginning.ok()) return beginning.status();
  auto loaded = Snapshot::Load(host.provider, program, beginning->options, path);
  if (!loaded.ok()) return loaded.status();
  *snapshot = new waxvm_snapshot{std::move(beginning->stop), *std::move(loaded)};
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CallOptions> ToCallOptions(const waxvm_call_options* from) {
  CallOptions options;
  if (from == nullptr) return options;
  const auto known =
      CopyIn("options", from, waxvm_call_options WAXVM_CALL_OPTIONS_INIT, kFirstCallOptionsSize);
  if (!known.ok()) return known.status();
  absl::Status status = SetTime("wall_time_ns", known->wall_time_ns, options.limits.wall_time);
  status.Update(SetTime("cpu_time_ns", known->cpu_time_ns, options.limits.cpu_time));
  if (!status.ok()) return status;
  options.limits.fuel = ToLimit(known->fuel);
  if (known->stop != nullptr) options.stop = known->stop->source.get_token();
  return options;
}

absl::StatusOr<RunRequest> ToRunRequest(const waxvm_run_options* from) {
  const auto known = CopyRunOptions(from);
  if (!known.ok()) return known.status();
  // What was decided once for all runs must not look as if it were decided anew.
  if (known->memory_bytes != 0 || known->grants != nullptr || known->authorizer != nullptr)
    return absl::InvalidArgumentError(
        "memory_bytes, grants and authorizer are those of the snapshot; options of a run cannot "
        "set them");
  auto options = ToRunOptions(*known);
  if (!options.ok()) return options.status();
  RunRequest request;
  request.arguments = std::move(options->arguments);
  request.argument_zero = std::move(options->argument_zero);
  request.environment = std::move(options->environment);
  request.input = std::move(options->input);
  request.input_fd = options->input_fd;
  request.output = std::move(options->output);
  request.label = std::move(options->label);
  request.limits = options->limits;
  if (known->stop != nullptr) request.stop = known->stop->source.get_token();
  return request;
}

}  // namespace waxvm::c

extern "C" {

waxvm_status waxvm_session_open(waxvm_supervisor* supervisor, const waxvm_program* program,
                                const waxvm_run_options* options, waxvm_session** session,
                                waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(session);
    *session = nullptr;
    WAXVM_C_REQUIRE(supervisor);
    WAXVM_C_REQUIRE(program);
    return waxvm::c::Start(*supervisor, program->program, options, session);
  });
}

waxvm_status waxvm_session_call(waxvm_session* session, const char* function, const void* arguments,
                                size_t argument_bytes, const waxvm_call_options* options,
                                waxvm_bytes** result, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(result);
    *result = nullptr;
    WAXVM_C_REQUIRE(session);
    WAXVM_C_REQUIRE(function);
    const auto view = waxvm::c::ToView("arguments", arguments, argument_bytes);
    if (!view.ok()) return view.status();
    const auto call_options = waxvm::c::ToCallOptions(options);
    if (!call_options.ok()) return call_options.status();
    session->uses.fetch_add(1, std::memory_order_relaxed);
    const absl::Cleanup leave = [&] { session->Drop(); };
    auto returned = session->session->Call(function, *view, *call_options);
    if (!returned.ok()) return returned.status();
    *result = new waxvm_bytes{*std::move(returned)};
    return absl::OkStatus();
  });
}

waxvm_status waxvm_session_run(waxvm_session* session, const waxvm_run_options* options,
                               waxvm_result** result, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(result);
    *result = nullptr;
    WAXVM_C_REQUIRE(session);
    const auto request = waxvm::c::ToRunRequest(options);
    if (!request.ok()) return request.status();
    session->uses.fetch_add(1, std::memory_order_relaxed);
    const absl::Cleanup leave = [&] { session->Drop(); };
    auto done = session->session->Run(*request);
    if (!done.ok()) return done.status();
    *result = waxvm::c::NewResult(*std::move(done));
    return absl::OkStatus();
  });
}

void waxvm_session_stop(waxvm_session* session) {
  if (session == nullptr) return;
  Guard(nullptr, [&] { return session->session->Stop(), absl::OkStatus(); });
}

waxvm_status waxvm_session_health(const waxvm_session* session, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(session);
    return session->session->health();
  });
}

waxvm_status waxvm_session_reset(waxvm_session* session, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(session);
    return session->session->Reset();
  });
}

waxvm_status waxvm_session_report_json(const waxvm_session* session, waxvm_bytes** report,
                                       waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(report);
    *report = nullptr;
    WAXVM_C_REQUIRE(session);
    *report = new waxvm_bytes{waxvm::ReportToJson(session->session->report())};
    return absl::OkStatus();
  });
}

waxvm_status waxvm_session_memory(const waxvm_session* session, waxvm_memory* memory,
                                  waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(session);
    WAXVM_C_REQUIRE(memory);
    const auto told = session->session->memory();
    if (!told)
      return absl::UnimplementedError(
          "the provider does not tell what memory its instances take, or the program has ended");
    return waxvm::c::CopyOut("memory", {0, told->resident_bytes, told->private_bytes}, memory);
  });
}

waxvm_status waxvm_session_take_output(waxvm_session* session, int stream, waxvm_bytes** output,
                                       waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(output);
    *output = nullptr;
    WAXVM_C_REQUIRE(session);
    if (stream != WAXVM_STREAM_OUTPUT && stream != WAXVM_STREAM_ERROR)
      return absl::InvalidArgumentError(
          absl::StrFormat("stream is %d, which is none of the WAXVM_STREAM_ constants", stream));
    auto bytes = std::make_unique<waxvm_bytes>();
    bytes->bytes = stream == WAXVM_STREAM_OUTPUT ? session->session->TakeOutput()
                                                 : session->session->TakeErrorOutput();
    *output = bytes.release();
    return absl::OkStatus();
  });
}

void waxvm_session_close(waxvm_session* session) {
  if (session == nullptr) return;
  // Where a call runs it frees the session.
  if (session->uses.load(std::memory_order_acquire) > 1) waxvm_session_stop(session);
  session->Drop();
}

waxvm_status waxvm_session_snapshot(waxvm_session* session, waxvm_snapshot** snapshot,
                                    waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(snapshot);
    *snapshot = nullptr;
    WAXVM_C_REQUIRE(session);
    auto taken = session->session->TakeSnapshot();
    if (!taken.ok()) return taken.status();
    *snapshot = new waxvm_snapshot{session->stop, *std::move(taken)};
    return absl::OkStatus();
  });
}

waxvm_status waxvm_snapshot_open_start(waxvm_supervisor* supervisor, const waxvm_program* program,
                                       const waxvm_run_options* options, waxvm_snapshot** snapshot,
                                       waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(snapshot);
    *snapshot = nullptr;
    WAXVM_C_REQUIRE(supervisor);
    WAXVM_C_REQUIRE(program);
    return waxvm::c::TakeStart(*supervisor, program->program, options, snapshot);
  });
}

waxvm_status waxvm_snapshot_clone(const waxvm_snapshot* snapshot, waxvm_session** session,
                                  waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(session);
    *session = nullptr;
    WAXVM_C_REQUIRE(snapshot);
    auto made = std::make_unique<waxvm_session>();
    auto clone = snapshot->snapshot.Clone();
    if (!clone.ok()) return clone.status();
    made->stop = snapshot->stop;
    made->session = *std::move(clone);
    *session = made.release();
    return absl::OkStatus();
  });
}

waxvm_status waxvm_snapshot_save(const waxvm_snapshot* snapshot, const char* path,
                                 waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(snapshot);
    WAXVM_C_REQUIRE(path);
    return snapshot->snapshot.Save(path);
  });
}

waxvm_status waxvm_snapshot_load(waxvm_supervisor* supervisor, const waxvm_program* program,
                                 const waxvm_run_options* options, const char* path,
                                 waxvm_snapshot** snapshot, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(snapshot);
    *snapshot = nullptr;
    WAXVM_C_REQUIRE(supervisor);
    WAXVM_C_REQUIRE(program);
    WAXVM_C_REQUIRE(path);
    return waxvm::c::Load(*supervisor, program->program, options, path, snapshot);
  });
}

uint64_t waxvm_snapshot_memory_bytes(const waxvm_snapshot* snapshot) {
  return snapshot != nullptr ? snapshot->snapshot.memory_bytes() : 0;
}

void waxvm_snapshot_close(waxvm_snapshot* snapshot) { delete snapshot; }

}  // extern "C"
