// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/free_ranges.h"

#include <algorithm>
#include <bit>

namespace waxvm::linux_abi {
namespace {

// Ranges of the wanted size's own class that a search looks at before it takes a larger one.
constexpr int kLooksInOwnClass = 16;

std::size_t ClassOf(std::uint64_t bytes) {
  return static_cast<std::size_t>(std::bit_width(bytes)) - 1;
}

// The highest aligned start of `bytes` in [start, end).
std::optional<std::uint64_t> Fit(std::uint64_t start, std::uint64_t end, std::uint64_t bytes,
                                 std::uint64_t alignment) {
  if (end <= start || end - start < bytes) return std::nullopt;
  const std::uint64_t at = (end - bytes) & ~(alignment - 1);
  if (at < start) return std::nullopt;
  return at;
}

}  // namespace

FreeRanges::FreeRanges(std::uint64_t start, std::uint64_t end) : start_(start), end_(end) {
  Add(start, end);
}

void FreeRanges::Add(std::uint64_t start, std::uint64_t end) {
  ranges_.emplace(start, end);
  classes_[ClassOf(end - start)].insert(start);
}

void FreeRanges::Remove(std::map<std::uint64_t, std::uint64_t>::iterator range) {
  classes_[ClassOf(range->second - range->first)].erase(range->first);
  ranges_.erase(range);
}

void FreeRanges::Take(std::uint64_t start, std::uint64_t end) {
  start = std::max(start, start_);
  end = std::min(end, end_);
  while (start < end) {
    auto range = ranges_.lower_bound(end);
    if (range == ranges_.begin()) return;
    --range;  // the last one that begins below `end`
    const auto [first, last] = *range;
    if (last <= start) return;
    Remove(range);
    if (last > end) Add(end, last);
    if (first < start) Add(first, start);
    end = std::max(start, first);
  }
}

void FreeRanges::Give(std::uint64_t start, std::uint64_t end) {
  start = std::max(start, start_);
  end = std::min(end, end_);
  if (start >= end) return;
  auto next = ranges_.lower_bound(start);
  if (next != ranges_.end() && next->first == end) {
    end = next->second;
    const auto joined = next++;
    Remove(joined);
  }
  if (next != ranges_.begin()) {
    const auto previous = std::prev(next);
    if (previous->second == start) {
      start = previous->first;
      Remove(previous);
    }
  }
  Add(start, end);
}

std::optional<std::uint64_t> FreeRanges::FindHighest(std::uint64_t bytes,
                                                     std::uint64_t alignment) const {
  if (bytes == 0 || bytes > end_ - start_) return std::nullopt;
  std::optional<std::uint64_t> best;
  const auto consider = [&](std::uint64_t start) {
    const auto at = Fit(start, ranges_.at(start), bytes, alignment);
    if (at && (!best || *at > *best)) best = at;
    return at.has_value();
  };
  const std::size_t own = ClassOf(bytes);
  for (std::size_t size = own; size < kClasses; ++size) {
    int looks = 0;
    for (auto start = classes_[size].rbegin();
         start != classes_[size].rend() && looks < kLooksInOwnClass; ++start, ++looks)
      if (consider(*start)) break;
  }
  if (best) return best;
  // Only its own class can still hold room, and the class above for aligned requests; this is as
  // good as full.
  for (std::size_t size = own; size < kClasses; ++size)
    for (auto start = classes_[size].rbegin(); start != classes_[size].rend(); ++start)
      if (consider(*start)) return best;
  return std::nullopt;
}

std::optional<std::uint64_t> FreeRanges::FindWithin(std::uint64_t bytes, std::uint64_t low,
                                                    std::uint64_t high) const {
  for (auto range = ranges_.lower_bound(high); range != ranges_.begin();) {
    --range;
    if (range->second <= low) break;
    const auto at = Fit(std::max(low, range->first), std::min(high, range->second), bytes, 1);
    if (at) return at;
  }
  return std::nullopt;
}

}  // namespace waxvm::linux_abi
