// SPDX-License-Identifier: Apache-2.0
// The messages that were received, so that none is handled twice.
#ifndef WAXVM_SRC_COAP_SEEN_TABLE_H_
#define WAXVM_SRC_COAP_SEEN_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/base/attributes.h"
#include "src/coap/block_pool.h"
#include "src/coap/peer_table.h"
#include "src/coap/slab.h"

namespace waxvm::coap {

/// What became of a received message, and so what a duplicate of it gets.
enum class SeenState : std::uint8_t {
  kFree,
  kPending,    ///< the handler has not answered
  kResponded,  ///< the response is kept
  kNotKept,    ///< it was answered, the response is gone: silence
  kAcked,      ///< an empty acknowledgement
  kReset,
  kSilent,  ///< non-confirmable
};

struct alignas(64) Seen {
  static constexpr std::size_t kInlineBytes = 34;

  std::uint32_t next = kNil;  ///< of the same hash bucket
  std::uint32_t peer = 0;
  std::uint32_t newer = kNil;  ///< of the same peer
  std::uint32_t generation = 0;
  Stamp expires = 0;
  std::uint32_t chain = kNil;  ///< of the kept response; while pending, the deferred slot
  std::uint16_t id = 0;
  std::uint16_t size = 0;  ///< of the kept response without its message id
  SeenState state = SeenState::kFree;
  bool confirmable : 1 = false;
  bool multicast : 1 = false;
  bool acked : 1 = false;            ///< an empty acknowledgement was sent
  std::uint8_t no_response : 3 = 0;  ///< classes 2, 4 and 5. Spec: RFC 7967
  std::byte bytes[kInlineBytes];
};
static_assert(sizeof(Seen) == 64);

/// Keeps a window of messages for each peer, bounded for each and for all.
/// Thread safety: none.
class SeenTable {
 public:
  struct Counts {
    std::uint64_t early_evictions = 0;
    std::uint64_t not_kept = 0;
  };

  SeenTable(std::size_t capacity, std::size_t per_peer, std::size_t blocks_per_peer,
            std::uint64_t key, PeerTable& peers, BlockPool& blocks);
  bool valid() const { return slab_.valid() && heads_ != nullptr; }
  Seen& operator[](std::uint32_t index) { return slab_[index]; }

  /// kNil: there is none whose time is not over.
  std::uint32_t Find(std::uint32_t peer, std::uint16_t id, Stamp now);
  /// A new one in state kPending. Where there is no room, others are forgotten: the peer's own
  /// oldest where it has its share, else one of a peer of low standing. kNil: all are pending.
  std::uint32_t Add(std::uint32_t peer, std::uint16_t id, Stamp now, Stamp lifetime);
  /// The one of an id made by IdOf, if it is still pending; kNil otherwise.
  std::uint32_t FindPending(std::uint64_t id) const;
  std::uint64_t IdOf(std::uint32_t index) const {
    return std::uint64_t{slab_[index].generation} << 32 | index;
  }
  /// Ends it, with a response that is kept for duplicates; false: there was no room.
  bool Keep(std::uint32_t index, std::span<const std::byte> response);
  /// Writes the kept response, `size` bytes.
  void Load(std::uint32_t index, std::byte* out) const;
  void End(std::uint32_t index, SeenState state);
  /// All of a peer's, none of which is pending.
  void Forget(std::uint32_t peer, Stamp now);

  // To have memory fetched: what Find and Add look at for a message of this peer. Inlined always:
  // a call of a function that only prefetches is one without effect to the compiler.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void Prefetch(std::uint32_t peer, std::uint16_t id) const {
    __builtin_prefetch(&HeadOf(peer, id), 1);
    const Peer& known = peers_[peer];
    if (known.first_remembered == kNil) return;
    __builtin_prefetch(&slab_[known.first_remembered], 1);
    __builtin_prefetch(&slab_[known.last_remembered], 1);
  }
  ABSL_ATTRIBUTE_ALWAYS_INLINE void PrefetchNext(std::uint32_t peer, std::uint16_t id) const {
    const std::uint32_t same = HeadOf(peer, id);
    if (same != kNil) __builtin_prefetch(&slab_[same], 1);
    // Where the peer has its share, its oldest makes room.
    const std::uint32_t oldest = peers_[peer].first_remembered;
    if (oldest != kNil) __builtin_prefetch(&HeadOf(peer, slab_[oldest].id), 1);
  }

  const Counts& counts() const { return counts_; }
  std::size_t used() const { return slab_.used(); }
  std::size_t memory_bytes() const;

 private:
  std::uint32_t& HeadOf(std::uint32_t peer, std::uint16_t id) const {
    // Multiply-shift by a secret odd number: ids chosen without it do not collide more than others,
    // and a peer has no more than its share in any case.
    return heads_[(((std::uint64_t{peer} << 16 | id) + 1) * key_) >> shift_];
  }
  bool PopOldest(std::uint32_t peer, Stamp now);
  void Release(std::uint32_t index);
  void FreeChain(std::uint32_t index);
  /// Forgets one message somewhere. False: none could be.
  bool Reclaim(std::uint32_t peer, Stamp now);
  /// Gives up the peer's oldest kept responses until there are as many blocks free.
  bool MakeBlocks(std::uint32_t peer, std::size_t blocks);

  PeerTable& peers_;
  BlockPool& blocks_;
  Slab<Seen> slab_;
  const std::size_t per_peer_;
  const std::size_t blocks_per_peer_;
  const std::uint64_t key_;
  const int shift_;
  Heads heads_;
  std::uint32_t hand_ = 0;  ///< where the next search for a victim begins
  Counts counts_;
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_SEEN_TABLE_H_
