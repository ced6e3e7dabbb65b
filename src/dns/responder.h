// SPDX-License-Identifier: Apache-2.0
// A question's bytes in, the answer's bytes out: what the server says, without a socket.
#ifndef WAXVM_SRC_DNS_RESPONDER_H_
#define WAXVM_SRC_DNS_RESPONDER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "src/dns/name.h"
#include "src/dns/wire.h"
#include "waxvm/dns.h"

namespace waxvm::dns {

/// What a thread needs to answer; kept from one question to the next, so that nothing is allocated.
/// Thread safety: none; each thread has its own.
struct Scratch {
  DnsAnswer answer;
  DnsAnswer more;  ///< addresses of what the answer names
  std::string name;
};

/// How a question came.
struct Asked {
  bool over_tcp = false;
  std::size_t max_udp_bytes = 1232;  ///< whatever the client can take
  /// It does not wait any more: what is still being found out is SERVFAIL.
  bool final = false;
};

struct Response {
  std::size_t bytes = 0;   ///< 0: there is none, for what must not be answered
  bool truncated = false;  ///< and says so
  bool pending = false;    ///< ask again later; there is no response yet
};

/// Names that are answered for: this one and those below it.
struct Zone {
  Name name;
  std::size_t labels = 0;
  bool reverse = false;  ///< below ip6.arpa
};

/// Thread safety: may be used from any number of threads at once, each with its own Scratch.
class Responder {
 public:
  /// Takes `suffix`, `reverse_prefixes` and `negative_ttl`. Errors: kInvalidArgument.
  static absl::StatusOr<Responder> Create(const DnsServerOptions& options);

  /// Answers one message. `out` has room for kMaxMessageBytes, or for what `asked` allows.
  Response Respond(Bytes query, const Asked& asked, DnsSource& source, Scratch& scratch,
                   std::span<std::uint8_t> out) const;

  /// The answer to a message of which only the beginning is there, because it is too long.
  Response Refuse(Bytes beginning, std::span<std::uint8_t> out) const;

 private:
  Responder() = default;

  std::vector<Zone> zones_;  ///< the longest name first
  std::string soa_;
  std::string ns_;
  std::uint32_t negative_ttl_seconds_ = 0;
};

}  // namespace waxvm::dns

#endif  // WAXVM_SRC_DNS_RESPONDER_H_
