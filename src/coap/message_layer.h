// SPDX-License-Identifier: Apache-2.0
// The stateful half of CoAP without sockets, clocks or threads: datagrams and the time go in,
// datagrams and the time of the next timer come out.
//
// A program runs it like this:
//
//   for each datagram received:  layer.Receive(turn, {bytes, from, to_multicast});
//   before it waits:             until = layer.NextTimer();
//   at that time:                layer.Expire(turn);
//
// with `turn` holding the time, where outgoing datagrams go, and whom to tell. The handler is told
// within these calls and may call everything but Receive and Expire, with the turn it was given.
// What the layer takes as `body` is the part of a message behind the token: options and, behind
// 0xff, the payload. A MessageWriter without a token writes it, behind kHeaderBytes of header:
// message().subspan(kHeaderBytes). Header and token are the layer's own matter. What came in is
// parsed once, and handed on as a MessageView.
#ifndef WAXVM_SRC_COAP_MESSAGE_LAYER_H_
#define WAXVM_SRC_COAP_MESSAGE_LAYER_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "waxvm/coap_message.h"
#include "waxvm/coap_transmission.h"
#include "waxvm/socket_address.h"

namespace waxvm::coap {

using Time = std::chrono::steady_clock::time_point;

/// Where outgoing datagrams are written: the caller's batch.
class DatagramSink {
 public:
  virtual ~DatagramSink() = default;
  /// At least `bytes` of room for a datagram to `peer`. The layer fills the front and calls Commit
  /// before the next Reserve. An empty span is a datagram lost on the way: the layer counts it, and
  /// retransmission makes up for it. A sink that can send what it holds does that instead.
  virtual std::span<std::byte> Reserve(const SocketAddress& peer, std::size_t bytes) = 0;
  /// The datagram is the first `bytes` of what Reserve gave.
  virtual void Commit(std::size_t bytes) = 0;
};

class LayerHandler;

/// What every call needs. Time never goes backwards from one call to the next.
struct Turn {
  Time now;
  DatagramSink& out;
  LayerHandler& handler;
};

/// A request or message of this side. Never used again for another one (64 bits count).
struct OutgoingId {
  std::uint64_t value = 0;
  auto operator<=>(const OutgoingId&) const = default;
};
/// A request of the other side that is to be answered.
struct ExchangeId {
  std::uint64_t value = 0;
  auto operator<=>(const ExchangeId&) const = default;
};

/// A well-formed request that has not been seen before. Valid during the call.
struct IncomingRequest {
  ExchangeId exchange;
  const SocketAddress& peer;
  const MessageView& message;
  bool multicast;
  /// The peer has shown that it receives at its address (or nothing is limited).
  bool verified;
  /// Body bytes that a response may have before it is replaced by a challenge: a handler with side
  /// effects, or one that registers an observer, calls Challenge first where it may be more.
  std::size_t response_limit;
};

/// A response to a request of this side. Duplicates never get here. Valid during the call.
struct IncomingResponse {
  OutgoingId request;
  std::uint64_t cookie;
  const SocketAddress& peer;  ///< who answered; for multicast requests any, and several
  const MessageView& message;
  /// The request stays registered: an observation, or a multicast request.
  bool more;
};

enum class Failure : std::uint8_t {
  kReset,    ///< the peer rejected it
  kTimeout,  ///< no acknowledgement, or no response
};

/// What the layer tells. Thread safety: called on the thread that calls the layer.
class LayerHandler {
 public:
  virtual ~LayerHandler() = default;
  /// Call Respond within, or keep the exchange and call it later; a confirmable request then gets
  /// an empty acknowledgement after `ack_delay`. Each exchange is to be ended by Respond, Challenge
  /// or Ignore: until then it takes one of the `deferred` slots.
  virtual void OnRequest(const Turn& turn, const IncomingRequest& request) = 0;
  virtual void OnResponse(const Turn& turn, const IncomingResponse& response) = 0;
  /// The request has ended without a response (an observation: will get no further one). A
  /// multicast request always ends in this, with kTimeout.
  virtual void OnRequestFailed(const Turn& turn, OutgoingId request, std::uint64_t cookie,
                               Failure failure) = 0;
  /// A message of Send with `report` has ended: no failure means acknowledged. A non-confirmable
  /// one reports nothing but a reset.
  virtual void OnMessageEnded(const Turn& turn, OutgoingId message, std::uint64_t cookie,
                              std::optional<Failure> failure) = 0;
};

struct RequestSpec {
  Code code = Code::kGet;
  bool confirmable = true;
  Bytes body = {};
  /// Handed back with every event.
  std::uint64_t cookie = 0;
  /// Stay registered after a 2.xx response with an Observe option, until Cancel, a response without
  /// one, or a failure. Spec: RFC 7641.
  bool observe = false;
  /// No response is expected: the request ends when acknowledged, in OnMessageEnded. A
  /// non-confirmable one ends when sent, reports nothing, has an id of 0 and does not count against
  /// nstart. Spec: RFC 7967.
  bool no_response = false;
  /// 0: as in the parameters. A multicast request collects responses this long.
  std::chrono::milliseconds timeout{0};
};

struct ResponseSpec {
  Code code = Code::kContent;
  Bytes body = {};
  /// Of a separate response; a piggybacked one is an acknowledgement, and one to a non-confirmable
  /// request is non-confirmable.
  bool confirmable = true;
};

/// A message of this side that is no request: a notification.
struct SendSpec {
  Code code = Code::kContent;
  bool confirmable = false;
  Bytes token = {};
  Bytes body = {};
  std::uint64_t cookie = 0;
  /// Call OnMessageEnded. Without it a non-confirmable message takes no slot.
  bool report = true;
};

/// A layer is good for nine years; then a new one takes its place.
/// Thread safety: none; distinct objects may be used from distinct threads.
/// Spec: RFC 7252 sections 4, 5.2 and 5.3, RFC 7641, 7967, 8516, 8974, 9175.
class MessageLayer {
 public:
  /// All memory is taken here. `seed` makes tokens, message ids, jitter and hashing unguessable:
  /// 32 bytes of the system's generator; the same seed gives the same layer. Errors:
  /// kInvalidArgument.
  static absl::StatusOr<std::unique_ptr<MessageLayer>> Create(
      const TransmissionParameters& parameters, const LayerLimits& limits,
      const std::array<std::uint8_t, 32>& seed);
  ~MessageLayer();
  MessageLayer(const MessageLayer&) = delete;
  MessageLayer& operator=(const MessageLayer&) = delete;

  struct Datagram {
    Bytes bytes;
    const SocketAddress& from;
    bool to_multicast = false;
  };
  void Receive(const Turn& turn, const Datagram& datagram);
  /// Has memory fetched that Receive will look at for `count` datagrams, of which `at` gives each:
  /// with thousands of peers it is in no cache, and to wait for it one datagram after another costs
  /// more than all else. Changes nothing; nothing depends on it.
  void Prefetch(std::size_t count, absl::FunctionRef<Datagram(std::size_t)> at) const;

  /// When Expire is to be called; Time::max(): nothing to wait for. It may be early, never late
  /// by more than 2 ms.
  Time NextTimer() const;
  void Expire(const Turn& turn);

  // Client.

  /// Sends a request or queues it. To a multicast address: non-confirmable, answered by many.
  /// Errors: kInvalidArgument (too long, confirmable to multicast), kResourceExhausted (no slot,
  /// the peer's share, or message ids).
  absl::StatusOr<OutgoingId> Request(const Turn& turn, const SocketAddress& peer,
                                     const RequestSpec& spec);
  /// Forgets a request or message; the handler is told nothing more of it. What still comes for an
  /// observation is answered with a reset. False: there is none, it has ended.
  bool Cancel(const Turn& turn, OutgoingId id);
  /// An empty confirmable message; ends in OnMessageEnded with kReset when the peer lives. Errors:
  /// as Request. Spec: RFC 7252 section 4.3.
  absl::StatusOr<OutgoingId> Ping(const Turn& turn, const SocketAddress& peer,
                                  std::uint64_t cookie);

  // Server.

  /// Answers: piggybacked, separate or non-confirmable, or not at all where the request's
  /// No-Response option or multicast says so. To multicast within the leisure. Errors: kNotFound
  /// (the exchange has ended), kInvalidArgument (too long), kResourceExhausted (a separate response
  /// has no slot; the exchange stays).
  absl::Status Respond(const Turn& turn, ExchangeId exchange, const ResponseSpec& spec);
  /// Answers 4.01 with a fresh Echo value. Errors: kNotFound. Spec: RFC 9175 section 2.4.
  absl::Status Challenge(const Turn& turn, ExchangeId exchange);
  /// Ends an exchange without a response; a confirmable request gets an empty acknowledgement or,
  /// with `reset`, a reset. Errors: kNotFound.
  absl::Status Ignore(const Turn& turn, ExchangeId exchange, bool reset = false);
  /// Sends a notification. Errors: as Request, and kPermissionDenied where the peer is unverified
  /// and it would be too much for it. An id of 0: nothing will be reported.
  absl::StatusOr<OutgoingId> Send(const Turn& turn, const SocketAddress& peer,
                                  const SendSpec& spec);

  // What is there.

  const LayerStatistics& statistics() const;
  struct Usage {
    std::size_t peers = 0;
    std::size_t remembered = 0;
    std::size_t outgoing = 0;
    std::size_t deferred = 0;
    std::size_t blocks = 0;
  };
  Usage usage() const;
  /// Everything that was taken by Create.
  std::size_t memory_bytes() const;
  bool IsVerified(const SocketAddress& peer) const;

 private:
  struct Rep;
  explicit MessageLayer(std::unique_ptr<Rep> rep);
  std::unique_ptr<Rep> rep_;
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_MESSAGE_LAYER_H_
