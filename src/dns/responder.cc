// SPDX-License-Identifier: Apache-2.0
#include "src/dns/responder.h"

#include <arpa/inet.h>

#include <algorithm>
#include <limits>

#include "src/base/status.h"
#include "src/dns/exchange.h"
#include "src/dns/rdata.h"

namespace waxvm::dns {
namespace {

constexpr std::string_view kHex = "0123456789abcdef";
// RFC 6303, section 3, names them for zones that are answered locally.
constexpr std::string_view kServerName = "localhost.";
constexpr std::string_view kMailbox = "nobody.invalid.";

std::string SoaData(std::uint32_t negative_ttl) {
  const std::vector<std::string> words = {
      std::string(kServerName),    std::string(kMailbox), "1", "3600", "600", "86400",
      std::to_string(negative_ttl)};
  return *RdataFromText(static_cast<std::uint16_t>(DnsType::kSoa), words, Name());
}

}  // namespace

absl::StatusOr<Zone> ReverseZone(const std::string& prefix) {
  const std::size_t slash = prefix.find('/');
  std::array<std::uint8_t, 16> address;
  const auto bits =
      slash == prefix.npos ? std::nullopt : ParseNumber(prefix.substr(slash + 1), 128);
  if (!bits || *bits % 4 != 0 ||
      inet_pton(AF_INET6, prefix.substr(0, slash).c_str(), address.data()) != 1)
    return InvalidArgument("'%s' is no IPv6 prefix of a multiple of four bits, like fd00::/8",
                           prefix);
  std::string text = "ip6.arpa.";
  for (std::size_t nibble = 0; nibble < *bits / 4; ++nibble) {
    const int value = nibble % 2 == 0 ? address[nibble / 2] >> 4 : address[nibble / 2] & 15;
    text.insert(0, {kHex[static_cast<std::size_t>(value)], '.'});
  }
  WAXVM_ASSIGN_OR_RETURN(const Name name, Name::FromText(text));
  return Zone{.name = name, .labels = name.labels(), .reverse = true};
}

absl::StatusOr<Responder> Responder::Create(const DnsServerOptions& options) {
  Responder responder;
  auto suffix = Name::FromText(options.suffix);
  if (!suffix.ok()) return Annotate(suffix.status(), "the suffix");
  if (suffix->is_root())
    return InvalidArgument("the suffix is the root; nobody could answer for all names");
  suffix->MakeLower();
  responder.zones_.push_back({.name = *suffix, .labels = suffix->labels()});
  for (const std::string& prefix : options.reverse_prefixes) {
    WAXVM_ASSIGN_OR_RETURN(Zone zone, ReverseZone(prefix));
    responder.zones_.push_back(zone);
  }
  // Of zones in one another, the inner one answers.
  std::stable_sort(responder.zones_.begin(), responder.zones_.end(),
                   [](const Zone& a, const Zone& b) { return a.labels > b.labels; });
  if (options.negative_ttl.count() < 0 ||
      options.negative_ttl.count() > std::numeric_limits<std::int32_t>::max())
    return InvalidArgument("the negative TTL is %d seconds; it is 0 to 2147483647",
                           options.negative_ttl.count());
  responder.negative_ttl_seconds_ = static_cast<std::uint32_t>(options.negative_ttl.count());
  responder.soa_ = SoaData(responder.negative_ttl_seconds_);
  responder.ns_ = std::string(ToText(Name::FromText(kServerName)->bytes()));
  return responder;
}

Response Responder::Respond(Bytes query, const Asked& asked, DnsSource& source, Scratch& scratch,
                            std::span<std::uint8_t> out) const {
  const Served served = {zones_, soa_, ns_, negative_ttl_seconds_};
  return Exchange(served, query, asked, source, scratch, out).Run();
}

Response Responder::Refuse(Bytes beginning, std::span<std::uint8_t> out) const {
  if (beginning.size() < kHeaderBytes || (beginning[2] & kFlagQr >> 8) != 0) return {};
  Writer writer(out);
  writer.U16(Load16(&beginning[0]));
  const std::uint16_t flags = Load16(&beginning[2]);
  writer.U16(kFlagQr | (flags & (kOpcodeMask | kFlagRd)) |
             static_cast<std::uint16_t>(Rcode::kFormErr));
  for (int count = 0; count < 4; ++count) writer.U16(0);
  return {.bytes = writer.ok() ? writer.position() : 0};
}

}  // namespace waxvm::dns
