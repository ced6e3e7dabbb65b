// SPDX-License-Identifier: Apache-2.0
// What stands behind the opaque handles, and the edge that no exception crosses.
#ifndef WAXVM_BINDINGS_C_SUPPORT_H_
#define WAXVM_BINDINGS_C_SUPPORT_H_

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "waxvm/grant.h"
#include "waxvm/program.h"
#include "waxvm/provider.h"
#include "waxvm/root_image.h"
#include "waxvm/supervisor.h"
#include "waxvm_c.h"

struct waxvm_program {
  waxvm::Program program;
};

struct waxvm_image {
  waxvm::RootImage image;
};

struct waxvm_grants {
  std::vector<waxvm::Grant> list;
};

struct waxvm_bytes {
  std::string bytes;
};

struct waxvm_stop {
  std::stop_source source;
};

struct waxvm_supervisor {
  std::shared_ptr<waxvm::Provider> provider;
  std::stop_source stop;  ///< of sessions; the supervisor itself stops its runs
  waxvm::Supervisor supervisor;
};

struct waxvm_result {
  waxvm::RunResult result;
  std::string report_json;
};

struct waxvm_call {
  const waxvm::HostCallContext& context;
  std::string label;
  std::string reply;
};

namespace waxvm::c {

/// Puts `status` into `error`, as far as the caller's structure reaches, and returns its code.
waxvm_status Finish(const absl::Status& status, waxvm_error* error);

absl::Status NullArgument(const char* name);

absl::Status BadSize(const char* name, std::size_t size);
absl::Status UnknownField(const char* name, std::size_t byte);

/// A caller's structure as this library knows it; `first_size` is that of its first version. A
/// newer caller's further fields must be 0: a request that this library cannot see must not be
/// dropped in silence.
template <typename T>
absl::StatusOr<T> CopyIn(const char* name, const T* from, T initial, std::size_t first_size) {
  if (from == nullptr) return initial;
  constexpr std::size_t kMostBytes = 4096;  // an uninitialised size must not walk the caller's heap
  const std::size_t size = from->struct_size;
  if (size < first_size || size > kMostBytes) return BadSize(name, size);
  std::memcpy(&initial, from, std::min(size, sizeof initial));
  const char* bytes = reinterpret_cast<const char*>(from);
  for (std::size_t i = sizeof initial; i < size; ++i)
    if (bytes[i] != 0) return UnknownField(name, i);
  return initial;
}

/// Fills a caller's structure as far as it reaches; what this library does not know becomes 0.
template <typename T>
absl::Status CopyOut(const char* name, T from, T* to) {
  constexpr std::size_t kMostBytes = 4096;
  const std::size_t size = to->struct_size;
  if (size < sizeof size || size > kMostBytes) return BadSize(name, size);
  from.struct_size = size;
  std::memcpy(to, &from, std::min(size, sizeof from));
  if (size > sizeof from)
    std::memset(reinterpret_cast<char*>(to) + sizeof from, 0, size - sizeof from);
  return absl::OkStatus();
}

/// "options.NAME" as a limit: empty for 0, 0 for WAXVM_LIMIT_ZERO.
std::optional<std::uint64_t> ToLimit(std::uint64_t value);
absl::Status SetTime(const char* name, std::uint64_t value,
                     std::optional<std::chrono::nanoseconds>& time);

/// All of them but the stop.
absl::StatusOr<RunOptions> ToRunOptions(const waxvm_run_options& from);
/// The options of the caller, or the default for null.
absl::StatusOr<waxvm_run_options> CopyRunOptions(const waxvm_run_options* from);

/// With its report. The caller owns it.
waxvm_result* NewResult(RunResult done);

/// The bytes that a call takes; null is none.
absl::StatusOr<std::string_view> ToView(const char* name, const void* bytes, std::size_t count);

/// Runs `body`, which returns an absl::Status, at the edge to C.
template <typename Body>
waxvm_status Guard(waxvm_error* error, Body&& body) noexcept {
  try {
    return Finish(std::forward<Body>(body)(), error);
  } catch (const std::bad_alloc&) {
    return Finish(absl::ResourceExhaustedError("out of memory"), error);
  } catch (const std::length_error&) {
    return Finish(absl::ResourceExhaustedError("a length is larger than memory"), error);
  } catch (const std::exception& e) {
    return Finish(absl::InternalError(e.what()), error);
  } catch (...) {
    return Finish(absl::InternalError("an exception of an unknown type"), error);
  }
}

}  // namespace waxvm::c

/// Returns from a Guard body when the caller passed no `pointer`.
#define WAXVM_C_REQUIRE(pointer) \
  if ((pointer) == nullptr) return ::waxvm::c::NullArgument(#pointer)

#endif  // WAXVM_BINDINGS_C_SUPPORT_H_
