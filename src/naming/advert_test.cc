// SPDX-License-Identifier: Apache-2.0
#include "waxvm/advert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "src/identity/text.h"
#include "src/naming/advert_codec.h"
#include "src/naming/advert_for_test.h"

namespace waxvm {
namespace {

using identity::AsView;
using identity::FromHex;
using identity::ToHex;
using naming::KeyOf;
using naming::kTestTime;
using testing::HasSubstr;

std::map<std::string, std::string> GoldenBytes() {
  std::ifstream file(WAXVM_VECTORS_DIR "/advert.json");
  const auto json = nlohmann::json::parse(file);
  std::map<std::string, std::string> all;
  for (const auto& advert : json.at("adverts"))
    all[advert.at("name")] = FromHex(advert.at("bytes").get<std::string>()).value();
  EXPECT_EQ(all.size(), 6u);
  return all;
}

AddressClaim ClaimFor(const PublicKey& key, int collision_count) {
  cga::GenerateOptions options = {.sec_code = cga::kSha256, .collision_count = collision_count};
  for (std::size_t i = 0; i < 16; ++i) options.modifier[i] = static_cast<std::uint8_t>(i);
  return {.address = cga::Generate(key, options)->address,
          .modifier = options.modifier,
          .collision_count = collision_count};
}

/// What the golden bytes say, by their names.
std::map<std::string, Advert> GoldenAdverts() {
  const SigningKey author = KeyOf(1);
  const SigningKey host = KeyOf(2);
  const SigningKey other = KeyOf(3);
  const PublicKey tunnel = ExchangeKey::FromBytes(std::string(32, 4))->public_key();
  const std::uint64_t end = kTestTime + 86400;
  std::map<std::string, Advert> all;
  const auto add = [&](const char* name, const SigningKey& by, AdvertFields fields) {
    const auto advert = Advert::Make(std::move(fields), by, &host);
    ASSERT_TRUE(advert.ok()) << name << advert.status();
    all.emplace(name, *advert);
  };
  add("vm", author,
      {.sequence = 7,
       .created = kTestTime,
       .expires = end,
       .ttl = 3600,
       .body = VmBody{.claim = ClaimFor(author.public_key(), 1),
                      .services = {{"coap", 17, 5683}, {"http", 6, 80}},
                      .mailboxes = {other.public_key()}}});
  add("host", host,
      {.sequence = 1,
       .created = kTestTime,
       .expires = end,
       .ttl = 600,
       .body = HostBody{.claim = ClaimFor(host.public_key(), 0),
                        .tunnel_key = tunnel,
                        .relay = true,
                        .mailbox = true,
                        .transports = {{"udp", *Address::Parse("2001:db8::1"), 4500, 100},
                                       {"tcp", *Address::Parse("::ffff:192.0.2.7"), 443, 1}}}});
  add("topic", other,
      {.sequence = kMaxAdvertSequence,
       .created = kTestTime,
       .expires = kTestTime + 1,
       .ttl = 1,
       .body = TopicBody{.relays = {host.public_key()},
                         .publishers = {author.public_key(), host.public_key()},
                         .tags = {"weather", "home/garden"}}});
  add("open topic", other,
      {.sequence = 0,
       .created = 0,
       .expires = kMaxAdvertLifetime,
       .ttl = kMaxAdvertTtl,
       .body = TopicBody{.open = true}});
  add("revocation", author,
      {.sequence = 9,
       .created = kTestTime,
       .expires = kNeverExpires,
       .ttl = 86400,
       .body = RevocationBody{.reason = RevocationBody::Reason::kCompromised}});
  add("name", author,
      {.sequence = 3,
       .created = kTestTime,
       .expires = end,
       .ttl = 300,
       .body = NameBody{.label = "sensor", .target = other.public_key()}});
  return all;
}

TEST(Advert, IsWrittenAndReadAsTheGoldenBytes) {
  const auto bytes = GoldenBytes();
  const auto adverts = GoldenAdverts();
  ASSERT_EQ(bytes.size(), 6u);
  ASSERT_EQ(adverts.size(), 6u);
  for (const auto& [name, advert] : adverts) {
    EXPECT_EQ(ToHex(advert.bytes()), ToHex(bytes.at(name))) << name;
    const auto checked = Advert::Check(bytes.at(name), advert.fields().created);
    ASSERT_TRUE(checked.ok()) << name << checked.status();
    EXPECT_EQ(checked->fields(), advert.fields()) << name;
    EXPECT_EQ(checked->bytes(), bytes.at(name)) << name;
    EXPECT_EQ(checked->hash(), advert.hash()) << name;
    EXPECT_EQ(*ParseAdvert(bytes.at(name)), advert.fields()) << name;
  }
}

TEST(Advert, EveryFlippedBitIsRefused) {
  for (const auto& [name, bytes] : GoldenBytes()) {
    const std::uint64_t now = ParseAdvert(bytes)->created;
    for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      std::string bad = bytes;
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
      const auto checked = Advert::Check(bad, now);
      ASSERT_FALSE(checked.ok()) << name << " bit " << bit;
      EXPECT_TRUE(absl::IsInvalidArgument(checked.status()) ||
                  absl::IsUnauthenticated(checked.status()))
          << name << " bit " << bit << checked.status();
    }
  }
}

TEST(Advert, TruncatedAndExtendedIsRefused) {
  for (const auto& [name, bytes] : GoldenBytes()) {
    for (std::size_t size = 0; size < bytes.size(); ++size)
      EXPECT_TRUE(absl::IsInvalidArgument(Advert::Check(bytes.substr(0, size), kTestTime).status()))
          << name << size;
    for (const std::size_t more : {std::size_t{1}, std::size_t{64}, std::size_t{1} << 20})
      EXPECT_TRUE(absl::IsInvalidArgument(
          Advert::Check(bytes + std::string(more, '\0'), kTestTime).status()))
          << name << more;
  }
}

/// Bytes with a signature that holds, so that only their form can be wrong.
std::string Signed(std::string unsigned_bytes, const SigningKey& key) {
  return unsigned_bytes.append(key.Sign(unsigned_bytes)->view());
}

TEST(Advert, FormsThatAreSignedAndWrongAllTheSame) {
  const SigningKey key = KeyOf(1);
  const auto adverts = GoldenAdverts();
  // Every byte of the body that counts or bounds something, at its worst: the signature holds.
  for (const char* name : {"vm", "host", "topic", "name", "revocation"}) {
    const std::string good = adverts.at(name).bytes();
    const std::string unsigned_bytes = good.substr(0, good.size() - kSignatureBytes);
    for (std::size_t at = naming::kBodyAt; at < unsigned_bytes.size(); ++at)
      for (const char worst : {'\0', '\x7f', '\x80', '\xfe', '\xff'}) {
        std::string bad = unsigned_bytes;
        if (bad[at] == worst) continue;
        bad[at] = worst;
        bad.replace(naming::kAuthorAt, kKeyBytes, key.public_key().view());
        const auto parsed = ParseAdvert(Signed(bad, key));
        if (!parsed.ok()) continue;
        // What is read is written as the same bytes: there are no two forms of one advert.
        EXPECT_EQ(*naming::EncodeUnsigned(*parsed), bad) << name << at;
      }
  }
}

TEST(Advert, OversizedFieldsAreRefused) {
  const SigningKey key = KeyOf(1);
  const PublicKey other = KeyOf(3).public_key();
  const AddressClaim claim = ClaimFor(key.public_key(), 0);
  const PublicKey tunnel = ExchangeKey::FromBytes(std::string(32, 4))->public_key();
  const AdvertisedTransport transport = {"udp", *Address::Parse("::1"), 1, 1};
  const auto refused = [&](AdvertBody body) {
    const auto made =
        Advert::Make({.created = 1, .expires = 100, .ttl = 1, .body = std::move(body)}, key, &key);
    return absl::IsInvalidArgument(made.status());
  };
  EXPECT_FALSE(refused(VmBody{.claim = claim, .services = std::vector(8, AdvertisedService{"x"})}));
  EXPECT_TRUE(refused(VmBody{.claim = claim, .services = std::vector(9, AdvertisedService{"x"})}));
  EXPECT_TRUE(refused(VmBody{.claim = claim, .services = {{std::string(16, 'x')}}}));
  EXPECT_TRUE(refused(VmBody{.claim = claim, .services = {{std::string(300, 'x')}}}));
  EXPECT_TRUE(refused(VmBody{.claim = claim, .services = {{""}}}));
  EXPECT_TRUE(refused(VmBody{.claim = claim, .services = {{"Coap"}}}));
  EXPECT_TRUE(refused(VmBody{.claim = claim, .mailboxes = std::vector(5, other)}));
  AddressClaim third = claim;
  third.collision_count = 3;
  EXPECT_TRUE(refused(VmBody{.claim = third}));
  third.collision_count = -1;
  EXPECT_TRUE(refused(VmBody{.claim = third}));
  const auto host = [&](std::vector<AdvertisedTransport> transports) {
    return HostBody{.claim = claim, .tunnel_key = tunnel, .transports = std::move(transports)};
  };
  EXPECT_FALSE(refused(host(std::vector(8, transport))));
  EXPECT_TRUE(refused(host(std::vector(9, transport))));
  EXPECT_TRUE(refused(host({{"a b", {}, 1, 1}})));
  EXPECT_TRUE(refused(TopicBody{.relays = std::vector(5, other)}));
  EXPECT_TRUE(refused(TopicBody{.publishers = std::vector(9, other)}));
  EXPECT_TRUE(refused(TopicBody{.open = true, .publishers = {other}}));
  EXPECT_TRUE(refused(TopicBody{.tags = {std::string(32, 'x')}}));
  EXPECT_TRUE(refused(TopicBody{.tags = {"new\nline"}}));
  EXPECT_TRUE(refused(TopicBody{.tags = std::vector(9, std::string("x"))}));
  // Each list within its bound, all together too long.
  EXPECT_TRUE(refused(TopicBody{.relays = std::vector(4, other),
                                .publishers = std::vector(8, other),
                                .tags = std::vector(8, std::string(31, 'x'))}));
  for (const std::string& label : {std::string(), std::string("-a"), std::string("a-"),
                                   std::string("A"), std::string("a.b"), std::string(64, 'a')})
    EXPECT_TRUE(refused(NameBody{.label = label, .target = other})) << label;
  EXPECT_TRUE(refused(RevocationBody{})) << "a revocation has no end";
}

TEST(Advert, TimesAndSequences) {
  const SigningKey key = KeyOf(1);
  const auto make = [&](std::uint64_t sequence, std::uint64_t created, std::uint64_t expires,
                        std::uint32_t ttl) {
    return Advert::Make({.sequence = sequence,
                         .created = created,
                         .expires = expires,
                         .ttl = ttl,
                         .body = NameBody{.label = "a", .target = key.public_key()}},
                        key)
        .status();
  };
  EXPECT_TRUE(make(0, 1, 2, 1).ok());
  EXPECT_TRUE(make(1, 5, 5 + kMaxAdvertLifetime, kMaxAdvertTtl).ok());
  for (const auto& status :
       {make(kMaxAdvertSequence + 1, 1, 2, 1), make(UINT64_MAX, 1, 2, 1), make(1, 2, 2, 1),
        make(1, 3, 2, 1), make(1, 5, 6 + kMaxAdvertLifetime, 1), make(1, 1, kNeverExpires, 1),
        make(1, 1, UINT64_MAX, 1), make(1, 1, 2, 0), make(1, 1, 10, 10),
        make(1, 1, 1'000'000, kMaxAdvertTtl + 1), make(1, 1, 1'000'000, UINT32_MAX)})
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
}

TEST(Advert, ClocksThatAreWrong) {
  const std::string bytes = GoldenBytes().at("name");
  constexpr std::uint64_t kYears = 5 * 31'556'952ull;
  EXPECT_TRUE(Advert::Check(bytes, kTestTime - kMaxClockSkew).ok());
  EXPECT_TRUE(Advert::Check(bytes, kTestTime + 86399).ok());
  for (const std::uint64_t early : {kTestTime - kMaxClockSkew - 1, kTestTime - kYears, 0ul})
    EXPECT_TRUE(absl::IsOutOfRange(Advert::Check(bytes, early).status())) << early;
  for (const std::uint64_t late : {kTestTime + 86400, kTestTime + kYears, ~0ul})
    EXPECT_TRUE(absl::IsDeadlineExceeded(Advert::Check(bytes, late).status())) << late;
  EXPECT_TRUE(Advert::Check(GoldenBytes().at("revocation"), kTestTime + 100 * kYears).ok());
}

TEST(Advert, TheOrderOfTheChecks) {
  // All of it is wrong: what is checked first is named.
  const std::string good = GoldenBytes().at("vm");
  const SigningKey author = KeyOf(1);
  const SigningKey host = KeyOf(2);
  std::string bad = good.substr(0, good.size() - kSignatureBytes);
  bad[naming::kBodyAt + 15] = static_cast<char>(bad[naming::kBodyAt + 15] ^ 1);  // the address
  const std::uint64_t late = kTestTime + 100'000;
  EXPECT_TRUE(absl::IsUnauthenticated(Advert::Check(bad + std::string(64, '\0'), late).status()));
  const auto host_missing = Advert::Check(Signed(bad, author), late).status();
  EXPECT_TRUE(absl::IsUnauthenticated(host_missing));
  EXPECT_THAT(host_missing.message(), HasSubstr("host"));
  bad.replace(bad.size() - kSignatureBytes, kSignatureBytes,
              host.Sign(naming::HostedBytes(bad))->view());
  EXPECT_TRUE(absl::IsPermissionDenied(Advert::Check(Signed(bad, author), late).status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(Advert::Check(good, late).status()));
}

TEST(Advert, AHostMustAgree) {
  const SigningKey author = KeyOf(1);
  const AdvertFields fields = {
      .created = kTestTime,
      .expires = kTestTime + 10,
      .ttl = 1,
      .body = VmBody{.claim = ClaimFor(author.public_key(), 0), .services = {{"coap", 17, 1}}}};
  EXPECT_TRUE(absl::IsInvalidArgument(Advert::Make(fields, author).status()));
  const SigningKey host = KeyOf(2);
  const auto agreed = Advert::Make(fields, author, &host);
  ASSERT_TRUE(agreed.ok());
  // The author alone changes what it is said to offer, and signs again.
  std::string bytes = agreed->bytes().substr(0, agreed->bytes().size() - kSignatureBytes);
  const std::size_t name = bytes.find("coap");
  bytes[name] = 'k';
  EXPECT_TRUE(absl::IsUnauthenticated(Advert::Check(Signed(bytes, author), kTestTime).status()));
  // Or another host takes the place of the one that agreed.
  bytes[name] = 'c';
  bytes.replace(naming::kBodyAt + 33, kKeyBytes, KeyOf(3).public_key().view());
  EXPECT_TRUE(absl::IsUnauthenticated(Advert::Check(Signed(bytes, author), kTestTime).status()));
}

TEST(Advert, ASignatureForSomethingElseIsNone) {
  const SigningKey key = KeyOf(1);
  const std::string good = GoldenBytes().at("name");
  std::string other = good.substr(0, good.size() - kSignatureBytes);
  for (std::size_t i = 0; i < naming::kAdvertContext.size(); ++i) {
    std::string bytes = other;
    bytes[i] = static_cast<char>(bytes[i] ^ 0x20);
    EXPECT_TRUE(absl::IsInvalidArgument(Advert::Check(Signed(bytes, key), kTestTime).status()));
  }
  // A hosting signature over the same bytes is none of the author's.
  const Signature hosting = *key.Sign(std::string(naming::kHostingContext) + other);
  EXPECT_FALSE(Advert::Check(other + std::string(hosting.view()), kTestTime).ok());
}

TEST(Advert, KeysOfSmallOrder) {
  std::string bytes = GoldenBytes().at("name");
  bytes.resize(bytes.size() - kSignatureBytes);
  // The neutral element as author: with R the same and S = 0 the bare equation holds.
  std::string neutral(kKeyBytes, '\0');
  neutral[0] = 1;
  bytes.replace(naming::kAuthorAt, kKeyBytes, neutral);
  EXPECT_TRUE(absl::IsUnauthenticated(
      Advert::Check(bytes + neutral + std::string(32, '\0'), kTestTime).status()));
  const SigningKey host = KeyOf(2);
  for (const char first : {'\0', '\1'}) {
    HostBody body = {.claim = ClaimFor(host.public_key(), 0)};
    body.tunnel_key.bytes[0] = static_cast<std::uint8_t>(first);
    const auto made =
        Advert::Make({.created = 1, .expires = 2, .ttl = 1, .body = body}, host).status();
    EXPECT_TRUE(absl::IsPermissionDenied(made)) << made;
  }
}

TEST(Advert, ASignatureWithoutReductionIsRefused) {
  std::string bytes = GoldenBytes().at("name");
  const std::string order =
      *FromHex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
  unsigned carry = 0;
  for (std::size_t i = 0; i < 32; ++i) {
    char& byte = bytes[bytes.size() - 32 + i];
    carry += static_cast<unsigned char>(byte) + static_cast<unsigned char>(order[i]);
    byte = static_cast<char>(carry & 0xff);
    carry >>= 8;
  }
  EXPECT_TRUE(absl::IsUnauthenticated(Advert::Check(bytes, kTestTime).status()));
}

TEST(Advert, AddressesWithSha1AreRefused) {
  const SigningKey key = KeyOf(1);
  const auto made = cga::Generate(key.public_key(), {.sec_code = cga::kSha1});
  const VmBody body = {.claim = {.address = made->address}};
  EXPECT_TRUE(absl::IsPermissionDenied(
      Advert::Make({.created = 1, .expires = 2, .ttl = 1, .body = body}, key, &key).status()));
}

TEST(Advert, ManyAtOnceAsOneByOne) {
  std::vector<std::string> storage;
  for (int i = 0; i < 20; ++i)
    for (const auto& [name, bytes] : GoldenBytes()) {
      storage.push_back(bytes);
      storage.push_back(bytes);
      storage.back()[static_cast<std::size_t>(i) % bytes.size()] ^= 1;
    }
  const std::vector<std::string_view> views(storage.begin(), storage.end());
  for (const unsigned threads : {0u, 1u, 3u, 1000u}) {
    const auto results = CheckAdverts(views, kTestTime, threads);
    ASSERT_EQ(results.size(), views.size());
    for (std::size_t i = 0; i < views.size(); ++i) {
      const auto one = Advert::Check(views[i], kTestTime);
      EXPECT_EQ(results[i].status(), one.status()) << i;
      if (one.ok()) {
        EXPECT_EQ(results[i]->bytes(), one->bytes());
      }
    }
  }
  EXPECT_TRUE(CheckAdverts({}, kTestTime).empty());
}

}  // namespace
}  // namespace waxvm
