// SPDX-License-Identifier: Apache-2.0
#include "support.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "absl/strings/str_format.h"

namespace waxvm::c {
namespace {

// The C names are the canonical codes; a caller's compiled numbers must stay what they are.
static_assert(WAXVM_CANCELLED == static_cast<int>(absl::StatusCode::kCancelled));
static_assert(WAXVM_UNKNOWN == static_cast<int>(absl::StatusCode::kUnknown));
static_assert(WAXVM_INVALID_ARGUMENT == static_cast<int>(absl::StatusCode::kInvalidArgument));
static_assert(WAXVM_DEADLINE_EXCEEDED == static_cast<int>(absl::StatusCode::kDeadlineExceeded));
static_assert(WAXVM_NOT_FOUND == static_cast<int>(absl::StatusCode::kNotFound));
static_assert(WAXVM_PERMISSION_DENIED == static_cast<int>(absl::StatusCode::kPermissionDenied));
static_assert(WAXVM_RESOURCE_EXHAUSTED == static_cast<int>(absl::StatusCode::kResourceExhausted));
static_assert(WAXVM_FAILED_PRECONDITION == static_cast<int>(absl::StatusCode::kFailedPrecondition));
static_assert(WAXVM_UNIMPLEMENTED == static_cast<int>(absl::StatusCode::kUnimplemented));
static_assert(WAXVM_INTERNAL == static_cast<int>(absl::StatusCode::kInternal));
static_assert(WAXVM_ALREADY_EXISTS == static_cast<int>(absl::StatusCode::kAlreadyExists));
static_assert(WAXVM_ABORTED == static_cast<int>(absl::StatusCode::kAborted));
static_assert(WAXVM_OUT_OF_RANGE == static_cast<int>(absl::StatusCode::kOutOfRange));
static_assert(WAXVM_UNAUTHENTICATED == static_cast<int>(absl::StatusCode::kUnauthenticated));
static_assert(WAXVM_DATA_LOSS == static_cast<int>(absl::StatusCode::kDataLoss));
static_assert(WAXVM_UNAVAILABLE == static_cast<int>(absl::StatusCode::kUnavailable));

static_assert(offsetof(waxvm_error, code) == 8 && offsetof(waxvm_error, message) == 12 &&
              sizeof(waxvm_error) == 1032);

}  // namespace

waxvm_status Finish(const absl::Status& status, waxvm_error* error) {
  const waxvm_status code = static_cast<waxvm_status>(status.code());
  if (error == nullptr || error->struct_size <= offsetof(waxvm_error, message)) return code;
  error->code = code;
  const std::size_t room =
      std::min(error->struct_size - offsetof(waxvm_error, message), sizeof error->message);
  const std::size_t bytes = std::min(status.message().size(), room - 1);
  if (bytes != 0) std::memcpy(error->message, status.message().data(), bytes);
  error->message[bytes] = '\0';
  return code;
}

absl::Status NullArgument(const char* name) {
  return absl::InvalidArgumentError(absl::StrFormat("%s is NULL", name));
}

absl::Status BadSize(const char* name, std::size_t size) {
  return absl::InvalidArgumentError(
      absl::StrFormat("%s.struct_size is %d; use the INIT macro of its type", name, size));
}

absl::Status UnknownField(const char* name, std::size_t byte) {
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s has a value at byte %d, which version %s does not know", name, byte, WAXVM_VERSION));
}

absl::StatusOr<std::string_view> ToView(const char* name, const void* bytes, std::size_t count) {
  if (count == 0) return std::string_view();
  if (bytes == nullptr)
    return absl::InvalidArgumentError(
        absl::StrFormat("%s is NULL but its count is %d", name, count));
  return std::string_view(static_cast<const char*>(bytes), count);
}

}  // namespace waxvm::c
