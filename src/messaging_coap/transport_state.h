// SPDX-License-Identifier: Apache-2.0
// What a transport over CoAP keeps: the hub that it serves, and what waits to be sent.
#ifndef WAXVM_SRC_MESSAGING_COAP_TRANSPORT_STATE_H_
#define WAXVM_SRC_MESSAGING_COAP_TRANSPORT_STATE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "src/base/mutex.h"
#include "src/base/status.h"
#include "waxvm/messaging_coap.h"

namespace waxvm::messaging_coap {

/// An envelope and whose it is: an engine, or a topic.
struct Unsent {
  PublicKey to;
  std::string envelope;
};

/// What goes to one peer, one envelope after the other: of several at a time the endpoint would
/// send those that are challenged again behind the others, and a reader begins with what comes
/// first.
struct Line {
  std::deque<Unsent> waiting = {};
  std::size_t bytes = 0;  ///< with what is under way
  bool busy = false;      ///< one is under way
};

/// What handlers of the endpoint hold on to, after the transport and the hub are gone as well.
struct State {
  struct Counters {
    std::atomic<std::uint64_t> sent = 0, accepted = 0, failed = 0;
    std::atomic<std::uint64_t> multicast = 0, received = 0, refused = 0;
  };

  State(coap::Endpoint& at, const CoapTransportOptions& from) : endpoint(at), options(from) {}

  absl::Status Deliver(std::string envelope, const Address& source) {
    absl::Status status = Unavailable("nobody is served here any more");
    {
      MutexLock lock(hub_mutex);
      if (hub != nullptr) status = hub->Deliver(std::move(envelope), source);
    }
    ++(status.ok() ? counters.received : counters.refused);
    return status;
  }
  void Refused() { ++counters.refused; }

  void Tell(const PublicKey& to, const absl::Status& status) {
    ++counters.failed;
    if (!options.on_failure) return;
    MutexLock lock(hub_mutex);
    if (!stopped) options.on_failure(to, status);
  }

  /// Puts an envelope into the line of its peer. True: nothing is under way to that one.
  /// Errors: kResourceExhausted.
  absl::StatusOr<bool> Queue(const SocketAddress& peer, const PublicKey& to, std::string envelope) {
    const std::size_t bytes = envelope.size();
    MutexLock lock(lines_mutex);
    const auto at = lines.find(peer);
    const std::size_t of_peer = at == lines.end() ? 0 : at->second.bytes;
    // Attack: a peer that answers nothing must not take the room of all others.
    if (bytes > options.max_unsent_bytes_per_peer - of_peer)
      return absl::ResourceExhaustedError(
          absl::StrFormat("%d bytes are under way to %s", of_peer, peer.ToText()));
    if (bytes > options.max_unsent_bytes - unsent_bytes)
      return absl::ResourceExhaustedError(absl::StrFormat("%d bytes are under way", unsent_bytes));
    Line& line = at == lines.end() ? lines[peer] : at->second;
    line.waiting.push_back({to, std::move(envelope)});
    line.bytes += bytes;
    unsent_bytes += bytes;
    return !std::exchange(line.busy, true);
  }
  /// The next one, whose room is taken until Free. Nullopt: there is none, and no line any more.
  std::optional<Unsent> Next(const SocketAddress& peer) {
    MutexLock lock(lines_mutex);
    const auto at = lines.find(peer);
    if (at->second.waiting.empty()) {
      lines.erase(at);
      return std::nullopt;
    }
    Unsent next = std::move(at->second.waiting.front());
    at->second.waiting.pop_front();
    return next;
  }
  void Free(const SocketAddress& peer, std::size_t bytes) {
    MutexLock lock(lines_mutex);
    lines.find(peer)->second.bytes -= bytes;
    unsent_bytes -= bytes;
  }
  /// All that wait for a peer, taken out.
  std::deque<Unsent> GiveUp(const SocketAddress& peer) {
    MutexLock lock(lines_mutex);
    return Empty(lines.find(peer)->second);
  }
  void GiveUpAll() {
    MutexLock lock(lines_mutex);
    for (auto& [peer, line] : lines) (void)Empty(line);
  }
  std::deque<Unsent> Empty(Line& line) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lines_mutex) {
    for (const Unsent& unsent : line.waiting) {
      line.bytes -= unsent.envelope.size();
      unsent_bytes -= unsent.envelope.size();
    }
    return std::exchange(line.waiting, {});
  }

  coap::Endpoint& endpoint;  ///< is there as long as a handler of it runs
  const CoapTransportOptions options;
  Counters counters;

  /// Held while the hub, or on_failure, is called.
  Mutex hub_mutex;
  MessageHub* hub ABSL_GUARDED_BY(hub_mutex) = nullptr;
  bool stopped ABSL_GUARDED_BY(hub_mutex) = false;

  Mutex lines_mutex;
  std::map<SocketAddress, Line> lines ABSL_GUARDED_BY(lines_mutex);
  std::size_t unsent_bytes ABSL_GUARDED_BY(lines_mutex) = 0;
};

}  // namespace waxvm::messaging_coap

#endif  // WAXVM_SRC_MESSAGING_COAP_TRANSPORT_STATE_H_
