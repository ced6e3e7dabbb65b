// SPDX-License-Identifier: Apache-2.0
#include "src/dns/responder.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <string>

#include "src/base/strings.h"
#include "src/dns/message.h"
#include "src/dns/rdata.h"

namespace waxvm::dns {
namespace {

constexpr char kZone[] =
    "@ 30 TXT about\n"
    "sensor 60 AAAA fd00::1 ; the first\n"
    "sensor 50 AAAA fd00::2\n"
    "sensor TXT \"a b\"\n"
    "_coap._udp.sensor 20 SRV 0 0 5683 sensor\n"
    "_web.sensor HTTPS 1 . alpn=h3\n"
    "a.deep.name IN A 192.0.2.1\n"
    "dot\\.ted AAAA fd00::3\n"
    "6vq5ikaqhwlyxtyrpd5vwwrcvgdzxwsskmnhxn6y7b2sddnmkzya AAAA fd00::52\n"
    "fd00::2 PTR other\n";

constexpr char kReverse1[] =
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.";

struct Edns {
  std::uint16_t bytes = 1232;
  std::uint8_t version = 0;
  bool dnssec_ok = false;
  std::string options = {};
};

Record Opt(const Edns& edns) {
  return {.type = 41,
          .klass = edns.bytes,
          .ttl_seconds = std::uint32_t{edns.version} << 16 | (edns.dnssec_ok ? 0x8000u : 0u),
          .data = edns.options};
}

Message Query(std::string_view name, std::string_view type, std::optional<Edns> edns = {}) {
  Message query = {.id = 0xbeef, .flags = kFlagRd};
  query.questions.push_back({.name = *Name::FromText(name), .type = *TypeFromText(type)});
  if (edns) query.additional.push_back(Opt(*edns));
  return query;
}

class ResponderTest : public testing::Test {
 protected:
  void SetUp() override {
    Use(kZone);
    auto responder = Responder::Create({});
    ASSERT_TRUE(responder.ok()) << responder.status();
    responder_.emplace(*std::move(responder));
  }
  void Use(std::string_view zone) {
    auto source = StaticDnsSource::FromZone(zone, "internal");
    ASSERT_TRUE(source.ok()) << source.status();
    source_ = *std::move(source);
  }

  std::string Raw(std::string_view query, const Asked& asked = {}) {
    const Response response = responder_->Respond(ToBytes(query), asked, *source_, scratch_, out_);
    return std::string(ToText(Bytes(out_).first(response.bytes)));
  }
  Message Ask(const Message& query, const Asked& asked = {}) {
    const auto bytes = EncodeMessage(query);
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    const std::string raw = Raw(*bytes, asked);
    last_size_ = raw.size();
    const auto response = DecodeMessage(ToBytes(raw));
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? *response : Message();
  }
  Message Ask(std::string_view name, std::string_view type, std::optional<Edns> edns = {}) {
    return Ask(Query(name, type, std::move(edns)));
  }
  /// The records of the answer as text, a line each.
  std::string Answers(std::string_view name, std::string_view type) {
    std::string text;
    for (const Record& record : Ask(name, type).answers) text += record.ToText() + "\n";
    return text;
  }

  std::optional<Responder> responder_;
  std::shared_ptr<DnsSource> source_;
  Scratch scratch_;
  std::array<std::uint8_t, kMaxMessageBytes> out_;
  std::size_t last_size_ = 0;
};

TEST_F(ResponderTest, AnswersWithAuthority) {
  const Message response = Ask("sensor.internal.", "AAAA");
  EXPECT_EQ(response.id, 0xbeef);
  EXPECT_EQ(response.flags, kFlagQr | kFlagAa | kFlagRd) << "RD as it came, RA clear";
  EXPECT_EQ(response.questions, Query("sensor.internal.", "AAAA").questions);
  EXPECT_TRUE(response.authority.empty());
  EXPECT_TRUE(response.additional.empty()) << "no OPT where none came";
  EXPECT_EQ(Answers("sensor.internal.", "AAAA"),
            "sensor.internal. 50 IN AAAA fd00::1\nsensor.internal. 50 IN AAAA fd00::2\n")
      << "with one TTL, the least";
}

TEST_F(ResponderTest, AnswersEachType) {
  EXPECT_EQ(Answers("sensor.internal.", "TXT"), "sensor.internal. 60 IN TXT \"a b\"\n");
  EXPECT_EQ(Answers("_web.sensor.internal.", "HTTPS"),
            "_web.sensor.internal. 60 IN HTTPS 1 . alpn=\"h3\"\n");
  EXPECT_EQ(Answers("a.deep.name.internal.", "A"), "a.deep.name.internal. 60 IN A 192.0.2.1\n");
  EXPECT_EQ(Answers("dot\\.ted.internal.", "AAAA"), "dot\\.ted.internal. 60 IN AAAA fd00::3\n");
  EXPECT_EQ(Answers("internal.", "TXT"), "internal. 30 IN TXT \"about\"\n");
  EXPECT_EQ(Answers("internal.", "NS"), "internal. 3600 IN NS localhost.\n");
  EXPECT_EQ(Answers("internal.", "SOA"),
            "internal. 5 IN SOA localhost. nobody.invalid. 1 3600 600 86400 5\n");
  EXPECT_EQ(Answers("6VQ5ikaqhwlyxtyrpd5vwwrcvgdzxwsskmnhxn6y7b2sddnmkzya.internal.", "AAAA"),
            "6VQ5ikaqhwlyxtyrpd5vwwrcvgdzxwsskmnhxn6y7b2sddnmkzya.internal. 60 IN AAAA fd00::52\n");
}

TEST_F(ResponderTest, ServicesBringTheirAddresses) {
  const Message response = Ask("_coap._udp.sensor.internal.", "SRV");
  ASSERT_EQ(response.answers.size(), 1u);
  EXPECT_EQ(response.answers[0].ToText(),
            "_coap._udp.sensor.internal. 20 IN SRV 0 0 5683 sensor.internal.");
  ASSERT_EQ(response.additional.size(), 2u);
  EXPECT_EQ(response.additional[0].ToText(), "sensor.internal. 60 IN AAAA fd00::1");
}

TEST_F(ResponderTest, ReverseNames) {
  EXPECT_EQ(Answers(kReverse1, "PTR"), std::string(kReverse1) + " 60 IN PTR sensor.internal.\n");
  std::string second(kReverse1);
  second[0] = '2';
  EXPECT_EQ(Answers(second, "PTR"), second + " 60 IN PTR other.internal.\n") << "as it was written";
  second[0] = '9';
  EXPECT_EQ(Ask(second, "PTR").rcode(), Rcode::kNxDomain);
  second[0] = 'g';
  EXPECT_EQ(Ask(second, "PTR").rcode(), Rcode::kNxDomain);
  EXPECT_EQ(Ask("1." + std::string(kReverse1), "PTR").rcode(), Rcode::kNxDomain);
  EXPECT_EQ(Ask(std::string(kReverse1).substr(2), "PTR").rcode(), Rcode::kNoError)
      << "above names that may exist";
  const Message soa = Ask("D.f.ip6.arpa.", "SOA");
  ASSERT_EQ(soa.answers.size(), 1u);
  EXPECT_EQ(Ask("8.b.d.0.1.0.0.2.ip6.arpa.", "PTR").rcode(), Rcode::kRefused);
  EXPECT_EQ(Ask("ip6.arpa.", "PTR").rcode(), Rcode::kRefused);
  const Message negative = Ask(second, "PTR");
  ASSERT_EQ(negative.authority.size(), 1u);
  EXPECT_EQ(negative.authority[0].owner.ToText(), "d.f.ip6.arpa.");
}

TEST_F(ResponderTest, NoNameIsNotNoData) {
  const auto expect = [&](std::string_view name, std::string_view type, Rcode rcode) {
    const Message response = Ask(name, type);
    EXPECT_EQ(response.rcode(), rcode) << name;
    EXPECT_EQ(response.flags & kFlagAa, kFlagAa) << name;
    EXPECT_TRUE(response.answers.empty()) << name;
    ASSERT_EQ(response.authority.size(), 1u) << name;
    EXPECT_EQ(response.authority[0].ToText(),
              "internal. 5 IN SOA localhost. nobody.invalid. 1 3600 600 86400 5")
        << name;
  };
  expect("nothing.internal.", "AAAA", Rcode::kNxDomain);
  expect("x.sensor.internal.", "AAAA", Rcode::kNxDomain);
  expect("sensor.internal.", "A", Rcode::kNoError);
  expect("sensor.internal.", "TYPE65280", Rcode::kNoError);
  expect("deep.name.internal.", "AAAA", Rcode::kNoError);  // only what is below it has records
  expect("_udp.sensor.internal.", "SRV", Rcode::kNoError);
  expect("internal.", "AAAA", Rcode::kNoError);
  expect("dot.ted.internal.", "AAAA", Rcode::kNxDomain);
}

TEST_F(ResponderTest, OtherNamesAndClassesAreRefused) {
  for (const char* name : {"example.com.", ".", "xinternal.", "internal.example.", "arpa."}) {
    const Message response = Ask(name, "AAAA");
    EXPECT_EQ(response.rcode(), Rcode::kRefused) << name;
    EXPECT_EQ(response.flags & kFlagAa, 0) << name;
    EXPECT_TRUE(response.authority.empty()) << name;
  }
  Message chaos = Query("sensor.internal.", "TXT");
  chaos.questions[0].klass = 3;
  EXPECT_EQ(Ask(chaos).rcode(), Rcode::kRefused);
}

TEST_F(ResponderTest, TheCaseOfTheQuestionComesBack) {
  const auto query = EncodeMessage(Query("sEnSoR.iNtErNaL.", "AAAA"));
  const std::string raw = Raw(*query);
  EXPECT_EQ(raw.substr(12, 17), query->substr(12, 17));
  const auto response = DecodeMessage(ToBytes(raw));
  ASSERT_TRUE(response.ok());
  ASSERT_EQ(response->answers.size(), 2u);
  EXPECT_EQ(response->answers[0].owner.ToText(), "sEnSoR.iNtErNaL.");
}

TEST_F(ResponderTest, AnyIsMinimal) {
  const Message response = Ask("sensor.internal.", "TYPE255");
  EXPECT_EQ(response.rcode(), Rcode::kNoError);
  ASSERT_EQ(response.answers.size(), 1u);
  EXPECT_EQ(response.answers[0].type, 13);
  EXPECT_EQ(response.answers[0].data, std::string("\7RFC8482\0", 9));
  EXPECT_EQ(Ask("nothing.internal.", "TYPE255").rcode(), Rcode::kNxDomain);
}

TEST_F(ResponderTest, Edns) {
  Message response = Ask("sensor.internal.", "AAAA", Edns{.bytes = 4096, .dnssec_ok = true});
  ASSERT_EQ(response.additional.size(), 1u);
  const Record& opt = response.additional[0];
  EXPECT_EQ(opt.type, 41);
  EXPECT_TRUE(opt.owner.is_root());
  EXPECT_EQ(opt.klass, 1232);
  EXPECT_EQ(opt.ttl_seconds, 0x8000u) << "DO comes back, version 0";
  EXPECT_EQ(opt.data, "");
  // Options that nobody knows, well-formed.
  response =
      Ask("sensor.internal.", "AAAA", Edns{.options = std::string("\0\x0a\0\2xy\xff\xfe\0\0", 10)});
  EXPECT_EQ(response.rcode(), Rcode::kNoError);
  EXPECT_EQ(Ask("nothing.internal.", "AAAA", Edns{}).additional.size(), 1u);
  EXPECT_EQ(Ask("example.com.", "AAAA", Edns{}).additional.size(), 1u);
}

TEST_F(ResponderTest, OtherVersionsOfEdnsAreBadVers) {
  for (const int version : {1, 255}) {
    const Message response =
        Ask("sensor.internal.", "AAAA", Edns{.version = static_cast<std::uint8_t>(version)});
    EXPECT_EQ(response.rcode(), Rcode::kNoError) << "the lower bits of 16";
    ASSERT_EQ(response.additional.size(), 1u);
    EXPECT_EQ(response.additional[0].ttl_seconds, 0x01000000u);
    EXPECT_TRUE(response.answers.empty());
  }
}

TEST_F(ResponderTest, MalformedEdnsIsFormErr) {
  Message twice = Query("sensor.internal.", "AAAA", Edns{});
  twice.additional.push_back(Opt({}));
  EXPECT_EQ(Ask(twice).rcode(), Rcode::kFormErr);
  Message elsewhere = Query("sensor.internal.", "AAAA", Edns{});
  elsewhere.additional[0].owner = *Name::FromText("x.");
  EXPECT_EQ(Ask(elsewhere).rcode(), Rcode::kFormErr);
  auto raw = *EncodeMessage(
      Query("sensor.internal.", "AAAA", Edns{.options = std::string("\0\x0a\0\2xy", 6)}));
  raw[raw.size() - 3] = 3;  // the option is longer than the record
  EXPECT_EQ(Load16(reinterpret_cast<const std::uint8_t*>(Raw(raw).data()) + 2) & kRcodeMask, 1);
}

TEST_F(ResponderTest, TruncatesAtWhatTheClientTakes) {
  std::string zone;
  for (int i = 0; i < 100; ++i) zone += absl::StrFormat("big AAAA fd00::%x\n", i + 1);
  Use(zone);
  // 12 + 14 + 4 bytes, 28 for each record, 11 for OPT.
  const std::size_t full = 12 + 14 + 4 + 100 * 28;
  const Message plain = Ask("big.internal.", "AAAA");
  EXPECT_EQ(plain.flags & (kFlagTc | kFlagAa), kFlagTc | kFlagAa);
  EXPECT_TRUE(plain.answers.empty());
  EXPECT_LE(last_size_, 512u);
  const Asked large = {.max_udp_bytes = 4096};
  const auto with = [&](std::size_t bytes) {
    return Ask(Query("big.internal.", "AAAA", Edns{.bytes = static_cast<std::uint16_t>(bytes)}),
               large);
  };
  EXPECT_EQ(with(full + 11).answers.size(), 100u);
  EXPECT_EQ(last_size_, full + 11);
  const Message less = with(full + 10);
  EXPECT_EQ(less.flags & kFlagTc, kFlagTc);
  EXPECT_TRUE(less.answers.empty());
  EXPECT_EQ(less.additional.size(), 1u);
  EXPECT_EQ(with(0).flags & kFlagTc, kFlagTc) << "less than 512 is 512";
  EXPECT_EQ(Ask(Query("big.internal.", "AAAA", Edns{.bytes = 4096})).flags & kFlagTc, kFlagTc)
      << "the server's own bound";
  const Message tcp = Ask(Query("big.internal.", "AAAA"), {.over_tcp = true});
  EXPECT_EQ(tcp.answers.size(), 100u);
  EXPECT_EQ(tcp.flags & kFlagTc, 0);
}

TEST_F(ResponderTest, WhatFitsIntoNoMessageIsServFail) {
  std::string zone;
  for (int i = 0; i < 300; ++i)
    zone += absl::StrFormat("big TXT %03d%s\n", i, std::string(230, 'x'));
  Use(zone);
  EXPECT_EQ(Ask(Query("big.internal.", "TXT"), {.over_tcp = true}).rcode(), Rcode::kServFail);
}

TEST_F(ResponderTest, OpcodesAndCounts) {
  for (int opcode = 1; opcode < 16; ++opcode) {
    Message query = Query("sensor.internal.", "AAAA");
    query.flags = static_cast<std::uint16_t>(opcode << 11 | kFlagRd);
    const Message response = Ask(query);
    EXPECT_EQ(response.rcode(), Rcode::kNotImp) << opcode;
    EXPECT_EQ(response.flags & kOpcodeMask, opcode << 11);
    EXPECT_EQ(response.id, 0xbeef);
  }
  Message none = Query("sensor.internal.", "AAAA");
  none.questions.clear();
  EXPECT_EQ(Ask(none).rcode(), Rcode::kFormErr);
  Message two = Query("sensor.internal.", "AAAA");
  two.questions.push_back(two.questions[0]);
  EXPECT_EQ(Ask(two).rcode(), Rcode::kFormErr);
  Message answered = Query("sensor.internal.", "AAAA");
  answered.answers.push_back({.data = std::string(4, 'a')});
  EXPECT_EQ(Ask(answered).rcode(), Rcode::kFormErr);
}

TEST_F(ResponderTest, TransfersAndOtherMetaTypes) {
  for (const char* type : {"TYPE251", "TYPE252"})
    EXPECT_EQ(Ask("internal.", type).rcode(), Rcode::kRefused) << type;
  Message ixfr = Query("internal.", "TYPE251");
  ixfr.authority.push_back(Ask("internal.", "SOA").answers.at(0));
  EXPECT_EQ(Ask(ixfr).rcode(), Rcode::kRefused);
  for (const char* type : {"TYPE249", "TYPE250", "TYPE253", "TYPE254"})
    EXPECT_EQ(Ask("internal.", type).rcode(), Rcode::kNotImp) << type;
  EXPECT_EQ(Ask("internal.", "OPT").rcode(), Rcode::kFormErr);
}

TEST_F(ResponderTest, ResponsesAndScrapsGetNoAnswer) {
  Message response = Query("sensor.internal.", "AAAA");
  response.flags |= kFlagQr;
  EXPECT_EQ(Raw(*EncodeMessage(response)), "");
  const std::string query = *EncodeMessage(Query("sensor.internal.", "AAAA"));
  for (std::size_t size = 0; size < query.size(); ++size) {
    const std::string raw = Raw(query.substr(0, size));
    if (size < kHeaderBytes)
      EXPECT_EQ(raw, "") << size;
    else
      EXPECT_EQ(raw.at(3) & 15, 1) << size;
  }
  EXPECT_EQ(Raw(query + "x").at(3) & 15, 1) << "bytes behind the message";
}

TEST_F(ResponderTest, PointersInTheQuestionAreFormErr) {
  using namespace std::string_view_literals;
  const std::string head("\0\1\1\0\0\1\0\0\0\0\0\0", 12);
  for (const std::string_view name :
       {"\xc0\x0c"sv, "\xc0\0"sv, "\xc0\x20"sv, "\1a\xc0\x0c"sv, "\1a\xc0\x0e"sv,
        "\x40"
        "a\0"sv,
        "\x80"
        "a\0"sv}) {
    const std::string raw = Raw(head + std::string(name) + std::string("\0\1\0\1", 4));
    ASSERT_EQ(raw.size(), kHeaderBytes);
    EXPECT_EQ(raw[3] & 15, 1);
  }
  std::string long_name;
  for (int i = 0; i < 128; ++i) long_name += "\1a";
  const std::string raw = Raw(head + long_name + std::string("\0\0\1\0\1", 5));
  ASSERT_EQ(raw.size(), kHeaderBytes) << "257 bytes";
  // A pointer that leads in a circle in a record after the question.
  std::string looped = *EncodeMessage(Query("sensor.internal.", "AAAA"));
  looped[11] = 1;
  looped += std::string("\xc0", 1) + static_cast<char>(looped.size());
  looped += std::string("\0\1\0\1\0\0\0\0\0\0", 10);
  EXPECT_EQ(Raw(looped).at(3) & 15, 1);
}

TEST_F(ResponderTest, TheLongestNamesAreAnswered) {
  std::string name;
  while (name.size() + 2 + 9 <= 254) name += "a.";
  const Message response = Ask(name + "internal.", "AAAA", Edns{});
  EXPECT_EQ(response.rcode(), Rcode::kNxDomain);
  EXPECT_EQ(response.authority.size(), 1u);
  // 63 bytes each that are shown as four characters.
  const std::string odd(60, '\1');
  Name odd_name;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(odd_name.Append(ToBytes(odd)));
  ASSERT_TRUE(odd_name.Append(ToBytes("internal")));
  Message query = Query(".", "AAAA");
  query.questions[0].name = odd_name;
  EXPECT_EQ(Ask(query).rcode(), Rcode::kNxDomain);
}

class Scripted final : public DnsSource {
 public:
  DnsFound Lookup(const DnsQuestion& question, DnsAnswer& answer) override {
    name = std::string(question.name);
    if (found == DnsFound::kYes) {
      answer.Add(DnsType::kAaaa, 0xffffffff, std::string(16, 'a'));
      answer.Add(DnsType::kTxt, 1, "\1a");
    }
    return found;
  }
  DnsFound found = DnsFound::kYes;
  std::string name;
};

TEST_F(ResponderTest, WhatASourceSays) {
  auto source = std::make_shared<Scripted>();
  source_ = source;
  const Message yes = Ask("A.Sensor.INTERNAL.", "AAAA");
  EXPECT_EQ(source->name, "a.sensor");
  ASSERT_EQ(yes.answers.size(), 1u) << "of other types nothing is said";
  EXPECT_EQ(yes.answers[0].ttl_seconds, 0x7fffffffu);
  Ask("x\\.y.\\200.internal.", "AAAA");
  EXPECT_EQ(source->name, "x\\.y.\\200");
  Ask("internal.", "AAAA");
  EXPECT_EQ(source->name, "");
  source->found = DnsFound::kUnknown;
  EXPECT_EQ(Ask("a.internal.", "AAAA").rcode(), Rcode::kServFail);
  source->found = DnsFound::kPending;
  const auto query = EncodeMessage(Query("a.internal.", "AAAA"));
  const Response response = responder_->Respond(ToBytes(*query), {}, *source_, scratch_, out_);
  EXPECT_TRUE(response.pending);
  EXPECT_EQ(response.bytes, 0u);
  EXPECT_EQ(Ask(Query("a.internal.", "AAAA"), {.final = true}).rcode(), Rcode::kServFail);
  source->found = DnsFound::kNo;
  EXPECT_EQ(Ask("internal.", "AAAA").rcode(), Rcode::kNoError) << "the suffix always exists";
}

TEST_F(ResponderTest, OtherSuffixes) {
  DnsServerOptions options;
  options.suffix = "Vm.Example.";
  options.reverse_prefixes = {};
  options.negative_ttl = std::chrono::seconds(77);
  auto responder = Responder::Create(options);
  ASSERT_TRUE(responder.ok()) << responder.status();
  responder_.emplace(*std::move(responder));
  const Message response = Ask("nothing.vm.example.", "AAAA");
  EXPECT_EQ(response.rcode(), Rcode::kNxDomain);
  ASSERT_EQ(response.authority.size(), 1u);
  EXPECT_EQ(response.authority[0].ToText(),
            "vm.example. 77 IN SOA localhost. nobody.invalid. 1 3600 600 86400 77");
  EXPECT_EQ(Ask("sensor.internal.", "AAAA").rcode(), Rcode::kRefused);
  EXPECT_EQ(Ask(kReverse1, "PTR").rcode(), Rcode::kRefused);
  for (const char* bad : {"", ".", "a..b"})
    EXPECT_FALSE(Responder::Create({.suffix = bad}).ok()) << bad;
  for (const char* bad : {"fd00::", "fd00::/7", "fd00::/132", "1.2.3.4/8", "/8"})
    EXPECT_FALSE(Responder::Create({.reverse_prefixes = {bad}}).ok()) << bad;
}

TEST_F(ResponderTest, AnyBytesGetAMessageOrNothing) {
  std::mt19937 random(7);
  const std::string good = *EncodeMessage(Query("_coap._udp.sensor.internal.", "SRV", Edns{}));
  int answered = 0;
  for (int i = 0; i < 50'000; ++i) {
    std::string query = good.substr(0, random() % 16 == 0 ? random() % good.size() : good.size());
    for (unsigned changes = random() % 4; changes > 0 && !query.empty(); --changes)
      query[random() % query.size()] = static_cast<char>(random());
    const std::string raw = Raw(query);
    if (raw.empty()) continue;
    ++answered;
    ASSERT_TRUE(DecodeMessage(ToBytes(raw)).ok());
    ASSERT_EQ(raw.substr(0, 2), query.substr(0, 2));
    ASSERT_LE(raw.size(), 1232u);
  }
  EXPECT_GT(answered, 10'000);
}

TEST(StaticDnsSource, RefusesWhatIsNoZone) {
  const auto error = [](std::string_view zone) {
    return std::string(StaticDnsSource::FromZone(zone, "internal").status().message());
  };
  EXPECT_EQ(error("; nothing\n\n  \na AAAA fd00::1"), "");
  EXPECT_TRUE(error("a AAAA fd00::1\nb AAAA x\n").starts_with("line 2: 'x' is no IPv6"));
  EXPECT_NE(error("a"), "");
  EXPECT_NE(error("a.example. AAAA fd00::1"), "");
  EXPECT_NE(error("@ SOA a b 1 2 3 4 5"), "");
  EXPECT_NE(error("@ NS a"), "");
  EXPECT_NE(error("a..b AAAA fd00::1"), "");
}

}  // namespace
}  // namespace waxvm::dns
