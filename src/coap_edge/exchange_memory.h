// SPDX-License-Identifier: Apache-2.0
// What the gateway remembers of requests that it has answered: libcoap calls a handler again for
// every retransmission, and asks for a body's next block as if it were another request.
#ifndef WAXVM_SRC_COAP_EDGE_EXCHANGE_MEMORY_H_
#define WAXVM_SRC_COAP_EDGE_EXCHANGE_MEMORY_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "src/coap_edge/outside.h"

namespace waxvm::coap::edge {

using TimePoint = std::chrono::steady_clock::time_point;

/// Message ids of datagrams, with what was answered. Spec: RFC 7252 section 4.5.
class Duplicates {
 public:
  struct Reply {
    bool acknowledged = false;  ///< an empty acknowledgement was sent
    /// What a retransmission of the request is answered with; none: it was not kept.
    std::shared_ptr<const Message> message;
    std::string token;
  };

  /// The oldest are forgotten above these: of one client, and of all.
  Duplicates(std::size_t max_per_session, std::size_t max_bytes)
      : max_per_session_(max_per_session), max_bytes_(max_bytes) {}

  /// The reply of a message that was seen; nullptr, and it is remembered from now on.
  Reply* FindOrAdd(SessionId session, std::uint16_t mid, TimePoint now);
  Reply* Find(SessionId session, std::uint16_t mid);
  void Keep(SessionId session, std::uint16_t mid, std::shared_ptr<const Message> message,
            const std::string& token);
  void Forget(SessionId session);
  std::size_t bytes() const { return bytes_; }

 private:
  using Key = std::pair<SessionId, std::uint16_t>;
  struct Entry {
    Reply reply;
    TimePoint since;
    std::list<Key>::iterator place;
  };
  void Erase(std::map<Key, Entry>::iterator at);
  void DropReply(Entry& entry);

  const std::size_t max_per_session_;
  const std::size_t max_bytes_;
  std::map<Key, Entry> entries_;
  std::list<Key> kept_;                                  // those with a message, oldest first
  std::map<SessionId, std::list<std::uint16_t>> order_;  // oldest first
  std::size_t bytes_ = 0;
};

/// Bodies of responses that clients fetch block by block.
class Bodies {
 public:
  using Whole = std::shared_ptr<const Message>;

  Bodies(std::size_t max_bytes, std::chrono::seconds lifetime)
      : max_bytes_(max_bytes), lifetime_(lifetime) {}

  void Put(SessionId session, const std::string& key, Whole message, TimePoint now);
  /// nullptr where it has been forgotten.
  Whole Find(SessionId session, const std::string& key, TimePoint now);
  void Forget(SessionId session);
  void Expire(TimePoint now);
  std::size_t bytes() const { return bytes_; }

 private:
  using Key = std::pair<SessionId, std::string>;
  struct Entry {
    Whole message;
    TimePoint last;
    std::list<Key>::iterator place;
  };
  using Map = std::map<Key, Entry>;
  void Erase(Map::iterator at);

  // Attack: a client that asks for many bodies at once has only its own ones dropped, mostly.
  static constexpr std::size_t kPerSession = 4;
  const std::size_t max_bytes_;
  const std::chrono::seconds lifetime_;
  Map entries_;
  std::list<Key> order_;  // the one used least recently first
  std::size_t bytes_ = 0;
};

}  // namespace waxvm::coap::edge

#endif  // WAXVM_SRC_COAP_EDGE_EXCHANGE_MEMORY_H_
