// SPDX-License-Identifier: Apache-2.0
// Options of C callers as the library's own.
#include <limits>

#include "absl/strings/str_format.h"
#include "support.h"

static_assert(WAXVM_RESOURCE_CLOCK == static_cast<int>(waxvm::Resource::kClock));
static_assert(WAXVM_RESOURCE_RANDOM == static_cast<int>(waxvm::Resource::kRandom));
static_assert(WAXVM_RESOURCE_FILE == static_cast<int>(waxvm::Resource::kFile));
static_assert(WAXVM_RESOURCE_HOST_FUNCTION == static_cast<int>(waxvm::Resource::kHostFunction));

namespace waxvm::c {
namespace {

// The layout that callers were compiled against; a structure only ever grows at its end.
constexpr std::size_t kFirstOptionsSize = 160;
static_assert(sizeof(waxvm_run_options) == 192);
static_assert(offsetof(waxvm_run_options, memory_bytes) == 8 &&
              offsetof(waxvm_run_options, argument_zero) == 64 &&
              offsetof(waxvm_run_options, input) == 104 &&
              offsetof(waxvm_run_options, input_fd) == 120 &&
              offsetof(waxvm_run_options, grants) == 128 &&
              offsetof(waxvm_run_options, label) == 152 &&
              offsetof(waxvm_run_options, stop) == kFirstOptionsSize);

absl::Status SetStrings(const char* name, const char* const* from, std::size_t count,
                        std::vector<std::string>& to) {
  if (count != 0 && from == nullptr)
    return absl::InvalidArgumentError(
        absl::StrFormat("options.%s is NULL but its count is %d", name, count));
  // No program could be given as many, and a count that is none must not walk the caller's memory.
  constexpr std::size_t kMostStrings = std::size_t{1} << 20;
  if (count > kMostStrings)
    return absl::InvalidArgumentError(
        absl::StrFormat("options.%s has %d strings, at most %d", name, count, kMostStrings));
  for (std::size_t i = 0; i < count; ++i) {
    if (from[i] == nullptr)
      return absl::InvalidArgumentError(absl::StrFormat("options.%s[%d] is NULL", name, i));
    to.emplace_back(from[i]);
  }
  return absl::OkStatus();
}

OutputWriter ToWriter(waxvm_output output, void* user_data) {
  return [output, user_data](Stream stream, std::string_view data) -> absl::Status {
    const int which = stream == Stream::kOutput ? WAXVM_STREAM_OUTPUT : WAXVM_STREAM_ERROR;
    const int refused = output(user_data, which, data.data(), data.size());
    if (refused == 0) return absl::OkStatus();
    return absl::CancelledError(absl::StrFormat("the output callback returned %d", refused));
  };
}

Authorizer ToAuthorizer(waxvm_authorizer authorizer, void* user_data) {
  return [authorizer, user_data](std::string_view label, const Access& access) -> absl::Status {
    const std::string kept_label(label), name(access.name);  // terminated
    const waxvm_access asked{sizeof asked,         static_cast<int>(access.resource),
                             access.write ? 1 : 0, name.c_str(),
                             name.size(),          kept_label.c_str()};
    const waxvm_status code = authorizer(user_data, &asked);
    if (code == WAXVM_OK) return absl::OkStatus();
    return absl::PermissionDeniedError(absl::StrFormat("the authorizer returned %d", code));
  };
}

}  // namespace

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

absl::StatusOr<waxvm_run_options> CopyRunOptions(const waxvm_run_options* from) {
  const auto options =
      CopyIn("options", from, waxvm_run_options WAXVM_RUN_OPTIONS_INIT, kFirstOptionsSize);
  if (options.ok() && options->reserved != 0)
    return absl::InvalidArgumentError("options.reserved is not 0");
  return options;
}

absl::StatusOr<RunOptions> ToRunOptions(const waxvm_run_options& from) {
  RunOptions options;
  options.limits.memory_bytes = ToLimit(from.memory_bytes);
  options.limits.output_bytes = ToLimit(from.output_bytes);
  options.limits.open_files = ToLimit(from.open_files);
  options.limits.processes = ToLimit(from.processes);
  options.limits.host_calls = ToLimit(from.host_calls);
  options.limits.fuel = ToLimit(from.fuel);
  absl::Status status = SetTime("wall_time_ns", from.wall_time_ns, options.limits.wall_time);
  status.Update(SetTime("cpu_time_ns", from.cpu_time_ns, options.limits.cpu_time));
  status.Update(SetStrings("arguments", from.arguments, from.argument_count, options.arguments));
  status.Update(
      SetStrings("environment", from.environment, from.environment_count, options.environment));
  if (from.input_bytes != 0 && from.input == nullptr)
    status.Update(absl::InvalidArgumentError("options.input is NULL but input_bytes is not 0"));
  if (!status.ok()) return status;
  if (from.argument_zero != nullptr) options.argument_zero = from.argument_zero;
  if (from.label != nullptr) options.label = from.label;
  if (from.input_bytes != 0)
    options.input.assign(static_cast<const char*>(from.input), from.input_bytes);
  options.input_fd = from.input_fd < 0 ? -1 : from.input_fd;
  if (from.grants != nullptr) options.grants = from.grants->list;
  if (from.output != nullptr) options.output = ToWriter(from.output, from.output_user_data);
  if (from.authorizer != nullptr)
    options.authorizer = ToAuthorizer(from.authorizer, from.authorizer_user_data);
  return options;
}

}  // namespace waxvm::c
