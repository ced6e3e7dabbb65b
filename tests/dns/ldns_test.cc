// SPDX-License-Identifier: Apache-2.0
// Records and messages, compared with ldns in both directions: what one writes, the other reads as
// the same, compressed or as text.
#include <gtest/gtest.h>
#include <ldns/ldns.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "src/base/strings.h"
#include "src/dns/message.h"
#include "src/dns/rdata.h"

namespace waxvm::dns {
namespace {

struct FreeRr {
  void operator()(ldns_rr* rr) const { ldns_rr_free(rr); }
};
using Rr = std::unique_ptr<ldns_rr, FreeRr>;
struct FreePacket {
  void operator()(ldns_pkt* packet) const { ldns_pkt_free(packet); }
};
using Packet = std::unique_ptr<ldns_pkt, FreePacket>;
struct FreeMemory {
  void operator()(void* memory) const { LDNS_FREE(memory); }
};

Rr FromText(const std::string& text) {
  ldns_rr* rr = nullptr;
  if (ldns_rr_new_frm_str(&rr, text.c_str(), 0, nullptr, nullptr) != LDNS_STATUS_OK) return nullptr;
  return Rr(rr);
}

/// The record of ldns as one of ours: the data from its wire form, which is uncompressed.
Record Ours(const ldns_rr* rr) {
  std::uint8_t* wire = nullptr;
  std::size_t size = 0;
  EXPECT_EQ(ldns_rr2wire(&wire, rr, LDNS_SECTION_ANSWER, &size), LDNS_STATUS_OK);
  const std::unique_ptr<std::uint8_t, FreeMemory> owner(wire);
  Reader reader(Bytes(wire, size));
  Record record;
  record.owner = reader.ReadName(Compression::kRefused);
  record.type = reader.U16();
  record.klass = reader.U16();
  record.ttl_seconds = reader.U32();
  record.data = std::string(ToText(reader.Take(reader.U16())));
  EXPECT_TRUE(reader.ok());
  EXPECT_EQ(reader.left(), 0u);
  return record;
}

std::string Text(const ldns_rr* rr) {
  const std::unique_ptr<char, FreeMemory> text(ldns_rr2str(rr));
  std::string line(text.get());
  while (!line.empty() && line.back() == '\n') line.pop_back();
  return line;
}

/// Random records, as text of our own.
class Records {
 public:
  /// `mixed`: names that differ in their case alone, which ldns compresses to one of them.
  explicit Records(unsigned seed, bool mixed = true) : random_(seed), mixed_(mixed) {}

  std::string Any() {
    const std::string owner = Name();
    const std::string ttl = std::to_string(Number(0x7fffffff));
    return owner + " " + ttl + " IN " + Data();
  }
  unsigned Number(unsigned max) { return std::uniform_int_distribution<unsigned>(0, max)(random_); }

 private:
  std::string Data() {
    switch (Number(10)) {
      case 0:
        return "A " + Address4();
      case 1:
        return "AAAA " + Address6();
      case 2:
        return "PTR " + Name();
      case 3:
        return "NS " + Name();
      case 4:
        return absl::StrFormat("SRV %d %d %d %s", Number(65535), Number(65535), Number(65535),
                               Name());
      case 5:
        return absl::StrFormat("SOA %s %s %d %d %d %d %d", Name(), Name(), Number(0xffffffff),
                               Number(0x7fffffff), Number(0x7fffffff), Number(0x7fffffff),
                               Number(0x7fffffff));
      case 6:
      case 7: {
        std::string text = "TXT";
        for (unsigned i = Number(3) + 1; i > 0; --i) text += " \"" + String(Number(60)) + "\"";
        return text;
      }
      case 8:
        return "CNAME " + Name();
      case 9:
        return absl::StrFormat("MX %d %s", Number(65535), Name());
      default: {
        std::string hex;
        const unsigned size = Number(40);
        for (unsigned i = 0; i < size; ++i) hex += absl::StrFormat("%02x", Number(255));
        return absl::StrFormat("TYPE%d \\# %d %s", 65280 + Number(200), size, hex);
      }
    }
  }

  /// From few labels, so that there is much to compress; now and then an odd one.
  std::string Name() {
    static constexpr const char* kLabels[] = {"a",   "sensor",  "_coap", "_udp",  "deep",
                                              "x-1", "example", "local", "Sensor"};
    std::string name;
    for (unsigned i = Number(4); i > 0; --i)
      name += (Number(9) == 0 ? OddLabel() : kLabels[Number(mixed_ ? 8 : 7)]) + std::string(".");
    return name + "internal.";
  }
  std::string OddLabel() {
    waxvm::dns::Name name;
    std::string label(1 + Number(20), '\0');
    // A quote, which ldns writes without an escape, would begin a string where it is the first.
    for (char& c : label) do
        c = static_cast<char>(Number(255));
      while (c == '"');
    EXPECT_TRUE(name.Append(ToBytes(label)));
    std::string text = name.ToText();
    text.pop_back();
    return text;
  }
  std::string String(unsigned size) {
    std::string text;
    for (unsigned i = 0; i < size; ++i) {
      const unsigned c = Number(255);
      if (c < 32 || c > 126)
        text += absl::StrFormat("\\%03d", c);
      else if (c == '"' || c == '\\')
        text += {'\\', static_cast<char>(c)};
      else
        text.push_back(static_cast<char>(c));
    }
    return text;
  }
  std::string Address4() {
    return absl::StrFormat("%d.%d.%d.%d", Number(255), Number(255), Number(255), Number(255));
  }
  std::string Address6() {
    std::string text;
    for (int i = 0; i < 8; ++i)
      text += absl::StrFormat("%s%x", i == 0 ? "" : ":", Number(2) == 0 ? Number(65535) : 0);
    return text;
  }

  std::mt19937 random_;
  const bool mixed_;
};

Record Parse(const std::string& line) {
  const auto words = SplitWords(line);
  EXPECT_TRUE(words.ok()) << line << ": " << words.status();
  if (!words.ok() || words->size() < 5) return {};
  Record record;
  record.owner = *Name::FromText((*words)[0]);
  record.ttl_seconds = *ParseNumber((*words)[1], 0xffffffff);
  record.type = *TypeFromText((*words)[3]);
  const auto data = RdataFromText(record.type, std::span(*words).subspan(4), Name());
  EXPECT_TRUE(data.ok()) << line << ": " << data.status();
  record.data = data.value_or("");
  return record;
}

/// In every bit: `==` of names passes over their case.
void ExpectSame(const Record& a, const Record& b, const std::string& what) {
  EXPECT_EQ(a.ToText(), b.ToText()) << what;
  EXPECT_EQ(ToText(a.owner.bytes()), ToText(b.owner.bytes())) << what;
  EXPECT_TRUE(a.data == b.data) << what;
}

TEST(Ldns, ReadsTheTextOfRecordsAlike) {
  Records records(1);
  for (int i = 0; i < 5000; ++i) {
    const std::string line = records.Any();
    const Record ours = Parse(line);
    const Rr theirs = FromText(line);
    ASSERT_NE(theirs, nullptr) << line;
    ExpectSame(ours, Ours(theirs.get()), line);
    // What is written as text, the other reads as the same.
    const Rr again = FromText(ours.ToText());
    ASSERT_NE(again, nullptr) << ours.ToText();
    ExpectSame(ours, Ours(again.get()), ours.ToText());
    ExpectSame(ours, Parse(Text(theirs.get())), Text(theirs.get()));
    if (HasFailure()) return;
  }
}

TEST(Ldns, ReadsOurMessages) {
  Records records(2);
  for (int i = 0; i < 500; ++i) {
    Message message = {.id = static_cast<std::uint16_t>(i), .flags = kFlagQr | kFlagAa};
    message.questions.push_back({.name = Parse(records.Any()).owner, .type = 28});
    for (auto* section : {&message.answers, &message.authority, &message.additional})
      for (unsigned n = records.Number(12); n > 0; --n) section->push_back(Parse(records.Any()));
    const auto bytes = EncodeMessage(message);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    ldns_pkt* raw = nullptr;
    ASSERT_EQ(ldns_wire2pkt(&raw, ToBytes(*bytes).data(), bytes->size()), LDNS_STATUS_OK) << i;
    const Packet packet(raw);
    EXPECT_EQ(ldns_pkt_id(raw), message.id);
    EXPECT_TRUE(ldns_pkt_qr(raw) && ldns_pkt_aa(raw) && !ldns_pkt_ra(raw));
    const std::pair<ldns_rr_list*, const std::vector<Record>*> sections[] = {
        {ldns_pkt_answer(raw), &message.answers},
        {ldns_pkt_authority(raw), &message.authority},
        {ldns_pkt_additional(raw), &message.additional}};
    for (const auto& [theirs, ours] : sections) {
      ASSERT_EQ(ldns_rr_list_rr_count(theirs), ours->size());
      for (std::size_t at = 0; at < ours->size(); ++at)
        ExpectSame((*ours)[at], Ours(ldns_rr_list_rr(theirs, at)), (*ours)[at].ToText());
    }
    if (HasFailure()) return;
  }
}

TEST(Ldns, WritesMessagesThatWeRead) {
  Records records(3, false);
  for (int i = 0; i < 500; ++i) {
    const Packet packet(ldns_pkt_new());
    std::vector<Record> expected;
    for (unsigned n = records.Number(30); n > 0; --n) {
      Rr rr = FromText(records.Any());
      ASSERT_NE(rr, nullptr);
      expected.push_back(Ours(rr.get()));
      ASSERT_TRUE(ldns_pkt_push_rr(packet.get(), LDNS_SECTION_ANSWER, rr.release()));
    }
    ldns_pkt_set_id(packet.get(), static_cast<std::uint16_t>(i));
    std::uint8_t* wire = nullptr;
    std::size_t size = 0;
    ASSERT_EQ(ldns_pkt2wire(&wire, packet.get(), &size), LDNS_STATUS_OK);
    const std::unique_ptr<std::uint8_t, FreeMemory> owner(wire);
    const auto message = DecodeMessage(Bytes(wire, size));
    ASSERT_TRUE(message.ok()) << message.status();
    ASSERT_EQ(message->answers.size(), expected.size());
    for (std::size_t at = 0; at < expected.size(); ++at) {
      ExpectSame(message->answers[at], expected[at], expected[at].ToText());
      if (HasFailure()) return;
    }
  }
}

TEST(Ldns, ServiceRecords) {
  if (FromText("x. 1 IN SVCB 1 . port=53") == nullptr)
    GTEST_SKIP() << "this ldns was built without SVCB and HTTPS";
  for (const char* data :
       {"SVCB 0 foo.example.", "SVCB 1 .", "SVCB 16 foo.example. port=53",
        "HTTPS 1 . alpn=\"h2,h3\"", "SVCB 1 foo. ipv6hint=2001:db8::1,2001:db8::53:1",
        "SVCB 1 foo. key667=hello",
        "HTTPS 16 f. mandatory=alpn,ipv4hint alpn=h2,h3-19 "
        "ipv4hint=192.0.2.1",
        "HTTPS 1 . alpn=h2 no-default-alpn", "SVCB 1 . ech=AAAB"}) {
    const std::string line = std::string("a.internal. 60 IN ") + data;
    const Rr theirs = FromText(line);
    ASSERT_NE(theirs, nullptr) << line;
    const Record ours = Parse(line);
    ExpectSame(ours, Ours(theirs.get()), line);
    ExpectSame(ours, Parse(Text(theirs.get())), Text(theirs.get()));
    const Rr again = FromText(ours.ToText());
    ASSERT_NE(again, nullptr) << ours.ToText();
    ExpectSame(ours, Ours(again.get()), ours.ToText());
  }
}

}  // namespace
}  // namespace waxvm::dns
