// SPDX-License-Identifier: Apache-2.0
#include "src/coap_edge/exchange_memory.h"

namespace waxvm::coap::edge {
namespace {

// EXCHANGE_LIFETIME. Spec: RFC 7252 section 4.8.2.
constexpr std::chrono::seconds kExchangeLifetime{247};

std::size_t SizeOf(const Message& message) {
  return message.payload().size() + message.options().encoded().size() + sizeof(Message);
}

}  // namespace

Duplicates::Reply* Duplicates::Find(SessionId session, std::uint16_t mid) {
  const auto at = entries_.find({session, mid});
  return at == entries_.end() ? nullptr : &at->second.reply;
}

Duplicates::Reply* Duplicates::FindOrAdd(SessionId session, std::uint16_t mid, TimePoint now) {
  const auto known = entries_.find({session, mid});
  auto& order = order_[session];
  if (known != entries_.end()) {
    if (now - known->second.since < kExchangeLifetime) return &known->second.reply;
    order.remove(mid);
    Erase(known);
  }
  if (order.size() >= max_per_session_) {
    Erase(entries_.find({session, order.front()}));
    order.pop_front();
  }
  order.push_back(mid);
  entries_.emplace(Key(session, mid), Entry{.reply = {}, .since = now, .place = kept_.end()});
  return nullptr;
}

void Duplicates::Keep(SessionId session, std::uint16_t mid, std::shared_ptr<const Message> message,
                      const std::string& token) {
  const auto at = entries_.find({session, mid});
  if (at == entries_.end() || at->second.reply.message != nullptr) return;
  bytes_ += SizeOf(*message);
  at->second.reply.message = std::move(message);
  at->second.reply.token = token;
  at->second.place = kept_.insert(kept_.end(), at->first);
  while (bytes_ > max_bytes_ && !kept_.empty()) DropReply(entries_.at(kept_.front()));
}

void Duplicates::DropReply(Entry& entry) {
  if (entry.reply.message == nullptr) return;
  bytes_ -= SizeOf(*entry.reply.message);
  entry.reply.message = nullptr;
  kept_.erase(entry.place);
  entry.place = kept_.end();
}

void Duplicates::Erase(std::map<Key, Entry>::iterator at) {
  if (at == entries_.end()) return;
  DropReply(at->second);
  entries_.erase(at);
}

void Duplicates::Forget(SessionId session) {
  const auto order = order_.find(session);
  if (order == order_.end()) return;
  for (const std::uint16_t mid : order->second) Erase(entries_.find({session, mid}));
  order_.erase(order);
}

void Bodies::Erase(Map::iterator at) {
  bytes_ -= SizeOf(*at->second.message);
  order_.erase(at->second.place);
  entries_.erase(at);
}

void Bodies::Put(SessionId session, const std::string& key, Whole message, TimePoint now) {
  const Key place(session, key);
  if (const auto old = entries_.find(place); old != entries_.end()) Erase(old);
  std::size_t own = 0;
  auto oldest = entries_.end();
  for (auto at = entries_.lower_bound({session, {}});
       at != entries_.end() && at->first.first == session; ++at) {
    ++own;
    if (oldest == entries_.end() || at->second.last < oldest->second.last) oldest = at;
  }
  if (own >= kPerSession) Erase(oldest);
  const std::size_t size = SizeOf(*message);
  if (size > max_bytes_) return;
  while (bytes_ + size > max_bytes_) Erase(entries_.find(order_.front()));
  bytes_ += size;
  order_.push_back(place);
  entries_.emplace(place, Entry{std::move(message), now, std::prev(order_.end())});
}

Bodies::Whole Bodies::Find(SessionId session, const std::string& key, TimePoint now) {
  const auto at = entries_.find({session, key});
  if (at == entries_.end()) return nullptr;
  at->second.last = now;
  order_.splice(order_.end(), order_, at->second.place);
  return at->second.message;
}

void Bodies::Forget(SessionId session) {
  for (auto at = entries_.lower_bound({session, {}});
       at != entries_.end() && at->first.first == session;)
    Erase(at++);
}

void Bodies::Expire(TimePoint now) {
  while (!order_.empty()) {
    const auto oldest = entries_.find(order_.front());
    if (now - oldest->second.last < lifetime_) return;
    Erase(oldest);
  }
}

}  // namespace waxvm::coap::edge
