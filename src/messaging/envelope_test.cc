// SPDX-License-Identifier: Apache-2.0
#include "waxvm/envelope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "src/identity/text.h"
#include "src/messaging/envelope_codec.h"
#include "src/messaging/messaging_for_test.h"

namespace waxvm::messaging {
namespace {

using identity::AsView;
using identity::FromHex;
using identity::ToHex;
using testing::HasSubstr;

// Where the fields of an envelope's struct are: context, segment table, root pointer, the struct.
constexpr std::size_t kTableAt = kBodyAt;
constexpr std::size_t kRootAt = kTableAt + 8;
constexpr std::size_t kDataAt = kRootAt + 8;
constexpr std::size_t kCreatedAt = kDataAt + 24;
constexpr std::size_t kExpiresAt = kDataAt + 32;
constexpr std::size_t kKindAt = kDataAt + 48;
constexpr std::size_t kFlagsAt = kDataAt + 49;
constexpr std::size_t kPointersAt = kDataAt + 56;

EnvelopeFields Sample() {
  return {.type = 0xc0ffee,
          .destination = PublicOf(2),
          .sequence = 7,
          .created = kTestTime,
          .expires = kTestTime + 60'000,
          .in_reply_to = 5,
          .wants_errors = true,
          .payload = "hello"};
}

OpenOptions For(const PublicKey& receiver, std::uint64_t now = kTestTime) {
  return {.now = now, .destination = receiver};
}

absl::Status OpenError(std::string bytes, const OpenOptions& options = For(PublicOf(2))) {
  return OpenEnvelope(std::move(bytes), options).status();
}

/// Signs what a sender with the key 1 should not have written.
std::string Resign(std::string bytes) {
  bytes.resize(bytes.size() - kSignatureBytes);
  const Signature signature = *KeyOf(1).Sign(bytes);
  return bytes.append(signature.view());
}

std::string Changed(std::string bytes, std::size_t at, std::string_view to) {
  return Resign(bytes.replace(at, to.size(), to));
}

void ExpectSame(const EnvelopeFields& a, const EnvelopeFields& b) {
  EXPECT_EQ(a.type, b.type);
  EXPECT_EQ(a.sender, b.sender);
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.destination, b.destination);
  EXPECT_EQ(a.sequence, b.sequence);
  EXPECT_EQ(a.first_sequence, b.first_sequence);
  EXPECT_EQ(a.created, b.created);
  EXPECT_EQ(a.expires, b.expires);
  EXPECT_EQ(a.in_reply_to, b.in_reply_to);
  EXPECT_EQ(a.encrypted, b.encrypted);
  EXPECT_EQ(a.wants_errors, b.wants_errors);
  EXPECT_EQ(a.dependencies, b.dependencies);
  EXPECT_EQ(a.payload, b.payload);
}

struct Golden {
  std::string bytes;
  std::string inside;
  std::string id;
};

std::map<std::string, Golden> GoldenEnvelopes() {
  std::ifstream file(WAXVM_VECTORS_DIR "/envelope.json");
  const auto json = nlohmann::json::parse(file);
  std::map<std::string, Golden> all;
  for (const auto& one : json.at("envelopes"))
    all[one.at("name")] = {FromHex(one.at("bytes").get<std::string>()).value(),
                           FromHex(one.value("inside", "")).value(), one.at("id")};
  return all;
}

const std::string& TopicPayload() {
  static const std::string payload("\0\0\0\0\0\0\0\0tail", 12);
  return payload;
}

std::map<std::string, EnvelopeFields> GoldenFields() {
  std::map<std::string, EnvelopeFields> all;
  all["plain"] = Sample();
  all["topic"] = {
      .type = UINT64_MAX,
      .kind = DestinationKind::kTopic,
      .destination = PublicOf(3),
      .sequence = 12,
      .first_sequence = 10,
      .created = kTestTime,
      .expires = kTestTime + kMaxMessageLifetime,
      .dependencies = {MessageId::Of(PublicOf(2), DestinationKind::kTopic, PublicOf(3), 3),
                       MessageId::Of(PublicOf(1), DestinationKind::kTopic, PublicOf(3), 9)},
      .payload = TopicPayload()};
  all["empty"] = {.destination = PublicOf(1), .created = 0, .expires = 1};
  all["encrypted"] = {.type = 0xc0ffee,
                      .destination = PublicOf(2),
                      .sequence = 8,
                      .created = kTestTime,
                      .expires = kTestTime + 1,
                      .encrypted = true,
                      .payload = "for you alone"};
  for (auto& [name, fields] : all) fields.sender = PublicOf(1);
  return all;
}

TEST(Envelope, IsWrittenAndReadAsTheGoldenBytes) {
  const auto golden = GoldenEnvelopes();
  const auto all = GoldenFields();
  ASSERT_EQ(golden.size(), 4u);
  for (const auto& [name, fields] : all) {
    SCOPED_TRACE(name);
    const Golden& bytes = golden.at(name);
    EXPECT_EQ(ToHex(fields.id().view()), bytes.id);
    const ExchangeKey exchange = *ExchangeKey::Of(KeyOf(2));
    const OpenOptions options = {.now = fields.created,
                                 .kind = fields.kind,
                                 .destination = fields.destination,
                                 .exchange_key = &exchange};
    const auto opened = OpenEnvelope(bytes.bytes, options);
    ASSERT_TRUE(opened.ok()) << opened.status();
    ExpectSame(opened->fields(), fields);
    if (fields.encrypted) {
      EXPECT_EQ(ToHex(opened->bytes()), ToHex(bytes.inside));
      continue;  // an ephemeral key is never the same
    }
    EXPECT_EQ(opened->bytes(), bytes.bytes);
    EXPECT_EQ(ToHex(*SealEnvelope(fields, KeyOf(1))), ToHex(bytes.bytes));
  }
}

TEST(Envelope, CarriesPayloadsOfAnySize) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{8},
                                 std::size_t{9}, std::size_t{65'536}, kMaxPayloadBytes}) {
    for (const bool encrypted : {false, true}) {
      const std::string payload(size, 'x');
      EnvelopeFields fields = Sample();
      fields.payload = payload;
      fields.encrypted = encrypted;
      fields.dependencies.resize(kMaxDependencies);
      const auto bytes = SealEnvelope(fields, KeyOf(1));
      ASSERT_TRUE(bytes.ok()) << bytes.status();
      EXPECT_LE(bytes->size(), kMaxEnvelopeBytes);
      const ExchangeKey exchange = *ExchangeKey::Of(KeyOf(2));
      OpenOptions options = For(PublicOf(2));
      options.exchange_key = &exchange;
      const auto opened = OpenEnvelope(*bytes, options);
      ASSERT_TRUE(opened.ok()) << opened.status();
      EXPECT_EQ(opened->fields().payload, payload);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(opened->fields().payload.data()) % 8, 0u);
      const Envelope moved = std::move(const_cast<Envelope&>(*opened));
      EXPECT_EQ(moved.fields().payload, payload);
    }
  }
}

TEST(Envelope, EveryFlippedBitIsRefused) {
  EnvelopeFields fields = Sample();
  fields.dependencies.resize(1);
  const ExchangeKey exchange = *ExchangeKey::Of(KeyOf(2));
  OpenOptions options = For(PublicOf(2));
  options.exchange_key = &exchange;
  for (const bool encrypted : {false, true}) {
    fields.encrypted = encrypted;
    const std::string bytes = *SealEnvelope(fields, KeyOf(1));
    ASSERT_TRUE(OpenEnvelope(bytes, options).ok());
    for (std::size_t at = 0; at < bytes.size(); ++at)
      for (int bit = 0; bit < 8; ++bit) {
        std::string flipped = bytes;
        flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
        // The top bit of a Montgomery u-coordinate stands for nothing; the key is derived from it.
        const absl::Status status = OpenError(flipped, options);
        EXPECT_FALSE(status.ok()) << at << " " << bit;
        (void)DestinationOf(flipped);
      }
  }
}

TEST(Envelope, IsRefusedWhenCutOrContinued) {
  const ExchangeKey exchange = *ExchangeKey::Of(KeyOf(2));
  OpenOptions options = For(PublicOf(2));
  options.exchange_key = &exchange;
  for (const bool encrypted : {false, true}) {
    EnvelopeFields fields = Sample();
    fields.encrypted = encrypted;
    const std::string bytes = *SealEnvelope(fields, KeyOf(1));
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_FALSE(OpenError(bytes.substr(0, size), options).ok()) << size;
      (void)DestinationOf(std::string_view(bytes).substr(0, size));
    }
    for (const std::size_t more : {1, 8, 64})
      EXPECT_FALSE(OpenError(bytes + std::string(more, '\0'), options).ok()) << more;
    EXPECT_TRUE(
        absl::IsInvalidArgument(OpenError(bytes + std::string(kMaxEnvelopeBytes, '\0'), options)));
  }
}

TEST(Envelope, ToSomebodyElseIsRefused) {
  const std::string bytes = *SealEnvelope(Sample(), KeyOf(1));
  EXPECT_TRUE(absl::IsPermissionDenied(OpenError(bytes, For(PublicOf(3)))));
  OpenOptions topic = For(PublicOf(2));
  topic.kind = DestinationKind::kTopic;
  EXPECT_TRUE(absl::IsPermissionDenied(OpenError(bytes, topic)));
}

TEST(Envelope, OfAReceiverThatPassesItOnIsRefused) {
  // The receiver decrypts what was for it, and encrypts it to somebody else as if by the sender.
  EnvelopeFields fields = Sample();
  fields.encrypted = true;
  const ExchangeKey second = *ExchangeKey::Of(KeyOf(2));
  const ExchangeKey third = *ExchangeKey::Of(KeyOf(3));
  const std::string inside = *Decrypt(*SealEnvelope(fields, KeyOf(1)), second);
  OpenOptions options = For(PublicOf(3));
  options.exchange_key = &third;
  EXPECT_TRUE(absl::IsPermissionDenied(OpenError(*Encrypt(inside, PublicOf(3)), options)));
  // Nor does anybody read it in the clear.
  options = For(PublicOf(2));
  options.exchange_key = &second;
  EXPECT_TRUE(absl::IsInvalidArgument(OpenError(inside, options)));
  // Nor does what all could read become a secret by being wrapped; nor is it wrapped twice.
  const std::string open = *SealEnvelope(Sample(), KeyOf(1));
  EXPECT_TRUE(absl::IsInvalidArgument(OpenError(*Encrypt(open, PublicOf(2)), options)));
  const std::string twice = *Encrypt(*Encrypt(inside, PublicOf(2)), PublicOf(2));
  EXPECT_TRUE(absl::IsInvalidArgument(OpenError(twice, options)));
}

TEST(Envelope, IsNotDecryptedWithoutTheKey) {
  EnvelopeFields fields = Sample();
  fields.encrypted = true;
  const std::string bytes = *SealEnvelope(fields, KeyOf(1));
  EXPECT_EQ(bytes.find("hello"), std::string::npos);
  EXPECT_EQ(bytes.find(PublicOf(1).view()), std::string::npos) << "the sender shows";
  EXPECT_TRUE(absl::IsUnauthenticated(OpenError(bytes)));
  const ExchangeKey third = *ExchangeKey::Of(KeyOf(3));
  OpenOptions options = For(PublicOf(2));
  options.exchange_key = &third;
  EXPECT_TRUE(absl::IsUnauthenticated(OpenError(bytes, options)));
}

TEST(Envelope, IsRefusedOutsideOfItsTime) {
  const std::string bytes = *SealEnvelope(Sample(), KeyOf(1));
  const auto at = [&](std::uint64_t now) { return OpenError(bytes, For(PublicOf(2), now)); };
  EXPECT_TRUE(absl::IsDeadlineExceeded(at(kTestTime + 60'000)));
  EXPECT_TRUE(at(kTestTime + 59'999).ok());
  EXPECT_TRUE(at(kTestTime - kMaxMessageSkew).ok());
  EXPECT_TRUE(absl::IsOutOfRange(at(kTestTime - kMaxMessageSkew - 1)));
  EXPECT_TRUE(absl::IsOutOfRange(at(0)));
  EXPECT_TRUE(absl::IsDeadlineExceeded(at(UINT64_MAX)));
}

std::vector<PublicKey> SmallOrderEdwards() {
  std::vector<PublicKey> keys;
  for (const char* hex : {"0000000000000000000000000000000000000000000000000000000000000000",
                          "0100000000000000000000000000000000000000000000000000000000000000",
                          "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                          "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
                          "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
                          "0000000000000000000000000000000000000000000000000000000000000080"})
    keys.push_back(*PublicKey::FromBytes(*FromHex(hex)));
  return keys;
}

TEST(Envelope, WithKeysOfSmallOrderIsRefused) {
  const std::string bytes = *SealEnvelope(Sample(), KeyOf(1));
  const std::size_t sender_at = bytes.find(PublicOf(1).view());
  ASSERT_NE(sender_at, std::string::npos);
  EnvelopeFields secret = Sample();
  secret.encrypted = true;
  for (const PublicKey& key : SmallOrderEdwards()) {
    std::string forged = bytes;
    forged.replace(sender_at, kKeyBytes, key.view());
    // With such a key R = 0, S = 0 can verify for those who do not look.
    for (const bool zero_signature : {false, true}) {
      if (zero_signature) forged.replace(forged.size() - 64, 64, key.view()).append(32, '\0');
      EXPECT_TRUE(absl::IsUnauthenticated(OpenError(forged))) << key.ToHex();
    }
    secret.destination = key;
    EXPECT_TRUE(absl::IsInvalidArgument(SealEnvelope(secret, KeyOf(1)).status())) << key.ToHex();
  }
  secret.destination = PublicOf(2);
  const ExchangeKey exchange = *ExchangeKey::Of(KeyOf(2));
  OpenOptions options = For(PublicOf(2));
  options.exchange_key = &exchange;
  for (const char* hex : {"0000000000000000000000000000000000000000000000000000000000000000",
                          "0100000000000000000000000000000000000000000000000000000000000000",
                          "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                          "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
                          "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"}) {
    std::string forged = *SealEnvelope(secret, KeyOf(1));
    forged.replace(kEphemeralAt, kKeyBytes, *FromHex(hex));
    const absl::Status status = OpenError(forged, options);
    EXPECT_TRUE(absl::IsUnauthenticated(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("small order"));
  }
}

TEST(Envelope, ExchangeKeysBelongToSigningKeys) {
  for (unsigned i = 0; i < 20; ++i)
    EXPECT_EQ(ExchangeKey::Of(KeyOf(i))->public_key(), *ExchangeKeyOf(PublicOf(i)));
}

/// What an honest writer never signs; the sender is dishonest.
TEST(Envelope, ThatIsMalformedIsRefusedThoughItIsSigned) {
  EnvelopeFields fields = Sample();
  fields.dependencies.resize(2);
  const std::string good = *SealEnvelope(fields, KeyOf(1));
  ASSERT_TRUE(OpenError(Resign(good)).ok());
  const auto word = [](std::uint64_t value) {
    return std::string(reinterpret_cast<const char*>(&value), 8);
  };
  const auto expect_invalid = [](const std::string& bytes, const char* what) {
    const absl::Status status = OpenError(bytes);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << what << ": " << status;
  };
  expect_invalid(Changed(good, 0, "waxvm-envelope-2"), "another version");
  expect_invalid(Changed(good, kTableAt, word(1)), "two segments");
  expect_invalid(Changed(good, kTableAt + 4, std::string("\xff\xff\xff\xff")), "a huge segment");
  expect_invalid(Changed(good, kTableAt + 4, std::string("\0\0\0\0", 4)), "an empty segment");
  expect_invalid(Changed(good, kKindAt, "\2"), "a third kind");
  expect_invalid(Changed(good, kFlagsAt, "\4"), "an unknown flag");
  expect_invalid(Changed(good, kFlagsAt, "\1"), "encrypted, and it is not");
  expect_invalid(Changed(good, kCreatedAt, word(kTestTime + 60'000)), "expires as it is created");
  expect_invalid(Changed(good, kExpiresAt, word(kTestTime + kMaxMessageLifetime + 1)), "too long");
  expect_invalid(Changed(good, kDataAt + 16, word(1)), "a first sequence, to an engine");
  // Pointers: nowhere, to itself, to a struct, far away, a list of a length that is not there.
  for (std::size_t i = 0; i < 4; ++i) {
    const std::size_t at = kPointersAt + 8 * i;
    for (const std::uint64_t pointer :
         {std::uint64_t{0x7fff'fffd}, std::uint64_t{0xffff'fffd}, std::uint64_t{0x1'0000'0000},
          std::uint64_t{2}, std::uint64_t{3}, ~std::uint64_t{0},
          std::uint64_t{0xfff'fffa'0000'0001}, std::uint64_t{0x0000'0107'0000'0001}}) {
      const absl::Status status = OpenError(Changed(good, at, word(pointer)));
      EXPECT_TRUE(absl::IsInvalidArgument(status)) << i << " " << pointer << ": " << status;
    }
    // No key at all, or the wrong size: null is an empty list.
    if (i < 2) expect_invalid(Changed(good, at, word(0)), "no key");
  }
  expect_invalid(Changed(good, kRootAt, word(0)), "no root");
}

TEST(Envelope, WhosePointersShareBytesIsBounded) {
  // Four pointers to the same large list: it could be read once for each.
  const std::string payload(100'000, 'x');
  EnvelopeFields fields = Sample();
  fields.payload = payload;
  std::string bytes = *SealEnvelope(fields, KeyOf(1));
  std::uint64_t pointer = 0;
  std::memcpy(&pointer, &bytes[kPointersAt + 24], 8);
  pointer += 4;  // one word further, as the one before it lies a word nearer
  bytes.replace(kPointersAt + 16, 8, reinterpret_cast<const char*>(&pointer), 8);
  const absl::Status status = OpenError(Resign(bytes));
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
}

TEST(Envelope, IsNotMadeWithWhatIsOutOfBounds) {
  const auto expect_invalid = [](const EnvelopeFields& fields) {
    const absl::Status status = SealEnvelope(fields, KeyOf(1)).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  };
  EnvelopeFields fields = Sample();
  const std::string large(kMaxPayloadBytes + 1, 'x');
  fields.payload = large;
  expect_invalid(fields);
  fields = Sample();
  fields.dependencies.resize(kMaxDependencies + 1);
  expect_invalid(fields);
  fields = Sample();
  fields.expires = fields.created;
  expect_invalid(fields);
  fields.expires = fields.created + kMaxMessageLifetime + 1;
  expect_invalid(fields);
  fields.created = UINT64_MAX;
  expect_invalid(fields);
  fields = Sample();
  fields.kind = DestinationKind::kTopic;
  expect_invalid(fields);  // asks for errors
  fields.wants_errors = false;
  fields.encrypted = true;
  expect_invalid(fields);
  fields.encrypted = false;
  fields.first_sequence = fields.sequence + 1;
  expect_invalid(fields);
}

TEST(Envelope, TellsItsDestinationWhereverItLies) {
  EnvelopeFields fields = Sample();
  const std::string plain = *SealEnvelope(fields, KeyOf(1));
  fields.encrypted = true;
  const std::string secret = *SealEnvelope(fields, KeyOf(1));
  for (std::size_t shift = 0; shift < 8; ++shift)
    for (const std::string& bytes : {plain, secret}) {
      const std::string buffer = std::string(shift, '?') + bytes;
      const auto destination = DestinationOf(std::string_view(buffer).substr(shift));
      ASSERT_TRUE(destination.ok()) << destination.status();
      EXPECT_EQ(destination->key, PublicOf(2));
      EXPECT_EQ(destination->kind, DestinationKind::kEngine);
    }
}

}  // namespace
}  // namespace waxvm::messaging
