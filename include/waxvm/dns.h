// SPDX-License-Identifier: Apache-2.0
// Names for ordinary programs: a DNS server for one suffix, over whatever knows the names.
#ifndef WAXVM_DNS_H_
#define WAXVM_DNS_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace waxvm {

/// Record types that have a text form here; any other number is a type as well.
enum class DnsType : std::uint16_t {
  kA = 1,
  kNs = 2,
  kSoa = 6,
  kPtr = 12,
  kTxt = 16,
  kAaaa = 28,
  kSrv = 33,
  kOpt = 41,
  kSvcb = 64,
  kHttps = 65,
  kAny = 255,
};

/// What one record says.
struct DnsRecord {
  DnsType type = DnsType::kAaaa;
  std::uint32_t ttl_seconds = 60;  ///< how long others may keep it
  std::string data = {};           ///< RDATA as on the wire, names in it uncompressed
};

/// A record from its text as in a zone file, without owner and class: "AAAA fd00::1",
/// "300 SRV 0 0 5683 sensor", "HTTPS 1 . alpn=h3 port=8443", "TYPE65280 \# 2 abcd". A name that
/// does not end in a dot is below `origin`. Errors: kInvalidArgument.
/// Spec: RFC 1035 section 5.1, RFC 3597 section 5, RFC 9460 section 2.1.
absl::StatusOr<DnsRecord> ParseDnsRecord(std::string_view text, std::string_view origin);

/// What is asked for.
struct DnsQuestion {
  /// The name without the suffix, lower case, labels parted by dots, what means something in a zone
  /// file or is no printable ASCII escaped as there: "sensor.alice". Empty: the suffix itself, or
  /// a question by address.
  std::string_view name;
  DnsType type = DnsType::kAaaa;
  /// Of a question below ip6.arpa: who has this address?
  std::optional<std::array<std::uint8_t, 16>> address = std::nullopt;
};

/// What the records of an answer are put into. Keeps its memory from one question to the next.
/// Thread safety: none; used by the thread that asks.
class DnsAnswer {
 public:
  /// What holds the records of the longest possible message; more than that is no answer.
  static constexpr std::size_t kMaxBytes = 65535;

  /// Adds a record of the type that was asked for; of another type, it is left out of the message.
  /// False: there is no room, and the question will be answered with SERVFAIL.
  bool Add(const DnsRecord& record) { return Add(record.type, record.ttl_seconds, record.data); }
  bool Add(DnsType type, std::uint32_t ttl_seconds, std::string_view data);

  struct Entry {
    DnsType type;
    std::uint32_t ttl_seconds;
    std::size_t begin;
    std::size_t bytes;
  };
  std::span<const Entry> entries() const { return entries_; }
  std::string_view data(const Entry& entry) const {
    return std::string_view(bytes_).substr(entry.begin, entry.bytes);
  }
  bool overflowed() const { return overflowed_; }
  void Clear();

 private:
  std::vector<Entry> entries_;
  std::string bytes_;
  bool overflowed_ = false;
};

/// Whether a name exists; which types it has is another matter.
enum class DnsFound {
  kYes,      ///< it, or a name below it, exists; without a record of the type: NODATA
  kNo,       ///< neither it nor any name below it exists: NXDOMAIN
  kUnknown,  ///< cannot be told now: SERVFAIL
  kPending,  ///< is being found out: asked again until `DnsServerOptions::pending_time` is over
};

/// Who knows the names.
/// Thread safety: implementations are called from several threads at once.
class DnsSource {
 public:
  virtual ~DnsSource() = default;
  /// Puts the records of the question's type into `answer`. Must not wait: while it does, nobody
  /// else is answered. What takes time is started, and is kPending until it is there. Type kAny
  /// asks for nothing but whether the name exists.
  virtual DnsFound Lookup(const DnsQuestion& question, DnsAnswer& answer) = 0;
};

/// Names that were written down beforehand, each with its records. Immutable.
/// Thread safety: may be used from any number of threads at once.
class StaticDnsSource final : public DnsSource {
 public:
  /// One record a line, "NAME [TTL] [IN] TYPE DATA"; empty lines and comments after `;` are passed
  /// over. A NAME that does not end in a dot is below `suffix`, as are names in DATA, and `@` is
  /// `suffix` itself. Each AAAA record also answers for its address with its name, where no
  /// PTR record (with an owner below ip6.arpa, or an address as its owner) does.
  /// Errors: kInvalidArgument names the line.
  static absl::StatusOr<std::shared_ptr<StaticDnsSource>> FromZone(std::string_view zone,
                                                                   std::string_view suffix);
  ~StaticDnsSource() override;

  DnsFound Lookup(const DnsQuestion& question, DnsAnswer& answer) override;

 private:
  class Records;
  explicit StaticDnsSource(std::unique_ptr<const Records> records);
  std::unique_ptr<const Records> records_;
};

/// Every bound is there against a peer that asks for more than its part.
struct DnsServerOptions {
  /// Where to listen, on UDP and TCP alike: "[::1]:53", "127.0.0.1:53". Port 0 picks one.
  std::vector<std::string> listen = {"[::1]:0"};
  /// The names that are answered for are this one and those below it.
  std::string suffix = "internal";
  /// Addresses that PTR questions are answered for; a multiple of four bits each. Questions for
  /// other names are refused.
  std::vector<std::string> reverse_prefixes = {"fd00::/8"};
  /// How long others may keep that a name or a record does not exist.
  std::chrono::seconds negative_ttl = std::chrono::seconds(5);
  /// The longest answer over UDP, whatever the client says it can take. 0: 4096 on the loopback
  /// addresses, elsewhere 1232, which is never fragmented.
  std::size_t max_udp_bytes = 0;
  /// Longer questions over TCP are read past, and answered with FORMERR.
  std::size_t max_tcp_query_bytes = 4096;
  /// A connection without a question for that long is closed.
  std::chrono::milliseconds tcp_idle_time = std::chrono::seconds(10);
  /// A question must have come, and an answer must have been taken, within that time.
  std::chrono::milliseconds tcp_progress_time = std::chrono::seconds(3);
  /// In all, and from one address (an IPv6 /64 network elsewhere than on loopback). A further one
  /// takes the place of that which has been idle for longest.
  std::size_t max_tcp_connections = 512;
  std::size_t max_tcp_connections_per_peer = 256;
  /// What all connections together may hold of questions and answers.
  std::size_t max_tcp_buffer_bytes = std::size_t{8} << 20;
  /// How long a question waits for a source that is finding out (DnsFound::kPending), and how many
  /// wait over UDP. Then, and for further ones: SERVFAIL.
  std::chrono::milliseconds pending_time = std::chrono::seconds(2);
  std::size_t max_pending = 1024;
};

/// What a server has done. Sums of both transports where a name does not tell.
struct DnsServerStats {
  std::uint64_t udp_questions = 0;  ///< datagrams that came in
  std::uint64_t udp_answers = 0;
  std::uint64_t tcp_questions = 0;
  std::uint64_t tcp_answers = 0;
  std::uint64_t dropped = 0;     ///< nothing that can be answered: too short, or itself an answer
  std::uint64_t truncated = 0;   ///< answers that said to come back over TCP
  std::uint64_t unsent = 0;      ///< answers that the kernel did not take
  std::size_t connections = 0;   ///< TCP, open now
  std::uint64_t accepted = 0;    ///< TCP, ever
  std::uint64_t evicted = 0;     ///< TCP, closed to make room
  std::uint64_t timed_out = 0;   ///< TCP, closed because nothing came or was taken
  std::size_t buffer_bytes = 0;  ///< held for TCP now
  std::size_t pending = 0;       ///< questions over UDP that wait for the source
};

/// An authoritative DNS server on UDP and TCP, on two threads of its own.
/// Thread safety: stats() may be called from any thread.
/// Spec: RFC 1035, 2308, 3596, 6891, 7766, 8020, 8482, 9460, 9619.
class DnsServer {
 public:
  /// Listens and answers from now on. Errors: kInvalidArgument for options that cannot be;
  /// otherwise what the kernel says, with the address (kPermissionDenied for a low port).
  static absl::StatusOr<std::unique_ptr<DnsServer>> Create(std::shared_ptr<DnsSource> source,
                                                           const DnsServerOptions& options = {});
  /// Blocks: until its threads have ended. No thread and no descriptor is left.
  ~DnsServer();
  DnsServer(const DnsServer&) = delete;
  DnsServer& operator=(const DnsServer&) = delete;

  /// Where it listens, in the order of the options, with the ports that were picked.
  const std::vector<std::string>& addresses() const;
  DnsServerStats stats() const;

 private:
  class State;
  explicit DnsServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace waxvm

#endif  // WAXVM_DNS_H_
