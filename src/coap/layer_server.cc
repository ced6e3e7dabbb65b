// SPDX-License-Identifier: Apache-2.0
// Answers: with the acknowledgement, on their own, to groups, and Echo challenges.
#include <algorithm>
#include <cstring>

#include "src/base/status.h"
#include "src/coap/layer_rep.h"

namespace waxvm::coap {
namespace {

absl::Status Ended() { return absl::NotFoundError("the exchange has ended"); }

}  // namespace

absl::Status MessageLayer::Respond(const Turn& turn, ExchangeId exchange,
                                   const ResponseSpec& spec) {
  rep_->SetNow(turn.now);
  const std::uint32_t index = rep_->seen_table.FindPending(exchange.value);
  return index == kNil ? Ended() : rep_->Respond(turn, index, spec);
}

absl::Status MessageLayer::Challenge(const Turn& turn, ExchangeId exchange) {
  rep_->SetNow(turn.now);
  const std::uint32_t index = rep_->seen_table.FindPending(exchange.value);
  return index == kNil ? Ended() : rep_->Challenge(turn, index);
}

absl::Status MessageLayer::Ignore(const Turn& turn, ExchangeId exchange, bool reset) {
  rep_->SetNow(turn.now);
  const std::uint32_t index = rep_->seen_table.FindPending(exchange.value);
  if (index == kNil) return Ended();
  const Seen& seen = rep_->seen_table[index];
  if (!reset || !seen.confirmable || seen.acked || seen.multicast) {
    rep_->EndSilently(turn, index);
    return absl::OkStatus();
  }
  Peer& peer = rep_->peers[seen.peer];
  if (rep_->SpendCredit(peer, kHeaderBytes))
    rep_->TransmitEmpty(turn, peer.address, Type::kRst, seen.id);
  rep_->CloseExchange(index, SeenState::kReset);
  return absl::OkStatus();
}

bool MessageLayer::Rep::Defer(std::uint32_t index, Bytes token) {
  Seen& seen = seen_table[index];
  Peer& peer = peers[seen.peer];
  // Attack: slow requests from ever new addresses. Half of the slots are not for strangers.
  const std::size_t most = peer.standing == Standing::kStranger
                               ? std::max<std::size_t>(deferred.capacity() / 2, 1)
                               : deferred.capacity();
  if (deferred.used() >= most || peer.deferred >= limits.deferred_per_peer) return false;
  const std::uint32_t slot = deferred.Take();
  Deferred& later = deferred[slot];
  later.seen = index;
  later.token_bytes = static_cast<std::uint32_t>(token.size());
  if (!token.empty()) std::memcpy(later.token, token.data(), token.size());
  later.timer.kind = kDeferredTimer;
  later.timer.index = slot;
  seen.chain = slot;
  ++peer.deferred;
  if (seen.confirmable) wheel.Set(later.timer, tick + TicksOf(parameters.ack_delay));
  return true;
}

void MessageLayer::Rep::DeferredTimeout(const Turn& turn, std::uint32_t index) {
  Seen& seen = seen_table[deferred[index].seen];
  Peer& peer = peers[seen.peer];
  seen.acked = true;
  SpendCredit(peer, kHeaderBytes);
  TransmitEmpty(turn, peer.address, Type::kAck, seen.id);
}

void MessageLayer::Rep::ReleaseExchange(std::uint32_t index) {
  Seen& seen = seen_table[index];
  Peer& peer = peers[seen.peer];
  --peer.pins;
  if (seen.chain == kNil) return;
  wheel.Cancel(deferred[seen.chain].timer);
  deferred.Give(seen.chain);
  --peer.deferred;
  seen.chain = kNil;
}

void MessageLayer::Rep::CloseExchange(std::uint32_t index, SeenState state) {
  ReleaseExchange(index);
  seen_table.End(index, state);
}

Bytes MessageLayer::Rep::TokenOf(std::uint32_t index) const {
  if (index == current_seen) return current_token;
  const Deferred& later = deferred[const_cast<SeenTable&>(seen_table)[index].chain];
  return {later.token, later.token_bytes};
}

void MessageLayer::Rep::EndSilently(const Turn& turn, std::uint32_t index) {
  Seen& seen = seen_table[index];
  Peer& peer = peers[seen.peer];
  if (seen.confirmable && !seen.acked) {
    SpendCredit(peer, kHeaderBytes);
    TransmitEmpty(turn, peer.address, Type::kAck, seen.id);
  }
  CloseExchange(index, seen.confirmable ? SeenState::kAcked : SeenState::kSilent);
}

absl::Status MessageLayer::Rep::Respond(const Turn& turn, std::uint32_t index,
                                        const ResponseSpec& spec) {
  if (!IsResponse(spec.code))
    return InvalidArgument("code %d is no response's", static_cast<int>(spec.code));
  const std::size_t size = ComposedSize(TokenOf(index), spec.body);
  if (size > limits.message_bytes)
    return InvalidArgument("a response of %u bytes is above the limit of %u", size,
                           limits.message_bytes);
  const Seen& seen = seen_table[index];
  const unsigned kind = ClassOf(spec.code);
  const unsigned bit = kind == 2 ? 1 : kind == 4 ? 2 : 4;
  // Errors are not sent to groups: all of their members would send one. Spec: RFC 7252 section 8.2.
  if ((seen.no_response & bit) != 0 || (seen.multicast && kind != 2)) {
    ++stats.suppressed;
    EndSilently(turn, index);
    return absl::OkStatus();
  }
  const Peer& peer = peers[seen.peer];
  if (!IsLimited(peer) || peer.credit >= size || seen.multicast) return Answer(turn, index, spec);
  ++stats.over_amplification;
  if (parameters.echo) return Challenge(turn, index);
  if (seen.confirmable && !seen.acked) {
    // Each duplicate raises what may be sent.
    RespondPiggybacked(turn, index, spec, false);
  } else {
    CloseExchange(index, seen.confirmable ? SeenState::kAcked : SeenState::kSilent);
  }
  return absl::OkStatus();
}

absl::Status MessageLayer::Rep::Answer(const Turn& turn, std::uint32_t index,
                                       const ResponseSpec& spec) {
  const Seen& seen = seen_table[index];
  if (seen.multicast) return RespondLater(turn, index, spec);
  if (!seen.confirmable || seen.acked) return RespondSeparately(turn, index, spec);
  RespondPiggybacked(turn, index, spec);
  return absl::OkStatus();
}

void MessageLayer::Rep::RespondPiggybacked(const Turn& turn, std::uint32_t index,
                                           const ResponseSpec& spec, bool send) {
  const Seen& seen = seen_table[index];
  Peer& peer = peers[seen.peer];
  std::byte* const message = scratch.data();
  const std::size_t size =
      Compose(message, Type::kAck, spec.code, seen.id, TokenOf(index), spec.body);
  ReleaseExchange(index);
  if (send && SpendCredit(peer, size)) {
    ++stats.responses_sent;
    Transmit(turn, peer.address, {message, size});
  }
  // Kept without the message id: the two bytes before it take its place.
  message[2] = message[0];
  message[3] = message[1];
  seen_table.Keep(index, {message + 2, size - 2});
}

absl::Status MessageLayer::Rep::RespondSeparately(const Turn& turn, std::uint32_t index,
                                                  const ResponseSpec& spec) {
  const Seen& seen = seen_table[index];
  const bool confirmable = seen.confirmable && spec.confirmable;
  const Draft draft = {.peer = seen.peer,
                       .type = confirmable ? Type::kCon : Type::kNon,
                       .code = spec.code,
                       .token = TokenOf(index),
                       .body = spec.body};
  if (confirmable) {
    WAXVM_ASSIGN_OR_RETURN(const std::uint32_t slot, Draw(draft));
    WAXVM_RETURN_IF_ERROR(Submit(turn, slot));
  } else {
    WAXVM_RETURN_IF_ERROR(SendUntracked(turn, draft));
  }
  ++stats.responses_sent;
  CloseExchange(index, seen.confirmable ? SeenState::kAcked : SeenState::kSilent);
  return absl::OkStatus();
}

absl::Status MessageLayer::Rep::RespondLater(const Turn& turn, std::uint32_t index,
                                             const ResponseSpec& spec) {
  static_cast<void>(turn);
  const Seen& seen = seen_table[index];
  WAXVM_ASSIGN_OR_RETURN(const std::uint32_t slot, Draw({.peer = seen.peer,
                                                         .type = Type::kNon,
                                                         .code = spec.code,
                                                         .token = TokenOf(index),
                                                         .body = spec.body}));
  outgoing[slot].state = OutgoingState::kLeisure;
  wheel.Set(outgoing[slot].timer, tick + RandomBelow(TicksOf(parameters.default_leisure) + 1));
  ++stats.responses_sent;
  CloseExchange(index, SeenState::kSilent);
  return absl::OkStatus();
}

std::array<std::byte, MessageLayer::Rep::kEchoBytes> MessageLayer::Rep::EchoValue(
    const SocketAddress& peer, std::uint64_t time) const {
  std::uint64_t words[4];
  std::memcpy(words, peer.address.bytes.data(), kAddressBytes);
  words[2] = peer.port | std::uint64_t{peer.zone} << 16;
  words[3] = time;
  const std::uint64_t mac = SipHash<2, 4>::Of(secret, words);
  std::array<std::byte, kEchoBytes> value = {static_cast<std::byte>(time >> 8),
                                             static_cast<std::byte>(time)};
  std::memcpy(value.data() + 2, &mac, kEchoBytes - 2);
  return value;
}

bool MessageLayer::Rep::CheckEcho(const SocketAddress& peer, Bytes value) const {
  if (value.size() != kEchoBytes) return false;
  const std::uint64_t now = tick >> 10;
  const std::uint64_t low =
      static_cast<std::uint64_t>(value[0]) << 8 | static_cast<std::uint64_t>(value[1]);
  const std::uint64_t age = (now - low) & 0xffff;
  if (age > now || age > TicksOf(parameters.echo_lifetime) >> 10) return false;
  const auto wanted = EchoValue(peer, now - age);
  std::byte difference{};
  for (std::size_t i = 0; i < kEchoBytes; ++i) difference |= wanted[i] ^ value[i];
  return difference == std::byte{};
}

absl::Status MessageLayer::Rep::Challenge(const Turn& turn, std::uint32_t index) {
  const Seen& seen = seen_table[index];
  const Peer& peer = peers[seen.peer];
  if (seen.multicast) {
    ++stats.suppressed;
    EndSilently(turn, index);
    return absl::OkStatus();
  }
  std::array<std::byte, kHeaderBytes + 3 + kEchoBytes> option;
  MessageWriter writer(option, Type::kCon, Code::kEmpty, 0);
  const auto value = EchoValue(peer.address, tick >> 10);
  writer.Option(OptionNumber::kEcho, value);
  Bytes body = writer.message().subspan(kHeaderBytes);
  const auto fits = [&](Bytes what) {
    return !IsLimited(peer) || ComposedSize(TokenOf(index), what) <= peer.credit;
  };
  // A request of a few bytes is not worth even this many.
  if (!fits(body)) body = {};
  if (!fits(body)) {
    EndSilently(turn, index);
    return absl::OkStatus();
  }
  ++stats.echo_challenges;
  return Answer(turn, index, {.code = Code::kUnauthorized, .body = body, .confirmable = false});
}

}  // namespace waxvm::coap
