// SPDX-License-Identifier: Apache-2.0
// How CoAP messages are sent again, how much is remembered of whom, and what is counted.
#ifndef WAXVM_COAP_TRANSMISSION_H_
#define WAXVM_COAP_TRANSMISSION_H_

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace waxvm::coap {

/// What happens when a peer has been sent 65,536 messages within `exchange_lifetime`.
enum class MessageIdExhaustion : std::uint8_t {
  kWait,   ///< what is to be sent waits until ids are free again
  kError,  ///< a request or message is refused with kResourceExhausted
  kReuse,  ///< ids are used again early, and counted: against RFC 7252 section 4.4
};

/// Spec: RFC 7252 section 4.8, RFC 8516, RFC 9175 section 2.4.
struct TransmissionParameters {
  std::chrono::milliseconds ack_timeout{2000};
  double ack_random_factor = 1.5;
  std::uint32_t max_retransmit = 4;
  /// Interactions with one peer at a time; what is more waits in a queue of that peer.
  std::uint32_t nstart = 1;
  std::chrono::milliseconds default_leisure{5000};
  /// Bytes per second of NON to a peer from which nothing is heard; 0: no limit.
  std::uint32_t probing_rate = 1;
  /// What a silent peer may be sent at once before `probing_rate` counts.
  std::uint32_t probing_burst_bytes = 4608;
  /// How long a message id stays taken; also how long a confirmable message is remembered.
  std::chrono::milliseconds exchange_lifetime{247'000};
  /// How long a non-confirmable message is remembered.
  std::chrono::milliseconds non_lifetime{145'000};
  /// A request whose response has not come within this time of its (first) transmission fails.
  std::chrono::milliseconds response_timeout{93'000};
  /// A non-confirmable request counts against `nstart` at most this long.
  std::chrono::milliseconds non_outstanding{3000};
  /// A request that the handler has not answered by then gets an empty acknowledgement.
  std::chrono::milliseconds ack_delay{500};
  MessageIdExhaustion message_id_exhaustion = MessageIdExhaustion::kWait;
  /// The longest Max-Age of a 4.29 that is honoured: a peer cannot silence a client for ever.
  std::chrono::milliseconds max_back_off{600'000};
  /// An unverified peer is sent at most this many times the bytes that came from it: with a forged
  /// source address the answer goes to a victim. 0: no limit.
  std::uint32_t amplification_limit = 3;
  /// A response above the limit becomes 4.01 with an Echo option; false: it is not sent at all.
  bool echo = true;
  /// How old an Echo value may be.
  std::chrono::milliseconds echo_lifetime{120'000};
};

/// Everything a peer can make this side remember. All memory is taken at the start.
struct LayerLimits {
  std::size_t peers = 4096;          ///< 128 bytes each
  std::size_t remembered = 32768;    ///< messages for deduplication, all peers; 64 bytes each
  std::size_t outgoing = 4096;       ///< requests and messages under way or queued; 192 bytes each
  std::size_t deferred = 1024;       ///< requests whose handler has not answered yet
  std::size_t blocks = 16384;        ///< of 128 bytes, for messages too long to be kept inline
  std::size_t message_bytes = 1152;  ///< longest message that is sent. Spec: RFC 7252 section 4.6
  // One peer, however it behaves, takes at most:
  std::size_t remembered_per_peer = 512;  ///< the deduplication window
  std::size_t outgoing_per_peer = 512;
  std::size_t deferred_per_peer = 64;
  std::size_t blocks_per_peer = 512;
  std::size_t token_bytes = 8;  ///< longest token of a request, at most 32. Spec: RFC 8974
};

/// Counters since the start. Units: datagrams where nothing else is said.
struct LayerStatistics {
  std::uint64_t received = 0;
  std::uint64_t received_bytes = 0;
  std::uint64_t sent = 0;
  std::uint64_t sent_bytes = 0;

  std::uint64_t requests_sent = 0;
  std::uint64_t responses_received = 0;  ///< handed to the handler, notifications included
  std::uint64_t requests_received = 0;   ///< handed to the handler
  std::uint64_t responses_sent = 0;
  std::uint64_t retransmissions = 0;
  std::uint64_t timeouts = 0;         ///< messages or requests given up
  std::uint64_t resets_received = 0;  ///< that matched a message
  std::uint64_t resets_sent = 0;
  std::uint64_t pings_answered = 0;
  std::uint64_t empty_acks_sent = 0;
  std::uint64_t queued = 0;  ///< waited for nstart, back-off, probing rate or message ids

  std::uint64_t duplicates = 0;           ///< recognised, whatever was done then
  std::uint64_t duplicates_replayed = 0;  ///< answered from the remembered response
  /// Remembered messages dropped before their lifetime was over: each is a request that would run
  /// again if it came again. Where more than 65,536 messages per `exchange_lifetime` come from a
  /// peer this is bound to happen: a deviation from RFC 7252 section 4.5.
  std::uint64_t early_evictions = 0;
  std::uint64_t responses_not_kept = 0;     ///< too long for what is left: duplicates get silence
  std::uint64_t message_ids_reused = 0;     ///< under MessageIdExhaustion::kReuse
  std::uint64_t message_ids_exhausted = 0;  ///< times that sending waited or failed for it

  std::uint64_t peers_created = 0;
  std::uint64_t peers_evicted = 0;
  std::uint64_t peers_verified = 0;
  std::uint64_t echo_challenges = 0;  ///< 4.01 with Echo sent
  std::uint64_t echo_refused = 0;     ///< wrong or too old
  std::uint64_t back_offs = 0;        ///< 4.29 honoured
  std::uint64_t suppressed = 0;       ///< responses that No-Response or multicast kept back

  // Drops by reason.
  std::uint64_t malformed = 0;  ///< format errors; a reset went to the confirmable ones
  std::uint64_t unknown_version = 0;
  std::uint64_t unmatched_acks = 0;
  std::uint64_t unmatched_resets = 0;
  std::uint64_t unmatched_responses = 0;  ///< no such token, or not from the peer that was asked
  std::uint64_t no_peer_slot = 0;
  std::uint64_t no_memory = 0;           ///< no slot to remember a request: it was not run
  std::uint64_t no_deferred_slot = 0;    ///< handlers that did not answer at once, without a slot
  std::uint64_t over_amplification = 0;  ///< not sent, or cut down to a challenge
  std::uint64_t no_output = 0;           ///< the sink had no room: as if lost on the way
};

}  // namespace waxvm::coap

#endif  // WAXVM_COAP_TRANSMISSION_H_
