// SPDX-License-Identifier: Apache-2.0
// What a call into a program looks like in bytes: docs/formats/call.md.
#ifndef WAXVM_SRC_SUPERVISOR_CALL_FORMAT_H_
#define WAXVM_SRC_SUPERVISOR_CALL_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace waxvm {

/// The reserved host function in which a program waits for calls.
inline constexpr std::string_view kServeName = "waxvm.serve";

inline constexpr std::uint32_t kCallVersion = 1;
inline constexpr std::size_t kCallHeaderBytes = 16;

/// What a program says of the call before. Its body is the request past kCallHeaderBytes.
struct ServeRequest {
  enum class State : std::uint32_t {
    kReady = 0,     ///< nothing was called yet
    kReturned = 1,  ///< the body is the result
    kFailed = 2,    ///< the body is the message that goes with `code`
    kAgain = 3,     ///< its buffer was too small for the call
  };
  State state = State::kReady;
  absl::StatusCode code = absl::StatusCode::kOk;
};

/// Checks every field of a request of kServeName. Errors: kAborted with the rule that it breaks.
absl::StatusOr<ServeRequest> ParseServeRequest(std::string_view request);

/// Writes the reply that brings a call into `to`, whose memory is used again. Both parts have been
/// checked against their bounds.
void EncodeCall(std::string_view function, std::string_view arguments, std::string& to);

}  // namespace waxvm

#endif  // WAXVM_SRC_SUPERVISOR_CALL_FORMAT_H_
