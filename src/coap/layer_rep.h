// SPDX-License-Identifier: Apache-2.0
// What a MessageLayer is made of. Its parts are in layer_receive.cc (what comes in),
// layer_server.cc (answers), layer_client.cc (requests and messages) and layer_timers.cc.
#ifndef WAXVM_SRC_COAP_LAYER_REP_H_
#define WAXVM_SRC_COAP_LAYER_REP_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "src/coap/block_pool.h"
#include "src/coap/message_layer.h"
#include "src/coap/peer_table.h"
#include "src/coap/seen_table.h"
#include "src/coap/siphash.h"
#include "src/coap/slab.h"
#include "src/coap/timer_wheel.h"

namespace waxvm::coap {

enum class OutgoingState : std::uint8_t {
  kFree,
  kQueued,     ///< not sent yet
  kLeisure,    ///< a response to multicast, not sent yet
  kConfirm,    ///< sent; an acknowledgement is awaited, and for a request a response
  kSent,       ///< non-confirmable; a request awaits a response, a message a reset
  kAwaiting,   ///< a request that was acknowledged
  kObserving,  ///< a request that goes on getting responses
};

/// A message of this side that is remembered: to be sent, sent again, answered or reset.
struct alignas(64) Outgoing {
  static constexpr std::size_t kInlineBytes = 104;

  Timer timer;
  std::uint32_t next = kNil;  ///< of the same hash bucket
  std::uint32_t peer = 0;
  std::uint32_t generation = 0;
  std::uint32_t list_next = kNil;  ///< of the peer's queue or tracked messages
  std::uint32_t list_prev = kNil;
  std::uint32_t chain = kNil;  ///< the whole message, where it is too long for `bytes`
  std::uint64_t cookie = 0;
  std::uint64_t deadline = 0;  ///< in ticks; before the message is sent: how long it waits
  std::uint32_t token_random = 0;
  std::uint32_t timeout = 0;  ///< the current one, in ticks
  std::uint16_t id = 0;
  std::uint16_t size = 0;  ///< of the whole message; 0: it is not kept
  OutgoingState state = OutgoingState::kFree;
  std::uint8_t attempts = 0;
  bool request : 1 = false;
  bool confirmable : 1 = false;
  bool observe : 1 = false;
  bool no_response : 1 = false;
  bool report : 1 = false;
  bool multicast : 1 = false;
  bool counted : 1 = false;  ///< in the peer's in_flight
  bool hashed : 1 = false;   ///< found by its message id
  bool tracked : 1 = false;  ///< in the peer's tracked list
  std::byte bytes[kInlineBytes];
};
static_assert(sizeof(Outgoing) == 192);

/// A request whose handler has not answered within OnRequest.
struct Deferred {
  static constexpr std::size_t kMaxTokenBytes = 32;

  Timer timer;
  std::uint32_t next = kNil;
  std::uint32_t seen = kNil;
  std::uint32_t token_bytes = 0;
  std::byte token[kMaxTokenBytes];
};

struct MessageLayer::Rep {
  enum TimerKind : std::uint32_t { kOutgoingTimer, kDeferredTimer };
  static constexpr int kTickShift = 20;   ///< 1.05 ms
  static constexpr int kStampShift = 26;  ///< 67 ms
  /// Nine years. No lifetime that is added to a stamp, a day at most, may wrap; from there on what
  /// is remembered would be so for ever.
  static constexpr Stamp kLastStamp = 0xff000000;
  static constexpr std::size_t kTokenBytes = 8;
  static constexpr std::size_t kEchoBytes = 8;
  /// Non-confirmable messages to one peer that a reset can still end.
  static constexpr std::size_t kTrackedPerPeer = 4;

  Rep(const TransmissionParameters& parameters, const LayerLimits& limits,
      std::span<const std::uint64_t, 4> seed);
  bool valid() const;

  // Time.
  void SetNow(Time now);
  std::uint64_t TicksOf(std::chrono::nanoseconds duration) const;
  Stamp StampsOf(std::chrono::nanoseconds duration) const;
  std::uint64_t TickOf(Stamp at) const { return std::uint64_t{at} << (kStampShift - kTickShift); }

  // Randomness: a counter under a secret key.
  std::uint64_t Random();
  /// Uniform in [0, bound), which is below 2^32.
  std::uint64_t RandomBelow(std::uint64_t bound);

  // Peers.
  std::uint32_t FindOrAddPeer(const SocketAddress& address);
  void EvictPeer(std::uint32_t index);
  void Verify(std::uint32_t peer);
  bool IsLimited(const Peer& peer) const {
    return parameters.amplification_limit != 0 && !peer.verified;
  }
  void Credit(Peer& peer, std::size_t received_bytes);
  /// False: more than an unverified peer may be sent, and nothing was deducted.
  bool SpendCredit(Peer& peer, std::size_t bytes);

  // Message ids.
  /// Whether an id is free now; else when it will be, as a tick.
  bool HaveMessageId(const Peer& peer, std::uint64_t& free_tick) const;
  Stamp MessageIdFreeAt(const Peer& peer, std::uint16_t id) const;
  std::uint16_t TakeMessageId(std::uint32_t peer);

  // Sending.
  void Transmit(const Turn& turn, const SocketAddress& peer, std::span<const std::byte> message);
  void TransmitEmpty(const Turn& turn, const SocketAddress& peer, Type type, std::uint16_t id);
  /// Header, token and body; returns the size.
  static std::size_t Compose(std::byte* out, Type type, Code code, std::uint16_t id, Bytes token,
                             Bytes body);
  static std::size_t ComposedSize(Bytes token, Bytes body);

  // What comes in.
  void Receive(const Turn& turn, const Datagram& datagram);
  void ReceiveFaulty(const Turn& turn, const Datagram& datagram, const MessageView& message);
  void ReceiveRequest(const Turn& turn, const Datagram& datagram, const MessageView& message);
  void ReceiveDuplicate(const Turn& turn, const Datagram& datagram, std::uint32_t seen);
  void ReplayResponse(const Turn& turn, std::uint32_t seen);
  void ReceiveAck(const Turn& turn, const Datagram& datagram, const MessageView& message);
  void ReceiveReset(const Turn& turn, const Datagram& datagram, const MessageView& message);
  void ReceiveResponse(const Turn& turn, const Datagram& datagram, const MessageView& message);
  void RejectResponse(const Turn& turn, const Datagram& datagram, const MessageView& message);
  void Deliver(const Turn& turn, std::uint32_t index, const SocketAddress& from,
               const MessageView& message);
  void BackOff(Peer& peer, const MessageView& message);
  bool CheckEcho(const SocketAddress& peer, Bytes value) const;

  // Answers.
  bool Defer(std::uint32_t seen, Bytes token);
  /// Before it gets its last state: nothing is deferred any more, nor is the peer pinned by it.
  void ReleaseExchange(std::uint32_t seen);
  void CloseExchange(std::uint32_t seen, SeenState state);
  Bytes TokenOf(std::uint32_t seen) const;
  absl::Status Respond(const Turn& turn, std::uint32_t seen, const ResponseSpec& spec);
  /// Respond, once it is settled that this is sent.
  absl::Status Answer(const Turn& turn, std::uint32_t seen, const ResponseSpec& spec);
  absl::Status RespondSeparately(const Turn& turn, std::uint32_t seen, const ResponseSpec& spec);
  absl::Status RespondLater(const Turn& turn, std::uint32_t seen, const ResponseSpec& spec);
  /// With `send` false it is only kept, for a duplicate to fetch.
  void RespondPiggybacked(const Turn& turn, std::uint32_t seen, const ResponseSpec& spec,
                          bool send = true);
  void EndSilently(const Turn& turn, std::uint32_t seen);
  std::array<std::byte, kEchoBytes> EchoValue(const SocketAddress& peer, std::uint64_t time) const;
  absl::Status Challenge(const Turn& turn, std::uint32_t seen);
  void DeferredTimeout(const Turn& turn, std::uint32_t index);

  // Requests and messages.
  /// Whether a message may be sent now; kUntil: from a later tick on.
  enum class Gate : std::uint8_t { kOpen, kInFlight, kUntil };
  struct Draft {
    std::uint32_t peer;
    Type type;
    Code code;
    Bytes token;  ///< of a request: it is made
    Bytes body;
    bool request = false;
  };
  /// A slot with the message in it, which is not sent yet. Errors: kResourceExhausted.
  absl::StatusOr<std::uint32_t> Draw(const Draft& draft);
  /// Sends or queues it. Errors: kResourceExhausted, and the slot is free again.
  absl::Status Submit(const Turn& turn, std::uint32_t index);
  /// A non-confirmable message that nothing is remembered of, if it can go at once.
  absl::Status SendUntracked(const Turn& turn, const Draft& draft);
  static bool CountsAgainstNstart(const Outgoing& out) {
    return !out.multicast && (out.confirmable || (out.request && !out.no_response));
  }
  Gate GateOf(std::uint32_t index, std::uint64_t& until) const;
  Gate GateOf(const Peer& peer, bool counts, bool request, bool confirmable, std::size_t size,
              std::uint64_t& until) const;
  void AccountProbe(Peer& peer, std::size_t size);
  std::uint32_t ProbeDebt(const Peer& peer) const;
  /// Sends what is not sent yet, and waits for what it waits for.
  void Start(const Turn& turn, std::uint32_t index);
  void TransmitSlot(const Turn& turn, std::uint32_t index);
  void Enqueue(std::uint32_t index);
  void Pump(const Turn& turn, std::uint32_t peer);
  void Track(std::uint32_t index);
  /// Takes it off the list it is on.
  void Unlist(std::uint32_t index);
  void ReleaseFlight(std::uint32_t index);
  void Unhash(std::uint32_t index);
  std::uint32_t FindById(std::uint32_t peer, std::uint16_t id) const;
  std::uint32_t FindByToken(Bytes token) const;
  std::uint32_t FindOutgoing(OutgoingId id) const;
  OutgoingId IdOf(std::uint32_t index) const {
    return {std::uint64_t{outgoing[index].generation} << 32 | index};
  }
  std::array<std::byte, kTokenBytes> TokenOfRequest(std::uint32_t index) const;
  /// The message will not be sent again.
  void DropMessage(std::uint32_t index);
  /// Frees the slot; whoever calls it pumps the peer's queue afterwards.
  void Finish(std::uint32_t index);
  /// Frees the slot and tells the handler.
  void Fail(const Turn& turn, std::uint32_t index, Failure failure);
  void OutgoingTimeout(const Turn& turn, std::uint32_t index);
  void ConfirmTimeout(const Turn& turn, std::uint32_t index);
  std::uint32_t& IdHead(std::uint32_t peer, std::uint16_t id) const {
    return id_heads[(((std::uint64_t{peer} << 16 | id) + 1) * id_key) >> id_shift];
  }

  const TransmissionParameters parameters;
  const LayerLimits limits;
  const ParseLimits parse_limits;
  const SipKey secret;
  std::uint64_t random_counter = 0;
  LayerStatistics stats;

  PeerTable peers;
  BlockPool blocks;
  SeenTable seen_table;
  Slab<Outgoing> outgoing;
  Slab<Deferred> deferred;
  TimerWheel wheel;
  const std::uint64_t id_key;
  const int id_shift;
  Heads id_heads;
  std::vector<std::byte> scratch;  ///< for one message

  // Durations of the parameters in ticks and stamps.
  const std::uint64_t ack_timeout_ticks;
  const std::uint64_t ack_spread_ticks;
  const Stamp exchange_stamps;
  const Stamp non_stamps;

  // The time of the call that is under way.
  bool started = false;
  Time epoch{};
  std::uint64_t tick = 0;
  Stamp stamp = 1;

  /// The request whose OnRequest is running.
  std::uint32_t current_seen = kNil;
  Bytes current_token;
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_LAYER_REP_H_
