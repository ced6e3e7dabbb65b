// SPDX-License-Identifier: Apache-2.0
// Bytes of any length in chains of equal blocks.
#ifndef WAXVM_SRC_COAP_BLOCK_POOL_H_
#define WAXVM_SRC_COAP_BLOCK_POOL_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "src/coap/slab.h"

namespace waxvm::coap {

/// Thread safety: none.
class BlockPool {
 public:
  static constexpr std::size_t kBlockBytes = 124;
  static constexpr std::size_t BlocksOf(std::size_t bytes) {
    return (bytes + kBlockBytes - 1) / kBlockBytes;
  }

  explicit BlockPool(std::size_t blocks) : slab_(blocks) {}
  bool valid() const { return slab_.valid(); }
  std::size_t used() const { return slab_.used(); }
  std::size_t free() const { return slab_.capacity() - slab_.used(); }
  std::size_t memory_bytes() const { return slab_.memory_bytes(); }

  /// A chain with these bytes, which are not empty. kNil: there are not enough blocks.
  std::uint32_t Store(std::span<const std::byte> bytes) {
    if (BlocksOf(bytes.size()) > free()) return kNil;
    std::uint32_t first = kNil;
    std::uint32_t* link = &first;
    for (; !bytes.empty(); bytes = bytes.subspan(std::min(bytes.size(), kBlockBytes))) {
      const std::uint32_t index = slab_.Take();
      Block& block = slab_[index];
      std::memcpy(block.bytes, bytes.data(), std::min(bytes.size(), kBlockBytes));
      *link = index;
      link = &block.next;
    }
    *link = kNil;
    return first;
  }
  /// Writes the first bytes of a chain that has as many.
  void Load(std::uint32_t chain, std::span<std::byte> out) const {
    while (!out.empty()) {
      const Block& block = slab_[chain];
      const std::size_t part = std::min(out.size(), kBlockBytes);
      std::memcpy(out.data(), block.bytes, part);
      out = out.subspan(part);
      chain = block.next;
    }
  }
  /// The first bytes of a chain, to be changed.
  std::byte* Front(std::uint32_t chain) { return slab_[chain].bytes; }
  void Free(std::uint32_t chain) {
    while (chain != kNil) {
      const std::uint32_t next = slab_[chain].next;
      slab_.Give(chain);
      chain = next;
    }
  }

 private:
  struct Block {
    std::uint32_t next = kNil;
    std::byte bytes[kBlockBytes];
  };
  static_assert(sizeof(Block) == 128);

  Slab<Block> slab_;
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_BLOCK_POOL_H_
