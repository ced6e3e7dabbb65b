// SPDX-License-Identifier: Apache-2.0
#include "src/coap_endpoint/observers.h"

#include <algorithm>
#include <utility>

namespace waxvm::coap {

std::string Keep(const MessageView& message) {
  std::string kept(kHeaderBytes + 3 + message.token().size() + message.options().encoded().size() +
                       message.payload().size(),
                   '\0');
  MessageWriter writer(std::as_writable_bytes(std::span(kept)), Type::kCon, message.code(), 0,
                       message.token());
  writer.Options(message.options());
  writer.Payload(message.payload());
  kept.resize(writer.message().size());
  return kept;
}

std::string ObserverRegistry::NameOf(const SocketAddress& peer, Bytes token) {
  std::string name(peer.address.view());
  name.append(reinterpret_cast<const char*>(&peer.port), sizeof peer.port);
  name.append(reinterpret_cast<const char*>(&peer.zone), sizeof peer.zone);
  name.append(ToText(token));
  return name;
}

std::uint32_t ObserverRegistry::Find(const SocketAddress& peer, Bytes token) const {
  if (by_name_.empty()) return kNoObserver;
  const auto found = by_name_.find(NameOf(peer, token));
  return found == by_name_.end() ? kNoObserver : found->second;
}

std::uint32_t ObserverRegistry::Add(const SocketAddress& peer, const SocketAddress& local,
                                    const MessageView& request, std::shared_ptr<Served> served) {
  if (const std::uint32_t old = Find(peer, request.token()); old != kNoObserver) Remove(old);
  if (by_name_.size() >= most_) return kNoObserver;
  const auto counted = per_peer_.find(peer);
  if (counted != per_peer_.end() && counted->second >= most_per_peer_) return kNoObserver;
  std::string kept = Keep(request);
  if (kept.empty()) return kNoObserver;
  std::uint32_t index = 0;
  if (free_.empty()) {
    index = static_cast<std::uint32_t>(observers_.size());
    observers_.emplace_back();
  } else {
    index = free_.back();
    free_.pop_back();
  }
  Observer& observer = observers_[index];
  // Never 0, so that no cookie is.
  const std::uint32_t generation = observer.generation % 0x7fffffff + 1;
  observer = Observer();
  observer.generation = generation;
  observer.used = true;
  observer.peer = peer;
  observer.local = local;
  observer.request = std::move(kept);
  observer.served = std::move(served);
  observer.served->observers.push_back(index);
  by_name_.emplace(NameOf(peer, request.token()), index);
  ++per_peer_[peer];
  return index;
}

void ObserverRegistry::Remove(std::uint32_t index) {
  Observer& observer = observers_[index];
  if (!observer.used) return;
  by_name_.erase(NameOf(observer.peer, observer.view().token()));
  if (const auto counted = per_peer_.find(observer.peer); --counted->second == 0)
    per_peer_.erase(counted);
  std::vector<std::uint32_t>& others = observer.served->observers;
  others.erase(std::find(others.begin(), others.end(), index));
  observer.used = false;
  observer.served = nullptr;
  observer.told_next.reset();
  observer.request = {};
  free_.push_back(index);
}

std::uint32_t ObserverRegistry::FromCookie(std::uint64_t cookie) const {
  const auto index = static_cast<std::uint32_t>(cookie);
  if (index >= observers_.size() || !observers_[index].used ||
      observers_[index].generation != cookie >> 32)
    return kNoObserver;
  return index;
}

}  // namespace waxvm::coap
