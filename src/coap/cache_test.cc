// SPDX-License-Identifier: Apache-2.0
#include "src/coap/cache.h"

#include <chrono>
#include <string>

#include "gtest/gtest.h"
#include "src/coap/bytes_for_test.h"
#include "src/coap/observe_order.h"

namespace waxvm::coap {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using TimePoint = std::chrono::steady_clock::time_point;

std::string KeyOf(const Message& message, CacheKeyFor purpose = CacheKeyFor::kResponse) {
  const Datagram datagram(message);
  EXPECT_TRUE(datagram.view().ok());
  std::string key;
  AppendCacheKey(datagram.view(), purpose, key);
  return key;
}

TEST(CacheKey, TellsRequestsApart) {
  const Message get = Message(Code::kGet).SetPath("/a/b");
  const auto with = [&](auto change) {
    Message other = get;
    change(other);
    return KeyOf(other);
  };
  EXPECT_EQ(KeyOf(get), with([](Message&) {}));
  EXPECT_NE(KeyOf(get), with([](Message& m) { m.SetCode(Code::kPut); }));
  EXPECT_NE(KeyOf(get), with([](Message& m) { m.SetPath("/a"); }));
  EXPECT_NE(KeyOf(get), with([](Message& m) { m.SetPath("/ab"); }));
  EXPECT_NE(KeyOf(get), with([](Message& m) { m.AddQuery(""); }));
  EXPECT_NE(KeyOf(get), with([](Message& m) { m.SetAccept(ContentFormat::kJson); }));
  EXPECT_NE(KeyOf(get), with([](Message& m) { m.SetUriHost("h"); }));
  EXPECT_NE(KeyOf(get), with([](Message& m) { m.SetRequestTag(""); }));
  EXPECT_NE(KeyOf(get), with([](Message& m) { m.SetBlock2({1, false, 6}); }));
  EXPECT_NE(KeyOf(get), with([](Message& m) { m.Set(static_cast<OptionNumber>(2048), "x"); }));
  // Safe to forward and NoCacheKey by its number: 11100.
  EXPECT_EQ(KeyOf(get), with([](Message& m) { m.Set(static_cast<OptionNumber>(0x7fc), "x"); }));
  EXPECT_EQ(KeyOf(get), with([](Message& m) { m.SetSize2(0); }));
  EXPECT_EQ(KeyOf(get), with([](Message& m) { m.SetEcho("e"); }));
  EXPECT_EQ(KeyOf(get), with([](Message& m) { m.AddETag("e"); }));
  EXPECT_EQ(KeyOf(get), with([](Message& m) { m.SetObserve(0); }));
  EXPECT_EQ(KeyOf(get), with([](Message& m) { m.SetNoResponse(2); }));
  EXPECT_EQ(KeyOf(get), with([](Message& m) { m.SetHopLimit(2); }));
  EXPECT_EQ(KeyOf(get), with([](Message& m) { m.SetPayload("p"); }));
  EXPECT_NE(KeyOf(Message(Code::kFetch, "p")), KeyOf(Message(Code::kFetch, "q")));
}

TEST(CacheKey, JoinsBlocks) {
  const auto key = [](const Message& m) { return KeyOf(m, CacheKeyFor::kBlocks); };
  const Message first = Message(Code::kFetch, "one").SetBlock1({0, true, 6}).SetSize1(9);
  EXPECT_EQ(key(first), key(Message(Code::kFetch, "two").SetBlock1({1, false, 6})));
  EXPECT_NE(key(first), key(Message(first).SetRequestTag("t")));
  EXPECT_NE(key(first), key(Message(first).SetContentFormat(ContentFormat::kCbor)));
}

// RFC 7252 section 5.10.8.
TEST(Preconditions, Hold) {
  const auto hold = [](const Message& request, std::optional<std::string_view> current) {
    return PreconditionsHold(request.options(), current);
  };
  const Message none(Code::kPut);
  EXPECT_TRUE(hold(none, std::nullopt));
  EXPECT_TRUE(hold(none, "e"));
  const Message if_match = Message(Code::kPut).AddIfMatch("a").AddIfMatch("b");
  EXPECT_TRUE(hold(if_match, "a"));
  EXPECT_TRUE(hold(if_match, "b"));
  EXPECT_FALSE(hold(if_match, "c"));
  EXPECT_FALSE(hold(if_match, ""));
  EXPECT_FALSE(hold(if_match, std::nullopt));
  const Message exists = Message(Code::kPut).AddIfMatch("");
  EXPECT_TRUE(hold(exists, "c"));
  EXPECT_TRUE(hold(exists, ""));
  EXPECT_FALSE(hold(exists, std::nullopt));
  const Message if_none = Message(Code::kPut).SetIfNoneMatch();
  EXPECT_TRUE(hold(if_none, std::nullopt));
  EXPECT_FALSE(hold(if_none, ""));
  const Message both = Message(Code::kPut).SetIfNoneMatch().AddIfMatch("");
  EXPECT_FALSE(hold(both, std::nullopt));
  EXPECT_FALSE(hold(both, "a"));
}

TEST(Preconditions, KnowWhatTheClientHas) {
  const Message request = Message(Code::kGet).AddETag("a").AddETag("b");
  EXPECT_TRUE(HasCurrent(request.options(), "b"));
  EXPECT_FALSE(HasCurrent(request.options(), "c"));
  EXPECT_FALSE(HasCurrent(request.options(), ""));
}

// RFC 7641 section 3.4.
TEST(ObserveOrder, GoesRound) {
  const TimePoint now{};
  EXPECT_TRUE(IsFresher(2, now, 1, now));
  EXPECT_FALSE(IsFresher(1, now, 2, now));
  EXPECT_FALSE(IsFresher(1, now, 1, now));
  EXPECT_TRUE(IsFresher(0, now, 0xffffff, now));
  EXPECT_FALSE(IsFresher(0xffffff, now, 0, now));
  EXPECT_TRUE(IsFresher((1u << 23) - 1, now, 0, now));
  EXPECT_FALSE(IsFresher(1u << 23, now, 0, now));
  EXPECT_FALSE(IsFresher(0, now, 1u << 23, now));
  EXPECT_TRUE(IsFresher(0, now, (1u << 23) + 1, now));
  EXPECT_FALSE(IsFresher(1, now + seconds(128), 2, now));
  EXPECT_TRUE(IsFresher(1, now + seconds(128) + milliseconds(1), 2, now));
}

TEST(ObserveOrder, DropsTheOld) {
  ObserveOrder order;
  const TimePoint now{};
  EXPECT_TRUE(order.Accept(10, now));
  EXPECT_FALSE(order.Accept(10, now));
  EXPECT_FALSE(order.Accept(9, now));
  EXPECT_TRUE(order.Accept(12, now));
  EXPECT_FALSE(order.Accept(11, now));
  EXPECT_TRUE(order.Accept(3, now + seconds(129)));
  order.Reset();
  EXPECT_TRUE(order.Accept(1, now));
}

}  // namespace
}  // namespace waxvm::coap
