// SPDX-License-Identifier: Apache-2.0
#include "src/coap/message_layer.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "src/base/deadline.h"
#include "src/base/status.h"
#include "src/coap/layer_rep.h"

namespace waxvm::coap {
namespace {

using Milliseconds = std::chrono::milliseconds;

absl::Status CheckLimit(const char* name, std::size_t value, std::size_t least, std::size_t most) {
  if (value < least || value > most)
    return InvalidArgument("%s is %u, not between %u and %u", name, value, least, most);
  return absl::OkStatus();
}

absl::Status CheckTime(const char* name, Milliseconds value, Milliseconds least) {
  constexpr Milliseconds kMost = std::chrono::hours(24);
  if (value < least || value > kMost)
    return InvalidArgument("%s is %d ms, not between %d ms and a day", name, value.count(),
                           least.count());
  return absl::OkStatus();
}

absl::Status Check(const TransmissionParameters& p) {
  WAXVM_RETURN_IF_ERROR(CheckTime("ack_timeout", p.ack_timeout, Milliseconds(1)));
  WAXVM_RETURN_IF_ERROR(CheckTime("default_leisure", p.default_leisure, Milliseconds(0)));
  WAXVM_RETURN_IF_ERROR(CheckTime("exchange_lifetime", p.exchange_lifetime, Milliseconds(100)));
  WAXVM_RETURN_IF_ERROR(CheckTime("non_lifetime", p.non_lifetime, Milliseconds(100)));
  WAXVM_RETURN_IF_ERROR(CheckTime("response_timeout", p.response_timeout, Milliseconds(1)));
  WAXVM_RETURN_IF_ERROR(CheckTime("non_outstanding", p.non_outstanding, Milliseconds(1)));
  WAXVM_RETURN_IF_ERROR(CheckTime("ack_delay", p.ack_delay, Milliseconds(0)));
  WAXVM_RETURN_IF_ERROR(CheckTime("max_back_off", p.max_back_off, Milliseconds(0)));
  WAXVM_RETURN_IF_ERROR(CheckTime("echo_lifetime", p.echo_lifetime, Milliseconds(1000)));
  WAXVM_RETURN_IF_ERROR(CheckLimit("max_retransmit", p.max_retransmit, 0, 20));
  WAXVM_RETURN_IF_ERROR(CheckLimit("nstart", p.nstart, 1, 60'000));
  if (!(p.ack_random_factor >= 1 && p.ack_random_factor <= 10))
    return InvalidArgument("ack_random_factor is %g, not between 1 and 10", p.ack_random_factor);
  return absl::OkStatus();
}

absl::Status Check(const LayerLimits& l) {
  // Indices have 32 bits, those of requests 24 within their tokens; counts of one peer have 16.
  constexpr std::size_t kMany = (std::size_t{1} << 24) - 1;
  constexpr std::size_t kOnePeer = 60'000;
  WAXVM_RETURN_IF_ERROR(CheckLimit("peers", l.peers, 1, kMany));
  WAXVM_RETURN_IF_ERROR(CheckLimit("remembered", l.remembered, 2, kMany));
  WAXVM_RETURN_IF_ERROR(CheckLimit("outgoing", l.outgoing, 1, kMany));
  WAXVM_RETURN_IF_ERROR(CheckLimit("deferred", l.deferred, 1, kMany));
  WAXVM_RETURN_IF_ERROR(CheckLimit("blocks", l.blocks, 0, kMany));
  WAXVM_RETURN_IF_ERROR(CheckLimit("message_bytes", l.message_bytes, 64, 65'000));
  WAXVM_RETURN_IF_ERROR(CheckLimit("remembered_per_peer", l.remembered_per_peer, 1, kOnePeer));
  WAXVM_RETURN_IF_ERROR(CheckLimit("outgoing_per_peer", l.outgoing_per_peer, 1, kOnePeer));
  WAXVM_RETURN_IF_ERROR(CheckLimit("deferred_per_peer", l.deferred_per_peer, 1, kOnePeer));
  WAXVM_RETURN_IF_ERROR(CheckLimit("blocks_per_peer", l.blocks_per_peer, 0, kOnePeer));
  return CheckLimit("token_bytes", l.token_bytes, 0, Deferred::kMaxTokenBytes);
}

}  // namespace

MessageLayer::MessageLayer(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
MessageLayer::~MessageLayer() = default;

absl::StatusOr<std::unique_ptr<MessageLayer>> MessageLayer::Create(
    const TransmissionParameters& parameters, const LayerLimits& limits,
    const std::array<std::uint8_t, 32>& seed) {
  WAXVM_RETURN_IF_ERROR(Check(parameters));
  WAXVM_RETURN_IF_ERROR(Check(limits));
  std::array<std::uint64_t, 4> words;
  std::memcpy(words.data(), seed.data(), seed.size());
  auto rep = std::make_unique<Rep>(parameters, limits, words);
  if (!rep->valid())
    return absl::ResourceExhaustedError("there is not so much memory as the limits ask for");
  return std::unique_ptr<MessageLayer>(new MessageLayer(std::move(rep)));
}

void MessageLayer::Receive(const Turn& turn, const Datagram& datagram) {
  rep_->SetNow(turn.now);
  rep_->Receive(turn, datagram);
}

void MessageLayer::Prefetch(std::size_t count, absl::FunctionRef<Datagram(std::size_t)> at) const {
  constexpr std::size_t kMost = 64;
  std::array<std::uint64_t, kMost> hashes;
  std::array<std::uint32_t, kMost> found;
  std::array<std::uint16_t, kMost> ids;
  const Rep& rep = *rep_;
  count = std::min(count, kMost);
  // Step by step: by the time that one is asked for, what tells where it lies has come.
  for (std::size_t i = 0; i < count; ++i) {
    hashes[i] = rep.peers.HashOf(at(i).from);
    rep.peers.PrefetchHead(hashes[i]);
  }
  for (std::size_t i = 0; i < count; ++i) {
    // Most buckets have one peer, or none.
    found[i] = rep.peers.FirstOf(hashes[i]);
    if (found[i] != kNil) rep.peers.PrefetchPeer(found[i]);
  }
  for (std::size_t i = 0; i < count; ++i) {
    const Bytes bytes = at(i).bytes;
    if (bytes.size() < kHeaderBytes) found[i] = kNil;
    if (found[i] == kNil) continue;
    ids[i] = static_cast<std::uint16_t>(static_cast<unsigned>(bytes[2]) << 8 |
                                        static_cast<unsigned>(bytes[3]));
    __builtin_prefetch(&rep.IdHead(found[i], ids[i]));
    rep.seen_table.Prefetch(found[i], ids[i]);
  }
  for (std::size_t i = 0; i < count; ++i)
    if (found[i] != kNil) rep.seen_table.PrefetchNext(found[i], ids[i]);
}

Time MessageLayer::NextTimer() const {
  const std::uint64_t next = rep_->wheel.NextTick();
  if (next >= (std::uint64_t{1} << 42)) return Time::max();
  return After(rep_->epoch, std::chrono::nanoseconds(next << Rep::kTickShift));
}

bool MessageLayer::IsVerified(const SocketAddress& peer) const {
  const std::uint32_t index = rep_->peers.Find(peer);
  return index != kNil && rep_->peers[index].verified;
}

const LayerStatistics& MessageLayer::statistics() const {
  rep_->stats.early_evictions = rep_->seen_table.counts().early_evictions;
  rep_->stats.responses_not_kept = rep_->seen_table.counts().not_kept;
  return rep_->stats;
}

MessageLayer::Usage MessageLayer::usage() const {
  return {.peers = rep_->peers.used(),
          .remembered = rep_->seen_table.used(),
          .outgoing = rep_->outgoing.used(),
          .deferred = rep_->deferred.used(),
          .blocks = rep_->blocks.used()};
}

std::size_t MessageLayer::memory_bytes() const {
  return sizeof(Rep) + rep_->peers.memory_bytes() + rep_->seen_table.memory_bytes() +
         rep_->outgoing.memory_bytes() + rep_->deferred.memory_bytes() +
         rep_->blocks.memory_bytes() + rep_->scratch.size() +
         (std::size_t{1} << (64 - rep_->id_shift)) * sizeof(std::uint32_t);
}

MessageLayer::Rep::Rep(const TransmissionParameters& transmission, const LayerLimits& bounds,
                       std::span<const std::uint64_t, 4> seed)
    : parameters(transmission),
      limits(bounds),
      parse_limits{.max_token_bytes = bounds.token_bytes},
      secret{seed[0], seed[1]},
      peers(bounds.peers, {seed[2], seed[3]}),
      blocks(bounds.blocks),
      seen_table(bounds.remembered, bounds.remembered_per_peer, bounds.blocks_per_peer, Random(),
                 peers, blocks),
      outgoing(bounds.outgoing),
      deferred(bounds.deferred),
      id_key(Random() | 1),
      id_shift(64 -
               static_cast<int>(std::max<std::size_t>(1, std::bit_width(bounds.outgoing - 1)))),
      id_heads(MakeHeads(std::size_t{1} << (64 - id_shift))),
      scratch(bounds.message_bytes),
      ack_timeout_ticks(TicksOf(transmission.ack_timeout)),
      ack_spread_ticks(static_cast<std::uint64_t>(static_cast<double>(ack_timeout_ticks) *
                                                  (transmission.ack_random_factor - 1))),
      exchange_stamps(StampsOf(transmission.exchange_lifetime)),
      non_stamps(StampsOf(transmission.non_lifetime)) {}

bool MessageLayer::Rep::valid() const {
  return peers.valid() && blocks.valid() && seen_table.valid() && outgoing.valid() &&
         deferred.valid() && id_heads != nullptr;
}

void MessageLayer::Rep::SetNow(Time now) {
  if (!started) {
    started = true;
    epoch = now;
  }
  const std::int64_t passed = std::chrono::nanoseconds(now - epoch).count();
  const auto elapsed = static_cast<std::uint64_t>(std::max<std::int64_t>(0, passed));
  // A clock that goes back must not make timers or lifetimes wrap.
  tick = std::max<std::uint64_t>(tick, elapsed >> kTickShift);
  stamp = std::max(
      stamp, static_cast<Stamp>(std::min<std::uint64_t>((elapsed >> kStampShift) + 1, kLastStamp)));
}

std::uint64_t MessageLayer::Rep::TicksOf(std::chrono::nanoseconds duration) const {
  return (static_cast<std::uint64_t>(duration.count()) + (1 << kTickShift) - 1) >> kTickShift;
}

Stamp MessageLayer::Rep::StampsOf(std::chrono::nanoseconds duration) const {
  return static_cast<Stamp>((static_cast<std::uint64_t>(duration.count()) >> kStampShift) + 1);
}

std::uint64_t MessageLayer::Rep::Random() {
  const std::uint64_t word = ++random_counter;
  return SipHash<2, 4>::Of(secret, {&word, 1});
}

std::uint64_t MessageLayer::Rep::RandomBelow(std::uint64_t bound) {
  return (Random() >> 32) * bound >> 32;
}

std::uint32_t MessageLayer::Rep::FindOrAddPeer(const SocketAddress& address) {
  std::uint32_t index = peers.Find(address);
  if (index != kNil) {
    peers.Touch(index, stamp);
    return index;
  }
  if (peers.full()) {
    const std::uint32_t victim = peers.Victim();
    if (victim == kNil) return kNil;
    EvictPeer(victim);
  }
  index = peers.Add(address, stamp);
  ++stats.peers_created;
  // A peer that is forgotten and comes again goes on with ids that no message of it has, as long as
  // it is sent fewer than 65,536 in a lifetime: the first id moves with the time.
  const std::uint64_t moved = std::uint64_t{stamp} * 65536 / exchange_stamps;
  const std::uint64_t words[2] = {peers.HashOf(address), 1};
  peers[index].next_id = static_cast<std::uint16_t>(SipHash<2, 4>::Of(secret, words) + moved);
  return index;
}

void MessageLayer::Rep::EvictPeer(std::uint32_t index) {
  seen_table.Forget(index, stamp);
  peers.Remove(index);
  ++stats.peers_evicted;
}

void MessageLayer::Rep::Verify(std::uint32_t peer) {
  if (!peers[peer].verified) ++stats.peers_verified;
  peers.SetVerified(peer);
}

void MessageLayer::Rep::Credit(Peer& peer, std::size_t received_bytes) {
  // Bounded: credit that was saved up is not to be spent on a victim at once.
  constexpr std::uint64_t kMost = 65536;
  if (!IsLimited(peer)) return;
  peer.credit = static_cast<std::uint32_t>(std::min<std::uint64_t>(
      kMost, peer.credit + std::uint64_t{received_bytes} * parameters.amplification_limit));
}

bool MessageLayer::Rep::SpendCredit(Peer& peer, std::size_t bytes) {
  if (!IsLimited(peer)) return true;
  if (peer.credit < bytes) {
    ++stats.over_amplification;
    return false;
  }
  peer.credit -= static_cast<std::uint32_t>(bytes);
  return true;
}

Stamp MessageLayer::Rep::MessageIdFreeAt(const Peer& peer, std::uint16_t id) const {
  // Within a quarter that was begun all ids are free.
  if ((id & 0x3fff) != 0 || peer.id_used[id >> 14] == 0) return 0;
  return peer.id_used[id >> 14] + exchange_stamps + 1;
}

bool MessageLayer::Rep::HaveMessageId(const Peer& peer, std::uint64_t& free_tick) const {
  const Stamp free = MessageIdFreeAt(peer, peer.next_id);
  if (free <= stamp || parameters.message_id_exhaustion == MessageIdExhaustion::kReuse) return true;
  free_tick = TickOf(free);
  return false;
}

std::uint16_t MessageLayer::Rep::TakeMessageId(std::uint32_t index) {
  Peer& peer = peers[index];
  std::uint16_t id = peer.next_id++;
  // Ids under way are passed over; there are fewer of these than of ids.
  while (FindById(index, id) != kNil) id = peer.next_id++;
  if (MessageIdFreeAt(peer, id) > stamp) stats.message_ids_reused += 0x4000;
  peer.id_used[id >> 14] = stamp;
  return id;
}

void MessageLayer::Rep::Transmit(const Turn& turn, const SocketAddress& peer,
                                 std::span<const std::byte> message) {
  const std::span<std::byte> room = turn.out.Reserve(peer, message.size());
  if (room.size() < message.size()) {
    ++stats.no_output;
    return;
  }
  std::memcpy(room.data(), message.data(), message.size());
  turn.out.Commit(message.size());
  ++stats.sent;
  stats.sent_bytes += message.size();
}

void MessageLayer::Rep::TransmitEmpty(const Turn& turn, const SocketAddress& peer, Type type,
                                      std::uint16_t id) {
  const EmptyMessage message(type, id);
  if (type == Type::kRst) ++stats.resets_sent;
  if (type == Type::kAck) ++stats.empty_acks_sent;
  Transmit(turn, peer, message.bytes);
}

std::size_t MessageLayer::Rep::ComposedSize(Bytes token, Bytes body) {
  return kHeaderBytes + (token.size() < 13 ? 0 : 1) + token.size() + body.size();
}

std::size_t MessageLayer::Rep::Compose(std::byte* out, Type type, Code code, std::uint16_t id,
                                       Bytes token, Bytes body) {
  std::byte* at = out;
  const std::size_t length = token.size() < 13 ? token.size() : 13;
  *at++ = static_cast<std::byte>(0x40 | static_cast<std::size_t>(type) << 4 | length);
  *at++ = static_cast<std::byte>(code);
  *at++ = static_cast<std::byte>(id >> 8);
  *at++ = static_cast<std::byte>(id);
  if (length == 13) *at++ = static_cast<std::byte>(token.size() - 13);
  if (!token.empty()) std::memcpy(at, token.data(), token.size());
  at += token.size();
  if (!body.empty()) std::memcpy(at, body.data(), body.size());
  return static_cast<std::size_t>(at - out) + body.size();
}

}  // namespace waxvm::coap
