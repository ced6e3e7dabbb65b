// SPDX-License-Identifier: Apache-2.0
// Names of adverts for ordinary programs: what a resolver knows, as DNS records.
#ifndef WAXVM_RESOLVER_DNS_H_
#define WAXVM_RESOLVER_DNS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "waxvm/directory.h"
#include "waxvm/dns.h"
#include "waxvm/petnames.h"
#include "waxvm/resolver.h"

namespace waxvm {

struct ResolverDnsOptions {
  /// As DnsServerOptions::suffix.
  std::string suffix = "internal";
  /// Threads of its own on which names are resolved that are not kept. 0: the server's, which wait
  /// for a directory no longer than for an answer; more where the resolver fetches from elsewhere.
  unsigned threads = 0;
  /// Names that wait for these threads; further ones are answered with SERVFAIL. Attack: questions
  /// for names that take long.
  std::size_t max_waiting = 1024;
  /// Seconds since 1970, the resolver's. Default: the host's clock.
  std::function<std::uint64_t()> clock = nullptr;
};

/// A NAME is what Resolver::Resolve takes: a petname, a key in base32, or labels before either.
/// It has
///   NAME AAAA                    the address; of a topic, its multicast group
///   NAME TXT                     key=, type=, and where there is one host=, as RFC 6763 has it
///   NAME HTTPS                   where a service is called https
///   _SERVICE._PROTOCOL.NAME SRV  of a vm, protocol udp or tcp
///   _SERVICE.NAME SVCB           the same with port and address (RFC 9460 section 2.3)
/// and an address of fd00::/8 that an advert claims has a PTR to the petname of its key, or to the
/// key itself. A name that leads to a key of which nothing is known, or nothing that still holds,
/// has no records (NODATA); only names that nobody gave do not exist (NXDOMAIN).
/// Thread safety: any number of threads.
class ResolverDnsSource final : public DnsSource {
 public:
  /// All three must outlive it. Errors: kInvalidArgument for the suffix.
  static absl::StatusOr<std::shared_ptr<ResolverDnsSource>> Create(
      Resolver* resolver, Directory* directory, const Petnames* petnames,
      const ResolverDnsOptions& options = {});
  /// Blocks: until what its threads resolve has come or failed.
  ~ResolverDnsSource() override;

  DnsFound Lookup(const DnsQuestion& question, DnsAnswer& answer) override;

 private:
  class State;
  explicit ResolverDnsSource(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace waxvm

#endif  // WAXVM_RESOLVER_DNS_H_
