// SPDX-License-Identifier: Apache-2.0
// Who wants to be told when a resource changes.
#ifndef WAXVM_SRC_COAP_ENDPOINT_OBSERVERS_H_
#define WAXVM_SRC_COAP_ENDPOINT_OBSERVERS_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "src/coap/message_layer.h"
#include "src/coap_endpoint/outgoing_batch.h"
#include "src/coap_endpoint/resource_table.h"
#include "waxvm/coap_message.h"
#include "waxvm/coap_owned_message.h"

namespace waxvm::coap {

inline constexpr std::uint32_t kNoObserver = 0xffffffff;

/// The message once more, in memory of its own. Empty: it has a token that cannot be kept.
std::string Keep(const MessageView& message);

struct Observer {
  SocketAddress peer;
  SocketAddress local;
  /// The request that made it one, as Keep has it; its token is what it is known by.
  std::string request;
  std::shared_ptr<Served> served;
  /// Of the answer that made it one: all that follow have the same. Spec: RFC 7641 section 4.2.
  std::optional<ContentFormat> format;
  std::uint32_t generation = 0;
  bool used = false;
  /// A confirmable notification is under way: what changes meanwhile is told afterwards.
  bool confirming = false;
  bool changed = false;
  /// What changed while one was confirmed: so is what follows, or the newest state could get lost.
  bool confirm_next = false;
  std::optional<Message> told_next;  ///< where not the handler says what is told
  std::uint32_t since_confirmed = 0;
  std::chrono::steady_clock::time_point confirmed;
  OutgoingId last{};  ///< notification under way

  MessageView view() const { return MessageView::Parse(ToBytes(request)); }
};

/// Thread safety: none.
class ObserverRegistry {
 public:
  ObserverRegistry(std::size_t most, std::size_t most_per_peer)
      : most_(most), most_per_peer_(most_per_peer) {}

  /// The observer of that peer and token. kNoObserver: there is none.
  std::uint32_t Find(const SocketAddress& peer, Bytes token) const;
  /// kNoObserver: a bound is met. An observer with the same peer and token is replaced.
  /// Attack: registrations without end.
  std::uint32_t Add(const SocketAddress& peer, const SocketAddress& local,
                    const MessageView& request, std::shared_ptr<Served> served);
  void Remove(std::uint32_t index);

  Observer& operator[](std::uint32_t index) { return observers_[index]; }
  /// Is told with messages to it, and becomes an index again; kNoObserver where it is another one.
  std::uint64_t CookieOf(std::uint32_t index) const {
    return std::uint64_t{observers_[index].generation} << 32 | index;
  }
  std::uint32_t FromCookie(std::uint64_t cookie) const;
  std::size_t size() const { return by_name_.size(); }

 private:
  static std::string NameOf(const SocketAddress& peer, Bytes token);

  const std::size_t most_;
  const std::size_t most_per_peer_;
  std::vector<Observer> observers_;
  std::vector<std::uint32_t> free_;
  std::unordered_map<std::string, std::uint32_t> by_name_;
  std::unordered_map<SocketAddress, std::size_t, SocketAddressHash> per_peer_;
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_ENDPOINT_OBSERVERS_H_
