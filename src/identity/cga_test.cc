// SPDX-License-Identifier: Apache-2.0
#include "waxvm/cga.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "nlohmann/json.hpp"
#include "src/identity/text.h"

namespace waxvm::cga {
namespace {

using identity::AsView;
using identity::FromHex;
using identity::ToHex;
using Json = nlohmann::json;
using testing::HasSubstr;

Json Vectors() {
  std::ifstream file(WAXVM_VECTORS_DIR "/cga.json");
  return Json::parse(file);
}

template <typename Array>
Array Bytes(const std::string& hex) {
  Array array{};
  const std::string bytes = FromHex(hex).value();
  EXPECT_EQ(bytes.size(), array.size());
  std::copy_n(bytes.begin(), std::min(bytes.size(), array.size()), array.begin());
  return array;
}

Modifier ModifierOf(const std::string& hex) { return Bytes<Modifier>(hex); }

constexpr char kFirstModifier[] = "000102030405060708090a0b0c0d0e0f";

struct Rfc {
  std::string key;
  Modifier rejected;
  Modifier modifier;
  Prefix prefix{};
  Address address;
  std::string hash2;
};

Rfc RfcExample() {
  const Json json = Vectors().at("rfc3972_appendix_b");
  Rfc rfc;
  rfc.key = *FromHex(json.at("public_key_der").get<std::string>());
  rfc.rejected = ModifierOf(json.at("modifier_rejected"));
  rfc.modifier = ModifierOf(json.at("modifier"));
  rfc.address = *Address::Parse(json.at("address").get<std::string>());
  std::copy_n(Address::Parse(json.at("prefix").get<std::string>())->bytes.begin(), 8,
              rfc.prefix.begin());
  rfc.hash2 = json.at("hash2");
  return rfc;
}

TEST(Cga, TheExampleOfTheRfc) {
  const Rfc rfc = RfcExample();
  // The RFC shows one modifier that is rejected, and the next one, which is taken.
  const auto made =
      Generate(rfc.key, rfc.prefix, {.sec_code = kSha1Bits16, .modifier = rfc.rejected});
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->address, rfc.address);
  EXPECT_EQ(made->parameters.modifier, rfc.modifier);
  EXPECT_EQ(ToHex(AsView(made->hash2)), rfc.hash2);
  EXPECT_EQ(made->tries, 2u);
  EXPECT_TRUE(Verify(rfc.address, made->parameters).ok());
  Parameters rejected = made->parameters;
  rejected.modifier = rfc.rejected;
  EXPECT_TRUE(absl::IsPermissionDenied(Verify(rfc.address, rejected)));
}

TEST(Cga, EveryAddressOfTheProfile) {
  int cases = 0;
  const Json keys = Vectors().at("waxvm_profile").at("keys");
  for (const auto& [name, entry] : keys.items()) {
    const auto key = PublicKey::Parse(entry.at("ed25519_public_key").get<std::string>());
    ASSERT_TRUE(key.ok());
    EXPECT_EQ(ToHex(AsView(PrefixOf(*key))), entry.at("prefix"));
    for (const Json& expected : entry.at("cases")) {
      const std::string what = name + " " + expected.dump();
      const auto made = Generate(*key, {.sec_code = expected.at("sec_code"),
                                        .collision_count = expected.at("collision_count"),
                                        .modifier = ModifierOf(kFirstModifier)});
      ASSERT_TRUE(made.ok()) << what << made.status();
      EXPECT_EQ(made->address.ToText(), expected.at("address")) << what;
      EXPECT_EQ(ToHex(AsView(made->parameters.modifier)), expected.at("modifier")) << what;
      EXPECT_EQ(ToHex(AsView(made->hash2)), expected.at("hash2")) << what;
      EXPECT_EQ(made->tries, expected.at("tries").get<std::uint64_t>()) << what;
      EXPECT_TRUE(
          Verify(made->address, *key, made->parameters.modifier, expected.at("collision_count"))
              .ok())
          << what;
      ++cases;
    }
  }
  EXPECT_EQ(cases, 18);
}

TEST(Cga, AnyNumberOfThreadsFindsTheSame) {
  const auto key =
      PublicKey::Parse("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
  for (int start = 0; start < 8; ++start) {
    // From the top, so that the modifier wraps around on the way.
    Modifier modifier;
    modifier.fill(0xff);
    modifier[15] = static_cast<std::uint8_t>(start * 31);
    const auto one = Generate(*key, {.modifier = modifier, .threads = 1});
    ASSERT_TRUE(one.ok());
    for (const unsigned threads : {2u, 3u, 7u}) {
      const auto several = Generate(*key, {.modifier = modifier, .threads = threads});
      ASSERT_TRUE(several.ok());
      EXPECT_EQ(several->parameters.modifier, one->parameters.modifier) << threads;
      EXPECT_EQ(several->tries, one->tries) << threads;
    }
    EXPECT_EQ(one->parameters.modifier[0], 0) << "it wrapped around";
  }
}

TEST(Cga, TheSearchStopsAndTells) {
  const auto key = SigningKey::Generate();
  std::stop_source stop;
  std::uint64_t told = 0;
  int calls = 0;
  const auto caller = std::this_thread::get_id();
  const auto start = std::chrono::steady_clock::now();
  // 2^32 hashes: nobody waits for that.
  const auto made = Generate(key->public_key(), {.sec_code = kSha256Bits32,
                                                 .modifier = ModifierOf(kFirstModifier),
                                                 .stop = stop.get_token(),
                                                 .progress = [&](std::uint64_t tries) {
                                                   EXPECT_EQ(std::this_thread::get_id(), caller);
                                                   EXPECT_GT(tries, told);
                                                   told = tries;
                                                   if (++calls == 3) stop.request_stop();
                                                 }});
  EXPECT_TRUE(absl::IsCancelled(made.status())) << made.status();
  EXPECT_EQ(calls, 3);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(Cga, StoppedBeforeItBegan) {
  std::stop_source stop;
  stop.request_stop();
  for (const int sec : {kSha256, kSha256Bits16})
    EXPECT_TRUE(absl::IsCancelled(
        Generate(PublicKey{}, {.sec_code = sec, .stop = stop.get_token()}).status()));
}

TEST(Cga, EveryBitOfAnAddressCounts) {
  const auto key = SigningKey::Generate()->public_key();
  const auto made = Generate(key, {.sec_code = kSha256Bits16});
  ASSERT_TRUE(made.ok());
  const auto& parameters = made->parameters;
  for (int bit = 0; bit < 128; ++bit) {
    Address other = made->address;
    other.bytes[bit / 8] ^= static_cast<std::uint8_t>(0x80 >> bit % 8);
    const absl::Status status = Verify(other, key, parameters.modifier, 0);
    // The RFC ignores these two, "universal" and "group".
    EXPECT_EQ(status.ok(), bit == 64 + 6 || bit == 64 + 7) << bit << status;
  }
  for (int bit = 0; bit < 128; ++bit) {
    Modifier other = parameters.modifier;
    other[bit / 8] ^= static_cast<std::uint8_t>(0x80 >> bit % 8);
    EXPECT_FALSE(Verify(made->address, key, other, 0).ok()) << bit;
  }
  for (const int count : {-1, 1, 2, 3, 255})
    EXPECT_FALSE(Verify(made->address, key, parameters.modifier, count).ok()) << count;
  EXPECT_FALSE(
      Verify(made->address, SigningKey::Generate()->public_key(), parameters.modifier, 0).ok());
}

TEST(Cga, AWeakerCodeIsAnotherAddress) {
  // With fewer zero bits asked for, the interface identifier would have to be the same.
  const auto key = SigningKey::Generate()->public_key();
  const auto weak = Generate(key, {.sec_code = kSha256});
  ASSERT_TRUE(weak.ok());
  Address claimed = weak->address;
  claimed.bytes[8] = static_cast<std::uint8_t>((claimed.bytes[8] & 0x1f) | kSha256Bits32 << 5);
  const absl::Status status = Verify(claimed, key, weak->parameters.modifier, 0);
  EXPECT_THAT(status.message(), HasSubstr("Hash2"));
}

TEST(Cga, CodesAndCountsThatDoNotExist) {
  const auto key = SigningKey::Generate()->public_key();
  for (const int code : {-1, 6, 7, 8})
    EXPECT_TRUE(absl::IsInvalidArgument(Generate(key, {.sec_code = code}).status())) << code;
  for (const int count : {-1, 3})
    EXPECT_TRUE(absl::IsInvalidArgument(
        Generate(key, {.sec_code = kSha256, .collision_count = count}).status()));
  const auto made = Generate(key, {.sec_code = kSha256});
  Address other = made->address;
  for (const int code : {6, 7}) {
    other.bytes[8] = static_cast<std::uint8_t>((other.bytes[8] & 0x1f) | code << 5);
    EXPECT_TRUE(absl::IsInvalidArgument(Verify(other, key, made->parameters.modifier, 0)));
  }
}

TEST(Cga, ParametersAsBytes) {
  const Rfc rfc = RfcExample();
  const Parameters parameters = {
      .modifier = rfc.modifier, .prefix = rfc.prefix, .collision_count = 0, .public_key = rfc.key};
  const std::string bytes = Serialize(parameters);
  EXPECT_EQ(bytes.size(), 25 + rfc.key.size());
  EXPECT_EQ(*ParseParameters(bytes), parameters);
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(ParseParameters(bytes.substr(0, size)).ok()) << size;
  // One extension of type 1 with 2 bytes, which is hashed as well.
  Parameters extended = parameters;
  extended.extensions = std::string("\0\1\0\2ab", 6);
  const std::string longer = Serialize(extended);
  EXPECT_EQ(*ParseParameters(longer), extended);
  EXPECT_FALSE(Verify(rfc.address, extended).ok());
  for (std::size_t size = bytes.size() + 1; size < longer.size(); ++size)
    EXPECT_FALSE(ParseParameters(longer.substr(0, size)).ok()) << size;
  std::string bad = bytes;
  bad[24] = 3;
  EXPECT_FALSE(ParseParameters(bad).ok()) << "collision count";
  EXPECT_FALSE(ParseParameters(bytes + std::string(1 << 20, '\0')).ok());
}

TEST(Cga, GroupOfATopic) {
  const auto key =
      *PublicKey::Parse("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
  // printf waxvm-topic-v1 and the key's bytes through sha256sum
  EXPECT_EQ(GroupOf(key).ToText(), "ff18:52d1:6c47:64e7:8980:3585:79ce:fc2c");
}

TEST(Address, Text) {
  EXPECT_EQ(Address::Parse("FD32:CB53:7552:F2AA:0009:8265:8cc3:72e0")->ToText(),
            "fd32:cb53:7552:f2aa:9:8265:8cc3:72e0");
  EXPECT_EQ(Address{}.ToText(), "::");
  for (const std::string& wrong :
       {std::string(), std::string("1.2.3.4"), std::string("fe80::1%eth0"), std::string("[::1]"),
        std::string("::1/64"), std::string("::1\0", 4), std::string(1 << 20, ':')})
    EXPECT_TRUE(absl::IsInvalidArgument(Address::Parse(wrong).status())) << wrong.substr(0, 40);
}

}  // namespace
}  // namespace waxvm::cga
