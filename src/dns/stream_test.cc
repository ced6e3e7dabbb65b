// SPDX-License-Identifier: Apache-2.0
#include "src/dns/stream.h"

#include <gtest/gtest.h>

#include <vector>

#include "src/dns/message.h"
#include "src/dns/rdata.h"

namespace waxvm::dns {
namespace {

class StreamTest : public testing::Test {
 protected:
  StreamTest() : out_(4 * Stream::kAnswerBytes) {}

  static std::string Framed(std::string_view message) {
    std::string framed = {static_cast<char>(message.size() >> 8),
                          static_cast<char>(message.size())};
    return framed.append(message);
  }
  static std::string Query(std::uint16_t id, std::string_view name = "a.internal.") {
    Message query = {.id = id};
    query.questions.push_back({.name = *Name::FromText(name), .type = 28});
    return Framed(*EncodeMessage(query));
  }
  Stream::Result Answer(Stream& stream, std::string_view input, bool final = false) {
    return stream.Answer(ToBytes(input), final, *responder_, *source_, scratch_, out_);
  }
  /// The ids and RCODEs of the messages that were produced.
  std::string Produced(const Stream::Result& result) {
    std::string text;
    Bytes rest = Bytes(out_).first(result.produced);
    while (rest.size() >= 2) {
      const std::size_t size = Load16(&rest[0]);
      text += std::to_string(Load16(&rest[2])) + ":" + std::to_string(rest[5] & 15) + " ";
      rest = rest.subspan(2 + size);
    }
    EXPECT_TRUE(rest.empty());
    return text;
  }

  absl::StatusOr<Responder> responder_ = Responder::Create({});
  std::shared_ptr<DnsSource> source_ = *StaticDnsSource::FromZone("a AAAA fd00::1", "internal");
  Scratch scratch_;
  std::vector<std::uint8_t> out_;
};

TEST_F(StreamTest, AnswersInOrderWhateverThePieces) {
  const std::string input = Query(1) + Query(2, "b.internal.") + Query(3, "example.");
  Stream whole(4096);
  const Stream::Result result = Answer(whole, input);
  EXPECT_EQ(result.consumed, input.size());
  EXPECT_EQ(result.questions, 3u);
  EXPECT_EQ(Produced(result), "1:0 2:3 3:5 ");
  Stream bytewise(4096);
  std::string held;
  std::string all;
  for (const char c : input) {
    held.push_back(c);
    const Stream::Result part = Answer(bytewise, held);
    held.erase(0, part.consumed);
    all += Produced(part);
  }
  EXPECT_EQ(all, "1:0 2:3 3:5 ");
  EXPECT_EQ(held, "");
}

TEST_F(StreamTest, StopsWhereAnAnswerMayNotFit) {
  out_.resize(Stream::kAnswerBytes + 60);
  std::string input;
  for (std::uint16_t id = 0; id < 5; ++id) input += Query(id);
  Stream stream(4096);
  Stream::Result result = Answer(stream, input);
  EXPECT_EQ(Produced(result), "0:0 1:0 ");
  result = Answer(stream, std::string_view(input).substr(result.consumed));
  EXPECT_EQ(Produced(result), "2:0 3:0 ");
}

TEST_F(StreamTest, TooLongAQuestionIsReadPastAndRefused) {
  Stream stream(512);
  std::string longest = Query(9).substr(2);
  longest.resize(65535, 'x');
  const std::string input = Query(1) + Framed(longest) + Query(2);
  std::string held;
  std::string all;
  std::size_t most = 0;
  for (std::size_t at = 0; at < input.size(); at += 1000) {
    held += input.substr(at, 1000);
    const Stream::Result part = Answer(stream, held);
    held.erase(0, part.consumed);
    most = std::max(most, held.size());
    all += Produced(part);
  }
  EXPECT_EQ(all, "1:0 9:1 2:0 ");
  EXPECT_LT(most, 600u);
  EXPECT_FALSE(stream.skipping());
}

TEST_F(StreamTest, WhatNoClientSendsEndsIt) {
  for (const std::string& bad : {std::string("\0\0", 2), Framed("short"), [] {
                                   std::string answer = Query(7);
                                   answer[4] = static_cast<char>(0x80);
                                   return answer;
                                 }()}) {
    Stream stream(4096);
    const Stream::Result result = Answer(stream, Query(1) + bad + Query(2));
    EXPECT_TRUE(result.broken);
    EXPECT_EQ(Produced(result), "1:0 ");
  }
}

class Slow final : public DnsSource {
 public:
  DnsFound Lookup(const DnsQuestion& question, DnsAnswer&) override {
    return question.name == "slow" ? found : DnsFound::kYes;
  }
  DnsFound found = DnsFound::kPending;
};

TEST_F(StreamTest, WaitsForTheSource) {
  auto source = std::make_shared<Slow>();
  source_ = source;
  Stream stream(4096);
  const std::string input = Query(1) + Query(2, "slow.internal.") + Query(3, "slow.internal.");
  Stream::Result result = Answer(stream, input);
  EXPECT_TRUE(result.pending);
  EXPECT_EQ(Produced(result), "1:0 ");
  const std::string_view rest = std::string_view(input).substr(result.consumed);
  EXPECT_EQ(Answer(stream, rest).consumed, 0u);
  result = Answer(stream, rest, true);
  EXPECT_EQ(Produced(result), "2:2 ") << "only the first of them has waited";
  EXPECT_TRUE(result.pending);
  source->found = DnsFound::kNo;
  EXPECT_EQ(Produced(Answer(stream, rest)), "2:3 3:3 ");
}

}  // namespace
}  // namespace waxvm::dns
