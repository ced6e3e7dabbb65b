// SPDX-License-Identifier: Apache-2.0
#include "src/coap/peer_table.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

namespace waxvm::coap {

Heads MakeHeads(std::size_t size) {
  Heads heads(static_cast<std::uint32_t*>(AllocateTable(size * sizeof(std::uint32_t))));
  if (heads != nullptr) std::fill_n(heads.get(), size, kNil);
  return heads;
}

PeerTable::PeerTable(std::size_t capacity, const SipKey& key)
    : key_(key),
      slab_(capacity),
      mask_(std::bit_ceil(capacity) - 1),
      heads_(MakeHeads(mask_ + 1)) {}

std::size_t PeerTable::memory_bytes() const {
  return slab_.memory_bytes() + (mask_ + 1) * sizeof(std::uint32_t);
}

std::uint64_t PeerTable::HashOf(const SocketAddress& address) const {
  std::uint64_t words[3];
  std::memcpy(words, address.address.bytes.data(), kAddressBytes);
  words[2] = address.port | std::uint64_t{address.zone} << 16;
  return SipHash<1, 3>::Of(key_, words);
}

std::uint32_t PeerTable::Find(const SocketAddress& address) const {
  for (std::uint32_t at = HeadOf(address); at != kNil; at = slab_[at].next)
    if (slab_[at].address == address) return at;
  return kNil;
}

std::uint32_t PeerTable::Add(const SocketAddress& address, Stamp now) {
  const std::uint32_t index = slab_.Take();
  if (index == kNil) return kNil;
  std::uint32_t& head = HeadOf(address);
  Peer& peer = slab_[index];
  peer = Peer();
  peer.address = address;
  peer.first_seen = peer.last_seen = now;
  peer.next = head;
  head = index;
  Link(index, Standing::kStranger);
  return index;
}

void PeerTable::Remove(std::uint32_t index) {
  std::uint32_t* link = &HeadOf(slab_[index].address);
  while (*link != index) link = &slab_[*link].next;
  *link = slab_[index].next;
  Unlink(index);
  slab_.Give(index);
}

void PeerTable::Link(std::uint32_t index, Standing standing) {
  List& list = lists_[static_cast<std::size_t>(standing)];
  Peer& peer = slab_[index];
  peer.standing = standing;
  peer.newer = kNil;
  peer.older = list.newest;
  (list.newest == kNil ? list.oldest : slab_[list.newest].newer) = index;
  list.newest = index;
  ++list.size;
}

void PeerTable::Unlink(std::uint32_t index) {
  Peer& peer = slab_[index];
  List& list = lists_[static_cast<std::size_t>(peer.standing)];
  (peer.newer == kNil ? list.newest : slab_[peer.newer].older) = peer.older;
  (peer.older == kNil ? list.oldest : slab_[peer.older].newer) = peer.newer;
  --list.size;
}

void PeerTable::Refresh(std::uint32_t index, Stamp now) {
  Peer& peer = slab_[index];
  peer.last_seen = now;
  Standing standing = peer.standing;
  if (standing == Standing::kStranger && now - peer.first_seen >= kReturningSteps)
    standing = Standing::kReturning;
  Unlink(index);
  Link(index, standing);
  if (standing == Standing::kReturning) Demote(standing);
}

void PeerTable::SetVerified(std::uint32_t index) {
  slab_[index].verified = true;
  if (slab_[index].standing == Standing::kVerified) return;
  Unlink(index);
  Link(index, Standing::kVerified);
  Demote(Standing::kVerified);
}

void PeerTable::Demote(Standing standing) {
  // What is left for strangers is an eighth: attackers who wait and come again, or show their
  // addresses, cannot lock new peers out.
  const std::size_t share =
      standing == Standing::kVerified ? slab_.capacity() / 2 : slab_.capacity() * 3 / 8;
  const auto below = static_cast<Standing>(static_cast<int>(standing) - 1);
  List& list = lists_[static_cast<std::size_t>(standing)];
  if (list.size <= std::max<std::size_t>(share, 1)) return;
  const std::uint32_t index = list.oldest;
  Unlink(index);
  Link(index, below);
  if (below == Standing::kReturning) Demote(below);
}

std::uint32_t PeerTable::Victim() {
  constexpr int kTries = 16;
  for (List& list : lists_) {
    for (int tries = 0; tries < kTries && list.oldest != kNil; ++tries) {
      const std::uint32_t index = list.oldest;
      if (slab_[index].pins == 0) return index;
      // A pinned one is in use, whatever its time says.
      const Standing standing = slab_[index].standing;
      Unlink(index);
      Link(index, standing);
    }
  }
  return kNil;
}

}  // namespace waxvm::coap
