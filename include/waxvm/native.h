// SPDX-License-Identifier: Apache-2.0
// What a native program (Program::FromFunction) can do.
#ifndef WAXVM_NATIVE_H_
#define WAXVM_NATIVE_H_

#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace waxvm {

/// The world of a native program: everything it was given, and nothing else by way of this
/// object. (The function itself is code of the embedder; only the process provider confines it.)
/// Thread safety: none; used by the program's one thread.
class NativeContext {
 public:
  virtual ~NativeContext() = default;

  /// argv, argv[0] included.
  virtual const std::vector<std::string>& arguments() const = 0;
  /// "NAME=value" strings.
  virtual const std::vector<std::string>& environment() const = 0;

  /// Writes all of `data`. Errors: kResourceExhausted past the output limit.
  virtual absl::Status WriteOutput(std::string_view data) = 0;
  virtual absl::Status WriteError(std::string_view data) = 0;

  /// Reads up to `buffer.size()` bytes of standard input; 0 at its end. Blocks.
  virtual absl::StatusOr<std::size_t> ReadInput(std::span<char> buffer) = 0;

  /// Calls a granted host function. Errors: kPermissionDenied without the grant, otherwise what
  /// the function returned.
  virtual absl::StatusOr<std::string> CallHost(std::string_view name, std::string_view request) = 0;

  /// The granted clock, as time since the Unix epoch. Errors: kPermissionDenied without the grant.
  virtual absl::StatusOr<std::chrono::nanoseconds> ReadClock() = 0;

  /// Fills `buffer` from the granted source. Errors: kPermissionDenied without the grant.
  virtual absl::Status ReadRandom(std::span<std::byte> buffer) = 0;
};

}  // namespace waxvm

#endif  // WAXVM_NATIVE_H_
