// SPDX-License-Identifier: Apache-2.0
#include "src/dns/stream.h"

#include <algorithm>

namespace waxvm::dns {

Stream::Result Stream::Answer(Bytes input, bool final, const Responder& responder,
                              DnsSource& source, Scratch& scratch, std::span<std::uint8_t> out) {
  Result result;
  while (!result.broken) {
    const Bytes rest = input.subspan(result.consumed);
    if (skip_ > 0) {
      const std::size_t skipped = std::min(skip_, rest.size());
      skip_ -= skipped;
      result.consumed += skipped;
      if (skipped == 0) return result;
      continue;
    }
    if (rest.size() < 2 || out.size() - result.produced < kAnswerBytes) return result;
    const std::size_t length = Load16(&rest[0]);
    // Attack: 65,535 bytes from each of many connections. Too long a question is never held.
    const bool too_long = length > max_query_bytes_;
    const std::size_t needed = 2 + (too_long ? kHeaderBytes : length);
    if (rest.size() < needed) return result;
    const Bytes query = rest.subspan(2, needed - 2);
    const std::span<std::uint8_t> room = out.subspan(result.produced + 2, kMaxMessageBytes);
    const Response response =
        too_long
            ? responder.Refuse(query, room)
            : responder.Respond(query, {.over_tcp = true, .final = final && result.questions == 0},
                                source, scratch, room);
    if (response.pending) {
      result.pending = true;
      return result;
    }
    result.consumed += needed;
    if (too_long) skip_ = length - kHeaderBytes;
    ++result.questions;
    if (response.bytes == 0) {
      result.broken = true;
      continue;
    }
    Store16(&out[result.produced], response.bytes);
    result.produced += 2 + response.bytes;
    ++result.answers;
  }
  return result;
}

}  // namespace waxvm::dns
