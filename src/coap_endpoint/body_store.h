// SPDX-License-Identifier: Apache-2.0
// Responses that are longer than a message, kept until they have been fetched.
#ifndef WAXVM_SRC_COAP_ENDPOINT_BODY_STORE_H_
#define WAXVM_SRC_COAP_ENDPOINT_BODY_STORE_H_

#include <chrono>
#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "waxvm/coap_owned_message.h"
#include "waxvm/socket_address.h"

namespace waxvm::coap {

/// Thread safety: none.
class BodyStore {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  struct Limits {
    std::size_t max_bytes = std::size_t{16} << 20;
    /// Attack: a peer that asks for the first blocks of many and never for more.
    std::size_t max_per_peer = 8;
    std::chrono::nanoseconds lifetime = std::chrono::seconds(93);
  };
  struct Kept {
    Message head;  ///< without payload
    std::shared_ptr<const std::string> body;
  };

  explicit BodyStore(const Limits& limits) : limits_(limits) {}

  /// Keeps a response to the request of that key (see AppendCacheKey), in place of an earlier one.
  void Put(const SocketAddress& peer, std::string key, Kept kept, TimePoint now);
  /// nullptr: there is none (any more). Valid until the next call.
  const Kept* Find(const SocketAddress& peer, const std::string& key, TimePoint now);
  void Expire(TimePoint now);
  TimePoint NextDeadline() const;
  std::size_t bytes() const { return bytes_; }

 private:
  using Key = std::pair<SocketAddress, std::string>;
  struct Entry {
    Kept kept;
    TimePoint used;
    std::size_t bytes = 0;
    std::list<std::map<Key, Entry>::iterator>::iterator place;
  };
  using Map = std::map<Key, Entry>;
  void Erase(Map::iterator at);
  void LimitPeer(const SocketAddress& peer);

  const Limits limits_;
  Map entries_;
  std::list<Map::iterator> order_;  ///< that which was used longest ago first
  std::size_t bytes_ = 0;
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_ENDPOINT_BODY_STORE_H_
