// SPDX-License-Identifier: Apache-2.0
#include "advert_make.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "advert_json.h"
#include "flags.h"
#include "keys.h"

namespace waxvm::cli {
namespace {

constexpr std::uint64_t kDay = 86'400;
constexpr std::uint64_t kHour = 3'600;

constexpr WordFlag kFlags[] = {
    {.name = "type", .value = "vm|host|topic|revocation|name", .help = "what it is (default: vm)"},
    {.name = "key",
     .value = "KEY",
     .help = "who signs: a name in the store, a path, or agent:PUBLIC-KEY (default: node)"},
    kStoreFlag,
    {.name = "sequence", .value = "N", .help = "above that of the last one (default: the time)"},
    {.name = "lifetime", .value = "TIME", .help = "until it expires (default: 24h)"},
    {.name = "ttl", .value = "TIME", .help = "when to ask again (default: 1h)"},
    {.name = "now", .value = "SECONDS", .help = "since 1970 (default: the clock)"},
    {.name = "output", .value = "FILE", .help = "write its bytes there"},
    {.name = "modifier",
     .value = "HEX",
     .help = "of its address: where to start (default: zeroes)"},
    {.name = "sec-code", .value = "N", .help = "of its address: 3 to 5 (default: 4)"},
    {.name = "collision-count", .value = "N", .help = "of its address: 0 to 2 (default: 0)"},
    {.name = "host-key", .value = "KEY", .help = "vm: the host, which signs as well"},
    {.name = "service",
     .value = "NAME,udp|tcp|N,PORT",
     .help = "vm: may be repeated",
     .repeatable = true},
    {.name = "mailbox", .value = "PUBLIC-KEY", .help = "vm: may be repeated", .repeatable = true},
    {.name = "tunnel-key", .value = "PUBLIC-KEY", .help = "host: X25519"},
    {.name = "transport",
     .value = "SCHEME,ADDRESS,PORT[,WEIGHT]",
     .help = "host: may be repeated",
     .repeatable = true},
    {.name = "relays", .value = "", .help = "host: passes on packets of others"},
    {.name = "keeps-mailboxes", .value = "", .help = "host: keeps messages of others"},
    {.name = "relay", .value = "PUBLIC-KEY", .help = "topic: may be repeated", .repeatable = true},
    {.name = "publisher",
     .value = "PUBLIC-KEY|open",
     .help = "topic: may be repeated",
     .repeatable = true},
    {.name = "tag", .value = "TEXT", .help = "topic: may be repeated", .repeatable = true},
    {.name = "reason", .value = "compromised|replaced|retired", .help = "revocation"},
    {.name = "label", .value = "LABEL", .help = "name: what the target is called"},
    {.name = "target", .value = "PUBLIC-KEY", .help = "name: who is called so"}};

absl::Status Refuse(std::string_view flag, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrFormat("--%s: %s", flag, why));
}

std::vector<std::string> Parts(std::string_view text) {
  return absl::StrSplit(absl::string_view(text.data(), text.size()), ',');
}

absl::StatusOr<std::vector<PublicKey>> KeysOf(const Words& words, std::string_view flag) {
  std::vector<PublicKey> keys;
  for (const std::string_view text : words.All(flag)) {
    const auto key = PublicKey::Parse(text);
    if (!key.ok()) return Refuse(flag, std::string(key.status().message()));
    keys.push_back(*key);
  }
  return keys;
}

absl::StatusOr<PublicKey> KeyOf(const Words& words, std::string_view flag) {
  const auto keys = KeysOf(words, flag);
  if (!keys.ok()) return keys.status();
  if (keys->empty()) return Refuse(flag, "is missing");
  return keys->front();
}

absl::StatusOr<AddressClaim> ClaimOf(const Words& words, const PublicKey& key) {
  cga::GenerateOptions options;
  const auto sec = words.Number("sec-code", cga::kSha256Bits16, cga::kSha256Bits32);
  const auto count = words.Number("collision-count", 0, cga::kMaxCollisionCount);
  if (!sec.ok()) return sec.status();
  if (!count.ok()) return count.status();
  const auto modifier =
      Unhex(words.Get("modifier", std::string_view("00000000000000000000000000000000")));
  if (!modifier || modifier->size() != options.modifier.size())
    return Refuse("modifier", "it needs 32 hexadecimal digits");
  std::copy(modifier->begin(), modifier->end(), options.modifier.begin());
  options.sec_code = static_cast<int>(*sec);
  options.collision_count = static_cast<int>(*count);
  const auto made = cga::Generate(key, options);
  if (!made.ok()) return made.status();
  return AddressClaim{.address = made->address,
                      .modifier = made->parameters.modifier,
                      .collision_count = options.collision_count};
}

absl::StatusOr<AdvertBody> VmOf(const Words& words, const PublicKey& author) {
  VmBody body;
  auto claim = ClaimOf(words, author);
  if (!claim.ok()) return claim.status();
  body.claim = *claim;
  for (const std::string_view text : words.All("service")) {
    auto service = ParseService(text);
    if (!service.ok()) return Refuse("service", std::string(service.status().message()));
    body.services.push_back(*std::move(service));
  }
  auto mailboxes = KeysOf(words, "mailbox");
  if (!mailboxes.ok()) return mailboxes.status();
  body.mailboxes = *std::move(mailboxes);
  return body;
}

absl::StatusOr<AdvertBody> HostOf(const Words& words, const PublicKey& author) {
  HostBody body = {.relay = words.Has("relays"), .mailbox = words.Has("keeps-mailboxes")};
  auto claim = ClaimOf(words, author);
  if (!claim.ok()) return claim.status();
  body.claim = *claim;
  const auto tunnel = KeyOf(words, "tunnel-key");
  if (!tunnel.ok()) return tunnel.status();
  body.tunnel_key = *tunnel;
  for (const std::string_view text : words.All("transport")) {
    const std::vector<std::string> parts = Parts(text);
    if (parts.size() < 3 || parts.size() > 4)
      return Refuse("transport", "write SCHEME,ADDRESS,PORT or SCHEME,ADDRESS,PORT,WEIGHT");
    // An IPv4 address is carried as a mapped one.
    const bool mapped = parts[1].find(':') == std::string::npos;
    const auto address = Address::Parse(mapped ? "::ffff:" + parts[1] : parts[1]);
    const auto port = ParseNumber(parts[2], 65535);
    const auto weight = ParseNumber(parts.size() == 4 ? parts[3] : "100", 255);
    for (const auto& status : {address.status(), port.status(), weight.status()})
      if (!status.ok()) return Refuse("transport", std::string(status.message()));
    body.transports.push_back({.scheme = parts[0],
                               .address = *address,
                               .port = static_cast<std::uint16_t>(*port),
                               .weight = static_cast<std::uint8_t>(*weight)});
  }
  return body;
}

absl::StatusOr<AdvertBody> TopicOf(const Words& words) {
  TopicBody body;
  auto relays = KeysOf(words, "relay");
  if (!relays.ok()) return relays.status();
  body.relays = *std::move(relays);
  body.open = words.Get("publisher") == "open";
  if (!body.open) {
    auto publishers = KeysOf(words, "publisher");
    if (!publishers.ok()) return publishers.status();
    body.publishers = *std::move(publishers);
  }
  for (const std::string_view tag : words.All("tag")) body.tags.emplace_back(tag);
  return body;
}

absl::StatusOr<AdvertBody> RevocationOf(const Words& words) {
  using Reason = RevocationBody::Reason;
  const std::string_view name = words.Get("reason", "unspecified");
  for (const Reason reason :
       {Reason::kUnspecified, Reason::kCompromised, Reason::kReplaced, Reason::kRetired})
    if (ReasonName(reason) == name) return RevocationBody{.reason = reason};
  return Refuse("reason", absl::StrFormat("'%s' is not compromised, replaced or retired", name));
}

absl::StatusOr<AdvertBody> NameOf(const Words& words) {
  const auto target = KeyOf(words, "target");
  if (!target.ok()) return target.status();
  return NameBody{.label = std::string(words.Get("label")), .target = *target};
}

absl::StatusOr<AdvertBody> BodyOf(const Words& words, const PublicKey& author) {
  const std::string_view type = words.Get("type", "vm");
  if (type == "vm") return VmOf(words, author);
  if (type == "host") return HostOf(words, author);
  if (type == "topic") return TopicOf(words);
  if (type == "revocation") return RevocationOf(words);
  if (type == "name") return NameOf(words);
  return Refuse("type", absl::StrFormat("'%s' is not vm, host, topic, revocation or name", type));
}

}  // namespace

std::span<const WordFlag> AdvertMakeFlags() { return kFlags; }

absl::StatusOr<std::uint64_t> Now(const Words& words) {
  const auto clock =
      std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch());
  return words.Number("now", static_cast<std::uint64_t>(clock.count()), kNeverExpires);
}

absl::StatusOr<Advert> MakeAdvert(const Words& words) {
  if (!words.positional().empty())
    return absl::InvalidArgumentError("advert make takes flags only");
  const auto author = OpenSigner(words, words.Get("key", "node"));
  if (!author.ok()) return author.status();
  auto body = BodyOf(words, (*author)->public_key());
  if (!body.ok()) return body.status();
  const auto now = Now(words);
  const auto lifetime = words.Seconds("lifetime", kDay);
  if (!now.ok()) return now.status();
  if (!lifetime.ok()) return lifetime.status();
  const auto ttl = words.Seconds("ttl", std::min(kHour, *lifetime));
  const auto sequence = words.Number("sequence", *now, kMaxAdvertSequence);
  if (!ttl.ok()) return ttl.status();
  if (!sequence.ok()) return sequence.status();
  if (*ttl > kMaxAdvertTtl) return Refuse("ttl", "it is at most 7 days");
  const bool revokes = std::holds_alternative<RevocationBody>(*body);
  AdvertFields fields = {.sequence = *sequence,
                         .created = *now,
                         .expires = revokes ? kNeverExpires : *now + *lifetime,
                         .ttl = static_cast<std::uint32_t>(*ttl),
                         .body = *std::move(body)};
  if (!words.Has("host-key")) return Advert::Make(std::move(fields), **author);
  const auto host = OpenSigner(words, words.Get("host-key"));
  if (!host.ok()) return host.status();
  return Advert::Make(std::move(fields), **author, host->get());
}

}  // namespace waxvm::cli
