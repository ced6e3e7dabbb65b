// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>
#include <optional>

#include "absl/strings/str_format.h"
#include "support.h"
#include "waxvm/providers.h"

using waxvm::Program;
using waxvm::RunOptions;
using waxvm::Supervisor;
using waxvm::c::Guard;

namespace {

// The layout that callers were compiled against; a structure only ever grows at its end.
constexpr std::size_t kFirstOptionsSize = 160;
static_assert(sizeof(waxvm_run_options) == kFirstOptionsSize);
static_assert(offsetof(waxvm_run_options, memory_bytes) == 8 &&
              offsetof(waxvm_run_options, argument_zero) == 64 &&
              offsetof(waxvm_run_options, input) == 104 &&
              offsetof(waxvm_run_options, input_fd) == 120 &&
              offsetof(waxvm_run_options, grants) == 128 &&
              offsetof(waxvm_run_options, label) == 152);

absl::StatusOr<std::shared_ptr<waxvm::Provider>> MakeProvider(waxvm_provider provider) {
  switch (provider) {
    case WAXVM_PROVIDER_PROCESS:
      return waxvm::NewProcessProvider();
    case WAXVM_PROVIDER_MICROVM:
      return waxvm::NewMicroVmProvider();
    default:
      return absl::InvalidArgumentError(absl::StrFormat(
          "provider is %d, which is none of the WAXVM_PROVIDER_ constants", provider));
  }
}

/// The caller's options as this library knows them. A newer caller's further fields must be 0:
/// a request that this library cannot see must not be dropped in silence.
absl::StatusOr<waxvm_run_options> CopyOptions(const waxvm_run_options* from) {
  waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
  if (from == nullptr) return options;
  constexpr std::size_t kMostBytes = 4096;  // an uninitialised size must not walk the caller's heap
  const std::size_t size = from->struct_size;
  if (size < kFirstOptionsSize || size > kMostBytes)
    return absl::InvalidArgumentError(
        absl::StrFormat("options.struct_size is %d; use WAXVM_RUN_OPTIONS_INIT", size));
  std::memcpy(&options, from, std::min(size, sizeof options));
  const char* bytes = reinterpret_cast<const char*>(from);
  for (std::size_t i = sizeof options; i < size; ++i)
    if (bytes[i] != 0)
      return absl::InvalidArgumentError(absl::StrFormat(
          "options has a value at byte %d, which version %s does not know", i, WAXVM_VERSION));
  if (options.reserved != 0) return absl::InvalidArgumentError("options.reserved is not 0");
  return options;
}

std::optional<std::uint64_t> ToLimit(std::uint64_t value) {
  if (value == 0) return std::nullopt;
  return value == WAXVM_LIMIT_ZERO ? 0 : value;
}

absl::Status SetTime(const char* name, std::uint64_t value,
                     std::optional<std::chrono::nanoseconds>& time) {
  const std::optional<std::uint64_t> limit = ToLimit(value);
  if (!limit) return absl::OkStatus();
  if (*limit > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return absl::InvalidArgumentError(absl::StrFormat("options.%s is %d; the most is %d", name,
                                                      *limit,
                                                      std::numeric_limits<std::int64_t>::max()));
  time = std::chrono::nanoseconds(static_cast<std::int64_t>(*limit));
  return absl::OkStatus();
}

absl::Status SetStrings(const char* name, const char* const* from, std::size_t count,
                        std::vector<std::string>& to) {
  if (count != 0 && from == nullptr)
    return absl::InvalidArgumentError(
        absl::StrFormat("options.%s is NULL but its count is %d", name, count));
  for (std::size_t i = 0; i < count; ++i) {
    if (from[i] == nullptr)
      return absl::InvalidArgumentError(absl::StrFormat("options.%s[%d] is NULL", name, i));
    to.emplace_back(from[i]);
  }
  return absl::OkStatus();
}

absl::StatusOr<RunOptions> ToRunOptions(const waxvm_run_options* given) {
  const auto from = CopyOptions(given);
  if (!from.ok()) return from.status();
  RunOptions options;
  options.limits.memory_bytes = ToLimit(from->memory_bytes);
  options.limits.output_bytes = ToLimit(from->output_bytes);
  options.limits.open_files = ToLimit(from->open_files);
  options.limits.processes = ToLimit(from->processes);
  options.limits.host_calls = ToLimit(from->host_calls);
  absl::Status status = SetTime("wall_time_ns", from->wall_time_ns, options.limits.wall_time);
  status.Update(SetTime("cpu_time_ns", from->cpu_time_ns, options.limits.cpu_time));
  status.Update(SetStrings("arguments", from->arguments, from->argument_count, options.arguments));
  status.Update(
      SetStrings("environment", from->environment, from->environment_count, options.environment));
  if (from->input_bytes != 0 && from->input == nullptr)
    status.Update(absl::InvalidArgumentError("options.input is NULL but input_bytes is not 0"));
  if (!status.ok()) return status;
  if (from->argument_zero != nullptr) options.argument_zero = from->argument_zero;
  if (from->label != nullptr) options.label = from->label;
  if (from->input_bytes != 0)
    options.input.assign(static_cast<const char*>(from->input), from->input_bytes);
  options.input_fd = from->input_fd < 0 ? -1 : from->input_fd;
  if (from->grants != nullptr) options.grants = from->grants->list;
  if (from->output != nullptr) {
    options.output = [output = from->output, user_data = from->output_user_data](
                         waxvm::Stream stream, std::string_view data) -> absl::Status {
      const int which = stream == waxvm::Stream::kOutput ? WAXVM_STREAM_OUTPUT : WAXVM_STREAM_ERROR;
      const int refused = output(user_data, which, data.data(), data.size());
      if (refused == 0) return absl::OkStatus();
      return absl::CancelledError(absl::StrFormat("the output callback returned %d", refused));
    };
  }
  return options;
}

absl::Status RunAndGive(waxvm_supervisor& supervisor, const Program& program,
                        const waxvm_run_options* options, waxvm_result** result) {
  const auto run_options = ToRunOptions(options);
  if (!run_options.ok()) return run_options.status();
  auto done = supervisor.supervisor.Run(program, *run_options);
  if (!done.ok()) return done.status();
  std::string json = ReportToJson(*done);
  *result = new waxvm_result{*std::move(done), std::move(json)};
  return absl::OkStatus();
}

}  // namespace

extern "C" {

waxvm_status waxvm_provider_available(waxvm_provider provider, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    const auto made = MakeProvider(provider);
    return made.ok() ? (*made)->Available() : made.status();
  });
}

waxvm_status waxvm_supervisor_open(waxvm_provider provider, waxvm_supervisor** supervisor,
                                   waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(supervisor);
    *supervisor = nullptr;
    auto made = MakeProvider(provider);
    if (!made.ok()) return made.status();
    auto opened = Supervisor::Create(*std::move(made));
    if (!opened.ok()) return opened.status();
    *supervisor = new waxvm_supervisor{*std::move(opened)};
    return absl::OkStatus();
  });
}

void waxvm_supervisor_stop(waxvm_supervisor* supervisor) {
  if (supervisor == nullptr) return;
  Guard(nullptr, [&] { return supervisor->supervisor.Stop(), absl::OkStatus(); });
}

void waxvm_supervisor_close(waxvm_supervisor* supervisor) { delete supervisor; }

waxvm_status waxvm_run(waxvm_supervisor* supervisor, const waxvm_program* program,
                       const waxvm_run_options* options, waxvm_result** result,
                       waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(result);
    *result = nullptr;
    WAXVM_C_REQUIRE(supervisor);
    WAXVM_C_REQUIRE(program);
    return RunAndGive(*supervisor, program->program, options, result);
  });
}

waxvm_status waxvm_run_file(waxvm_supervisor* supervisor, const char* path,
                            const waxvm_run_options* options, waxvm_result** result,
                            waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(result);
    *result = nullptr;
    WAXVM_C_REQUIRE(supervisor);
    WAXVM_C_REQUIRE(path);
    const auto program = Program::FromFile(path);
    if (!program.ok()) return program.status();
    return RunAndGive(*supervisor, *program, options, result);
  });
}

}  // extern "C"
