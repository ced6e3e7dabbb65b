// SPDX-License-Identifier: Apache-2.0
// The way of envelopes to engines of other processes, over CoAP: docs/messaging.md.
#ifndef WAXVM_MESSAGING_COAP_H_
#define WAXVM_MESSAGING_COAP_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/coap_endpoint.h"
#include "waxvm/envelope.h"
#include "waxvm/message_hub.h"
#include "waxvm/socket_address.h"

namespace waxvm {

/// The functions are called by whoever sends, publishes or joins, from any number of threads.
struct CoapTransportOptions {
  /// Where the engine with this key is; a resolver, or a table. What it waits for, `Send` waits
  /// for. Errors: are those of `Send`; kNotFound where nobody knows it.
  std::function<absl::StatusOr<SocketAddress>(const PublicKey& engine)> find = nullptr;
  /// Who is sent, one by one, what is published on a topic here, and is asked for its last message
  /// when an engine here joins. None: nobody.
  std::function<std::vector<SocketAddress>(const PublicKey& topic)> topic_peers = nullptr;
  /// The interface on which topics are multicast groups; 0 lets the network choose, nullopt: none.
  std::optional<std::uint32_t> multicast_interface = std::nullopt;
  /// Of groups; whoever listens has an endpoint at this port.
  std::uint16_t multicast_port = 5683;
  /// Here and there.
  std::string path = "/wx";
  /// Longer ones that come get 4.13. EndpointOptions::max_body_bytes, of which blocks are put
  /// together, is less than this unless it is set.
  std::size_t max_envelope_bytes = kMaxEnvelopeBytes;
  /// Of envelopes that are under way or wait for their turn: in all, and to one address.
  std::size_t max_unsent_bytes = std::size_t{16} << 20;
  std::size_t max_unsent_bytes_per_peer = std::size_t{4} << 20;
  /// What became of an envelope that `Send` had taken and that nobody took there: what its peer
  /// answered, as a status, or the errors of coap::ResponseHandler. Runs on the endpoint's thread;
  /// may send, but not join or leave a topic, nor call Stop.
  std::function<void(const PublicKey& to, const absl::Status& status)> on_failure = nullptr;
};

struct CoapTransportStats {
  std::uint64_t sent = 0;        ///< envelopes taken, for an engine or a peer of a topic
  std::uint64_t accepted = 0;    ///< of these, those that were answered with 2.04
  std::uint64_t failed = 0;      ///< and those that were answered otherwise, or not at all
  std::uint64_t multicast = 0;   ///< envelopes to a group
  std::uint64_t received = 0;    ///< that the hub here took
  std::uint64_t refused = 0;     ///< that it did not, or that never got there
  std::size_t unsent_bytes = 0;  ///< now
};

/// Sends envelopes as CoAP requests, and gives those that come to a hub:
///   POST PATH        to an engine, or from a peer to a topic: confirmable, in blocks where long
///   POST PATH/t      to the group of a topic: non-confirmable, of one block, never answered
///   GET PATH/t/KEY   the last message of a topic, by its key in base32
/// Send returns kNotFound and the like from `find`; kInvalidArgument for an address that is none,
/// or a group; kResourceExhausted above a bound, here or of the endpoint. OK says that it will be
/// sent: to one peer one after the other, in their order, until one is not answered at all.
/// Publish: the same, of the first that failed, when the others have been tried; kInvalidArgument
/// for what is too long for a group. Join: those of the endpoint.
///
/// Of it, an endpoint and a hub, the endpoint is made first and the hub last; before that one is
/// destroyed, Stop is called.
class CoapTransport : public EngineTransport {
 public:
  /// `endpoint` must outlive it. Errors: kInvalidArgument for a path that is none, without `find`,
  /// and for bounds of 0.
  static absl::StatusOr<std::unique_ptr<CoapTransport>> Create(coap::Endpoint* endpoint,
                                                               const CoapTransportOptions& options);

  /// Gives what comes to `hub` until Stop. Errors: of Endpoint::Serve; kFailedPrecondition where it
  /// does already.
  virtual absl::Status Serve(MessageHub* hub) = 0;
  /// The hub is not called any more when this returns, nor is `on_failure`. Not for their own
  /// functions to call. The destructor does it as well.
  virtual void Stop() = 0;

  /// Asks a peer for the last message of a topic, which goes to the hub like any other. Errors: of
  /// Endpoint::Request; that the peer has none, or does not answer, is told to nobody.
  virtual absl::Status FetchRetained(const PublicKey& topic, const SocketAddress& peer) = 0;

  virtual CoapTransportStats stats() const = 0;
};

}  // namespace waxvm

#endif  // WAXVM_MESSAGING_COAP_H_
