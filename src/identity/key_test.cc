// SPDX-License-Identifier: Apache-2.0
#include "waxvm/key.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <set>
#include <string>
#include <utility>

#include "src/identity/text.h"

namespace waxvm {
namespace {

using identity::FromBase32;
using identity::FromHex;
using identity::ToBase32;
using identity::ToHex;
using testing::HasSubstr;

// RFC 8032 section 7.1, tests 1 and 2.
constexpr struct {
  const char* seed;
  const char* key;
  const char* message;
  const char* signature;
} kRfc8032[] = {{"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                 "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
                 "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc"
                 "61e39701cf9b4"
                 "6bd25bf5f0595bbe24655141438e7a100b"},
                {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                 "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
                 "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e4"
                 "58f3613d0f11d"
                 "8c387b2eaeb4302aeeb00d291612bb0c00"}};

// RFC 8410 section 10.
constexpr char kRfc8410Public[] =
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
    "-----END PUBLIC KEY-----\n";
constexpr char kRfc8410Plain[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
    "-----END PRIVATE KEY-----\n";
constexpr char kRfc8410Full[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
    "oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB\n"
    "Z9w7lshQhqowtrbLDFw4rXAxZuE=\n"
    "-----END PRIVATE KEY-----\n";

Signature ToSignature(const std::string& hex) {
  Signature signature;
  const std::string bytes = FromHex(hex).value();
  std::copy(bytes.begin(), bytes.end(), signature.bytes.begin());
  return signature;
}

TEST(Key, SignsAsRfc8032) {
  for (const auto& vector : kRfc8032) {
    const auto key = SigningKey::FromSeed(*FromHex(vector.seed));
    ASSERT_TRUE(key.ok()) << key.status();
    EXPECT_EQ(key->public_key().ToHex(), vector.key);
    const std::string message = *FromHex(vector.message);
    const auto signature = key->Sign(message);
    ASSERT_TRUE(signature.ok());
    EXPECT_EQ(ToHex(signature->view()), vector.signature);
    EXPECT_TRUE(Verify(key->public_key(), message, *signature));
    EXPECT_FALSE(Verify(key->public_key(), message + "x", *signature));
  }
}

TEST(Key, EveryBitOfASignatureCounts) {
  const auto key = PublicKey::Parse(kRfc8032[1].key);
  ASSERT_TRUE(key.ok());
  Signature signature = ToSignature(kRfc8032[1].signature);
  for (std::size_t bit = 0; bit < 8 * signature.bytes.size(); ++bit) {
    signature.bytes[bit / 8] ^= static_cast<std::uint8_t>(1 << bit % 8);
    EXPECT_FALSE(Verify(*key, "\x72", signature)) << bit;
    signature.bytes[bit / 8] ^= static_cast<std::uint8_t>(1 << bit % 8);
  }
  EXPECT_TRUE(Verify(*key, "\x72", signature));
}

TEST(Key, ASignatureWithoutReductionIsRefused) {
  // The order of the group, little-endian: S + L fits the equation just as S does.
  const std::string order =
      *FromHex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
  Signature signature = ToSignature(kRfc8032[1].signature);
  unsigned carry = 0;
  for (std::size_t i = 0; i < 32; ++i) {
    carry += signature.bytes[32 + i] + static_cast<unsigned char>(order[i]);
    signature.bytes[32 + i] = static_cast<std::uint8_t>(carry);
    carry >>= 8;
  }
  ASSERT_EQ(carry, 0u);
  EXPECT_FALSE(Verify(*PublicKey::Parse(kRfc8032[1].key), "\x72", signature));
}

TEST(Key, KeysOfSmallOrderVerifyNothing) {
  // Of order 1, 2, 4, 4, and forms of 1 that are not canonical; with R the same point and S = 0 the
  // equation holds for all of order 1, whatever the message.
  for (const char* point : {"0100000000000000000000000000000000000000000000000000000000000000",
                            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                            "0000000000000000000000000000000000000000000000000000000000000000",
                            "0000000000000000000000000000000000000000000000000000000000000080",
                            "0100000000000000000000000000000000000000000000000000000000000080",
                            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"}) {
    const auto key = PublicKey::Parse(point);
    ASSERT_TRUE(key.ok());
    Signature signature;
    std::copy(key->bytes.begin(), key->bytes.end(), signature.bytes.begin());
    for (const char* message : {"", "a", "b", "c", "d"})
      EXPECT_FALSE(Verify(*key, message, signature)) << point;
  }
}

TEST(Key, Text) {
  const auto key = PublicKey::Parse(kRfc8032[0].key);
  ASSERT_TRUE(key.ok());
  const std::string base32 = key->ToBase32();
  EXPECT_EQ(base32.size(), kKeyBase32Digits);
  EXPECT_EQ(*PublicKey::Parse(base32), *key);
  std::string upper = base32;
  std::transform(upper.begin(), upper.end(), upper.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  EXPECT_EQ(*PublicKey::Parse(upper), *key);
  // The last digit carries one bit of the key and four that must be zero.
  std::string other = base32;
  other.back() = other.back() == 'a' ? 'b' : 'c';
  EXPECT_FALSE(PublicKey::Parse(other).ok());
  for (const std::string& wrong :
       {std::string(), std::string(63, 'a'), std::string(64, 'g'), std::string(52, '1'),
        std::string(51, 'a'), std::string(53, 'a'), std::string(1 << 20, 'a')})
    EXPECT_TRUE(absl::IsInvalidArgument(PublicKey::Parse(wrong).status())) << wrong.substr(0, 80);
}

TEST(Key, Base32AsRfc4648) {
  // RFC 4648 section 10, in lower case and without padding.
  const std::pair<const char*, const char*> kVectors[] = {{"", ""},
                                                          {"f", "my"},
                                                          {"fo", "mzxq"},
                                                          {"foo", "mzxw6"},
                                                          {"foob", "mzxw6yq"},
                                                          {"fooba", "mzxw6ytb"},
                                                          {"foobar", "mzxw6ytboi"}};
  for (const auto& [bytes, digits] : kVectors) {
    EXPECT_EQ(ToBase32(bytes), digits);
    EXPECT_EQ(FromBase32(digits), bytes);
  }
  for (const char* wrong : {"m", "mzx", "mzxw6y", "mz", "my======", "m y"})
    EXPECT_EQ(FromBase32(wrong), std::nullopt) << wrong;
}

TEST(Key, ReadsAndWritesPkcs8) {
  const auto public_key = PublicKey::FromPem(kRfc8410Public);
  ASSERT_TRUE(public_key.ok()) << public_key.status();
  EXPECT_EQ(public_key->ToPem(), kRfc8410Public);
  EXPECT_EQ(*PublicKey::FromDer(public_key->ToDer()), *public_key);
  for (const char* pem : {kRfc8410Plain, kRfc8410Full}) {
    const auto key = SigningKey::FromPem(pem);
    ASSERT_TRUE(key.ok()) << key.status();
    EXPECT_EQ(key->public_key(), *public_key);
    EXPECT_EQ(key->ToPem()->view(), kRfc8410Plain);
    EXPECT_EQ(SigningKey::FromDer(key->ToDer()->view())->public_key(), *public_key);
  }
}

TEST(Key, DamagedPkcs8IsRefused) {
  const auto key = SigningKey::FromPem(kRfc8410Full);
  ASSERT_TRUE(key.ok());
  const auto der = SigningKey::FromPem(kRfc8410Plain)->ToDer();
  const std::string good(der->view());
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_FALSE(SigningKey::FromDer(good.substr(0, size)).ok()) << size;
  EXPECT_FALSE(SigningKey::FromDer(good + '\0').ok());
  for (std::size_t at = 0; at < good.size() - kKeyBytes; ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 1 << bit);
      if (at == 4 && bit == 0) continue;  // version 2, without what it adds
      EXPECT_FALSE(SigningKey::FromDer(bad).ok()) << at << ' ' << bit;
    }
  std::string other_public = kRfc8410Full;
  other_public.replace(other_public.find("AxZuE="), 6, "AxZuA=");
  EXPECT_THAT(SigningKey::FromPem(other_public).status().message(), HasSubstr("another"));
  EXPECT_FALSE(SigningKey::FromPem(std::string(kRfc8410Plain) + kRfc8410Plain).ok());
  EXPECT_FALSE(SigningKey::FromPem(kRfc8410Public).ok());
  EXPECT_FALSE(SigningKey::FromPem("").ok());
  EXPECT_FALSE(SigningKey::FromPem(std::string(1 << 20, '-')).ok());
  EXPECT_FALSE(ExchangeKey::FromPem(kRfc8410Plain).ok()) << "an Ed25519 key is none of X25519";
}

TEST(Key, ExchangesAsRfc7748) {
  // Section 6.1: Bob's secret key, Alice's public one, and what they share.
  const auto bob = ExchangeKey::FromBytes(
      *FromHex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
  ASSERT_TRUE(bob.ok()) << bob.status();
  const auto shared = bob->Agree(
      *PublicKey::Parse("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"));
  ASSERT_TRUE(shared.ok());
  EXPECT_EQ(ToHex(shared->view()),
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
  const auto again = ExchangeKey::FromPem(bob->ToPem()->view());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->public_key(), bob->public_key());
  for (const char* point : {"0000000000000000000000000000000000000000000000000000000000000000",
                            "0100000000000000000000000000000000000000000000000000000000000000",
                            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"})
    EXPECT_TRUE(absl::IsInvalidArgument(bob->Agree(*PublicKey::Parse(point)).status())) << point;
}

TEST(Key, NewKeysDiffer) {
  std::set<PublicKey> keys;
  for (int i = 0; i < 50; ++i) {
    keys.insert(SigningKey::Generate()->public_key());
    keys.insert(ExchangeKey::Generate()->public_key());
  }
  EXPECT_EQ(keys.size(), 100u);
}

/// The flags of the mapping that `address` is in, from /proc/self/smaps.
std::string MappingFlags(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t from = 0;
    std::uintptr_t to = 0;
    if (sscanf(line.c_str(), "%zx-%zx ", &from, &to) == 2)
      inside = from <= wanted && wanted < to;
    else if (inside && line.starts_with("VmFlags:"))
      return line;
  }
  return "";
}

// Sanitizers answer mlock themselves, and lock nothing.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kLocksMemory = false;
#else
constexpr bool kLocksMemory = true;
#endif

TEST(Secret, IsLockedAndLeftOutOfDumps) {
  if (!kLocksMemory) GTEST_SKIP() << "a sanitizer keeps memory from being locked";
  const auto secret = Secret::Create(kKeyBytes);
  ASSERT_TRUE(secret.ok()) << secret.status();
  EXPECT_EQ(secret->view(), std::string(kKeyBytes, '\0'));
  const std::string flags = MappingFlags(secret->view().data());
  EXPECT_THAT(flags, HasSubstr(" lo"));  // locked
  EXPECT_THAT(flags, HasSubstr(" dd"));  // not dumped
}

TEST(SecretDeathTest, ReadingPastItsEndFaults) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto secret = Secret::Create(kKeyBytes);
  ASSERT_TRUE(secret.ok());
  const volatile char* end = secret->view().data() + kKeyBytes;
  EXPECT_DEATH((void)*end, "");
}

TEST(Secret, WithoutLockableMemoryThereIsNone) {
  if (!kLocksMemory) GTEST_SKIP() << "a sanitizer keeps memory from being locked";
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // Root may lock without limit: the child becomes nobody.
    const rlimit none = {0, 0};
    if (setrlimit(RLIMIT_MEMLOCK, &none) != 0) _exit(2);
    if (geteuid() == 0 && setuid(65534) != 0) _exit(2);
    _exit(absl::IsResourceExhausted(SigningKey::Generate().status()) ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Secret, MovedFromIsEmpty) {
  auto a = Secret::Create(4);
  a->data()[0] = 'x';
  Secret b = *std::move(a);
  EXPECT_EQ(b.view()[0], 'x');
  Secret c = *Secret::Create(1);
  c = std::move(b);
  EXPECT_EQ(c.view().size(), 4u);
  c.Truncate(1);
  EXPECT_EQ(c.view(), "x");
  EXPECT_EQ(c.data()[1], '\0') << "what is cut off is wiped";
}

}  // namespace
}  // namespace waxvm
