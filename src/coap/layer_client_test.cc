// SPDX-License-Identifier: Apache-2.0
// The side that asks: matching, retransmission, queues, observation, back-off, message ids.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "src/coap/layer_for_test.h"

namespace waxvm::coap {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

const SocketAddress kPeer = TestAddress(2);
const SocketAddress kOther = TestAddress(3);

std::uint16_t IdOf(const Packet& packet) { return MessageView::Parse(packet.bytes).id(); }
std::string TokenOf(const Packet& packet) {
  return std::string(ToText(MessageView::Parse(packet.bytes).token()));
}
Written Ack(std::uint16_t id) { return {.type = Type::kAck, .code = Code::kEmpty, .id = id}; }
Written Reset(std::uint16_t id) { return {.type = Type::kRst, .code = Code::kEmpty, .id = id}; }
Written Content(Type type, std::uint16_t id, const std::string& token) {
  return {.type = type, .code = Code::kContent, .id = id, .token = token};
}

class LayerClientTest : public testing::Test {
 protected:
  static OutgoingId Ask(LayerBench& bench, const RequestSpec& spec,
                        const SocketAddress& peer = kPeer) {
    const auto id = bench.layer().Request(bench.At(), peer, spec);
    EXPECT_TRUE(id.ok()) << id.status();
    return id.ok() ? *id : OutgoingId();
  }
  static void ExpectIdle(LayerBench& bench) {
    EXPECT_EQ(bench.layer().usage().outgoing, 0u);
    EXPECT_EQ(bench.layer().NextTimer(), Time::max());
  }
};

TEST_F(LayerClientTest, APiggybackedResponseMatchesByIdAndTokenAndPeer) {
  LayerBench bench;
  Ask(bench, {.cookie = 7});
  const Packet request = bench.TakeSent().at(0);
  const std::uint16_t id = IdOf(request);
  const std::string token = TokenOf(request);
  EXPECT_EQ(token.size(), 8u);
  bench.Receive(kOther, Content(Type::kAck, id, token));
  bench.Receive(kPeer, Content(Type::kAck, static_cast<std::uint16_t>(id + 1), token));
  for (std::size_t i = 0; i < token.size(); ++i) {
    std::string wrong = token;
    wrong[i] = static_cast<char>(wrong[i] ^ 1);
    bench.Receive(kPeer, Content(Type::kAck, id, wrong));
  }
  bench.Receive(kPeer, Content(Type::kAck, id, ""));
  bench.Receive(kOther, Ack(id));
  bench.Receive(kOther, Reset(id));
  bench.Receive(kPeer, Reset(static_cast<std::uint16_t>(id + 1)));
  EXPECT_THAT(bench.handler.events, IsEmpty());
  EXPECT_EQ(bench.statistics().unmatched_acks, 12u);
  EXPECT_EQ(bench.statistics().unmatched_resets, 2u);
  bench.Receive(kPeer, Content(Type::kAck, id, token));
  bench.Receive(kPeer, Content(Type::kAck, id, token));
  EXPECT_THAT(bench.handler.events, ElementsAre("response 7 2.05"));
  EXPECT_TRUE(bench.layer().IsVerified(kPeer));
  EXPECT_THAT(bench.TakeSent(), IsEmpty());
  ExpectIdle(bench);
}

TEST_F(LayerClientTest, RetransmissionBacksOffExponentiallyWithJitter) {
  std::set<std::int64_t> first_delays;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    LayerBench bench({}, {}, seed);
    Ask(bench, {.cookie = 1});
    const Time start = bench.now;
    const std::vector<std::byte> first = bench.TakeSent().at(0).bytes;
    std::vector<double> at;
    while (bench.handler.events.empty()) {
      bench.now = bench.layer().NextTimer();
      bench.layer().Expire(bench.At());
      for (const Packet& packet : bench.TakeSent()) {
        EXPECT_EQ(packet.bytes, first);
        at.push_back(std::chrono::duration<double>(bench.now - start).count());
      }
    }
    ASSERT_EQ(at.size(), 4u);
    EXPECT_GE(at[0], 2.0);
    EXPECT_LE(at[0], 3.01);
    for (int i = 1; i < 4; ++i) EXPECT_NEAR(at[i], at[0] * ((2 << i) - 1), 0.01 * (2 << i));
    // Given up after MAX_TRANSMIT_WAIT with this jitter.
    EXPECT_NEAR(std::chrono::duration<double>(bench.now - start).count(), at[0] * 31, 0.2);
    EXPECT_THAT(bench.handler.events, ElementsAre("failed 1 timeout"));
    EXPECT_EQ(bench.statistics().retransmissions, 4u);
    first_delays.insert(static_cast<std::int64_t>(at[0] * 1000));
    ExpectIdle(bench);
  }
  EXPECT_GT(first_delays.size(), 30u);
}

TEST_F(LayerClientTest, AnAcknowledgementStopsRetransmissionAndTheResponseComesLater) {
  LayerBench bench;
  Ask(bench, {.cookie = 1});
  const Packet request = bench.TakeSent().at(0);
  bench.Receive(kPeer, Ack(IdOf(request)));
  bench.Wait(seconds(50));
  EXPECT_THAT(bench.TakeSent(), IsEmpty());
  // After the acknowledgement a reset has nothing to end.
  bench.Receive(kPeer, Reset(IdOf(request)));
  bench.Receive(kPeer, Content(Type::kCon, 77, TokenOf(request)));
  EXPECT_THAT(bench.handler.TakeEvents(), ElementsAre("response 1 2.05"));
  EXPECT_THAT(Describe(bench.TakeSent()), ElementsAre("ACK 0.00 77"));
  // Its duplicate is acknowledged and not told again; another one is rejected.
  bench.Receive(kPeer, Content(Type::kCon, 77, TokenOf(request)));
  bench.Receive(kPeer, Content(Type::kCon, 78, TokenOf(request)));
  EXPECT_THAT(Describe(bench.TakeSent()), ElementsAre("ACK 0.00 77", "RST 0.00 78"));
  EXPECT_THAT(bench.handler.events, IsEmpty());
  ExpectIdle(bench);
}

TEST_F(LayerClientTest, AnAcknowledgedRequestWithoutResponseTimesOut) {
  LayerBench bench;
  Ask(bench, {.cookie = 1, .timeout = seconds(20)});
  bench.Receive(kPeer, Ack(IdOf(bench.TakeSent().at(0))));
  bench.Wait(milliseconds(19'900));
  EXPECT_THAT(bench.handler.events, IsEmpty());
  bench.Wait(milliseconds(200));
  EXPECT_THAT(bench.handler.events, ElementsAre("failed 1 timeout"));
  ExpectIdle(bench);
}

TEST_F(LayerClientTest, AResponseBeforeTheAcknowledgementEndsRetransmission) {
  LayerBench bench;
  Ask(bench, {.cookie = 1});
  const Packet request = bench.TakeSent().at(0);
  bench.Receive(kPeer, Content(Type::kNon, 5, TokenOf(request)));
  bench.Receive(kPeer, Ack(IdOf(request)));
  bench.Receive(kPeer, Content(Type::kNon, 5, TokenOf(request)));
  bench.Wait(seconds(100));
  EXPECT_THAT(bench.handler.events, ElementsAre("response 1 2.05"));
  EXPECT_THAT(bench.TakeSent(), IsEmpty());
  ExpectIdle(bench);
}

TEST_F(LayerClientTest, AResetEndsARequest) {
  for (const bool confirmable : {false, true}) {
    LayerBench bench;
    Ask(bench, {.confirmable = confirmable, .cookie = 1});
    bench.Receive(kPeer, Reset(IdOf(bench.TakeSent().at(0))));
    EXPECT_THAT(bench.handler.events, ElementsAre("failed 1 reset"));
    ExpectIdle(bench);
  }
}

TEST_F(LayerClientTest, NstartBoundsWhatIsOutstandingAndTheRestWaitsInOrder) {
  LayerBench bench({.nstart = 2});
  for (std::uint64_t cookie = 1; cookie <= 5; ++cookie) Ask(bench, {.cookie = cookie});
  Ask(bench, {.cookie = 6}, kOther);  // another peer's
  std::vector<Packet> sent = bench.TakeSent();
  ASSERT_EQ(sent.size(), 3u);
  bench.Receive(kPeer, Ack(IdOf(sent[1])));  // answered or acknowledged: not outstanding
  std::vector<Packet> next = bench.TakeSent();
  ASSERT_EQ(next.size(), 1u);
  bench.Receive(kPeer, Content(Type::kAck, IdOf(sent[0]), TokenOf(sent[0])));
  bench.Receive(kPeer, Content(Type::kAck, IdOf(next[0]), TokenOf(next[0])));
  next = bench.TakeSent();
  ASSERT_EQ(next.size(), 2u);
  for (const Packet& packet : next)
    bench.Receive(kPeer, Content(Type::kAck, IdOf(packet), TokenOf(packet)));
  EXPECT_THAT(bench.handler.events, ElementsAre("response 1 2.05", "response 3 2.05",
                                                "response 4 2.05", "response 5 2.05"));
  EXPECT_EQ(bench.statistics().queued, 3u);
}

TEST_F(LayerClientTest, ACancelledRequestIsForgottenWhereverItIs) {
  LayerBench bench;
  std::vector<OutgoingId> ids;
  for (std::uint64_t cookie = 1; cookie <= 4; ++cookie)
    ids.push_back(Ask(bench, {.cookie = cookie}));
  EXPECT_TRUE(bench.layer().Cancel(bench.At(), ids[2]));
  EXPECT_FALSE(bench.layer().Cancel(bench.At(), ids[2]));
  EXPECT_EQ(bench.TakeSent().size(), 1u);
  EXPECT_TRUE(bench.layer().Cancel(bench.At(), ids[0]));
  const std::vector<Packet> second = bench.TakeSent();
  ASSERT_EQ(second.size(), 1u);
  EXPECT_TRUE(bench.layer().Cancel(bench.At(), ids[3]));
  bench.Receive(kPeer, Content(Type::kAck, IdOf(second[0]), TokenOf(second[0])));
  EXPECT_THAT(bench.handler.events, ElementsAre("response 2 2.05"));
  // A slot that is used again has another id and another token.
  Ask(bench, {.cookie = 5});
  for (const OutgoingId id : ids) EXPECT_FALSE(bench.layer().Cancel(bench.At(), id));
  bench.Receive(kPeer, Content(Type::kNon, 1, TokenOf(second[0])));
  EXPECT_EQ(bench.handler.events.size(), 1u);
}

TEST_F(LayerClientTest, AnObservationGoesOnUntilItIsCancelled) {
  LayerBench bench;
  const OutgoingId id = Ask(bench, {.cookie = 3, .observe = true});
  const Packet request = bench.TakeSent().at(0);
  Written note = Content(Type::kAck, IdOf(request), TokenOf(request));
  note.observe = 1;
  bench.Receive(kPeer, note);
  EXPECT_THAT(bench.handler.TakeEvents(), ElementsAre("response 3 2.05 more"));
  bench.Wait(seconds(3600));
  for (std::uint16_t n = 1; n <= 20; ++n) {
    note.type = n % 2 == 0 ? Type::kCon : Type::kNon;
    note.id = n;
    note.observe = n + 1;
    bench.Receive(kPeer, note);
    bench.Receive(kPeer, note);   // a duplicate
    bench.Receive(kOther, note);  // forged
    EXPECT_THAT(bench.handler.TakeEvents(), ElementsAre("response 3 2.05 more")) << n;
    const std::string ack = "ACK 0.00 " + std::to_string(n);
    const std::string reset = "RST 0.00 " + std::to_string(n);
    if (n % 2 == 0)
      EXPECT_THAT(Describe(bench.TakeSent()), ElementsAre(ack, ack, reset));
    else
      EXPECT_THAT(Describe(bench.TakeSent()), ElementsAre(reset));
  }
  EXPECT_EQ(bench.layer().usage().outgoing, 1u);
  EXPECT_TRUE(bench.layer().Cancel(bench.At(), id));
  note.type = Type::kNon;
  note.id = 100;
  bench.Receive(kPeer, note);
  EXPECT_THAT(Describe(bench.TakeSent()), ElementsAre("RST 0.00 100"));
  EXPECT_THAT(bench.handler.events, IsEmpty());
  ExpectIdle(bench);
}

TEST_F(LayerClientTest, AnObservationEndsWithAnErrorOrWithoutTheOption) {
  for (const bool error : {false, true}) {
    LayerBench bench;
    Ask(bench, {.cookie = 3, .observe = true});
    const Packet request = bench.TakeSent().at(0);
    Written note = Content(Type::kAck, IdOf(request), TokenOf(request));
    note.observe = 1;
    bench.Receive(kPeer, note);
    note.type = Type::kNon;
    note.id = 4;
    if (error)
      note.code = Code::kNotFound;
    else
      note.observe = std::nullopt;
    bench.Receive(kPeer, note);
    EXPECT_EQ(bench.handler.events.size(), 2u);
    EXPECT_EQ(bench.handler.events.at(1), error ? "response 3 4.04" : "response 3 2.05");
    ExpectIdle(bench);
  }
}

TEST_F(LayerClientTest, AGroupAnswersWithManyVoices) {
  LayerBench bench;
  const auto group = SocketAddress::Parse("[ff18::1]:5683").value();
  EXPECT_FALSE(bench.layer().Request(bench.At(), group, {.confirmable = true}).ok());
  Ask(bench, {.confirmable = false, .cookie = 4, .timeout = seconds(10)}, group);
  Ask(bench, {.confirmable = false, .cookie = 5, .timeout = seconds(10)}, group);  // no nstart
  const std::vector<Packet> sent = bench.TakeSent();
  ASSERT_EQ(sent.size(), 2u);
  for (const std::uint32_t host : {2u, 3u, 4u, 3u})  // the second of 3 is a duplicate
    bench.Receive(TestAddress(host), Content(Type::kNon, 9, TokenOf(sent[0])));
  EXPECT_THAT(bench.handler.TakeEvents(),
              ElementsAre("response 4 2.05 more", "response 4 2.05 more", "response 4 2.05 more"));
  EXPECT_FALSE(bench.layer().IsVerified(kPeer));
  bench.Wait(seconds(11));
  EXPECT_THAT(bench.handler.TakeEvents(),
              testing::UnorderedElementsAre("failed 4 timeout", "failed 5 timeout"));
  ExpectIdle(bench);
}

TEST_F(LayerClientTest, TooManyRequestsIsHonouredForItsMaxAge) {
  LayerBench bench;
  Ask(bench, {.cookie = 1});
  const Packet request = bench.TakeSent().at(0);
  bench.Receive(kPeer, {.type = Type::kAck,
                        .code = Code::kTooManyRequests,
                        .id = IdOf(request),
                        .token = TokenOf(request),
                        .max_age = 30});
  Ask(bench, {.cookie = 2});
  Ask(bench, {.cookie = 3}, kOther);
  EXPECT_EQ(bench.TakeSent().size(), 1u);
  bench.Wait(milliseconds(29'900));
  bench.TakeSent();
  EXPECT_EQ(bench.layer().usage().outgoing, 2u);
  bench.Wait(milliseconds(300));
  EXPECT_EQ(bench.TakeSent().size(), 1u);
  EXPECT_EQ(bench.statistics().back_offs, 1u);
}

TEST_F(LayerClientTest, ABackOffForEverIsCut) {
  LayerBench bench({.max_back_off = seconds(100)});
  Ask(bench, {.cookie = 1});
  const Packet request = bench.TakeSent().at(0);
  bench.Receive(kPeer, {.type = Type::kAck,
                        .code = Code::kTooManyRequests,
                        .id = IdOf(request),
                        .token = TokenOf(request),
                        .max_age = 0xffffffff});
  Ask(bench, {.cookie = 2});
  bench.Wait(milliseconds(100'200));
  EXPECT_EQ(bench.TakeSent().size(), 1u);
}

TEST_F(LayerClientTest, ASilentPeerIsProbedSlowly) {
  LayerBench bench({.nstart = 1000, .probing_rate = 10, .probing_burst_bytes = 100});
  const std::string body = "\xff" + std::string(37, 'x');  // 50 bytes each
  for (int i = 0; i < 10; ++i)
    Ask(bench, {.confirmable = false, .body = ToBytes(body), .no_response = true});
  EXPECT_EQ(bench.TakeSent().size(), 2u);
  std::size_t later = 0;
  for (int i = 0; i < 20; ++i) {
    bench.Wait(seconds(1));
    later += bench.TakeSent().size();
  }
  EXPECT_GE(later, 3u);  // 200 bytes in 20 s
  EXPECT_LE(later, 4u);
  // Once it is heard, nothing is held back.
  Ask(bench, {.cookie = 1});
  bench.Receive(kPeer, {.type = Type::kNon, .code = Code::kGet, .id = 1});
  bench.Wait(seconds(6));
  EXPECT_GE(bench.TakeSent().size(), 2u);
}

TEST_F(LayerClientTest, APingEndsInAReset) {
  LayerBench bench;
  ASSERT_TRUE(bench.layer().Ping(bench.At(), kPeer, 8).ok());
  const std::vector<Packet> sent = bench.TakeSent();
  EXPECT_THAT(Describe(sent), ElementsAre("CON 0.00 " + std::to_string(IdOf(sent.at(0)))));
  bench.Receive(kPeer, Reset(IdOf(sent[0])));
  EXPECT_THAT(bench.handler.events, ElementsAre("ended 8 reset"));
  ExpectIdle(bench);
}

TEST_F(LayerClientTest, WhatCannotBeSentIsRefused) {
  LayerBench bench({}, {.message_bytes = 100, .outgoing_per_peer = 3});
  const std::string body = "\xff" + std::string(88, 'x');
  EXPECT_EQ(bench.layer().Request(bench.At(), kPeer, {.body = ToBytes(body)}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(bench.layer().Request(bench.At(), kPeer, {.code = Code::kContent}).ok());
  EXPECT_FALSE(bench.layer().Send(bench.At(), kPeer, {.code = Code::kGet}).ok());
  for (int i = 0; i < 3; ++i) Ask(bench, {});
  EXPECT_EQ(bench.layer().Request(bench.At(), kPeer, {}).status().code(),
            absl::StatusCode::kResourceExhausted);
  Ask(bench, {}, kOther);
}

TEST_F(LayerClientTest, UnknownParametersAreRefused) {
  EXPECT_FALSE(MessageLayer::Create({.ack_timeout = seconds(0)}, {}, {}).ok());
  EXPECT_FALSE(MessageLayer::Create({.ack_random_factor = 0.5}, {}, {}).ok());
  EXPECT_FALSE(MessageLayer::Create({.nstart = 0}, {}, {}).ok());
  EXPECT_FALSE(MessageLayer::Create({}, {.peers = 0}, {}).ok());
  EXPECT_FALSE(MessageLayer::Create({}, {.outgoing = std::size_t{1} << 24}, {}).ok());
  EXPECT_FALSE(MessageLayer::Create({}, {.token_bytes = 33}, {}).ok());
}

/// Sends and answers as fast as can be; returns how many went out before it had to wait.
std::size_t SendUntilExhausted(LayerBench& bench, std::size_t most,
                               std::map<std::uint16_t, Time>& used, bool& reused) {
  std::size_t sent = 0;
  while (sent < most) {
    const auto id = bench.layer().Request(bench.At(), kPeer, {});
    const std::vector<Packet> packets = bench.TakeSent();
    if (!id.ok() || packets.empty()) break;
    const std::uint16_t message_id = IdOf(packets[0]);
    const auto found = used.find(message_id);
    if (found != used.end() && bench.now - found->second < seconds(247)) reused = true;
    used[message_id] = bench.now;
    bench.Receive(kPeer, Content(Type::kAck, message_id, TokenOf(packets[0])));
    ++sent;
  }
  return sent;
}

TEST_F(LayerClientTest, MessageIdsAreNotUsedAgainWithinTheirLifetime) {
  LayerBench bench;
  std::map<std::uint16_t, Time> used;
  bool reused = false;
  const std::size_t first = SendUntilExhausted(bench, 100'000, used, reused);
  EXPECT_GE(first, 49'152u);
  EXPECT_LE(first, 65'536u);
  EXPECT_EQ(bench.statistics().message_ids_exhausted, 1u);
  bench.Wait(seconds(246));
  EXPECT_THAT(bench.TakeSent(), IsEmpty());  // the one that waits
  bench.Wait(seconds(2));
  const std::vector<Packet> waited = bench.TakeSent();
  ASSERT_EQ(waited.size(), 1u);
  used[IdOf(waited[0])] = bench.now;
  bench.Receive(kPeer, Content(Type::kAck, IdOf(waited[0]), TokenOf(waited[0])));
  EXPECT_GE(SendUntilExhausted(bench, 100'000, used, reused), 49'151u);
  EXPECT_FALSE(reused);
}

TEST_F(LayerClientTest, MessageIdsRunOutWithAnErrorOrAreReusedWhereThatIsWanted) {
  std::map<std::uint16_t, Time> used;
  bool reused = false;
  LayerBench strict({.message_id_exhaustion = MessageIdExhaustion::kError});
  EXPECT_LE(SendUntilExhausted(strict, 100'000, used, reused), 65'536u);
  EXPECT_EQ(strict.layer().Request(strict.At(), kPeer, {}).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(reused);
  ExpectIdle(strict);
  used.clear();
  LayerBench loose({.message_id_exhaustion = MessageIdExhaustion::kReuse});
  EXPECT_EQ(SendUntilExhausted(loose, 200'000, used, reused), 200'000u);
  EXPECT_TRUE(reused);
  EXPECT_GT(loose.statistics().message_ids_reused, 100'000u);
}

TEST_F(LayerClientTest, AnIdUnderWayIsPassedOver) {
  LayerBench bench({.nstart = 10, .message_id_exhaustion = MessageIdExhaustion::kReuse});
  Ask(bench, {.cookie = 1});  // never acknowledged
  const std::uint16_t held = IdOf(bench.TakeSent().at(0));
  std::map<std::uint16_t, Time> used;
  bool reused = false;
  SendUntilExhausted(bench, 140'000, used, reused);
  EXPECT_EQ(used.count(held), 0u);
  EXPECT_EQ(used.size(), 65'535u);
}

TEST_F(LayerClientTest, TokensDifferInWhatCannotBeGuessed) {
  LayerBench bench;
  std::set<std::string> tokens;
  std::set<std::string> random_parts;
  for (int i = 0; i < 20'000; ++i) {
    Ask(bench, {});
    const Packet sent = bench.TakeSent().at(0);
    tokens.insert(TokenOf(sent));
    random_parts.insert(TokenOf(sent).substr(4));
    bench.Receive(kPeer, Content(Type::kAck, IdOf(sent), TokenOf(sent)));
  }
  EXPECT_EQ(tokens.size(), 20'000u);
  EXPECT_GT(random_parts.size(), 19'990u);  // of 2^32, one pair in 20 runs is the same
}

}  // namespace
}  // namespace waxvm::coap
