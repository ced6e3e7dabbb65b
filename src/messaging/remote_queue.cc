// SPDX-License-Identifier: Apache-2.0
#include "src/messaging/remote_queue.h"

#include <algorithm>
#include <utility>

namespace waxvm::messaging {

std::string RemoteQueue::Take(Lines::iterator at, bool last) {
  Line& line = at->second;
  std::string envelope = std::move(last ? line.envelopes.back() : line.envelopes.front());
  last ? line.envelopes.pop_back() : line.envelopes.pop_front();
  line.bytes -= envelope.size();
  bytes_ -= envelope.size();
  --messages_;
  if (line.envelopes.empty()) {
    turn_.erase(line.place);
    lines_.erase(at);
  }
  return envelope;
}

bool RemoteQueue::Push(std::string envelope, const Address& source) {
  bool kept = true;
  MutexLock lock(mutex_);
  const auto [at, is_new] = lines_.try_emplace(source);
  if (is_new) at->second.place = turn_.insert(turn_.end(), source);
  at->second.bytes += envelope.size();
  bytes_ += envelope.size();
  ++messages_;
  at->second.envelopes.push_back(std::move(envelope));
  while (messages_ > max_messages_ || bytes_ > max_bytes_) {
    const auto longest = std::max_element(
        lines_.begin(), lines_.end(),
        [](const auto& a, const auto& b) { return a.second.cost() < b.second.cost(); });
    kept = kept && longest->first != source;  // its last one is the one that has just come
    Take(longest, /*last=*/true);
    dropped_.fetch_add(1, std::memory_order_relaxed);
  }
  size_.store(messages_);
  return kept;
}

std::optional<RemoteQueue::Item> RemoteQueue::Pop() {
  if (size_.load(std::memory_order_relaxed) == 0) return std::nullopt;
  MutexLock lock(mutex_);
  if (turn_.empty()) return std::nullopt;
  const Address source = turn_.front();
  turn_.splice(turn_.end(), turn_, turn_.begin());
  std::string envelope = Take(lines_.find(source), /*last=*/false);
  size_.store(messages_);
  return Item{std::move(envelope), source};
}

}  // namespace waxvm::messaging
