// SPDX-License-Identifier: Apache-2.0
#include "src/mailbox/state.h"

#include <algorithm>
#include <iterator>

namespace waxvm::mailbox {

void Ranges::Add(std::uint64_t first, std::uint64_t last) {
  auto after = ranges_.upper_bound(first);
  if (after != ranges_.begin()) {
    const auto before = std::prev(after);
    if (before->second + 1 >= first) {
      first = before->first;
      last = std::max(last, before->second);
      ranges_.erase(before);
    }
  }
  while (after != ranges_.end() && after->first <= last + 1) {
    last = std::max(last, after->second);
    after = ranges_.erase(after);
  }
  ranges_.emplace_hint(after, first, last);
}

bool Ranges::Contains(std::uint64_t number) const {
  const auto after = ranges_.upper_bound(number);
  return after != ranges_.begin() && std::prev(after)->second >= number;
}

std::uint64_t Ranges::TakeAfter(std::uint64_t floor) {
  // What lies below was added again after it was taken.
  while (!ranges_.empty() && ranges_.begin()->first <= floor + 1) {
    floor = std::max(floor, ranges_.begin()->second);
    ranges_.erase(ranges_.begin());
  }
  return floor;
}

std::uint64_t Group::oldest_open() const {
  const std::uint64_t after = (queue->options.topic ? floor : cursor) + 1;
  return tracked.empty() ? after : std::min(after, tracked.begin()->first);
}

}  // namespace waxvm::mailbox
