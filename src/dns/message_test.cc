// SPDX-License-Identifier: Apache-2.0
#include "src/dns/message.h"

#include <gtest/gtest.h>

#include <random>

#include "src/base/strings.h"
#include "src/dns/rdata.h"
#include "waxvm/dns.h"

namespace waxvm::dns {
namespace {

using namespace std::string_view_literals;

std::string Hex(std::string_view bytes) {
  std::string hex;
  for (const std::uint8_t c : ToBytes(bytes)) hex += absl::StrFormat("%02x", c);
  return hex;
}

std::string RdataHex(std::string_view text) {
  const auto record = ParseDnsRecord(text, "internal");
  return record.ok() ? Hex(record->data) : std::string(record.status().message());
}

/// The text of a record's data, read and written again.
std::string Again(std::string_view text) {
  const auto record = ParseDnsRecord(text, ".");
  if (!record.ok()) return std::string(record.status().message());
  return RdataToText(static_cast<std::uint16_t>(record->type), record->data);
}

TEST(Rdata, IsAsTheRfcsHaveIt) {
  EXPECT_EQ(RdataHex("A 192.0.2.1"), "c0000201");
  EXPECT_EQ(RdataHex("AAAA fd00::1"), "fd000000000000000000000000000001");
  EXPECT_EQ(RdataHex("PTR Sensor"), "0653656e736f7208696e7465726e616c00");
  EXPECT_EQ(RdataHex("SRV 1 2 5683 sensor.internal."),
            "00010002163306"
            "73656e736f7208696e7465726e616c00");
  EXPECT_EQ(RdataHex("TXT \"a b\" c"), "036120620163");
  EXPECT_EQ(RdataHex("TXT \"\""), "00");
  EXPECT_EQ(RdataHex("TXT \"\\\"\\\\\\007;\""), "04225c073b");
  EXPECT_EQ(RdataHex("SOA a. b. 1 2 3 4 5"),
            "016100016200"
            "0000000100000002000000030000000400000005");
  EXPECT_EQ(RdataHex("TYPE65280 \\# 3 01 02ff"), "0102ff");
  EXPECT_EQ(RdataHex("A \\# 4 c0000201"), "c0000201");
}

// RFC 9460, appendix D.
TEST(Rdata, ServiceRecordsOfTheRfc) {
  EXPECT_EQ(RdataHex("HTTPS 0 foo.example.com."), "000003666f6f076578616d706c6503636f6d00");
  EXPECT_EQ(RdataHex("SVCB 1 ."), "000100");
  EXPECT_EQ(RdataHex("SVCB 16 foo.example.com. port=53"),
            "001003666f6f076578616d706c6503636f6d00"
            "000300020035");
  EXPECT_EQ(RdataHex("SVCB 1 foo.example.com. key667=hello"),
            "000103666f6f076578616d706c6503636f6d00"
            "029b000568656c6c6f");
  EXPECT_EQ(RdataHex("SVCB 1 foo.example.com. key667=\"hello\\210qoo\""),
            "000103666f6f076578616d706c6503636f6d00"
            "029b000968656c6c6fd2716f6f");
  EXPECT_EQ(RdataHex("SVCB 1 foo.example.com. ipv6hint=\"2001:db8::1,2001:db8::53:1\""),
            "000103666f6f076578616d706c6503636f6d00"
            "00060020"
            "20010db8000000000000000000000001"
            "20010db8000000000000000000530001");
  EXPECT_EQ(RdataHex("SVCB 16 foo.example.org. alpn=h2,h3-19 mandatory=ipv4hint,alpn "
                     "ipv4hint=192.0.2.1"),
            "001003666f6f076578616d706c65036f726700"
            "0000000400010004"
            "00010009026832"
            "0568332d3139"
            "00040004c0000201");
  const std::string escaped =
      "0010"
      "03666f6f076578616d706c65036f726700"
      "0001000c08665c6f6f2c62617202"
      "6832";
  EXPECT_EQ(RdataHex("SVCB 16 foo.example.org. alpn=\"f\\\\\\\\oo\\\\,bar,h2\""), escaped);
  EXPECT_EQ(RdataHex("SVCB 16 foo.example.org. alpn=f\\\\\\092oo\\092,bar,h2"), escaped);
  for (const char* bad :
       {"SVCB 1 foo. key123=abc key123=def", "SVCB 1 foo. mandatory", "SVCB 1 foo. alpn",
        "SVCB 1 foo. port", "SVCB 1 foo. ipv4hint", "SVCB 1 foo. ipv6hint",
        "SVCB 1 foo. no-default-alpn=abc", "SVCB 1 foo. mandatory=key123",
        "SVCB 1 foo. mandatory=mandatory", "SVCB 1 foo. mandatory=key123,key123 key123=abc",
        "SVCB 1 foo. no-default-alpn", "SVCB 1 foo. port=65536", "SVCB 1 foo. key65535=x",
        "SVCB 1 foo. alpn=h2,,h3", "SVCB 1 foo. nonsense=1"})
    EXPECT_FALSE(ParseDnsRecord(bad, ".").ok()) << bad;
}

TEST(Rdata, TextAndBack) {
  EXPECT_EQ(Again("AAAA FD00:0:0::1"), "fd00::1");
  EXPECT_EQ(Again("SRV 1 2 3 a.b."), "1 2 3 a.b.");
  EXPECT_EQ(Again("TXT a \"b c\" \"\\\"\\000\""), "\"a\" \"b c\" \"\\\"\\000\"");
  EXPECT_EQ(Again("HTTPS 1 . port=443 alpn=h3,h2 ech=AAAB key9"),
            "1 . alpn=\"h3,h2\" port=443 ech=AAAB key9");
  EXPECT_EQ(Again("SVCB 1 x. alpn=\"f\\\\\\\\oo\\\\,bar,h2\""),
            "1 x. alpn=\"f\\\\\\\\oo\\\\,bar,h2\"");
  EXPECT_EQ(Again("TYPE65280 \\# 0"), "\\# 0");
}

TEST(Rdata, WhatIsNoRecordIsRefused) {
  for (const char* bad : {"",
                          "AAAA",
                          "AAAA fd00::1 fd00::2",
                          "AAAA 1.2.3.4",
                          "A fd00::1",
                          "SRV 1 2 3",
                          "SRV 1 2 65536 x",
                          "SRV 1 2 -3 x",
                          "NONSENSE x",
                          "TYPE65536 \\# 0",
                          "TYPE9 \\# 1",
                          "TYPE9 \\# 1 0",
                          "TYPE9 \\# 1 0g",
                          "TYPE9 x",
                          "TXT",
                          "TXT \"a",
                          "TXT \\256",
                          "PTR a..b",
                          "A \\# 3 010203",
                          "SOA a. b. 1 2 3 (4 5)",
                          "OPT x",
                          "99999999999 A 1.2.3.4"})
    EXPECT_FALSE(ParseDnsRecord(bad, "internal").ok()) << bad;
  EXPECT_FALSE(ParseDnsRecord("TXT " + std::string(256, 'a'), "internal").ok());
  EXPECT_TRUE(ParseDnsRecord("TXT " + std::string(255, 'a'), "internal").ok());
}

Record MakeRecord(std::string_view owner, std::string_view text) {
  const auto parsed = ParseDnsRecord(text, ".");
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return {.owner = *Name::FromText(owner),
          .type = static_cast<std::uint16_t>(parsed->type),
          .ttl_seconds = parsed->ttl_seconds,
          .data = parsed->data};
}

Message Sample() {
  return {
      .id = 0x1234,
      .flags = kFlagQr | kFlagAa | kFlagRd,
      .questions = {{.name = *Name::FromText("Sensor.internal."), .type = 28}},
      .answers = {MakeRecord("Sensor.internal.", "60 AAAA fd00::1")},
      .authority = {MakeRecord("internal.", "5 NS ns.internal.")},
      .additional = {MakeRecord("_coap._udp.Sensor.internal.", "7 SRV 0 1 2 Sensor.internal.")}};
}

TEST(Message, GoldenBytes) {
  const auto bytes = EncodeMessage(Sample());
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(Hex(*bytes),
            "1234"
            "8500"
            "0001"
            "0001"
            "0001"
            "0001"
            "0653656e736f7208696e7465726e616c00"
            "001c"
            "0001"
            "c00c"
            "001c"
            "0001"
            "0000003c"
            "0010"
            "fd000000000000000000000000000001"
            "c013"
            "0002"
            "0001"
            "00000005"
            "0005"
            "026e73c013"
            "055f636f6170045f756470c00c"
            "0021"
            "0001"
            "00000007"
            "0017"
            "0000"
            "0001"
            "0002"
            "0653656e736f7208696e7465726e616c00");
  const auto again = DecodeMessage(ToBytes(*bytes));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*again, Sample());
  EXPECT_EQ(again->additional[0].ToText(),
            "_coap._udp.Sensor.internal. 7 IN SRV 0 1 2 Sensor.internal.");
}

TEST(Message, EveryTruncationIsRefused) {
  const auto bytes = EncodeMessage(Sample());
  ASSERT_TRUE(bytes.ok());
  for (std::size_t size = 0; size < bytes->size(); ++size)
    EXPECT_FALSE(DecodeMessage(ToBytes(bytes->substr(0, size))).ok()) << size;
  EXPECT_FALSE(DecodeMessage(ToBytes(*bytes + '\0')).ok());
}

TEST(Message, FlippedBytesAreReadOrRefusedAndStayTheSame) {
  const auto bytes = EncodeMessage(Sample());
  ASSERT_TRUE(bytes.ok());
  for (std::size_t at = 0; at < bytes->size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = *bytes;
      flipped[at] = static_cast<char>(flipped[at] ^ 1 << bit);
      const auto message = DecodeMessage(ToBytes(flipped));
      if (!message.ok()) continue;
      const auto written = EncodeMessage(*message);
      ASSERT_TRUE(written.ok()) << written.status();
      const auto again = DecodeMessage(ToBytes(*written));
      ASSERT_TRUE(again.ok());
      EXPECT_EQ(*again, *message);
    }
}

TEST(Message, DataMustBeAsLongAsItSays) {
  // An AAAA record of 15 bytes, a PTR record with a byte too many, a TXT record whose string is
  // longer than the data, SVCB with a compressed target.
  const std::string head("\0\1\x80\0\0\0\0\1\0\0\0\0", 12);
  const auto with = [&](std::string_view record) {
    return DecodeMessage(ToBytes(head + std::string(record))).ok();
  };
  EXPECT_TRUE(with("\0\0\x0c\0\1\0\0\0\0\0\1\0"sv));
  EXPECT_FALSE(with("\0\0\x0c\0\1\0\0\0\0\0\2\0\0"sv));
  EXPECT_FALSE(with("\0\0\x1c\0\1\0\0\0\0\0\x0f\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"sv));
  EXPECT_FALSE(with("\0\0\x10\0\1\0\0\0\0\0\2\2a"sv));
  EXPECT_FALSE(with("\0\0\x10\0\1\0\0\0\0\0\0"sv)) << "TXT without a string";
  EXPECT_TRUE(with("\0\0\x40\0\1\0\0\0\0\0\3\0\1\0"sv));
  EXPECT_FALSE(with("\0\0\x40\0\1\0\0\0\0\0\4\0\1\xc0\x0c"sv));
  EXPECT_TRUE(with("\0\0\x21\0\1\0\0\0\0\0\x08\0\1\0\1\0\1\xc0\x0c"sv)) << "SRV may be, when read";
}

TEST(Message, MessagesOfManyNamesAreReadAndWritten) {
  Message message = {.flags = kFlagQr};
  for (int i = 0; i < 1500; ++i)
    message.answers.push_back(
        MakeRecord(absl::StrFormat("n%d.internal.", i), absl::StrFormat("1 PTR m%d.internal.", i)));
  const auto bytes = EncodeMessage(message);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  const auto again = DecodeMessage(ToBytes(*bytes));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*again, message);
  EXPECT_EQ(EncodeMessage(message, 512).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(Message, RandomBytesAreReadOrRefused) {
  std::mt19937 random(1);
  std::string bytes;
  for (int i = 0; i < 20'000; ++i) {
    bytes.resize(12 + random() % 60);
    for (char& c : bytes) c = static_cast<char>(random() % 8 == 0 ? 0xc0 : random() % 16);
    for (std::size_t count = 4; count < 12; ++count) bytes[count] = static_cast<char>(count % 2);
    (void)DecodeMessage(ToBytes(bytes));
  }
}

}  // namespace
}  // namespace waxvm::dns
