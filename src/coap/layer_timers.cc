// SPDX-License-Identifier: Apache-2.0
// How messages of this side end: found by id and token, timed out, given up, freed.
#include <algorithm>
#include <cstring>

#include "src/coap/layer_rep.h"

namespace waxvm::coap {

void MessageLayer::Expire(const Turn& turn) {
  Rep& rep = *rep_;
  rep.SetNow(turn.now);
  const std::uint64_t until = rep.tick;
  while (const Timer* timer = rep.wheel.PopDue(until)) {
    if (timer->kind == Rep::kOutgoingTimer)
      rep.OutgoingTimeout(turn, timer->index);
    else
      rep.DeferredTimeout(turn, timer->index);
  }
}

std::array<std::byte, MessageLayer::Rep::kTokenBytes> MessageLayer::Rep::TokenOfRequest(
    std::uint32_t index) const {
  const Outgoing& out = outgoing[index];
  // Where it lies and how often that was used, and what nobody can guess.
  const std::uint32_t words[2] = {index | out.generation << 24, out.token_random};
  std::array<std::byte, kTokenBytes> token;
  std::memcpy(token.data(), words, kTokenBytes);
  return token;
}

std::uint32_t MessageLayer::Rep::FindByToken(Bytes token) const {
  if (token.size() != kTokenBytes) return kNil;
  std::uint32_t words[2];
  std::memcpy(words, token.data(), kTokenBytes);
  const std::uint32_t index = words[0] & 0xffffff;
  if (index >= outgoing.touched()) return kNil;
  const Outgoing& out = outgoing[index];
  const bool sent = out.state >= OutgoingState::kConfirm;
  if (!sent || !out.request || (out.generation & 0xff) != words[0] >> 24) return kNil;
  return out.token_random == words[1] ? index : kNil;
}

std::uint32_t MessageLayer::Rep::FindById(std::uint32_t peer, std::uint16_t id) const {
  for (std::uint32_t at = IdHead(peer, id); at != kNil; at = outgoing[at].next)
    if (outgoing[at].peer == peer && outgoing[at].id == id) return at;
  return kNil;
}

std::uint32_t MessageLayer::Rep::FindOutgoing(OutgoingId id) const {
  const auto index = static_cast<std::uint32_t>(id.value);
  if (index >= outgoing.touched()) return kNil;
  const Outgoing& out = outgoing[index];
  return out.generation == id.value >> 32 && out.state != OutgoingState::kFree ? index : kNil;
}

void MessageLayer::Rep::Unhash(std::uint32_t index) {
  Outgoing& out = outgoing[index];
  std::uint32_t* link = &IdHead(out.peer, out.id);
  while (*link != index) link = &outgoing[*link].next;
  *link = out.next;
  out.next = kNil;
  out.hashed = false;
}

void MessageLayer::Rep::ReleaseFlight(std::uint32_t index) {
  Outgoing& out = outgoing[index];
  if (!out.counted) return;
  out.counted = false;
  --peers[out.peer].in_flight;
}

void MessageLayer::Rep::DropMessage(std::uint32_t index) {
  Outgoing& out = outgoing[index];
  if (out.chain == kNil) return;
  Peer& peer = peers[out.peer];
  peer.blocks = static_cast<std::uint16_t>(peer.blocks - BlockPool::BlocksOf(out.size));
  blocks.Free(out.chain);
  out.chain = kNil;
}

void MessageLayer::Rep::Finish(std::uint32_t index) {
  Outgoing& out = outgoing[index];
  Peer& peer = peers[out.peer];
  wheel.Cancel(out.timer);
  if (out.hashed) Unhash(index);
  ReleaseFlight(index);
  const bool queued =
      out.state == OutgoingState::kQueued && (out.list_prev != kNil || peer.queue_first == index);
  if (queued || out.tracked) Unlist(index);
  DropMessage(index);
  out.state = OutgoingState::kFree;
  --peer.outgoing;
  --peer.pins;
  outgoing.Give(index);
}

void MessageLayer::Rep::Fail(const Turn& turn, std::uint32_t index, Failure failure) {
  const Outgoing& out = outgoing[index];
  const OutgoingId id = IdOf(index);
  const std::uint64_t cookie = out.cookie;
  const std::uint32_t peer = out.peer;
  const bool request = out.request && !out.no_response;
  const bool report = out.report;
  if (failure == Failure::kTimeout && !out.multicast) ++stats.timeouts;
  Finish(index);
  Pump(turn, peer);
  if (request)
    turn.handler.OnRequestFailed(turn, id, cookie, failure);
  else if (report)
    turn.handler.OnMessageEnded(turn, id, cookie, failure);
}

void MessageLayer::Rep::OutgoingTimeout(const Turn& turn, std::uint32_t index) {
  Outgoing& out = outgoing[index];
  const std::uint32_t peer_index = out.peer;
  switch (out.state) {
    case OutgoingState::kQueued:
      return Pump(turn, peer_index);
    case OutgoingState::kLeisure: {
      std::uint64_t until = 0;
      if (HaveMessageId(peers[peer_index], until))
        return Start(turn, index);  // it reports nothing, and so ends with this
      return Finish(index);
    }
    case OutgoingState::kConfirm:
      return ConfirmTimeout(turn, index);
    case OutgoingState::kSent:
      if (!out.request) return Finish(index);
      if (!out.counted || tick >= out.deadline) return Fail(turn, index, Failure::kTimeout);
      ReleaseFlight(index);
      wheel.Set(out.timer, out.deadline);
      return Pump(turn, peer_index);
    case OutgoingState::kAwaiting:
      return Fail(turn, index, Failure::kTimeout);
    case OutgoingState::kObserving:
    case OutgoingState::kFree:
      return;
  }
}

void MessageLayer::Rep::ConfirmTimeout(const Turn& turn, std::uint32_t index) {
  Outgoing& out = outgoing[index];
  if (out.attempts >= parameters.max_retransmit || (out.request && tick >= out.deadline))
    return Fail(turn, index, Failure::kTimeout);
  ++out.attempts;
  out.timeout *= 2;
  ++stats.retransmissions;
  TransmitSlot(turn, index);
  const std::uint64_t next = tick + out.timeout;
  wheel.Set(out.timer, out.request ? std::min(next, out.deadline) : next);
}

}  // namespace waxvm::coap
