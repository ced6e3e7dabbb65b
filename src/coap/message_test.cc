// SPDX-License-Identifier: Apache-2.0
#include "src/coap/message.h"

#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/coap/bytes_for_test.h"

namespace waxvm::coap {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

// RFC 7252 appendix A, figures 16 to 21: a request and its responses byte for byte.
TEST(MessageView, ReadsTheExamplesOfTheRfc) {
  const std::string get = Hex("40 01 7d 34 bb 74 65 6d 70 65 72 61 74 75 72 65");
  MessageView view = MessageView::Parse(ToBytes(get));
  ASSERT_TRUE(view.ok());
  EXPECT_EQ(view.type(), Type::kCon);
  EXPECT_EQ(view.code(), Code::kGet);
  EXPECT_EQ(view.id(), 0x7d34);
  EXPECT_TRUE(view.token().empty());
  EXPECT_THAT(ListOf(view.options()), ElementsAre(Pair(11, "temperature")));
  EXPECT_TRUE(view.payload().empty());

  const std::string content = Hex("60 45 7d 34 ff 32 32 2e 33 20 43");
  view = MessageView::Parse(ToBytes(content));
  ASSERT_TRUE(view.ok());
  EXPECT_EQ(view.type(), Type::kAck);
  EXPECT_EQ(view.code(), Code::kContent);
  EXPECT_EQ(ToText(view.payload()), "22.3 C");

  const std::string with_token = Hex("41 01 7d 35 20 bb 74 65 6d 70 65 72 61 74 75 72 65");
  view = MessageView::Parse(ToBytes(with_token));
  ASSERT_TRUE(view.ok());
  EXPECT_EQ(ToText(view.token()), " ");
  EXPECT_THAT(ListOf(view.options()), ElementsAre(Pair(11, "temperature")));
}

// RFC 8974 section 2.1: a token length of 13 has one byte more, 14 two.
TEST(MessageView, ReadsExtendedTokens) {
  for (const std::size_t size : {9u, 12u, 13u, 268u, 269u, 3000u, 65804u}) {
    const std::string token(size, 't');
    std::vector<std::byte> buffer(kMaxTokenBytes + 100);
    MessageWriter writer(buffer, Type::kNon, Code::kGet, 7, ToBytes(token));
    writer.Option(OptionNumber::kUriPath, "a");
    ASSERT_TRUE(writer.ok());
    MessageView view = MessageView::Parse(writer.message(), {.max_token_bytes = size});
    ASSERT_TRUE(view.ok()) << size;
    EXPECT_EQ(ToText(view.token()), token);
    EXPECT_THAT(ListOf(view.options()), ElementsAre(Pair(11, "a")));
    EXPECT_EQ(MessageView::Parse(writer.message()).fault(), WireFault::kFormat);
    if (size == 9) continue;
    view = MessageView::Parse(writer.message(), {.max_token_bytes = size - 1});
    EXPECT_EQ(view.fault(), WireFault::kTokenTooLong);
    EXPECT_EQ(ToText(view.token()), token);
    EXPECT_FALSE(view.wants_reset());
  }
  std::vector<std::byte> buffer(100000);
  const std::string longer(kMaxTokenBytes + 1, 't');
  EXPECT_FALSE(MessageWriter(buffer, Type::kNon, Code::kGet, 7, ToBytes(longer)).ok());
}

struct Malformed {
  const char* hex;
  WireFault fault;
};

TEST(MessageView, NamesWhatIsWrong) {
  const Malformed cases[] = {
      {"", WireFault::kNoMessage},
      {"40 01 00", WireFault::kNoMessage},
      {"00 01 00 01", WireFault::kNoMessage},                  // version 0
      {"80 01 00 01", WireFault::kNoMessage},                  // version 2
      {"c0 01 00 01", WireFault::kNoMessage},                  // version 3
      {"40 00 00 01 00", WireFault::kFormat},                  // empty, and a byte
      {"41 00 00 01", WireFault::kFormat},                     // empty, with a token length
      {"41 00 00 01 aa", WireFault::kFormat},                  // empty, with a token
      {"40 00 00 01 ff", WireFault::kFormat},                  // empty, with a marker
      {"41 01 00 01", WireFault::kFormat},                     // token cut off
      {"49 01 00 01 010203040506070809", WireFault::kFormat},  // reserved token length
      {"4f 01 00 01 0102030405060708090a0b0c0d0e0f", WireFault::kFormat},
      {"40 01 00 01 b1 61 ff", WireFault::kFormat},
      {"40 01 00 01 ff", WireFault::kFormat},        // marker without payload
      {"40 01 00 01 b5 61 62", WireFault::kFormat},  // option cut off
      {"40 01 00 01 f0", WireFault::kFormat},        // delta 15
      {"40 01 00 01 1f 01", WireFault::kFormat},     // length 15
      {"40 01 00 01 d0", WireFault::kFormat},        // extended delta cut off
      {"40 01 00 01 e0 00", WireFault::kFormat},
      {"40 01 00 01 1d", WireFault::kFormat},  // extended length cut off
      {"40 01 00 01 1e 00", WireFault::kFormat},
      {"40 01 00 01 1e ff ff 00", WireFault::kFormat},
      {"40 01 00 01 e0 fe f3", WireFault::kFormat},     // option 65536
      {"40 01 00 01 e0 fe f2 10", WireFault::kFormat},  // 65535 and one more
      {"40 01 00 01 e0 fe f2 e0 fe f2", WireFault::kFormat},
      {"40 21 00 01", WireFault::kReservedCode},  // 1.01
      {"40 61 00 01", WireFault::kReservedCode},  // 3.01
      {"40 c0 00 01", WireFault::kReservedCode},  // 6.00
      {"40 e1 00 01", WireFault::kReservedCode},  // 7.01
      {"50 00 00 01", WireFault::kTypeMismatch},  // empty NON
      {"60 01 00 01", WireFault::kTypeMismatch},  // request in an ACK
      {"70 45 00 01", WireFault::kTypeMismatch},  // response in a RST
      {"70 01 00 01", WireFault::kTypeMismatch},
      {"40 01 00 01", WireFault::kNone},
      {"40 00 00 01", WireFault::kNone},  // ping
      {"60 00 00 01", WireFault::kNone},
      {"70 00 00 01", WireFault::kNone},
      {"50 45 00 01", WireFault::kNone},
      {"40 1f 00 01", WireFault::kNone},           // a method nobody registered
      {"40 01 00 01 e0 fe f2", WireFault::kNone},  // option 65535
  };
  for (const Malformed& wrong : cases) {
    std::string bytes = Hex(wrong.hex);
    const MessageView view = MessageView::Parse(ToBytes(bytes));
    EXPECT_EQ(view.fault(), wrong.fault) << wrong.hex;
    const bool con = !bytes.empty() && (bytes[0] & 0x30) == 0;
    EXPECT_EQ(view.wants_reset(),
              con && wrong.fault != WireFault::kNone && wrong.fault != WireFault::kNoMessage)
        << wrong.hex;
    if (wrong.fault == WireFault::kNoMessage || wrong.fault == WireFault::kNone) continue;
    EXPECT_EQ(view.id(), 1) << wrong.hex;
    EXPECT_TRUE(view.options().encoded().empty() && view.payload().empty()) << wrong.hex;
  }
}

TEST(MessageView, CountsOptions) {
  std::string bytes = Hex("40 01 00 01") + std::string(300, '\0');
  EXPECT_EQ(MessageView::Parse(ToBytes(bytes)).fault(), WireFault::kTooManyOptions);
  EXPECT_TRUE(MessageView::Parse(ToBytes(bytes), {.max_options = 300}).ok());
  EXPECT_TRUE(MessageView::Parse(ToBytes(bytes.substr(0, 4 + 256))).ok());
}

TEST(MessageView, FindsOptions) {
  std::byte buffer[200];
  MessageWriter writer(buffer, Type::kCon, Code::kGet, 1);
  writer.Option(OptionNumber::kUriPath, "a");
  writer.Option(OptionNumber::kUriPath, "b");
  writer.UintOption(OptionNumber::kSize1, 70000);
  writer.Option(OptionNumber::kEcho, "echo");
  writer.Option(static_cast<OptionNumber>(65001), "");
  const MessageView view = MessageView::Parse(writer.message());
  ASSERT_TRUE(view.ok());
  EXPECT_EQ(view.Find(OptionNumber::kUriPath)->text(), "a");
  EXPECT_EQ(view.Find(OptionNumber::kSize1)->AsUint(), 70000u);
  EXPECT_EQ(view.Find(OptionNumber::kSize1)->value.size(), 3u);
  EXPECT_EQ(view.Find(OptionNumber::kEcho)->text(), "echo");
  EXPECT_TRUE(view.Has(OptionNumber::kEcho));
  EXPECT_FALSE(view.Has(OptionNumber::kUriHost));
  EXPECT_FALSE(view.Has(OptionNumber::kRequestTag));
  EXPECT_TRUE(view.has_high_critical());
  EXPECT_EQ(view.present(), std::uint64_t{1} << 11 | std::uint64_t{1} << 60);
}

TEST(OptionView, IsAnUnsignedInteger) {
  const std::string bytes = Hex("00 00 01 02 03 04 05 06 07");
  EXPECT_EQ((OptionView{OptionNumber::kSize1, ToBytes(bytes).first(0)}.AsUint()), 0u);
  EXPECT_EQ((OptionView{OptionNumber::kSize1, ToBytes(bytes).first(4)}.AsUint()), 258u);
  EXPECT_EQ((OptionView{OptionNumber::kSize1, ToBytes(bytes).last(8)}.AsUint()),
            0x0001020304050607u);
  EXPECT_EQ((OptionView{OptionNumber::kSize1, ToBytes(bytes)}.AsUint()), std::nullopt);
}

// Bytes that change after they were checked, as in memory shared with a guest.
TEST(OptionsView, EndsEarlyWhereBytesChange) {
  std::string bytes = Hex("40 01 00 01 b1 61 01 62 01 63");
  const MessageView view = MessageView::Parse(ToBytes(bytes));
  ASSERT_EQ(ListOf(view.options()).size(), 3u);
  bytes[6] = static_cast<char>(0x0e);
  EXPECT_EQ(ListOf(view.options()).size(), 1u);
}

TEST(MessageWriter, WritesTheExampleOfTheRfc) {
  std::byte buffer[32];
  MessageWriter writer(buffer, Type::kCon, Code::kGet, 0x7d35, ToBytes(" "));
  writer.Option(OptionNumber::kUriPath, "temperature");
  EXPECT_EQ(ToText(writer.message()), Hex("41 01 7d 35 20 bb 74 65 6d 70 65 72 61 74 75 72 65"));
}

TEST(MessageWriter, SaysWhereSomethingDoesNotFit) {
  std::byte whole[64];
  MessageWriter measure(whole, Type::kCon, Code::kPost, 1, ToBytes("tok"));
  const std::string value(20, 'v');
  const auto write = [&](MessageWriter& writer) {
    writer.Option(OptionNumber::kUriPath, value);
    writer.Payload(ToBytes("pay"));
  };
  write(measure);
  ASSERT_TRUE(measure.ok());
  const std::size_t size = measure.message().size();
  for (std::size_t room = 0; room <= size; ++room) {
    std::vector<std::byte> buffer(room);
    MessageWriter writer(buffer, Type::kCon, Code::kPost, 1, ToBytes("tok"));
    write(writer);
    EXPECT_EQ(writer.ok(), room == size);
    EXPECT_EQ(writer.message().size(), room == size ? size : 0);
  }
}

TEST(MessageWriter, RefusesWhatIsOutOfOrder) {
  std::byte buffer[64];
  MessageWriter descends(buffer, Type::kCon, Code::kGet, 1);
  descends.Option(OptionNumber::kUriPath, "a");
  descends.Option(OptionNumber::kUriHost, "h");
  EXPECT_FALSE(descends.ok());
  MessageWriter after(buffer, Type::kCon, Code::kGet, 1);
  after.Payload(ToBytes("p"));
  after.Option(OptionNumber::kUriPath, "a");
  EXPECT_FALSE(after.ok());
  MessageWriter twice(buffer, Type::kCon, Code::kGet, 1);
  twice.Payload(ToBytes("p"));
  twice.Payload(ToBytes("p"));
  EXPECT_FALSE(twice.ok());
}

TEST(MessageWriter, TakesAPayloadInPlace) {
  std::byte buffer[10];
  MessageWriter writer(buffer, Type::kNon, Code::kContent, 1);
  ASSERT_EQ(writer.PayloadRoom().size(), 5u);
  writer.PayloadRoom()[0] = std::byte{'x'};
  writer.CommitPayload(1);
  EXPECT_EQ(ToText(writer.message()), Hex("50 45 00 01 ff 78"));
  EXPECT_TRUE(writer.PayloadRoom().empty());
  MessageWriter longer(buffer, Type::kNon, Code::kContent, 1);
  longer.CommitPayload(6);
  EXPECT_FALSE(longer.ok());
}

TEST(EmptyMessage, IsFourBytes) {
  const EmptyMessage reset(Type::kRst, 0x1234);
  EXPECT_EQ(ToText(Bytes(reset.bytes)), Hex("70 00 12 34"));
}

TEST(Code, HasClassesAndNames) {
  EXPECT_EQ(ToText(Code::kContent), "2.05");
  EXPECT_EQ(ToText(Code::kTooManyRequests), "4.29");
  EXPECT_EQ(ToText(Code::kContinue), "2.31");
  EXPECT_EQ(ToText(Code::kHopLimitReached), "5.08");
  EXPECT_EQ(NameOf(Code::kContent), "Content");
  EXPECT_EQ(ParseCode("2.05"), Code::kContent);
  EXPECT_EQ(ParseCode("FETCH"), Code::kFetch);
  for (const char* wrong : {"", "2.5", "2.055", "8.00", "2.32", "a.05", "2,05", "2.0x"})
    EXPECT_EQ(ParseCode(wrong), std::nullopt) << wrong;
  for (int number = 0; number < 256; ++number) {
    const Code code = static_cast<Code>(number);
    EXPECT_EQ(ParseCode(ToText(code)), code);
    EXPECT_EQ(IsRequest(code) + IsResponse(code) + IsReserved(code) + (code == Code::kEmpty), 1);
  }
  EXPECT_EQ(ParseContentFormat("application/json"), ContentFormat::kJson);
  EXPECT_EQ(ParseContentFormat("65535"), static_cast<ContentFormat>(65535));
  EXPECT_EQ(ParseContentFormat("65536"), std::nullopt);
  EXPECT_EQ(ParseContentFormat("1x"), std::nullopt);
}

// RFC 7252 section 5.4.6 and table 4; RFC 9175 table 1; RFC 7967 section 2.
TEST(OptionNumber, SaysWhatItIs) {
  const std::tuple<OptionNumber, bool, bool, bool> cases[] = {
      {OptionNumber::kIfMatch, true, false, false},
      {OptionNumber::kUriHost, true, true, false},
      {OptionNumber::kETag, false, false, false},
      {OptionNumber::kObserve, false, true, false},
      {OptionNumber::kMaxAge, false, true, false},
      {OptionNumber::kSize1, false, false, true},
      {OptionNumber::kSize2, false, false, true},
      {OptionNumber::kProxyUri, true, true, false},
      {OptionNumber::kEcho, false, false, true},
      {OptionNumber::kRequestTag, false, false, false},
      {OptionNumber::kNoResponse, false, true, false},
  };
  for (const auto& [number, critical, unsafe, no_cache_key] : cases) {
    EXPECT_EQ(IsCritical(number), critical) << NameOf(number);
    EXPECT_EQ(IsUnsafe(number), unsafe) << NameOf(number);
    EXPECT_EQ(IsNoCacheKey(number), no_cache_key) << NameOf(number);
  }
}

}  // namespace
}  // namespace waxvm::coap
