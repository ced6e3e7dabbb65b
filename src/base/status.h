// SPDX-License-Identifier: Apache-2.0
// Status helpers: printf-style constructors, errno mapping, and the two propagation macros.
#ifndef WAXVM_SRC_BASE_STATUS_H_
#define WAXVM_SRC_BASE_STATUS_H_

#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/base/strings.h"

namespace waxvm {

template <typename... Args>
absl::Status InvalidArgument(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::InvalidArgumentError(absl::StrFormat(format, args...));
}
template <typename... Args>
absl::Status Unavailable(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::UnavailableError(absl::StrFormat(format, args...));
}
template <typename... Args>
absl::Status FailedPrecondition(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::FailedPreconditionError(absl::StrFormat(format, args...));
}
template <typename... Args>
absl::Status Internal(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::InternalError(absl::StrFormat(format, args...));
}

/// A status for a failed system call: "<what>: <strerror>", its code chosen from `error_number`
/// (ENOENT is kNotFound, EACCES and EPERM kPermissionDenied, ENOMEM and EMFILE
/// kResourceExhausted, and so on; what has no better name is kInternal).
absl::Status ErrnoStatus(int error_number, std::string_view what);

/// The same status with `prefix: ` in front of its message.
absl::Status Annotate(const absl::Status& status, std::string_view prefix);

}  // namespace waxvm

#define WAXVM_CONCAT_INNER_(a, b) a##b
#define WAXVM_CONCAT_(a, b) WAXVM_CONCAT_INNER_(a, b)

/// Returns from the enclosing function when `expr` is not OK.
#define WAXVM_RETURN_IF_ERROR(expr)                                                     \
  do {                                                                                  \
    if (absl::Status waxvm_status_ = (expr); !waxvm_status_.ok()) return waxvm_status_; \
  } while (false)

/// Assigns the value of a StatusOr to `lhs` (a declaration or an lvalue), or returns its status.
#define WAXVM_ASSIGN_OR_RETURN(lhs, expr) \
  WAXVM_ASSIGN_OR_RETURN_IMPL_(WAXVM_CONCAT_(waxvm_or_, __LINE__), lhs, expr)
#define WAXVM_ASSIGN_OR_RETURN_IMPL_(tmp, lhs, expr) \
  auto tmp = (expr);                                 \
  if (!tmp.ok()) return std::move(tmp).status();     \
  lhs = *std::move(tmp)

#endif  // WAXVM_SRC_BASE_STATUS_H_
