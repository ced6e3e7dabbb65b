// SPDX-License-Identifier: Apache-2.0
// Any bytes at all as a typed value, and as what a program says in waxvm.serve; a value that is
// accepted can be written, and is then the same.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "src/supervisor/call_format.h"
#include "waxvm/session.h"
#include "waxvm/value.h"

namespace waxvm {
namespace {

void Require(bool condition) {
  if (!condition) __builtin_trap();
}

void CheckValue(std::string_view bytes) {
  const auto value = DecodeValue(bytes);
  if (!value.ok()) return Require(absl::IsInvalidArgument(value.status()));
  const auto written = EncodeValue(*value);
  Require(written.ok());
  const auto again = DecodeValue(*written);
  Require(again.ok());
  // Not compared as values: a NaN is not itself.
  Require(*EncodeValue(*again) == *written);
}

void CheckServe(std::string_view bytes) {
  const auto request = ParseServeRequest(bytes);
  if (!request.ok()) return Require(absl::IsAborted(request.status()));
  Require(bytes.size() >= kCallHeaderBytes && bytes.size() <= kCallHeaderBytes + kMaxCallBytes);
  Require((request->code != absl::StatusCode::kOk) ==
          (request->state == ServeRequest::State::kFailed));
}

}  // namespace
}  // namespace waxvm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  waxvm::CheckValue(bytes);
  waxvm::CheckServe(bytes);
  return 0;
}
