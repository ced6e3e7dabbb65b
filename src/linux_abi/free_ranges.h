// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_FREE_RANGES_H_
#define WAXVM_SRC_LINUX_ABI_FREE_RANGES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>

namespace waxvm::linux_abi {

/// The part of [start, end) that is not taken, indexed by size: room is found without a walk over
/// what is mapped, so that a guest with very many mappings pays for one search, not for all of
/// them. Ranges given and taken may reach past the ends; that part is ignored.
/// Thread safety: none.
class FreeRanges {
 public:
  FreeRanges(std::uint64_t start, std::uint64_t end);

  /// Takes what of [start, end) is free.
  void Take(std::uint64_t start, std::uint64_t end);
  /// Gives [start, end) back, which must have been taken.
  void Give(std::uint64_t start, std::uint64_t end);

  /// The highest (or nearly so: among the ranges of the smallest sizes that fit only a few are
  /// looked at) aligned start of `bytes` free bytes. Empty when there is no room.
  std::optional<std::uint64_t> FindHighest(std::uint64_t bytes, std::uint64_t alignment) const;
  /// The same inside [low, high), by a walk over the free ranges there.
  std::optional<std::uint64_t> FindWithin(std::uint64_t bytes, std::uint64_t low,
                                          std::uint64_t high) const;

 private:
  static constexpr std::size_t kClasses = 48;

  void Add(std::uint64_t start, std::uint64_t end);
  void Remove(std::map<std::uint64_t, std::uint64_t>::iterator range);

  std::uint64_t start_;
  std::uint64_t end_;
  std::map<std::uint64_t, std::uint64_t> ranges_;  ///< start to end; never adjacent
  /// Starts of the ranges of at least 2^i and less than 2^(i+1) bytes.
  std::array<std::set<std::uint64_t>, kClasses> classes_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_FREE_RANGES_H_
