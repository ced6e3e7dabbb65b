// SPDX-License-Identifier: Apache-2.0
// Who is spoken with: a bounded table of peers that forgets strangers first.
#ifndef WAXVM_SRC_COAP_PEER_TABLE_H_
#define WAXVM_SRC_COAP_PEER_TABLE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/base/attributes.h"
#include "src/coap/siphash.h"
#include "src/coap/slab.h"
#include "waxvm/socket_address.h"

namespace waxvm::coap {

/// Time in steps of 2^26 ns (67 ms) since the layer's first call, from 1 on; 0 is never.
using Stamp = std::uint32_t;

/// The heads of hash buckets.
using Heads = std::unique_ptr<std::uint32_t[], FreeTable>;

/// How much a peer's state is worth. A flood of new addresses moves only strangers out; addresses
/// that come again move only their like out.
enum class Standing : std::uint8_t {
  kStranger,
  kReturning,  ///< still heard of a second after the first time
  kVerified,   ///< returned an Echo value or a token: it receives at its address
};

/// What is known of a peer. Its lists are kept by those that use them.
struct alignas(64) Peer {
  SocketAddress address;
  std::uint32_t next = kNil;   ///< of the same hash bucket
  std::uint32_t newer = kNil;  ///< of the same standing
  std::uint32_t older = kNil;
  /// When an id of each quarter of the message ids was last used.
  std::array<Stamp, 4> id_used{};
  std::uint16_t next_id = 0;
  /// Remembered messages, oldest first; `strip` is the first whose response may still be kept.
  std::uint16_t remembered = 0;
  std::uint32_t first_remembered = kNil;
  std::uint32_t last_remembered = kNil;
  std::uint32_t strip = kNil;
  /// What cannot be forgotten: exchanges under way.
  std::uint32_t pins = 0;
  std::uint16_t in_flight = 0;  ///< counts against nstart
  std::uint16_t outgoing = 0;
  std::uint16_t deferred = 0;
  std::uint16_t blocks = 0;
  std::uint32_t queue_first = kNil;
  std::uint32_t queue_last = kNil;
  std::uint32_t tracked_first = kNil;  ///< non-confirmable messages that a reset would end
  std::uint32_t tracked_last = kNil;
  std::uint32_t credit = 0;  ///< bytes that an unverified peer may still be sent
  Stamp first_seen = 0;
  Stamp last_seen = 0;
  Stamp back_off_until = 0;
  Stamp probe_stamp = 0;
  std::uint32_t probe_debt = 0;  ///< bytes sent since the peer was heard
  std::uint8_t tracked = 0;
  Standing standing = Standing::kStranger;
  bool verified = false;
};
static_assert(sizeof(Peer) == 128);

/// Thread safety: none.
class PeerTable {
 public:
  /// Attack: addresses chosen so that all fall into one bucket; hence the key.
  PeerTable(std::size_t capacity, const SipKey& key);
  bool valid() const { return slab_.valid() && heads_ != nullptr; }

  Peer& operator[](std::uint32_t index) { return slab_[index]; }
  const Peer& operator[](std::uint32_t index) const { return slab_[index]; }
  /// kNil: there is none.
  std::uint32_t Find(const SocketAddress& address) const;
  /// A new peer, a stranger. The address must not be there yet. kNil: the table is full.
  std::uint32_t Add(const SocketAddress& address, Stamp now);
  void Remove(std::uint32_t index);
  bool full() const { return slab_.full(); }

  /// It was heard of, or is written to.
  void Touch(std::uint32_t index, Stamp now) {
    if (slab_[index].last_seen + kTouchSteps <= now) Refresh(index, now);
  }
  void SetVerified(std::uint32_t index);
  /// The one to forget first: of the lowest standing that has one which is not pinned, roughly the
  /// one not heard of for longest. kNil: none was found.
  std::uint32_t Victim();

  std::uint64_t HashOf(const SocketAddress& address) const;
  // To have memory fetched; see MessageLayer::Prefetch.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void PrefetchHead(std::uint64_t hash) const {
    __builtin_prefetch(&heads_[hash & mask_]);
  }
  std::uint32_t FirstOf(std::uint64_t hash) const { return heads_[hash & mask_]; }
  ABSL_ATTRIBUTE_ALWAYS_INLINE void PrefetchPeer(std::uint32_t index) const {
    const auto* const first = reinterpret_cast<const std::byte*>(&slab_[index]);
    __builtin_prefetch(first, 1);
    __builtin_prefetch(first + 64, 1);
  }
  std::size_t used() const { return slab_.used(); }
  std::size_t capacity() const { return slab_.capacity(); }
  std::size_t memory_bytes() const;

 private:
  /// The order within a standing is kept to a quarter of a second: a list is not touched for every
  /// datagram.
  static constexpr Stamp kTouchSteps = 4;
  static constexpr Stamp kReturningSteps = 15;

  struct List {
    std::uint32_t newest = kNil;
    std::uint32_t oldest = kNil;
    std::size_t size = 0;
  };

  void Refresh(std::uint32_t index, Stamp now);
  void Link(std::uint32_t index, Standing standing);
  void Unlink(std::uint32_t index);
  void Demote(Standing standing);
  std::uint32_t& HeadOf(const SocketAddress& address) const {
    return heads_[HashOf(address) & mask_];
  }

  SipKey key_;
  Slab<Peer> slab_;
  std::size_t mask_;
  Heads heads_;
  std::array<List, 3> lists_;
};

/// `size` list heads, all empty; null where there is not so much memory.
Heads MakeHeads(std::size_t size);

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_PEER_TABLE_H_
