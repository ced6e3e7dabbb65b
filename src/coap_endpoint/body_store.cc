// SPDX-License-Identifier: Apache-2.0
#include "src/coap_endpoint/body_store.h"

#include "src/base/deadline.h"

namespace waxvm::coap {
namespace {

// Of an entry besides its strings, about.
constexpr std::size_t kOverhead = 256;

}  // namespace

void BodyStore::Put(const SocketAddress& peer, std::string key, Kept kept, TimePoint now) {
  if (const auto old = entries_.find({peer, key}); old != entries_.end()) Erase(old);
  const std::size_t bytes = kept.body->size() + key.size() + kOverhead;
  if (bytes > limits_.max_bytes) return;
  LimitPeer(peer);
  // Whoever fetches what had to give way starts anew, or gets it from the handler again.
  while (bytes_ + bytes > limits_.max_bytes) Erase(order_.front());
  const auto at =
      entries_.emplace(Key{peer, std::move(key)}, Entry{std::move(kept), now, bytes, {}}).first;
  at->second.place = order_.insert(order_.end(), at);
  bytes_ += bytes;
}

const BodyStore::Kept* BodyStore::Find(const SocketAddress& peer, const std::string& key,
                                       TimePoint now) {
  const auto found = entries_.find({peer, key});
  if (found == entries_.end() || After(found->second.used, limits_.lifetime) <= now) return nullptr;
  found->second.used = now;
  order_.splice(order_.end(), order_, found->second.place);
  return &found->second.kept;
}

void BodyStore::Expire(TimePoint now) {
  while (!order_.empty() && After(order_.front()->second.used, limits_.lifetime) <= now)
    Erase(order_.front());
}

BodyStore::TimePoint BodyStore::NextDeadline() const {
  return order_.empty() ? TimePoint::max() : After(order_.front()->second.used, limits_.lifetime);
}

void BodyStore::LimitPeer(const SocketAddress& peer) {
  std::size_t count = 0;
  auto oldest = entries_.end();
  for (auto at = entries_.lower_bound({peer, {}}); at != entries_.end() && at->first.first == peer;
       ++at, ++count)
    if (oldest == entries_.end() || at->second.used < oldest->second.used) oldest = at;
  if (count >= limits_.max_per_peer) Erase(oldest);
}

void BodyStore::Erase(Map::iterator at) {
  bytes_ -= at->second.bytes;
  order_.erase(at->second.place);
  entries_.erase(at);
}

}  // namespace waxvm::coap
