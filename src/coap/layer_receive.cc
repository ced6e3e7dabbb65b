// SPDX-License-Identifier: Apache-2.0
// What comes in: sorted by type, matched to what was sent, and told apart from what came before.
#include <algorithm>
#include <cstring>

#include "src/coap/layer_rep.h"

namespace waxvm::coap {
namespace {

/// The classes that a request wants no response of, as bits of Seen::no_response.
std::uint8_t NoResponseOf(const MessageView& message) {
  const std::optional<OptionView> option = message.Find(OptionNumber::kNoResponse);
  if (!option) return 0;
  const std::uint64_t value = option->AsUint().value_or(0);
  return static_cast<std::uint8_t>((value >> 1 & 1) | (value >> 3 & 1) << 1 |
                                   (value >> 4 & 1) << 2);
}

}  // namespace

void MessageLayer::Rep::Receive(const Turn& turn, const Datagram& datagram) {
  ++stats.received;
  stats.received_bytes += datagram.bytes.size();
  const MessageView message = MessageView::Parse(datagram.bytes, parse_limits);
  if (!message.ok()) return ReceiveFaulty(turn, datagram, message);
  // Attack: one confirmable message to a group makes all of it send. Spec: RFC 7252 section 8.1.
  if (datagram.to_multicast && !(message.is_request() && message.type() == Type::kNon)) {
    ++stats.malformed;
    return;
  }
  if (message.is_request()) return ReceiveRequest(turn, datagram, message);
  switch (message.type()) {
    case Type::kAck:
      return ReceiveAck(turn, datagram, message);
    case Type::kRst:
      return ReceiveReset(turn, datagram, message);
    default:
      break;
  }
  if (!message.is_empty()) return ReceiveResponse(turn, datagram, message);
  ++stats.pings_answered;
  TransmitEmpty(turn, datagram.from, Type::kRst, message.id());
}

void MessageLayer::Rep::ReceiveFaulty(const Turn& turn, const Datagram& datagram,
                                      const MessageView& message) {
  if (message.fault() == WireFault::kNoMessage) {
    ++stats.unknown_version;
    return;
  }
  ++stats.malformed;
  // Nothing is remembered of it: the same datagram gets the same answer.
  if (datagram.to_multicast) return;
  if (message.wants_reset()) return TransmitEmpty(turn, datagram.from, Type::kRst, message.id());
  if (message.fault() != WireFault::kTokenTooLong || message.type() != Type::kCon ||
      !message.is_request() || message.token().size() + 8 > limits.message_bytes)
    return;
  const MessageWriter writer(scratch, Type::kAck, Code::kBadRequest, message.id(), message.token());
  Transmit(turn, datagram.from, writer.message());
}

void MessageLayer::Rep::ReceiveRequest(const Turn& turn, const Datagram& datagram,
                                       const MessageView& message) {
  const std::uint32_t peer_index = FindOrAddPeer(datagram.from);
  if (peer_index == kNil) {
    ++stats.no_peer_slot;
    return;
  }
  Peer& peer = peers[peer_index];
  Credit(peer, datagram.bytes.size());
  peer.probe_debt = 0;
  const std::uint32_t known = seen_table.Find(peer_index, message.id(), stamp);
  if (known != kNil) return ReceiveDuplicate(turn, datagram, known);
  const bool confirmable = message.type() == Type::kCon;
  const std::uint32_t index =
      seen_table.Add(peer_index, message.id(), stamp, confirmable ? exchange_stamps : non_stamps);
  if (index == kNil) {
    // Not run, as it could not be told from its duplicates.
    ++stats.no_memory;
    return;
  }
  Seen& seen = seen_table[index];
  seen.confirmable = confirmable;
  seen.multicast = datagram.to_multicast;
  seen.no_response = static_cast<std::uint8_t>(NoResponseOf(message) & 7);
  if (IsLimited(peer)) {
    if (const auto echo = message.Find(OptionNumber::kEcho)) {
      if (CheckEcho(datagram.from, echo->value))
        Verify(peer_index);
      else
        ++stats.echo_refused;
    }
  }
  ++peer.pins;
  ++stats.requests_received;
  const std::size_t overhead = ComposedSize(message.token(), {});
  const std::size_t most = IsLimited(peer)
                               ? std::min<std::size_t>(peer.credit, limits.message_bytes)
                               : limits.message_bytes;
  const ExchangeId exchange = {seen_table.IdOf(index)};
  const IncomingRequest request = {.exchange = exchange,
                                   .peer = datagram.from,
                                   .message = message,
                                   .multicast = datagram.to_multicast,
                                   .verified = !IsLimited(peer),
                                   .response_limit = most > overhead ? most - overhead : 0};
  current_seen = index;
  current_token = message.token();
  turn.handler.OnRequest(turn, request);
  current_seen = kNil;
  if (seen_table.FindPending(exchange.value) == kNil) return;
  if (Defer(index, message.token())) return;
  // Attack: requests that take long, until all slots are taken. The peer may try again later.
  ++stats.no_deferred_slot;
  current_seen = index;
  const absl::Status refused =
      Respond(turn, index, {.code = Code::kServiceUnavailable, .confirmable = false});
  if (!refused.ok()) EndSilently(turn, index);
  current_seen = kNil;
}

void MessageLayer::Rep::ReceiveDuplicate(const Turn& turn, const Datagram& datagram,
                                         std::uint32_t index) {
  ++stats.duplicates;
  const Seen& seen = seen_table[index];
  // One that came in the other type before is a fault of the peer, as a duplicate to be ignored.
  if (!seen.confirmable || datagram.to_multicast ||
      (datagram.bytes[0] & std::byte{0x30}) != std::byte{0})
    return;
  switch (seen.state) {
    case SeenState::kPending:
      if (!seen.acked) return;  // it will be acknowledged in time
      [[fallthrough]];
    case SeenState::kAcked:
      SpendCredit(peers[seen.peer], kHeaderBytes);
      return TransmitEmpty(turn, datagram.from, Type::kAck, seen.id);
    case SeenState::kReset:
      SpendCredit(peers[seen.peer], kHeaderBytes);
      return TransmitEmpty(turn, datagram.from, Type::kRst, seen.id);
    case SeenState::kResponded:
      return ReplayResponse(turn, index);
    default:
      return;
  }
}

void MessageLayer::Rep::ReplayResponse(const Turn& turn, std::uint32_t index) {
  const Seen& seen = seen_table[index];
  Peer& peer = peers[seen.peer];
  const std::size_t size = seen.size + sizeof(seen.id);
  if (!SpendCredit(peer, size)) return;
  ++stats.duplicates_replayed;
  // Kept without its message id, which lies behind the first two bytes.
  std::byte* const out = scratch.data();
  seen_table.Load(index, out + 2);
  out[0] = out[2];
  out[1] = out[3];
  out[2] = static_cast<std::byte>(seen.id >> 8);
  out[3] = static_cast<std::byte>(seen.id);
  Transmit(turn, peer.address, {out, size});
}

void MessageLayer::Rep::ReceiveAck(const Turn& turn, const Datagram& datagram,
                                   const MessageView& message) {
  const std::uint32_t peer_index = peers.Find(datagram.from);
  const std::uint32_t index = peer_index == kNil ? kNil : FindById(peer_index, message.id());
  // Attack: forged acknowledgements that stop a retransmission. Id and peer must match, and where
  // there is a response the token.
  if (index == kNil || outgoing[index].state != OutgoingState::kConfirm ||
      (!message.is_empty() &&
       (!outgoing[index].request || FindByToken(message.token()) != index))) {
    ++stats.unmatched_acks;
    return;
  }
  Peer& peer = peers[peer_index];
  peer.probe_debt = 0;
  peers.Touch(peer_index, stamp);
  if (!message.is_empty()) return Deliver(turn, index, datagram.from, message);
  Outgoing& out = outgoing[index];
  if (out.request && !out.no_response) {
    out.state = OutgoingState::kAwaiting;
    Unhash(index);
    ReleaseFlight(index);
    DropMessage(index);
    wheel.Set(out.timer, out.deadline);
    return Pump(turn, peer_index);
  }
  const OutgoingId id = IdOf(index);
  const std::uint64_t cookie = out.cookie;
  const bool report = out.report;
  Finish(index);
  Pump(turn, peer_index);
  if (report) turn.handler.OnMessageEnded(turn, id, cookie, std::nullopt);
}

void MessageLayer::Rep::ReceiveReset(const Turn& turn, const Datagram& datagram,
                                     const MessageView& message) {
  const std::uint32_t peer_index = peers.Find(datagram.from);
  const std::uint32_t index = peer_index == kNil ? kNil : FindById(peer_index, message.id());
  // Attack: forged resets that end requests and observations.
  if (index == kNil) {
    ++stats.unmatched_resets;
    return;
  }
  ++stats.resets_received;
  peers[peer_index].probe_debt = 0;
  peers.Touch(peer_index, stamp);
  Fail(turn, index, Failure::kReset);
}

void MessageLayer::Rep::ReceiveResponse(const Turn& turn, const Datagram& datagram,
                                        const MessageView& message) {
  const std::uint32_t index = FindByToken(message.token());
  std::uint32_t peer_index = peers.Find(datagram.from);
  const bool confirmable = message.type() == Type::kCon;
  // A duplicate comes first: its request may be long over.
  if (peer_index != kNil && (confirmable || index != kNil)) {
    const std::uint32_t known = seen_table.Find(peer_index, message.id(), stamp);
    if (known != kNil) return ReceiveDuplicate(turn, datagram, known);
  }
  // Attack: whoever learns or guesses a token answers for the peer that was asked.
  if (index == kNil || (!outgoing[index].multicast && outgoing[index].peer != peer_index))
    return RejectResponse(turn, datagram, message);
  if (outgoing[index].multicast) peer_index = FindOrAddPeer(datagram.from);
  if (peer_index == kNil) {
    ++stats.no_peer_slot;
    return;
  }
  Peer& peer = peers[peer_index];
  Credit(peer, datagram.bytes.size());
  peer.probe_debt = 0;
  peers.Touch(peer_index, stamp);
  const bool goes_on = outgoing[index].multicast || outgoing[index].observe;
  // A request that ends with this response needs no memory of it, unless it must be acknowledged
  // again.
  if (confirmable || goes_on) {
    const std::uint32_t seen =
        seen_table.Add(peer_index, message.id(), stamp, confirmable ? exchange_stamps : non_stamps);
    if (seen == kNil) {
      ++stats.no_memory;
      return;
    }
    seen_table[seen].confirmable = confirmable;
    seen_table.End(seen, confirmable ? SeenState::kAcked : SeenState::kSilent);
  }
  if (confirmable) TransmitEmpty(turn, datagram.from, Type::kAck, message.id());
  Deliver(turn, index, datagram.from, message);
}

void MessageLayer::Rep::RejectResponse(const Turn& turn, const Datagram& datagram,
                                       const MessageView& message) {
  ++stats.unmatched_responses;
  // A notification that nobody wants any more is ended by a reset. Spec: RFC 7641 section 3.6.
  if (message.type() == Type::kCon || message.Has(OptionNumber::kObserve))
    TransmitEmpty(turn, datagram.from, Type::kRst, message.id());
}

void MessageLayer::Rep::Deliver(const Turn& turn, std::uint32_t index, const SocketAddress& from,
                                const MessageView& message) {
  Outgoing& out = outgoing[index];
  const std::uint32_t peer_index = out.peer;
  const OutgoingId id = IdOf(index);
  const std::uint64_t cookie = out.cookie;
  const bool more = out.multicast || (out.observe && IsSuccess(message.code()) &&
                                      message.Has(OptionNumber::kObserve));
  ++stats.responses_received;
  if (!out.multicast) {
    Verify(peer_index);
    if (message.code() == Code::kTooManyRequests) BackOff(peers[peer_index], message);
  }
  if (!more) {
    Finish(index);
    Pump(turn, peer_index);
  } else if (!out.multicast && out.state != OutgoingState::kObserving) {
    out.state = OutgoingState::kObserving;
    wheel.Cancel(out.timer);
    if (out.hashed) Unhash(index);
    ReleaseFlight(index);
    DropMessage(index);
    Pump(turn, peer_index);
  }
  turn.handler.OnResponse(
      turn, {.request = id, .cookie = cookie, .peer = from, .message = message, .more = more});
}

void MessageLayer::Rep::BackOff(Peer& peer, const MessageView& message) {
  // Spec: RFC 8516 section 4; the default of Max-Age is a minute.
  std::uint64_t seconds = 60;
  if (const auto age = message.Find(OptionNumber::kMaxAge)) seconds = age->AsUint().value_or(60);
  const auto most = static_cast<std::uint64_t>(parameters.max_back_off.count());
  const std::uint64_t wait = seconds < most / 1000 ? seconds * 1000 : most;
  if (wait == 0) return;
  ++stats.back_offs;
  const Stamp until = stamp + StampsOf(std::chrono::milliseconds(wait));
  peer.back_off_until = std::max(peer.back_off_until, until);
}

}  // namespace waxvm::coap
