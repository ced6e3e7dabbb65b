// SPDX-License-Identifier: Apache-2.0
// A server's side of requests with long bodies: puts their blocks together, within bounds.
#ifndef WAXVM_SRC_COAP_BLOCK_ASSEMBLER_H_
#define WAXVM_SRC_COAP_BLOCK_ASSEMBLER_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "waxvm/coap_message.h"
#include "waxvm/socket_address.h"

namespace waxvm::coap {

/// Attack: peers that begin bodies and never finish them.
struct AssemblyLimits {
  std::size_t max_body_bytes = std::size_t{1} << 20;
  /// Of all bodies that are being put together, with what is kept to know them by.
  std::size_t max_total_bytes = std::size_t{16} << 20;
  std::size_t max_assemblies = 1024;
  /// A further one takes the place of the same peer's oldest.
  std::size_t max_assemblies_per_peer = 4;
  /// How long a body waits for its next block. MAX_TRANSMIT_WAIT of RFC 7252 section 4.8.2.
  std::chrono::nanoseconds timeout = std::chrono::seconds(93);
  /// Where there is no room in all: only a body that has waited that long gives way to a new one,
  /// so that a flood of new ones cannot stop those that are under way.
  std::chrono::nanoseconds protected_time = std::chrono::seconds(5);
  /// The blocks that clients are asked to send, unless theirs are smaller.
  std::uint8_t exponent = Block::kMaxExponent;
};

/// What to do about one request with Block1.
struct AssemblyAnswer {
  /// kEmpty: the body is whole, and the response to it carries `block1`. Otherwise what is answered
  /// now, with the options below: 2.31, 4.00, 4.08, 4.13 or 5.03.
  Code code = Code::kEmpty;
  std::optional<Block> block1 = std::nullopt;
  /// With 4.13: the longest body that is taken.
  std::optional<std::uint32_t> size1 = std::nullopt;
  std::string body = {};
};

/// Thread safety: none; distinct objects may be used from distinct threads.
/// Spec: RFC 7959 sections 2.5 and 2.9, RFC 9175 section 3.
class BlockAssembler {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  explicit BlockAssembler(const AssemblyLimits& limits = {}) : limits_(limits) {}

  /// `request` has a Block1. Blocks belong together if they come from the same peer with the same
  /// code and options, block options aside, Request-Tag included.
  AssemblyAnswer Add(const SocketAddress& peer, const MessageView& request, TimePoint now);

  /// Forgets what has timed out. Next: when there is something to forget; max() if nothing.
  void Expire(TimePoint now);
  TimePoint NextDeadline() const;

  std::size_t assemblies() const { return assemblies_.size(); }
  std::size_t bytes() const { return bytes_; }
  /// Bodies that gave way to others, or were too long together.
  std::uint64_t evicted() const { return evicted_; }

 private:
  using Key = std::pair<SocketAddress, std::string>;
  struct Assembly;
  using Map = std::map<Key, Assembly>;
  using Order = std::list<Map::iterator>;
  struct Assembly {
    std::string body;
    TimePoint last;
    std::size_t counted = 0;
    Order::iterator place;
  };

  AssemblyAnswer First(Key key, const Block& block, Bytes payload, TimePoint now);
  AssemblyAnswer Following(Map::iterator at, const Block& block, Bytes payload, TimePoint now);
  AssemblyAnswer Append(Map::iterator at, const Block& block, Bytes payload, TimePoint now);
  AssemblyAnswer Continue(Block block) const;
  AssemblyAnswer TooLarge(const Block& block) const;
  /// Makes room for `bytes` more, beside `keep`. False: there is none.
  bool MakeRoom(std::size_t bytes, Map::iterator keep, TimePoint now);
  void LimitPeer(const SocketAddress& peer);
  void Count(Map::iterator at);
  void Erase(Map::iterator at);

  const AssemblyLimits limits_;
  Map assemblies_;
  Order order_;  // that which waits longest first
  std::size_t bytes_ = 0;
  std::uint64_t evicted_ = 0;
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_BLOCK_ASSEMBLER_H_
