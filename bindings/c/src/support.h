// SPDX-License-Identifier: Apache-2.0
// What stands behind the opaque handles, and the edge that no exception crosses.
#ifndef WAXVM_BINDINGS_C_SUPPORT_H_
#define WAXVM_BINDINGS_C_SUPPORT_H_

#include <exception>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "waxvm/grant.h"
#include "waxvm/program.h"
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

struct waxvm_supervisor {
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

/// Runs `body`, which returns an absl::Status, at the edge to C.
template <typename Body>
waxvm_status Guard(waxvm_error* error, Body&& body) noexcept {
  try {
    return Finish(std::forward<Body>(body)(), error);
  } catch (const std::bad_alloc&) {
    return Finish(absl::ResourceExhaustedError("out of memory"), error);
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
