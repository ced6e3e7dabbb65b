// SPDX-License-Identifier: Apache-2.0
#include "src/coap/seen_table.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace waxvm::coap {

SeenTable::SeenTable(std::size_t capacity, std::size_t per_peer, std::size_t blocks_per_peer,
                     std::uint64_t key, PeerTable& peers, BlockPool& blocks)
    : peers_(peers),
      blocks_(blocks),
      slab_(capacity),
      per_peer_(per_peer),
      blocks_per_peer_(blocks_per_peer),
      key_(key | 1),
      shift_(64 - static_cast<int>(std::max<std::size_t>(1, std::bit_width(capacity - 1)))),
      heads_(MakeHeads(std::size_t{1} << (64 - shift_))) {}

std::size_t SeenTable::memory_bytes() const {
  return slab_.memory_bytes() + (std::size_t{1} << (64 - shift_)) * sizeof(std::uint32_t);
}

std::uint32_t SeenTable::Find(std::uint32_t peer, std::uint16_t id, Stamp now) {
  for (std::uint32_t at = HeadOf(peer, id); at != kNil; at = slab_[at].next) {
    const Seen& seen = slab_[at];
    if (seen.peer != peer || seen.id != id) continue;
    // Newest first: an older one of the same id has expired.
    return seen.expires > now || seen.state == SeenState::kPending ? at : kNil;
  }
  return kNil;
}

std::uint32_t SeenTable::Add(std::uint32_t peer_index, std::uint16_t id, Stamp now,
                             Stamp lifetime) {
  Peer& peer = peers_[peer_index];
  for (int i = 0; i < 2 && peer.first_remembered != kNil; ++i) {
    if (slab_[peer.first_remembered].expires > now) break;
    if (!PopOldest(peer_index, now)) break;
  }
  if (peer.remembered >= per_peer_ && !PopOldest(peer_index, now)) return kNil;
  if (slab_.full() && !Reclaim(peer_index, now)) return kNil;
  const std::uint32_t index = slab_.Take();
  Seen& seen = slab_[index];
  std::uint32_t& head = HeadOf(peer_index, id);
  seen.next = head;
  head = index;
  seen.peer = peer_index;
  seen.newer = kNil;
  ++seen.generation;
  seen.expires = now + lifetime;
  seen.chain = kNil;
  seen.id = id;
  seen.size = 0;
  seen.state = SeenState::kPending;
  seen.confirmable = seen.multicast = seen.acked = false;
  seen.no_response = 0;
  (peer.last_remembered == kNil ? peer.first_remembered : slab_[peer.last_remembered].newer) =
      index;
  peer.last_remembered = index;
  ++peer.remembered;
  return index;
}

std::uint32_t SeenTable::FindPending(std::uint64_t id) const {
  const auto index = static_cast<std::uint32_t>(id);
  if (index >= slab_.touched()) return kNil;
  const Seen& seen = slab_[index];
  return seen.generation == id >> 32 && seen.state == SeenState::kPending ? index : kNil;
}

bool SeenTable::Keep(std::uint32_t index, std::span<const std::byte> response) {
  Seen& seen = slab_[index];
  seen.state = SeenState::kResponded;
  seen.size = static_cast<std::uint16_t>(response.size());
  seen.chain = kNil;
  if (response.size() <= Seen::kInlineBytes) {
    std::memcpy(seen.bytes, response.data(), response.size());
    return true;
  }
  const std::size_t blocks = BlockPool::BlocksOf(response.size());
  if (MakeBlocks(seen.peer, blocks)) {
    seen.chain = blocks_.Store(response);
    Peer& peer = peers_[seen.peer];
    peer.blocks = static_cast<std::uint16_t>(peer.blocks + blocks);
    if (peer.strip == kNil) peer.strip = index;
    return true;
  }
  seen.state = SeenState::kNotKept;
  ++counts_.not_kept;
  return false;
}

bool SeenTable::MakeBlocks(std::uint32_t peer_index, std::size_t blocks) {
  Peer& peer = peers_[peer_index];
  const auto enough = [&] {
    return peer.blocks + blocks <= blocks_per_peer_ && blocks <= blocks_.free();
  };
  // A peer that asks on has had its older answers, most likely: these go first.
  for (int i = 0; i < 64 && !enough() && peer.strip != kNil; ++i) {
    Seen& seen = slab_[peer.strip];
    if (seen.state == SeenState::kResponded && seen.chain != kNil) {
      FreeChain(peer.strip);
      seen.state = SeenState::kNotKept;
      ++counts_.not_kept;
    }
    peer.strip = seen.newer;
  }
  // Attack: some peers keep all blocks. Whoever has more than its share gives some up.
  for (int i = 0; i < 64 && !enough() && blocks > blocks_.free() && slab_.touched() != 0; ++i) {
    hand_ = (hand_ + 1) % slab_.touched();
    Seen& seen = slab_[hand_];
    if (seen.state != SeenState::kResponded || seen.chain == kNil) continue;
    const Peer& other = peers_[seen.peer];
    if (other.standing >= peer.standing && other.blocks <= peer.blocks + blocks) continue;
    FreeChain(hand_);
    seen.state = SeenState::kNotKept;
    ++counts_.not_kept;
  }
  return enough();
}

void SeenTable::Load(std::uint32_t index, std::byte* out) const {
  const Seen& seen = slab_[index];
  if (seen.chain == kNil)
    std::memcpy(out, seen.bytes, seen.size);
  else
    blocks_.Load(seen.chain, {out, seen.size});
}

void SeenTable::End(std::uint32_t index, SeenState state) {
  slab_[index].state = state;
  slab_[index].chain = kNil;
}

void SeenTable::FreeChain(std::uint32_t index) {
  Seen& seen = slab_[index];
  Peer& peer = peers_[seen.peer];
  peer.blocks = static_cast<std::uint16_t>(peer.blocks - BlockPool::BlocksOf(seen.size));
  blocks_.Free(seen.chain);
  seen.chain = kNil;
}

void SeenTable::Release(std::uint32_t index) {
  Seen& seen = slab_[index];
  if (seen.state == SeenState::kResponded && seen.chain != kNil) FreeChain(index);
  std::uint32_t* link = &HeadOf(seen.peer, seen.id);
  while (*link != index) link = &slab_[*link].next;
  *link = seen.next;
  seen.state = SeenState::kFree;
  slab_.Give(index);
}

bool SeenTable::PopOldest(std::uint32_t peer_index, Stamp now) {
  Peer& peer = peers_[peer_index];
  for (std::uint32_t tries = peer.remembered; tries > 0; --tries) {
    const std::uint32_t index = peer.first_remembered;
    Seen& seen = slab_[index];
    peer.first_remembered = seen.newer;
    if (peer.first_remembered == kNil) peer.last_remembered = kNil;
    if (peer.strip == index) peer.strip = seen.newer;
    if (seen.state != SeenState::kPending) {
      if (seen.expires > now) ++counts_.early_evictions;
      --peer.remembered;
      Release(index);
      return true;
    }
    // Its handler is at work: it goes to the end. At most deferred_per_peer are so.
    seen.newer = kNil;
    (peer.last_remembered == kNil ? peer.first_remembered : slab_[peer.last_remembered].newer) =
        index;
    peer.last_remembered = index;
  }
  return false;
}

bool SeenTable::Reclaim(std::uint32_t peer_index, Stamp now) {
  // Whoever has its share pays for itself: so it is where many peers are served at a high rate.
  constexpr std::size_t kLeastShare = 4;
  const std::size_t share = std::max(kLeastShare, slab_.capacity() / (peers_.used() + 1));
  if (peers_[peer_index].remembered >= share && PopOldest(peer_index, now)) return true;
  // Attack: a flood of addresses with a message or two each. A sample decides: what has expired,
  // else a peer of the lowest standing, and of these the one that has most.
  constexpr int kSample = 16;
  std::uint32_t victim = kNil;
  for (int i = 0; i < kSample; ++i) {
    hand_ = (hand_ + 1) % slab_.touched();
    const Seen& seen = slab_[hand_];
    if (seen.state == SeenState::kFree || seen.state == SeenState::kPending) continue;
    if (seen.expires <= now) {
      victim = seen.peer;
      break;
    }
    if (victim == kNil) {
      victim = seen.peer;
      continue;
    }
    const Peer& best = peers_[victim];
    const Peer& other = peers_[seen.peer];
    if (other.standing != best.standing ? other.standing < best.standing
                                        : other.remembered > best.remembered)
      victim = seen.peer;
  }
  if (victim != kNil && PopOldest(victim, now)) return true;
  return PopOldest(peer_index, now);
}

void SeenTable::Forget(std::uint32_t peer_index, Stamp now) {
  Peer& peer = peers_[peer_index];
  while (peer.first_remembered != kNil && PopOldest(peer_index, now)) {
  }
}

}  // namespace waxvm::coap
