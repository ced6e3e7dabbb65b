// SPDX-License-Identifier: Apache-2.0
// Arithmetic on untrusted numbers: every overflow is an empty optional, never a wrap.
#ifndef WAXVM_SRC_BASE_CHECKED_H_
#define WAXVM_SRC_BASE_CHECKED_H_

#include <concepts>
#include <cstdint>
#include <optional>

namespace waxvm {

template <std::unsigned_integral T>
constexpr std::optional<T> CheckedAdd(T a, T b) {
  T sum;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

template <std::unsigned_integral T>
constexpr std::optional<T> CheckedMultiply(T a, T b) {
  T product;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

constexpr std::uint64_t kPageBytes = 4096;

constexpr std::uint64_t PageFloor(std::uint64_t address) { return address & ~(kPageBytes - 1); }

/// Rounds up to a page boundary; empty when that overflows.
constexpr std::optional<std::uint64_t> PageCeil(std::uint64_t address) {
  const auto sum = CheckedAdd<std::uint64_t>(address, kPageBytes - 1);
  if (!sum) return std::nullopt;
  return PageFloor(*sum);
}

}  // namespace waxvm

#endif  // WAXVM_SRC_BASE_CHECKED_H_
