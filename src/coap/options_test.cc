// SPDX-License-Identifier: Apache-2.0
#include "waxvm/coap_options.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/coap/bytes_for_test.h"
#include "src/coap/option_rules.h"
#include "waxvm/coap_owned_message.h"

namespace waxvm::coap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr OptionNumber kAll[] = {
    OptionNumber::kIfMatch,       OptionNumber::kUriHost,    OptionNumber::kETag,
    OptionNumber::kIfNoneMatch,   OptionNumber::kObserve,    OptionNumber::kUriPort,
    OptionNumber::kLocationPath,  OptionNumber::kOscore,     OptionNumber::kUriPath,
    OptionNumber::kContentFormat, OptionNumber::kMaxAge,     OptionNumber::kUriQuery,
    OptionNumber::kHopLimit,      OptionNumber::kAccept,     OptionNumber::kQBlock1,
    OptionNumber::kLocationQuery, OptionNumber::kBlock2,     OptionNumber::kBlock1,
    OptionNumber::kSize2,         OptionNumber::kQBlock2,    OptionNumber::kProxyUri,
    OptionNumber::kProxyScheme,   OptionNumber::kSize1,      OptionNumber::kEcho,
    OptionNumber::kNoResponse,    OptionNumber::kRequestTag,
};

OptionCheck CheckOf(const Message& message) {
  const Datagram datagram(message);
  EXPECT_TRUE(datagram.view().ok());
  return CheckOptions(datagram.view());
}

// RFC 7252 table 4 and its like in the RFCs of the other options: one byte too short or too long is
// as if the option were not known, which only matters where it is critical.
TEST(CheckOptions, KnowsTheLengthOfEachOption) {
  for (const OptionNumber number : kAll) {
    const OptionRule rule = RuleOf(number);
    ASSERT_TRUE(rule.defined) << NameOf(number);
    if (number == OptionNumber::kOscore || number == OptionNumber::kQBlock1 ||
        number == OptionNumber::kQBlock2)
      continue;
    const auto fault_at = [&](std::size_t bytes) {
      return CheckOf(Message(Code::kGet).Set(number, std::string(bytes, 'x'))).fault;
    };
    const OptionFault wrong = IsCritical(number) ? OptionFault::kLength : OptionFault::kNone;
    EXPECT_EQ(fault_at(rule.min_bytes), OptionFault::kNone) << NameOf(number);
    EXPECT_EQ(fault_at(rule.max_bytes), OptionFault::kNone) << NameOf(number);
    EXPECT_EQ(fault_at(rule.max_bytes + 1u), wrong) << NameOf(number);
    if (rule.min_bytes > 0) {
      EXPECT_EQ(fault_at(rule.min_bytes - 1u), wrong) << NameOf(number);
    }
    // What is out of range is not there for those who look.
    const Message longer = Message(Code::kGet).Set(number, std::string(rule.max_bytes + 1u, 'x'));
    EXPECT_FALSE(longer.options().Has(number)) << NameOf(number);
    EXPECT_FALSE(longer.Check().ok()) << NameOf(number);
  }
}

TEST(CheckOptions, KnowsWhichMayBeRepeated) {
  for (const OptionNumber number : kAll) {
    const OptionRule rule = RuleOf(number);
    const std::string value(rule.min_bytes, 'x');
    const Message twice = Message(Code::kGet).Add(number, value).Add(number, value);
    if (number == OptionNumber::kOscore || number == OptionNumber::kQBlock1 ||
        number == OptionNumber::kQBlock2) {
      EXPECT_EQ(CheckOf(twice).fault, OptionFault::kUnrecognized) << NameOf(number);
      continue;
    }
    EXPECT_EQ(CheckOf(twice).fault,
              IsCritical(number) && !rule.repeatable ? OptionFault::kRepeated : OptionFault::kNone)
        << NameOf(number);
    EXPECT_EQ(twice.Check().ok(), rule.repeatable) << NameOf(number);
  }
  const Message response = Message(Code::kContent).AddETag("a").AddETag("b");
  EXPECT_FALSE(response.Check().ok());
}

TEST(CheckOptions, RefusesUnknownCriticalOnes) {
  const auto fault_of = [](int number) {
    return CheckOf(Message(Code::kGet).Set(static_cast<OptionNumber>(number), "x")).fault;
  };
  for (const int number : {9, 13, 19, 21, 31, 63, 65, 253, 65001, 65535})
    EXPECT_EQ(fault_of(number), OptionFault::kUnrecognized) << number;
  for (const int number : {2, 10, 62, 64, 256, 65000, 65534})
    EXPECT_EQ(fault_of(number), OptionFault::kNone) << number;
  const OptionCheck check = CheckOf(Message(Code::kGet).Set(OptionNumber::kOscore, "x"));
  EXPECT_EQ(check.ToText(), "option 9 (OSCORE) is not understood");
  const Datagram datagram(Message(Code::kGet).Set(OptionNumber::kOscore, "x"));
  EXPECT_TRUE(CheckOptions(datagram.view(), kUnderstoodOptions | 1u << 9).ok());
}

TEST(CheckOptions, RefusesDotSegments) {
  for (const char* segment : {".", ".."})
    EXPECT_EQ(CheckOf(Message(Code::kGet).Add(OptionNumber::kUriPath, segment)).fault,
              OptionFault::kDotSegment);
  EXPECT_TRUE(CheckOf(Message(Code::kGet).SetPath("/.../.a")).ok());
}

// RFC 8768 section 3.
TEST(HopLimit, CountsDown) {
  EXPECT_EQ(NextHop(std::nullopt).limit, 16);
  EXPECT_EQ(NextHop(255).limit, 254);
  EXPECT_EQ(NextHop(2).limit, 1);
  EXPECT_EQ(NextHop(2).code, Code::kEmpty);
  EXPECT_EQ(NextHop(1).code, Code::kHopLimitReached);
  EXPECT_EQ(NextHop(0).code, Code::kBadRequest);
  EXPECT_EQ(NextHop(256).code, Code::kBadRequest);
}

// RFC 7959 section 2.2: NUM, M, SZX.
TEST(Block, IsAnInteger) {
  for (const Block& block : {Block{0, false, 0}, Block{0, true, 6}, Block{1, false, 2},
                             Block{Block::kMaxNumber, true, 6}}) {
    EXPECT_EQ(Block::FromUint(block.ToUint()), block);
    EXPECT_TRUE(block.is_legal());
  }
  EXPECT_EQ((Block{4, true, 1}.ToUint()), 4u << 4 | 8 | 1);
  EXPECT_EQ((Block{4, true, 1}.bytes()), 32u);
  EXPECT_EQ((Block{4, true, 1}.offset()), 128u);
  EXPECT_EQ((Block{Block::kMaxNumber, false, 6}.offset()), std::uint64_t{0xfffff} * 1024);
  EXPECT_FALSE(Block::FromUint(7).is_legal());
}

TEST(Message, KeepsOptionsInOrder) {
  Message message(Code::kPost);
  message.SetSize1(70000)
      .SetPath("/a/b")
      .SetUriHost("host")
      .SetRequestTag("t")
      .AddQuery("q")
      .Add(OptionNumber::kUriPath, "c")
      .SetContentFormat(ContentFormat::kTextPlain);
  EXPECT_THAT(ListOf(message.options()),
              ElementsAre(Pair(3, "host"), Pair(11, "a"), Pair(11, "b"), Pair(11, "c"),
                          Pair(12, ""), Pair(15, "q"), Pair(60, Hex("01 11 70")), Pair(292, "t")));
  EXPECT_TRUE(message.Check().ok());
  EXPECT_TRUE(message.options().PathIs("/a/b/c"));
  message.SetPath("/").SetSize1(1);
  EXPECT_THAT(ListOf(message.options()), ElementsAre(Pair(3, "host"), Pair(12, ""), Pair(15, "q"),
                                                     Pair(60, Hex("01")), Pair(292, "t")));
  EXPECT_TRUE(message.options().PathIs("/"));
}

TEST(Message, HasWhatWasSet) {
  const Message message = Message(Code::kContent)
                              .SetUriPort(61616)
                              .SetAccept(ContentFormat::kCbor)
                              .SetPayload(ContentFormat::kSenmlJson, "[]")
                              .SetMaxAge(0)
                              .AddETag("\x01\x02")
                              .SetIfNoneMatch()
                              .AddIfMatch("")
                              .SetObserve(0x1234567)
                              .SetBlock1({2, true, 3})
                              .SetBlock2({0, false, 6})
                              .SetSize1(1)
                              .SetSize2(0xffffffff)
                              .SetHopLimit(5)
                              .SetNoResponse(26)
                              .SetEcho("echo")
                              .SetRequestTag("")
                              .SetProxyUri("coap://h/")
                              .SetProxyScheme("coap")
                              .SetLocation("/x/y")
                              .AddLocationQuery("z");
  const Datagram datagram(message);
  ASSERT_TRUE(datagram.view().ok());
  const OptionsView options = datagram.view().options();
  EXPECT_EQ(options.uri_port(), 61616);
  EXPECT_EQ(options.accept(), ContentFormat::kCbor);
  EXPECT_EQ(options.content_format(), ContentFormat::kSenmlJson);
  EXPECT_EQ(options.max_age_seconds(), 0u);
  EXPECT_EQ(options.etag(), "\x01\x02");
  EXPECT_TRUE(options.if_none_match());
  EXPECT_EQ(options.observe(), 0x234567u);
  EXPECT_EQ(options.block1(), (Block{2, true, 3}));
  EXPECT_EQ(options.block2(), (Block{0, false, 6}));
  EXPECT_EQ(options.size1(), 1u);
  EXPECT_EQ(options.size2(), 0xffffffffu);
  EXPECT_EQ(options.hop_limit(), 5u);
  EXPECT_EQ(options.no_response(), 26u);
  EXPECT_EQ(options.echo(), "echo");
  EXPECT_EQ(options.request_tag(), "");
  EXPECT_EQ(options.proxy_uri(), "coap://h/");
  EXPECT_EQ(options.proxy_scheme(), "coap");
  EXPECT_EQ(Message::From(datagram.view()), message);
  EXPECT_TRUE(message.Check().ok()) << message.Check();

  const OptionsView none;
  EXPECT_EQ(none.max_age_seconds(), 60u);
  EXPECT_EQ(none.observe(), std::nullopt);
  EXPECT_EQ(none.block1(), std::nullopt);
  EXPECT_FALSE(none.if_none_match());
}

TEST(Message, SaysWhatCannotBeSent) {
  EXPECT_THAT(Message(Code::kGet).SetPath("/a/..").Check().ToString(), HasSubstr("Uri-Path"));
  EXPECT_FALSE(Message(Code::kGet).SetUriHost("").Check().ok());
  EXPECT_FALSE(Message(Code::kGet)
                   .Set(static_cast<OptionNumber>(65000), std::string(100000, 'x'))
                   .Check()
                   .ok());
}

TEST(OptionsView, ComparesPaths) {
  const auto is = [](const Message& message, std::string_view path) {
    return message.options().PathIs(path);
  };
  const Message message = Message(Code::kGet).SetPath("/a/b");
  EXPECT_TRUE(is(message, "/a/b"));
  for (const char* other : {"", "/", "/a", "/a/", "/a/b/", "/a/b/c", "/ab", "a/b", "/a/bc"})
    EXPECT_FALSE(is(message, other)) << other;
  EXPECT_FALSE(is(Message(Code::kGet).Add(OptionNumber::kUriPath, "a/b"), "/a/b"));
  EXPECT_TRUE(is(Message(Code::kGet).SetPath("/a/"), "/a/"));
}

// Any sequence of changes is what it would be in a list that is sorted by number and keeps its
// order otherwise.
TEST(Message, ChangesLikeAList) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    Message message(Code::kGet);
    std::vector<std::pair<int, std::string>> list;
    for (int step = 0; step < 30; ++step) {
      const int number = static_cast<int>(random() % 4 == 0 ? random() % 65536 : random() % 20);
      const std::string value(random() % 5 == 0 ? random() % 400 : random() % 4, 'v');
      const auto same = [&](const auto& entry) { return entry.first == number; };
      const auto after = std::find_if(list.begin(), list.end(),
                                      [&](const auto& entry) { return entry.first > number; });
      switch (random() % 3) {
        case 0:
          message.Add(static_cast<OptionNumber>(number), value);
          list.insert(after, {number, value});
          break;
        case 1:
          message.Set(static_cast<OptionNumber>(number), value);
          list.insert(after, {number, value});
          for (auto at = list.begin(); at != list.end();) {
            const auto next = at + 1;
            const bool last = next == list.end() || next->first != number;
            at = same(*at) && !last ? list.erase(at) : next;
          }
          break;
        default:
          message.Remove(static_cast<OptionNumber>(number));
          std::erase_if(list, same);
      }
    }
    ASSERT_EQ(ListOf(message.options()), list);
  }
}

}  // namespace
}  // namespace waxvm::coap
