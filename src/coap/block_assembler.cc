// SPDX-License-Identifier: Apache-2.0
#include "src/coap/block_assembler.h"

#include <algorithm>
#include <limits>

#include "src/base/deadline.h"
#include "src/coap/cache.h"

namespace waxvm::coap {
namespace {

/// What an assembly takes beside its body and its key: the nodes of the map and of the list.
constexpr std::size_t kNodeBytes = 256;

}  // namespace

AssemblyAnswer BlockAssembler::Add(const SocketAddress& peer, const MessageView& request,
                                   TimePoint now) {
  Expire(now);
  const std::optional<Block> block = request.options().block1();
  const Bytes payload = request.payload();
  if (!block || !block->is_legal()) return {.code = Code::kBadRequest};
  // All blocks but the last are full. Spec: RFC 7959 section 2.2.
  if (block->more ? payload.size() != block->bytes() : payload.size() > block->bytes())
    return {.code = Code::kBadRequest, .block1 = block};
  if (request.options().size1().value_or(0) > limits_.max_body_bytes) return TooLarge(*block);
  Key key{peer, {}};
  AppendCacheKey(request, CacheKeyFor::kBlocks, key.second);
  if (block->number == 0) return First(std::move(key), *block, payload, now);
  const auto at = assemblies_.find(key);
  if (at == assemblies_.end()) return {.code = Code::kRequestEntityIncomplete, .block1 = block};
  // Attack: a huge number, for a body that would have to be filled up before it.
  if (block->offset() + payload.size() > limits_.max_body_bytes) {
    Erase(at);
    return TooLarge(*block);
  }
  return Following(at, *block, payload, now);
}

AssemblyAnswer BlockAssembler::First(Key key, const Block& block, Bytes payload, TimePoint now) {
  // A first block begins anew. Spec: RFC 7959 section 2.5.
  if (const auto old = assemblies_.find(key); old != assemblies_.end()) Erase(old);
  if (payload.size() > limits_.max_body_bytes) return TooLarge(block);
  if (!block.more) return {.block1 = block, .body = std::string(ToText(payload))};
  LimitPeer(key.first);
  const std::size_t bytes = kNodeBytes + key.second.capacity() + payload.size();
  if (!MakeRoom(bytes, assemblies_.end(), now)) return {.code = Code::kServiceUnavailable};
  const auto at = assemblies_.try_emplace(std::move(key)).first;
  at->second.place = order_.insert(order_.end(), at);
  return Append(at, block, payload, now);
}

AssemblyAnswer BlockAssembler::Following(Map::iterator at, const Block& block, Bytes payload,
                                         TimePoint now) {
  const std::string& body = at->second.body;
  const auto offset = static_cast<std::size_t>(block.offset());
  if (offset == body.size()) return Append(at, block, payload, now);
  // The same block again, as a client sends it that did not hear the answer.
  if (block.more && offset + payload.size() <= body.size() &&
      std::string_view(body).substr(offset, payload.size()) == ToText(payload))
    return Continue(block);
  // Attack: blocks that overlap, so that what is checked is not what is used.
  if (offset < body.size()) Erase(at);
  return {.code = Code::kRequestEntityIncomplete, .block1 = block};
}

AssemblyAnswer BlockAssembler::Append(Map::iterator at, const Block& block, Bytes payload,
                                      TimePoint now) {
  Assembly& assembly = at->second;
  if (!block.more) {
    AssemblyAnswer answer{.block1 = block, .body = std::move(assembly.body)};
    answer.body += ToText(payload);
    Erase(at);
    return answer;
  }
  // A string that grows takes twice of what it had.
  const std::size_t size = assembly.body.size() + payload.size();
  const std::size_t capacity = size <= assembly.body.capacity()
                                   ? assembly.body.capacity()
                                   : std::min(2 * size, limits_.max_body_bytes);
  if (assembly.counted != 0 && !MakeRoom(capacity - assembly.body.capacity(), at, now)) {
    Erase(at);
    ++evicted_;
    return {.code = Code::kServiceUnavailable};
  }
  if (capacity > assembly.body.capacity() && assembly.counted != 0) assembly.body.reserve(capacity);
  assembly.body += ToText(payload);
  assembly.last = now;
  order_.splice(order_.end(), order_, assembly.place);
  Count(at);
  return Continue(block);
}

AssemblyAnswer BlockAssembler::Continue(Block block) const {
  block.exponent = std::min(block.exponent, limits_.exponent);
  return {.code = Code::kContinue, .block1 = block};
}

AssemblyAnswer BlockAssembler::TooLarge(const Block& block) const {
  constexpr std::size_t kMost = std::numeric_limits<std::uint32_t>::max();
  return {.code = Code::kRequestEntityTooLarge,
          .block1 = block,
          .size1 = static_cast<std::uint32_t>(std::min(limits_.max_body_bytes, kMost))};
}

bool BlockAssembler::MakeRoom(std::size_t bytes, Map::iterator keep, TimePoint now) {
  const bool is_new = keep == assemblies_.end();
  auto oldest = order_.begin();
  while (bytes_ + bytes > limits_.max_total_bytes ||
         (is_new && assemblies_.size() >= limits_.max_assemblies)) {
    if (oldest != order_.end() && *oldest == keep) ++oldest;
    if (oldest == order_.end() || now - (*oldest)->second.last < limits_.protected_time)
      return false;
    Erase(*oldest++);
    ++evicted_;
  }
  return true;
}

void BlockAssembler::LimitPeer(const SocketAddress& peer) {
  std::size_t count = 0;
  Map::iterator oldest = assemblies_.end();
  for (auto at = assemblies_.lower_bound(Key{peer, {}});
       at != assemblies_.end() && at->first.first == peer; ++at) {
    ++count;
    if (oldest == assemblies_.end() || at->second.last < oldest->second.last) oldest = at;
  }
  if (count < limits_.max_assemblies_per_peer || oldest == assemblies_.end()) return;
  Erase(oldest);
  ++evicted_;
}

void BlockAssembler::Count(Map::iterator at) {
  const std::size_t bytes = kNodeBytes + at->first.second.capacity() + at->second.body.capacity();
  bytes_ += bytes - at->second.counted;
  at->second.counted = bytes;
}

void BlockAssembler::Erase(Map::iterator at) {
  bytes_ -= at->second.counted;
  order_.erase(at->second.place);
  assemblies_.erase(at);
}

void BlockAssembler::Expire(TimePoint now) {
  while (!order_.empty() && After(order_.front()->second.last, limits_.timeout) <= now)
    Erase(order_.front());
}

BlockAssembler::TimePoint BlockAssembler::NextDeadline() const {
  if (order_.empty()) return TimePoint::max();
  return After(order_.front()->second.last, limits_.timeout);
}

}  // namespace waxvm::coap
