// SPDX-License-Identifier: Apache-2.0
// Questions one after the other in a stream of bytes, as TCP has them, without a socket.
#ifndef WAXVM_SRC_DNS_STREAM_H_
#define WAXVM_SRC_DNS_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "src/dns/responder.h"
#include "src/dns/wire.h"
#include "waxvm/dns.h"

namespace waxvm::dns {

/// Splits a stream into questions and answers them in their order.
/// Thread safety: none; distinct objects may be used from distinct threads.
/// Spec: RFC 1035 section 4.2.2, RFC 7766.
class Stream {
 public:
  explicit Stream(std::size_t max_query_bytes) : max_query_bytes_(max_query_bytes) {}

  struct Result {
    std::size_t consumed = 0;   ///< of the input; the rest is to be passed again, with more
    std::size_t produced = 0;   ///< of the output
    std::size_t questions = 0;  ///< that were taken
    std::size_t answers = 0;
    bool pending = false;  ///< the next question waits for the source
    bool broken = false;   ///< what came is none of a client's: close
  };
  /// Answers the questions at the front of `input`, until one is not there as a whole, or the
  /// output may not have room for its answer: that needs kAnswerBytes. With `final`, a pending one
  /// at the front is answered.
  Result Answer(Bytes input, bool final, const Responder& responder, DnsSource& source,
                Scratch& scratch, std::span<std::uint8_t> out);

  /// Whether it is in the midst of a question that is read past.
  bool skipping() const { return skip_ != 0; }

  static constexpr std::size_t kAnswerBytes = 2 + kMaxMessageBytes;

 private:
  const std::size_t max_query_bytes_;
  std::size_t skip_ = 0;
};

}  // namespace waxvm::dns

#endif  // WAXVM_SRC_DNS_STREAM_H_
