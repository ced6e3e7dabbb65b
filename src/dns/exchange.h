// SPDX-License-Identifier: Apache-2.0
// One question and its answer.
#ifndef WAXVM_SRC_DNS_EXCHANGE_H_
#define WAXVM_SRC_DNS_EXCHANGE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "src/dns/responder.h"
#include "src/dns/wire.h"
#include "waxvm/dns.h"

namespace waxvm::dns {

/// What a server answers for, in the forms that are needed.
struct Served {
  std::span<const Zone> zones;
  std::string_view soa;
  std::string_view ns;
  std::uint32_t negative_ttl_seconds;
};

/// Thread safety: none; made for one message.
class Exchange {
 public:
  Exchange(const Served& served, Bytes query, const Asked& asked, DnsSource& source,
           Scratch& scratch, std::span<std::uint8_t> out)
      : served_(served),
        query_(query),
        asked_(asked),
        source_(source),
        scratch_(scratch),
        out_(out),
        writer_(out) {}

  Response Run();

 private:
  enum class Section { kAnswer = 6, kAuthority = 8, kAdditional = 10 };  // offsets of the counts

  /// Takes the question from the reader and remembers where its labels begin. False: malformed.
  bool ReadQuestion(Reader& reader);
  /// Reads what follows the question; only OPT means something. False: malformed.
  bool ReadAdditional(Reader& reader, std::size_t count);
  bool ReadOpt(Reader& reader, bool owner_is_root);

  /// The zone of the question; nothing: it is somebody else's.
  const Zone* FindZone() const;
  Response Answer(const Zone& zone);
  /// Asks the source; answers by itself what no source is needed for.
  DnsFound Find(const Zone& zone);
  DnsFound FindReverse();
  DnsFound FindForward(const Zone& zone);

  void StartResponse(bool with_question);
  void AddRecord(Section section, std::uint16_t owner_offset, std::uint16_t type,
                 std::uint32_t ttl_seconds, std::string_view data);
  /// False: they do not fit, and nothing was added.
  bool AddAnswers();
  void AddSoa();
  /// Addresses of the names in SRV, SVCB and HTTPS records, as far as they fit.
  void AddTargets(const Zone& zone);
  bool AddTarget(const Zone& zone, const Name& target);
  void Count(Section section);

  Response Finish(Rcode rcode, std::uint16_t flags = 0);
  Response FinishHeaderOnly(Rcode rcode);

  const Served& served_;
  const Bytes query_;
  const Asked& asked_;
  DnsSource& source_;
  Scratch& scratch_;
  std::span<std::uint8_t> out_;
  Writer writer_;

  std::uint16_t id_ = 0;
  std::uint16_t flags_ = 0;
  std::size_t name_size_ = 0;  ///< of the question, in wire form
  std::size_t labels_ = 0;
  std::array<std::uint8_t, 128> label_at_;  ///< offsets in the name; the root's last
  std::uint16_t type_ = 0;
  std::uint16_t class_ = 0;
  std::size_t question_end_ = kHeaderBytes;

  bool edns_ = false;
  std::uint8_t edns_version_ = 0;
  std::uint16_t edns_flags_ = 0;
  std::size_t client_bytes_ = 512;
};

}  // namespace waxvm::dns

#endif  // WAXVM_SRC_DNS_EXCHANGE_H_
