// SPDX-License-Identifier: Apache-2.0
// Requests and messages of this side: their slots, when they may be sent, and sending them.
#include <algorithm>
#include <cstring>

#include "src/base/status.h"
#include "src/coap/layer_rep.h"

namespace waxvm::coap {
namespace {

absl::Status TooLong(std::size_t size, std::size_t limit) {
  return InvalidArgument("a message of %u bytes is above the limit of %u", size, limit);
}

}  // namespace

absl::StatusOr<OutgoingId> MessageLayer::Request(const Turn& turn, const SocketAddress& peer,
                                                 const RequestSpec& spec) {
  Rep& rep = *rep_;
  rep.SetNow(turn.now);
  const bool multicast = peer.is_multicast();
  if (!IsRequest(spec.code))
    return InvalidArgument("code %d is no request's", static_cast<int>(spec.code));
  if (multicast && spec.confirmable)
    return absl::InvalidArgumentError("a request to a group cannot be confirmable");
  const std::size_t size = kHeaderBytes + Rep::kTokenBytes + spec.body.size();
  if (size > rep.limits.message_bytes) return TooLong(size, rep.limits.message_bytes);
  if (spec.timeout.count() < 0 || spec.timeout > std::chrono::hours(24))
    return InvalidArgument("a timeout of %d ms is not between 0 and a day", spec.timeout.count());
  const std::uint32_t peer_index = rep.FindOrAddPeer(peer);
  if (peer_index == kNil)
    return absl::ResourceExhaustedError("the peer table is full of peers in use");
  WAXVM_ASSIGN_OR_RETURN(const std::uint32_t index,
                         rep.Draw({.peer = peer_index,
                                   .type = spec.confirmable ? Type::kCon : Type::kNon,
                                   .code = spec.code,
                                   .token = {},
                                   .body = spec.body,
                                   .request = true}));
  Outgoing& out = rep.outgoing[index];
  out.cookie = spec.cookie;
  out.multicast = multicast;
  out.observe = spec.observe;
  out.no_response = spec.no_response;
  out.report = true;
  out.deadline =
      rep.TicksOf(spec.timeout.count() != 0 ? spec.timeout : rep.parameters.response_timeout);
  const OutgoingId id = spec.no_response && !spec.confirmable ? OutgoingId{} : rep.IdOf(index);
  WAXVM_RETURN_IF_ERROR(rep.Submit(turn, index));
  ++rep.stats.requests_sent;
  return id;
}

bool MessageLayer::Cancel(const Turn& turn, OutgoingId id) {
  rep_->SetNow(turn.now);
  const std::uint32_t index = rep_->FindOutgoing(id);
  if (index == kNil) return false;
  const std::uint32_t peer = rep_->outgoing[index].peer;
  rep_->Finish(index);
  rep_->Pump(turn, peer);
  return true;
}

absl::StatusOr<OutgoingId> MessageLayer::Ping(const Turn& turn, const SocketAddress& peer,
                                              std::uint64_t cookie) {
  return Send(turn, peer, {.code = Code::kEmpty, .confirmable = true, .cookie = cookie});
}

absl::StatusOr<OutgoingId> MessageLayer::Send(const Turn& turn, const SocketAddress& peer,
                                              const SendSpec& spec) {
  Rep& rep = *rep_;
  rep.SetNow(turn.now);
  const bool ping = spec.code == Code::kEmpty;
  if (ping ? !spec.confirmable || !spec.token.empty() || !spec.body.empty()
           : !IsResponse(spec.code))
    return InvalidArgument("code %d is no response's", static_cast<int>(spec.code));
  if (spec.token.size() > Deferred::kMaxTokenBytes)
    return InvalidArgument("a token of %u bytes is above %u", spec.token.size(),
                           Deferred::kMaxTokenBytes);
  if (spec.confirmable && peer.is_multicast())
    return absl::InvalidArgumentError("a message to a group cannot be confirmable");
  const std::size_t size = Rep::ComposedSize(spec.token, spec.body);
  if (size > rep.limits.message_bytes) return TooLong(size, rep.limits.message_bytes);
  const std::uint32_t peer_index = rep.FindOrAddPeer(peer);
  if (peer_index == kNil)
    return absl::ResourceExhaustedError("the peer table is full of peers in use");
  const Peer& known = rep.peers[peer_index];
  if (!ping && rep.IsLimited(known) && known.credit < size) {
    ++rep.stats.over_amplification;
    return absl::PermissionDeniedError(
        "the peer has not shown that it is at its address, and has sent too little for this");
  }
  const Rep::Draft draft = {.peer = peer_index,
                            .type = spec.confirmable ? Type::kCon : Type::kNon,
                            .code = spec.code,
                            .token = spec.token,
                            .body = spec.body};
  // Tracking is a service; slots are for what cannot do without.
  const bool tracked =
      spec.confirmable || (spec.report && rep.outgoing.used() < rep.outgoing.capacity() / 4 * 3);
  if (!tracked) {
    WAXVM_RETURN_IF_ERROR(rep.SendUntracked(turn, draft));
    return OutgoingId{};
  }
  WAXVM_ASSIGN_OR_RETURN(const std::uint32_t index, rep.Draw(draft));
  rep.outgoing[index].cookie = spec.cookie;
  rep.outgoing[index].report = spec.report;
  const OutgoingId id = rep.IdOf(index);
  WAXVM_RETURN_IF_ERROR(rep.Submit(turn, index));
  return id;
}

absl::StatusOr<std::uint32_t> MessageLayer::Rep::Draw(const Draft& draft) {
  Peer& peer = peers[draft.peer];
  // What peers cause must leave room for this side's own requests.
  const std::size_t most =
      draft.request || peer.verified ? outgoing.capacity() : (outgoing.capacity() + 1) / 2;
  if (outgoing.used() >= most || peer.outgoing >= limits.outgoing_per_peer)
    return absl::ResourceExhaustedError("too many messages are under way");
  const std::uint64_t random = Random();
  const std::uint32_t index = outgoing.Take();
  Outgoing& out = outgoing[index];
  ++out.generation;
  out.token_random = static_cast<std::uint32_t>(random);
  const auto token = TokenOfRequest(index);
  const Bytes token_bytes = draft.request ? Bytes(token) : draft.token;
  const std::size_t size = ComposedSize(token_bytes, draft.body);
  out.chain = kNil;
  if (size <= Outgoing::kInlineBytes) {
    Compose(out.bytes, draft.type, draft.code, 0, token_bytes, draft.body);
  } else {
    Compose(scratch.data(), draft.type, draft.code, 0, token_bytes, draft.body);
    const std::size_t count = BlockPool::BlocksOf(size);
    if (peer.blocks + count <= limits.blocks_per_peer)
      out.chain = blocks.Store({scratch.data(), size});
    if (out.chain == kNil) {
      outgoing.Give(index);
      return absl::ResourceExhaustedError("too many long messages are under way");
    }
    peer.blocks = static_cast<std::uint16_t>(peer.blocks + count);
  }
  out.timer.kind = kOutgoingTimer;
  out.timer.index = index;
  out.peer = draft.peer;
  out.list_next = out.list_prev = kNil;
  out.cookie = 0;
  out.deadline = 0;
  out.timeout = static_cast<std::uint32_t>(ack_timeout_ticks +
                                           ((random >> 32) * (ack_spread_ticks + 1) >> 32));
  out.size = static_cast<std::uint16_t>(size);
  out.state = OutgoingState::kQueued;
  out.attempts = 0;
  out.request = draft.request;
  out.confirmable = draft.type == Type::kCon;
  out.observe = out.no_response = out.report = out.multicast = false;
  out.counted = out.hashed = out.tracked = false;
  ++peer.outgoing;
  ++peer.pins;
  return index;
}

MessageLayer::Rep::Gate MessageLayer::Rep::GateOf(const Peer& peer, bool counts, bool request,
                                                  bool confirmable, std::size_t size,
                                                  std::uint64_t& until) const {
  if (counts && peer.in_flight >= parameters.nstart) return Gate::kInFlight;
  if (request && peer.back_off_until > stamp) {
    until = TickOf(peer.back_off_until);
    return Gate::kUntil;
  }
  if (!confirmable && parameters.probing_rate != 0 && !peer.address.is_multicast()) {
    const std::uint64_t debt = ProbeDebt(peer);
    if (debt != 0 && debt + size > parameters.probing_burst_bytes) {
      const std::uint64_t over = debt + size - parameters.probing_burst_bytes;
      until = tick + over * 954 / parameters.probing_rate + TickOf(1);
      return Gate::kUntil;
    }
  }
  return HaveMessageId(peer, until) ? Gate::kOpen : Gate::kUntil;
}

MessageLayer::Rep::Gate MessageLayer::Rep::GateOf(std::uint32_t index, std::uint64_t& until) const {
  const Outgoing& out = outgoing[index];
  return GateOf(peers[out.peer], CountsAgainstNstart(out), out.request, out.confirmable, out.size,
                until);
}

std::uint32_t MessageLayer::Rep::ProbeDebt(const Peer& peer) const {
  const std::uint64_t paid = (std::uint64_t{stamp - peer.probe_stamp} << kStampShift) /
                             1'000'000'000 * parameters.probing_rate;
  return paid >= peer.probe_debt ? 0 : static_cast<std::uint32_t>(peer.probe_debt - paid);
}

void MessageLayer::Rep::AccountProbe(Peer& peer, std::size_t size) {
  if (parameters.probing_rate == 0) return;
  peer.probe_debt = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(std::uint64_t{ProbeDebt(peer)} + size, 0x7fffffff));
  peer.probe_stamp = stamp;
}

absl::Status MessageLayer::Rep::Submit(const Turn& turn, std::uint32_t index) {
  const std::uint32_t peer_index = outgoing[index].peer;
  std::uint64_t until = 0;
  const bool first = peers[peer_index].queue_first == kNil;
  const Gate gate = first ? GateOf(index, until) : Gate::kInFlight;
  if (gate == Gate::kOpen) {
    Start(turn, index);
    return absl::OkStatus();
  }
  if (std::uint64_t free = 0; !HaveMessageId(peers[peer_index], free)) {
    ++stats.message_ids_exhausted;
    if (parameters.message_id_exhaustion == MessageIdExhaustion::kError) {
      Finish(index);
      return absl::ResourceExhaustedError("the peer was sent 65,536 messages within a lifetime");
    }
  }
  ++stats.queued;
  Enqueue(index);
  if (gate == Gate::kUntil) wheel.Set(outgoing[index].timer, until);
  return absl::OkStatus();
}

absl::Status MessageLayer::Rep::SendUntracked(const Turn& turn, const Draft& draft) {
  Peer& peer = peers[draft.peer];
  const std::size_t size = ComposedSize(draft.token, draft.body);
  std::uint64_t until = 0;
  if (peer.queue_first != kNil || GateOf(peer, false, false, false, size, until) != Gate::kOpen) {
    WAXVM_ASSIGN_OR_RETURN(const std::uint32_t index, Draw(draft));
    return Submit(turn, index);
  }
  if (!SpendCredit(peer, size)) return absl::OkStatus();
  Compose(scratch.data(), draft.type, draft.code, TakeMessageId(draft.peer), draft.token,
          draft.body);
  AccountProbe(peer, size);
  Transmit(turn, peer.address, {scratch.data(), size});
  return absl::OkStatus();
}

void MessageLayer::Rep::Start(const Turn& turn, std::uint32_t index) {
  Outgoing& out = outgoing[index];
  Peer& peer = peers[out.peer];
  out.id = TakeMessageId(out.peer);
  std::byte* const message = out.chain == kNil ? out.bytes : blocks.Front(out.chain);
  message[2] = static_cast<std::byte>(out.id >> 8);
  message[3] = static_cast<std::byte>(out.id);
  TransmitSlot(turn, index);
  if (!out.confirmable) {
    AccountProbe(peer, out.size);
    const bool over = out.request ? out.no_response : !out.report;
    if (over) return Finish(index);
  }
  std::uint32_t& head = IdHead(out.peer, out.id);
  out.next = head;
  head = index;
  out.hashed = true;
  if (CountsAgainstNstart(out)) {
    out.counted = true;
    ++peer.in_flight;
  }
  const std::uint64_t limit = tick + out.deadline;
  out.deadline = limit;
  if (out.confirmable) {
    out.state = OutgoingState::kConfirm;
    const std::uint64_t next = tick + out.timeout;
    wheel.Set(out.timer, out.request ? std::min(next, limit) : next);
    return;
  }
  out.state = OutgoingState::kSent;
  DropMessage(index);
  if (!out.request) {
    Track(index);
    wheel.Set(out.timer, tick + TicksOf(parameters.non_lifetime));
  } else if (out.counted) {
    wheel.Set(out.timer, std::min(limit, tick + TicksOf(parameters.non_outstanding)));
  } else {
    wheel.Set(out.timer, limit);
  }
}

void MessageLayer::Rep::TransmitSlot(const Turn& turn, std::uint32_t index) {
  const Outgoing& out = outgoing[index];
  Peer& peer = peers[out.peer];
  // Retransmissions of what a peer asked for count as well; a ping is this side's own.
  if (!out.request && out.size > kHeaderBytes && !SpendCredit(peer, out.size)) return;
  if (out.chain == kNil) return Transmit(turn, peer.address, {out.bytes, out.size});
  blocks.Load(out.chain, {scratch.data(), out.size});
  Transmit(turn, peer.address, {scratch.data(), out.size});
}

void MessageLayer::Rep::Enqueue(std::uint32_t index) {
  Outgoing& out = outgoing[index];
  Peer& peer = peers[out.peer];
  out.list_prev = peer.queue_last;
  out.list_next = kNil;
  (peer.queue_last == kNil ? peer.queue_first : outgoing[peer.queue_last].list_next) = index;
  peer.queue_last = index;
}

void MessageLayer::Rep::Pump(const Turn& turn, std::uint32_t peer_index) {
  const Peer& peer = peers[peer_index];
  while (peer.queue_first != kNil) {
    const std::uint32_t index = peer.queue_first;
    std::uint64_t until = 0;
    const Gate gate = GateOf(index, until);
    if (gate == Gate::kUntil) wheel.Set(outgoing[index].timer, std::max(until, tick + 1));
    if (gate != Gate::kOpen) return;
    Unlist(index);
    wheel.Cancel(outgoing[index].timer);
    Start(turn, index);
  }
}

void MessageLayer::Rep::Track(std::uint32_t index) {
  Outgoing& out = outgoing[index];
  Peer& peer = peers[out.peer];
  if (peer.tracked >= kTrackedPerPeer) Finish(peer.tracked_first);
  out.tracked = true;
  out.list_prev = peer.tracked_last;
  out.list_next = kNil;
  (peer.tracked_last == kNil ? peer.tracked_first : outgoing[peer.tracked_last].list_next) = index;
  peer.tracked_last = index;
  ++peer.tracked;
}

void MessageLayer::Rep::Unlist(std::uint32_t index) {
  Outgoing& out = outgoing[index];
  Peer& peer = peers[out.peer];
  std::uint32_t& first = out.tracked ? peer.tracked_first : peer.queue_first;
  std::uint32_t& last = out.tracked ? peer.tracked_last : peer.queue_last;
  (out.list_prev == kNil ? first : outgoing[out.list_prev].list_next) = out.list_next;
  (out.list_next == kNil ? last : outgoing[out.list_next].list_prev) = out.list_prev;
  out.list_next = out.list_prev = kNil;
  if (out.tracked) {
    out.tracked = false;
    --peer.tracked;
  }
}

}  // namespace waxvm::coap
