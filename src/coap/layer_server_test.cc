// SPDX-License-Identifier: Apache-2.0
// The side that is asked: deduplication, acknowledgements, separate responses, groups, challenges.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/coap/layer_for_test.h"

namespace waxvm::coap {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

const SocketAddress kPeer = TestAddress(2);
const SocketAddress kOther = TestAddress(3);

class LayerServerTest : public testing::Test {
 protected:
  void Answer(LayerBench& bench, const std::string& payload, Code code = Code::kContent) {
    bench.handler.on_request = [&bench, payload, code](const Turn& turn,
                                                       const IncomingRequest& request) {
      const std::string body = payload.empty() ? "" : "\xff" + payload;
      EXPECT_TRUE(bench.layer()
                      .Respond(turn, request.exchange, {.code = code, .body = ToBytes(body)})
                      .ok());
    };
  }
  static void ExpectIdle(LayerBench& bench) {
    EXPECT_EQ(bench.layer().usage().outgoing, 0u);
    EXPECT_EQ(bench.layer().usage().deferred, 0u);
  }
};

TEST_F(LayerServerTest, DuplicatesGetTheSameAnswerAndTheHandlerRunsOnce) {
  LayerBench bench;
  Answer(bench, "on");
  // The sequence under which libcoap 4.3.1 runs the handler five times.
  for (const std::uint16_t id : std::initializer_list<std::uint16_t>{1, 1, 2, 1, 2})
    bench.Receive(kPeer, {.id = id, .token = "t"});
  EXPECT_THAT(Describe(bench.TakeSent()),
              ElementsAre("ACK 2.05 1 t 'on'", "ACK 2.05 1 t 'on'", "ACK 2.05 2 t 'on'",
                          "ACK 2.05 1 t 'on'", "ACK 2.05 2 t 'on'"));
  EXPECT_EQ(bench.handler.requests, 2u);
  EXPECT_EQ(bench.statistics().duplicates, 3u);
  EXPECT_EQ(bench.statistics().duplicates_replayed, 3u);
}

TEST_F(LayerServerTest, TheSameIdFromAnotherPeerIsAnotherMessage) {
  LayerBench bench;
  Answer(bench, "on");
  SocketAddress port = kPeer;
  port.port = 1;
  SocketAddress zone = kPeer;
  zone.zone = 3;
  for (const SocketAddress& peer : {kPeer, kOther, port, zone}) bench.Receive(peer, {.id = 1});
  EXPECT_EQ(bench.handler.requests, 4u);
}

TEST_F(LayerServerTest, AMessageIsForgottenAfterItsLifetime) {
  LayerBench bench;
  Answer(bench, "");
  bench.Receive(kPeer, {.id = 1});
  bench.Receive(kPeer, {.type = Type::kNon, .id = 2});
  bench.Wait(seconds(144));
  bench.Receive(kPeer, {.id = 1});
  bench.Receive(kPeer, {.type = Type::kNon, .id = 2});
  EXPECT_EQ(bench.handler.requests, 2u);
  bench.Wait(seconds(2));
  bench.Receive(kPeer, {.type = Type::kNon, .id = 2});
  EXPECT_EQ(bench.handler.requests, 3u);
  bench.Wait(seconds(100));
  bench.Receive(kPeer, {.id = 1});
  EXPECT_EQ(bench.handler.requests, 3u);
  bench.Wait(seconds(2));
  bench.Receive(kPeer, {.id = 1});
  EXPECT_EQ(bench.handler.requests, 4u);
  EXPECT_EQ(bench.statistics().early_evictions, 0u);
}

TEST_F(LayerServerTest, LongResponsesAreReplayedWhole) {
  LayerBench bench({.amplification_limit = 0});
  std::string payload;
  for (int i = 0; i < 1000; ++i) payload += static_cast<char>('a' + i % 23);
  Answer(bench, payload);
  bench.Receive(kPeer, {.id = 1, .token = "12345678"});
  bench.Receive(kPeer, {.id = 1, .token = "12345678"});
  const std::vector<Packet> sent = bench.TakeSent();
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_EQ(sent[0].bytes, sent[1].bytes);
  EXPECT_EQ(Describe(sent[0]), "ACK 2.05 1 12345678 '" + payload + "'");
  EXPECT_GT(bench.layer().usage().blocks, 0u);
}

TEST_F(LayerServerTest, ANonConfirmableRequestIsAnsweredOnceWithAnIdOfThisSide) {
  LayerBench bench;
  Answer(bench, "on");
  bench.Receive(kPeer, {.type = Type::kNon, .id = 1, .token = "t"});
  bench.Receive(kPeer, {.type = Type::kNon, .id = 1, .token = "t"});
  const std::vector<Packet> sent = bench.TakeSent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_THAT(Describe(sent[0]), testing::MatchesRegex("NON 2.05 [0-9]+ t 'on'"));
  EXPECT_EQ(bench.handler.requests, 1u);
}

TEST_F(LayerServerTest, ASlowHandlerGetsAnAcknowledgementAndASeparateResponse) {
  LayerBench bench;
  bench.Receive(kPeer, {.id = 9, .token = "t"});
  bench.Wait(milliseconds(300));
  bench.Receive(kPeer, {.id = 9, .token = "t"});
  EXPECT_THAT(bench.TakeSent(), IsEmpty());
  bench.Wait(milliseconds(300));
  EXPECT_THAT(Describe(bench.TakeSent()), ElementsAre("ACK 0.00 9"));
  bench.Receive(kPeer, {.id = 9, .token = "t"});
  EXPECT_THAT(Describe(bench.TakeSent()), ElementsAre("ACK 0.00 9"));
  ASSERT_TRUE(bench.layer().Respond(bench.At(), bench.handler.last_exchange, {}).ok());
  const std::vector<Packet> sent = bench.TakeSent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_THAT(Describe(sent[0]), testing::MatchesRegex("CON 2.05 [0-9]+ t"));
  // Not acknowledged: sent again; a duplicate of the request is acknowledged as before.
  bench.Wait(seconds(4));
  EXPECT_EQ(bench.TakeSent().at(0).bytes, sent[0].bytes);
  bench.Receive(kPeer, {.id = 9, .token = "t"});
  EXPECT_THAT(Describe(bench.TakeSent()), ElementsAre("ACK 0.00 9"));
  bench.Receive(
      kPeer,
      {.type = Type::kAck, .code = Code::kEmpty, .id = MessageView::Parse(sent[0].bytes).id()});
  bench.Wait(seconds(100));
  EXPECT_THAT(bench.TakeSent(), IsEmpty());
  EXPECT_EQ(bench.handler.requests, 1u);
  EXPECT_EQ(bench.layer().Respond(bench.At(), bench.handler.last_exchange, {}).code(),
            absl::StatusCode::kNotFound);
  ExpectIdle(bench);
}

TEST_F(LayerServerTest, AnAnswerBeforeTheAcknowledgementGoesWithIt) {
  LayerBench bench;
  bench.Receive(kPeer, {.id = 9, .token = "t"});
  bench.Wait(milliseconds(300));
  ASSERT_TRUE(bench.layer().Respond(bench.At(), bench.handler.last_exchange, {}).ok());
  EXPECT_THAT(Describe(bench.TakeSent()), ElementsAre("ACK 2.05 9 t"));
  bench.Wait(seconds(100));
  EXPECT_THAT(bench.TakeSent(), IsEmpty());
  ExpectIdle(bench);
}

TEST_F(LayerServerTest, ResetOfASeparateResponseEndsIt) {
  LayerBench bench({.ack_delay = milliseconds(0)});
  bench.Receive(kPeer, {.id = 9, .token = "t"});
  bench.Wait(milliseconds(5));
  ASSERT_TRUE(bench.layer().Respond(bench.At(), bench.handler.last_exchange, {}).ok());
  const std::vector<Packet> sent = bench.TakeSent();
  ASSERT_EQ(sent.size(), 2u);
  bench.Receive(
      kPeer,
      {.type = Type::kRst, .code = Code::kEmpty, .id = MessageView::Parse(sent[1].bytes).id()});
  bench.Wait(seconds(100));
  EXPECT_THAT(bench.TakeSent(), IsEmpty());
  EXPECT_THAT(bench.handler.TakeEvents(), IsEmpty());
  ExpectIdle(bench);
}

TEST_F(LayerServerTest, IgnoringAcknowledgesOrResets) {
  LayerBench bench;
  for (const bool reset : {false, true}) {
    bench.handler.on_request = [&bench, reset](const Turn& turn, const IncomingRequest& request) {
      EXPECT_TRUE(bench.layer().Ignore(turn, request.exchange, reset).ok());
    };
    const std::uint16_t id = reset ? 2 : 1;
    bench.Receive(kPeer, {.id = id});
    bench.Receive(kPeer, {.id = id});
    const std::string line = reset ? "RST 0.00 2" : "ACK 0.00 1";
    EXPECT_THAT(Describe(bench.TakeSent()), ElementsAre(line, line));
  }
  bench.Receive(kPeer, {.type = Type::kNon, .id = 3});
  EXPECT_THAT(bench.TakeSent(), IsEmpty());
}

TEST_F(LayerServerTest, PingsAndWhatCannotBeProcessedAreReset) {
  LayerBench bench;
  const auto raw = [&](std::initializer_list<int> bytes, bool multicast = false) {
    std::vector<std::byte> datagram;
    for (const int byte : bytes) datagram.push_back(static_cast<std::byte>(byte));
    bench.layer().Receive(bench.At(), {datagram, kPeer, multicast});
    return Describe(bench.TakeSent());
  };
  EXPECT_THAT(raw({0x40, 0, 0, 5}), ElementsAre("RST 0.00 5"));        // ping
  EXPECT_THAT(raw({0x40, 0x20, 0, 6}), ElementsAre("RST 0.00 6"));     // reserved class 1
  EXPECT_THAT(raw({0x40, 0xe1, 0, 7}), ElementsAre("RST 0.00 7"));     // reserved class 7
  EXPECT_THAT(raw({0x4f, 1, 0, 8}), ElementsAre("RST 0.00 8"));        // token length 15
  EXPECT_THAT(raw({0x40, 1, 0, 9, 0xff}), ElementsAre("RST 0.00 9"));  // marker, no payload
  EXPECT_THAT(raw({0x40, 0, 0, 10, 1}), ElementsAre("RST 0.00 10"));   // empty, but not
  EXPECT_THAT(raw({0x50, 1, 0, 9, 0xff}), IsEmpty());
  EXPECT_THAT(raw({0x50, 0, 0, 5}), IsEmpty());
  EXPECT_THAT(raw({0x80, 1, 0, 5}), IsEmpty());  // version 2
  EXPECT_THAT(raw({0x40, 1}), IsEmpty());
  EXPECT_THAT(raw({}), IsEmpty());
  EXPECT_THAT(raw({0x40, 0, 0, 5}, true), IsEmpty());
  EXPECT_THAT(raw({0x40, 0x20, 0, 6}, true), IsEmpty());
  EXPECT_THAT(raw({0x40, 1, 0, 6}, true), IsEmpty());
  EXPECT_THAT(raw({0x60, 0x45, 0, 6}), IsEmpty());  // acknowledges nothing
  EXPECT_THAT(raw({0x70, 0, 0, 6}), IsEmpty());
  EXPECT_EQ(bench.handler.requests, 0u);
  EXPECT_EQ(bench.layer().usage().peers, 0u);  // none of it is remembered
  EXPECT_EQ(bench.statistics().unmatched_acks, 1u);
  EXPECT_EQ(bench.statistics().unmatched_resets, 1u);
}

TEST_F(LayerServerTest, TokensAboveTheLimitGet400WithTheirToken) {
  LayerBench bench({}, {.token_bytes = 20});
  Answer(bench, "on");
  bench.Receive(kPeer, {.id = 1, .token = std::string(20, 'k')});
  bench.Receive(kPeer, {.id = 2, .token = std::string(21, 'l')});
  EXPECT_THAT(Describe(bench.TakeSent()),
              ElementsAre("ACK 2.05 1 " + std::string(20, 'k') + " 'on'",
                          "ACK 4.00 2 " + std::string(21, 'l')));
  EXPECT_EQ(bench.handler.requests, 1u);
}

TEST_F(LayerServerTest, NoResponseIsHonoured) {
  LayerBench bench;
  Answer(bench, "on");
  bench.Receive(kPeer, {.type = Type::kNon, .id = 1, .no_response = 2});
  bench.Receive(kPeer, {.type = Type::kNon, .id = 2, .no_response = 26});
  EXPECT_THAT(bench.TakeSent(), IsEmpty());
  bench.Receive(kPeer, {.id = 3, .no_response = 2});
  EXPECT_THAT(Describe(bench.TakeSent()), ElementsAre("ACK 0.00 3"));
  bench.Receive(kPeer, {.id = 4, .no_response = 24});
  EXPECT_THAT(Describe(bench.TakeSent()), ElementsAre("ACK 2.05 4 'on'"));
  Answer(bench, "", Code::kNotFound);
  bench.Receive(kPeer, {.id = 5, .no_response = 2});
  EXPECT_THAT(Describe(bench.TakeSent()), ElementsAre("ACK 4.04 5"));
  bench.Receive(kPeer, {.id = 6, .no_response = 8});
  EXPECT_THAT(Describe(bench.TakeSent()), ElementsAre("ACK 0.00 6"));
  Answer(bench, "", Code::kInternalServerError);
  bench.Receive(kPeer, {.id = 7, .no_response = 16});
  EXPECT_THAT(Describe(bench.TakeSent()), ElementsAre("ACK 0.00 7"));
  EXPECT_EQ(bench.statistics().suppressed, 5u);
}

TEST_F(LayerServerTest, GroupsAreAnsweredWithinTheLeisureAndNotWithErrors) {
  LayerBench bench({.default_leisure = seconds(4)});
  Answer(bench, "me");
  std::vector<Time> times;
  for (std::uint16_t id = 0; id < 50; ++id)
    bench.Receive(TestAddress(100u + id), {.type = Type::kNon, .id = id, .token = "t"}, true);
  EXPECT_THAT(bench.TakeSent(), IsEmpty());
  bench.Wait(milliseconds(1500));
  const std::size_t early = bench.TakeSent().size();
  EXPECT_GT(early, 5u);
  EXPECT_LT(early, 35u);
  bench.Wait(milliseconds(2600));
  EXPECT_EQ(early + bench.TakeSent().size(), 50u);
  Answer(bench, "", Code::kNotFound);
  bench.Receive(kPeer, {.type = Type::kNon, .id = 99, .token = "t"}, true);
  bench.Wait(seconds(10));
  EXPECT_THAT(bench.TakeSent(), IsEmpty());
  ExpectIdle(bench);
}

TEST_F(LayerServerTest, AnUnverifiedPeerGetsThreeTimesWhatItSentAndAChallenge) {
  LayerBench bench;
  Answer(bench, std::string(200, 'x'));
  bench.Receive(kPeer, {.id = 1, .token = "tokn"});
  EXPECT_FALSE(bench.handler.last_verified);
  EXPECT_EQ(bench.handler.last_limit, 24u - 8u);
  const std::vector<Packet> sent = bench.TakeSent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(Describe(sent[0]), "ACK 4.01 1 tokn");
  EXPECT_LE(sent[0].bytes.size(), 24u);
  const MessageView challenge = MessageView::Parse(sent[0].bytes);
  const std::string echo(challenge.Find(OptionNumber::kEcho).value().text());

  // From another address it is worth nothing, nor changed, nor late.
  bench.Receive(kOther, {.id = 1, .token = "tokn", .echo = echo});
  EXPECT_FALSE(bench.handler.last_verified);
  for (std::size_t i = 0; i < echo.size(); ++i) {
    std::string changed = echo;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    bench.Receive(kPeer, {.id = static_cast<std::uint16_t>(10 + i), .echo = changed});
    EXPECT_FALSE(bench.layer().IsVerified(kPeer)) << i;
  }
  EXPECT_EQ(bench.statistics().echo_refused, 1u + echo.size());
  bench.TakeSent();
  bench.Wait(seconds(100));
  bench.Receive(kPeer, {.id = 2, .token = "tokn", .echo = echo});
  EXPECT_TRUE(bench.handler.last_verified);
  EXPECT_EQ(Describe(bench.TakeSent()).at(0), "ACK 2.05 2 tokn '" + std::string(200, 'x') + "'");
  EXPECT_TRUE(bench.layer().IsVerified(kPeer));
  bench.Wait(seconds(100));
  bench.Receive(kOther, {.id = 3, .echo = echo});
  EXPECT_FALSE(bench.layer().IsVerified(kOther));
}

TEST_F(LayerServerTest, AnOldEchoIsRefused) {
  LayerBench bench({.echo_lifetime = seconds(60)});
  Answer(bench, std::string(200, 'x'));
  bench.Receive(kPeer, {.id = 1, .token = "tokn"});
  const std::string echo(
      MessageView::Parse(bench.TakeSent().at(0).bytes).Find(OptionNumber::kEcho).value().text());
  bench.Wait(seconds(65));
  bench.Receive(kPeer, {.id = 2, .echo = echo});
  EXPECT_FALSE(bench.layer().IsVerified(kPeer));
  EXPECT_EQ(bench.statistics().echo_refused, 1u);
}

TEST_F(LayerServerTest, TheLimitHoldsOverAnySequenceOfAVictim) {
  // Whatever is asked in the name of a victim, it never gets more than three times the bytes.
  for (const bool echo : {false, true}) {
    LayerBench bench({.nstart = 8, .ack_delay = milliseconds(10), .echo = echo});
    std::mt19937_64 random(7);
    std::size_t in = 0;
    std::size_t out = 0;
    std::vector<ExchangeId> open;
    bench.handler.on_request = [&](const Turn& turn, const IncomingRequest& request) {
      const std::string body = "\xff" + std::string(random() % 900 + 1, 'y');
      switch (random() % 3) {
        case 0:
          return open.push_back(request.exchange);
        case 1:
          return static_cast<void>(
              bench.layer().Respond(turn, request.exchange, {.body = ToBytes(body)}));
        default:
          static_cast<void>(bench.layer().Send(
              turn, kPeer, {.confirmable = random() % 2 == 0, .body = ToBytes(body)}));
          static_cast<void>(bench.layer().Ignore(turn, request.exchange, random() % 2 == 0));
      }
    };
    for (int i = 0; i < 4000; ++i) {
      Written written = {.type = random() % 2 == 0 ? Type::kCon : Type::kNon,
                         .id = static_cast<std::uint16_t>(random() % 300),
                         .token = std::string(random() % 9, 't'),
                         .payload = std::string(random() % 40, 'p')};
      in += written.Bytes().size();
      bench.Receive(kPeer, written);
      if (!open.empty() && random() % 2 == 0) {
        const std::string body = "\xff" + std::string(random() % 900 + 1, 'z');
        static_cast<void>(bench.layer().Respond(bench.At(), open.back(), {.body = ToBytes(body)}));
        open.pop_back();
      }
      bench.Wait(milliseconds(random() % 400));
      for (const Packet& packet : bench.TakeSent()) out += packet.bytes.size();
      ASSERT_LE(out, 3 * in) << i;
    }
    EXPECT_GT(out, in);
    EXPECT_GT(bench.statistics().over_amplification, 100u);
  }
}

TEST_F(LayerServerTest, NotificationsReportResetAndLeaveNoSlots) {
  LayerBench bench({.amplification_limit = 0});
  const auto note = bench.layer().Send(bench.At(), kPeer, {.token = ToBytes("ob"), .cookie = 5});
  ASSERT_TRUE(note.ok());
  const std::uint16_t id = MessageView::Parse(bench.TakeSent().at(0).bytes).id();
  // Not the peer's: nothing happens.
  bench.Receive(kOther, {.type = Type::kRst, .code = Code::kEmpty, .id = id});
  EXPECT_THAT(bench.handler.TakeEvents(), IsEmpty());
  bench.Receive(kPeer, {.type = Type::kRst, .code = Code::kEmpty, .id = id});
  EXPECT_THAT(bench.handler.TakeEvents(), ElementsAre("ended 5 reset"));
  for (int i = 0; i < 20; ++i)
    ASSERT_TRUE(bench.layer().Send(bench.At(), kPeer, {.token = ToBytes("ob")}).ok());
  EXPECT_EQ(bench.layer().usage().outgoing, 4u);  // the last few can still be reset
  const auto acked = bench.layer().Send(bench.At(), kPeer,
                                        {.confirmable = true, .token = ToBytes("ob"), .cookie = 6});
  ASSERT_TRUE(acked.ok());
  bench.Receive(kPeer, {.type = Type::kAck,
                        .code = Code::kEmpty,
                        .id = MessageView::Parse(bench.TakeSent().back().bytes).id()});
  EXPECT_THAT(bench.handler.TakeEvents(), ElementsAre("ended 6"));
  ASSERT_TRUE(bench.layer().Send(bench.At(), kPeer, {.confirmable = true, .cookie = 7}).ok());
  bench.Wait(seconds(200));
  EXPECT_THAT(bench.handler.TakeEvents(), ElementsAre("ended 7 timeout"));
  ExpectIdle(bench);
}

}  // namespace
}  // namespace waxvm::coap
