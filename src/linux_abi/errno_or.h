// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_ERRNO_OR_H_
#define WAXVM_SRC_LINUX_ABI_ERRNO_OR_H_

#include <cstdint>
#include <optional>
#include <utility>

namespace waxvm::linux_abi {

/// A failure as the guest will see it; `number` is positive.
struct Errno {
  int number = 0;
};

/// From the kernel ABI's form, a negated errno.
inline Errno ToErrno(std::int64_t result) { return Errno{static_cast<int>(-result)}; }

/// A value, or the errno that the guest gets instead.
template <typename T>
class [[nodiscard]] ErrnoOr {
 public:
  ErrnoOr(Errno error) : error_(error.number) {}  // NOLINT: converts on return
  ErrnoOr(T value) : value_(std::move(value)) {}  // NOLINT: converts on return

  bool ok() const { return value_.has_value(); }
  /// The kernel ABI's form, a negated errno.
  std::int64_t result() const { return -std::int64_t{error_}; }
  Errno error() const { return Errno{error_}; }

  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  int error_ = 0;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_ERRNO_OR_H_
