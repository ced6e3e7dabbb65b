// SPDX-License-Identifier: Apache-2.0
// Floods: of addresses, of one peer, of slow requests; what they may and may not do to others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/coap/layer_for_test.h"

namespace waxvm::coap {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint32_t kFlooder = 0x10000000;

class LayerHostileTest : public testing::Test {
 protected:
  static void AnswerAll(LayerBench& bench) {
    bench.handler.on_request = [&bench](const Turn& turn, const IncomingRequest& request) {
      // To a flood of non-confirmable requests the message ids of the answers run out.
      if (!bench.layer().Respond(turn, request.exchange, {}).ok()) {
        EXPECT_TRUE(bench.layer().Ignore(turn, request.exchange).ok());
      }
    };
  }
};

TEST_F(LayerHostileTest, AMillionAddressesMoveOnlyStrangersOut) {
  LayerBench bench({}, {.peers = 1024, .remembered = 4096});
  AnswerAll(bench);
  // Peers under way: one that is asked, one whose request is being worked on.
  ASSERT_TRUE(bench.layer().Request(bench.At(), TestAddress(1000), {.cookie = 1}).ok());
  const Packet asked = bench.TakeSent().at(0);
  bench.handler.on_request = nullptr;
  bench.Receive(TestAddress(1001), {.id = 1, .token = "slow"});
  const ExchangeId slow = bench.handler.last_exchange;
  AnswerAll(bench);
  // Peers that come again, and one that is verified and then silent.
  constexpr std::uint32_t kRegulars = 50;
  const auto round = [&](std::uint16_t id) {
    for (std::uint32_t peer = 0; peer < kRegulars; ++peer)
      bench.Receive(TestAddress(peer + 2), {.id = id});
  };
  std::uint16_t id = 1;
  for (; id < 5; ++id) {
    round(id);
    bench.Wait(milliseconds(400));
  }
  ASSERT_TRUE(bench.layer().Request(bench.At(), TestAddress(1002), {.cookie = 2}).ok());
  for (const Packet& packet : bench.TakeSent())
    if (packet.to == TestAddress(1002))
      bench.Receive(TestAddress(1002),
                    {.type = Type::kAck,
                     .code = Code::kContent,
                     .id = MessageView::Parse(packet.bytes).id(),
                     .token = std::string(ToText(MessageView::Parse(packet.bytes).token()))});
  ASSERT_TRUE(bench.layer().IsVerified(TestAddress(1002)));

  std::size_t handled = bench.handler.requests;
  for (std::uint32_t n = 0; n < 1'000'000; ++n) {
    bench.Receive(TestAddress(kFlooder + n), {.type = n % 2 == 0 ? Type::kCon : Type::kNon,
                                              .id = static_cast<std::uint16_t>(n)});
    bench.now += microseconds(5);
    if (n % 1000 == 0) bench.node.sent.clear();
  }
  EXPECT_EQ(bench.handler.requests - handled, 1'000'000u);  // and all of them were served
  EXPECT_LE(bench.layer().usage().peers, 1024u);
  EXPECT_GT(bench.statistics().peers_evicted, 990'000u);
  EXPECT_TRUE(bench.layer().IsVerified(TestAddress(1002)));
  // No duplicate of a regular runs again.
  handled = bench.handler.requests;
  for (std::uint16_t again = 1; again < id; ++again) round(again);
  EXPECT_EQ(bench.handler.requests, handled);
  bench.TakeSent();
  // What was under way ends as if nothing had been.
  EXPECT_TRUE(bench.layer().Respond(bench.At(), slow, {}).ok());
  EXPECT_EQ(bench.TakeSent().at(0).to, TestAddress(1001));
  const MessageView request = MessageView::Parse(asked.bytes);
  bench.handler.TakeEvents();
  bench.Receive(TestAddress(1000), {.type = Type::kAck,
                                    .code = Code::kContent,
                                    .id = request.id(),
                                    .token = std::string(ToText(request.token()))});
  EXPECT_THAT(bench.handler.events, testing::ElementsAre("response 1 2.05"));
}

TEST_F(LayerHostileTest, AFloodOfOnePeerForgetsItsOwnMessages) {
  LayerBench bench({}, {.remembered = 2000, .remembered_per_peer = 256});
  AnswerAll(bench);
  for (std::uint32_t peer = 0; peer < 100; ++peer)
    for (std::uint16_t id = 0; id < 10; ++id) bench.Receive(TestAddress(peer + 10), {.id = id});
  for (std::uint32_t n = 0; n < 300'000; ++n) {
    bench.Receive(TestAddress(2), {.type = n % 3 == 0 ? Type::kNon : Type::kCon,
                                   .id = static_cast<std::uint16_t>(n * 7919)});
    if (n % 1000 == 0) bench.node.sent.clear();
  }
  EXPECT_EQ(bench.layer().usage().remembered, 1256u);
  EXPECT_EQ(bench.statistics().early_evictions, 300'000u - 256u);
  const std::size_t handled = bench.handler.requests;
  for (std::uint32_t peer = 0; peer < 100; ++peer)
    for (std::uint16_t id = 0; id < 10; ++id) bench.Receive(TestAddress(peer + 10), {.id = id});
  EXPECT_EQ(bench.handler.requests, handled);
  EXPECT_EQ(bench.statistics().peers_evicted, 0u);
}

TEST_F(LayerHostileTest, WhenMemoryRunsOutTheGreedyLoseFirst) {
  LayerBench bench({}, {.peers = 200, .remembered = 1000, .remembered_per_peer = 512});
  AnswerAll(bench);
  for (std::uint32_t peer = 0; peer < 50; ++peer)
    for (std::uint16_t id = 0; id < 4; ++id) bench.Receive(TestAddress(peer + 10), {.id = id});
  for (std::uint16_t id = 0; id < 5000; ++id) {
    bench.Receive(TestAddress(2), {.id = id});
    bench.Receive(TestAddress(3), {.id = id});
    bench.Receive(TestAddress(4), {.id = id});
  }
  EXPECT_EQ(bench.layer().usage().remembered, 1000u);
  const std::size_t handled = bench.handler.requests;
  for (std::uint32_t peer = 0; peer < 50; ++peer)
    for (std::uint16_t id = 0; id < 4; ++id) bench.Receive(TestAddress(peer + 10), {.id = id});
  EXPECT_EQ(bench.handler.requests, handled);
}

// Years without a restart: what was remembered must still be forgotten.
TEST_F(LayerHostileTest, TimeGoesOnForYears) {
  LayerBench bench;
  AnswerAll(bench);
  bench.Receive(TestAddress(2), {.id = 7});
  for (int year = 1; year <= 9; ++year) {
    bench.now += std::chrono::hours(365 * 24);
    bench.layer().Expire(bench.At());
    const std::size_t handled = bench.handler.requests;
    bench.Receive(TestAddress(2), {.id = 7});
    EXPECT_EQ(bench.handler.requests, handled + 1) << year;
    bench.Receive(TestAddress(2), {.id = 7});
    EXPECT_EQ(bench.handler.requests, handled + 1) << "a duplicate, in the year " << year;
    bench.Wait(std::chrono::seconds(300));
    bench.Receive(TestAddress(2), {.id = 7});
    EXPECT_EQ(bench.handler.requests, handled + 2) << "another one, in the year " << year;
  }
}

TEST_F(LayerHostileTest, SlowRequestsAreBoundedAndRefused) {
  LayerBench bench({}, {.deferred = 100, .deferred_per_peer = 10});
  for (std::uint16_t id = 0; id < 20; ++id) bench.Receive(TestAddress(2), {.id = id, .token = "a"});
  EXPECT_EQ(bench.layer().usage().deferred, 10u);
  std::vector<Packet> sent = bench.TakeSent();
  ASSERT_EQ(sent.size(), 10u);
  EXPECT_EQ(Describe(sent[0]), "ACK 5.03 10 a");
  bench.Receive(TestAddress(2), {.id = 10, .token = "a"});  // not run again
  EXPECT_EQ(Describe(bench.TakeSent().at(0)), "ACK 5.03 10 a");
  EXPECT_EQ(bench.handler.requests, 20u);
  // Ever new addresses get half of the slots.
  for (std::uint32_t n = 0; n < 1000; ++n)
    bench.Receive(TestAddress(kFlooder + n), {.type = Type::kNon, .id = 1});
  EXPECT_EQ(bench.layer().usage().deferred, 50u);
  EXPECT_EQ(bench.statistics().no_deferred_slot, 10u + 960u);
  bench.TakeSent();
  bench.Wait(seconds(10));
  EXPECT_EQ(bench.TakeSent().size(), 10u);  // acknowledgements
}

TEST_F(LayerHostileTest, AFullTableOfPeersInUseRefusesNewOnes) {
  LayerBench bench({}, {.peers = 8});
  for (std::uint32_t peer = 0; peer < 8; ++peer)
    ASSERT_TRUE(bench.layer().Request(bench.At(), TestAddress(10 + peer), {}).ok());
  EXPECT_EQ(bench.layer().Request(bench.At(), TestAddress(99), {}).status().code(),
            absl::StatusCode::kResourceExhausted);
  bench.TakeSent();
  bench.Receive(TestAddress(99), {.id = 1});
  EXPECT_EQ(bench.statistics().no_peer_slot, 1u);
  EXPECT_EQ(bench.handler.requests, 0u);
  bench.Wait(seconds(100));  // the requests time out
  bench.Receive(TestAddress(99), {.id = 1});
  EXPECT_EQ(bench.handler.requests, 1u);
}

TEST_F(LayerHostileTest, LongResponsesOfOnePeerTakeItsShareOfBlocks) {
  LayerBench bench({.amplification_limit = 0}, {.blocks = 1000, .blocks_per_peer = 100});
  const std::string body = "\xff" + std::string(1000, 'x');
  bench.handler.on_request = [&](const Turn& turn, const IncomingRequest& request) {
    ASSERT_TRUE(bench.layer().Respond(turn, request.exchange, {.body = ToBytes(body)}).ok());
  };
  for (std::uint16_t id = 0; id < 200; ++id) bench.Receive(TestAddress(2), {.id = id});
  EXPECT_LE(bench.layer().usage().blocks, 100u);
  bench.TakeSent();
  bench.Receive(TestAddress(2), {.id = 199});  // the newest is kept
  EXPECT_EQ(bench.TakeSent().size(), 1u);
  bench.Receive(TestAddress(2), {.id = 3});  // an old one is not: silence, and no second run
  EXPECT_EQ(bench.TakeSent().size(), 0u);
  EXPECT_EQ(bench.handler.requests, 200u);
  for (std::uint32_t peer = 10; peer < 100; ++peer)
    for (std::uint16_t id = 0; id < 30; ++id) bench.Receive(TestAddress(peer), {.id = id});
  EXPECT_LE(bench.layer().usage().blocks, 1000u);
  bench.TakeSent();
  bench.Receive(TestAddress(99), {.id = 29});
  EXPECT_EQ(bench.TakeSent().size(), 1u);
  EXPECT_GT(bench.statistics().responses_not_kept, 1000u);
}

TEST_F(LayerHostileTest, ObservingWhoNeverAnswersEnds) {
  LayerBench bench({.nstart = 100});
  for (std::uint64_t i = 0; i < 100; ++i)
    ASSERT_TRUE(
        bench.layer().Request(bench.At(), TestAddress(2), {.cookie = i, .observe = true}).ok());
  bench.Wait(seconds(100));
  EXPECT_EQ(bench.handler.events.size(), 100u);
  EXPECT_EQ(bench.layer().usage().outgoing, 0u);
}

TEST_F(LayerHostileTest, GuessedTokensAndForgedEndingsDoNothing) {
  LayerBench bench({.nstart = 64});
  for (std::uint64_t i = 0; i < 64; ++i)
    ASSERT_TRUE(bench.layer().Request(bench.At(), TestAddress(2), {.cookie = i}).ok());
  bench.TakeSent();
  std::mt19937_64 random(3);
  for (int i = 0; i < 300'000; ++i) {
    std::string token(8, '\0');
    for (char& c : token) c = static_cast<char>(random());
    token[0] = static_cast<char>(random() % 64);  // the slot is easily guessed
    token[1] = token[2] = '\0';
    token[3] = '\1';
    // From the peer itself, where an attacker can forge that: 32 bits are left to guess.
    bench.Receive(TestAddress(2), {.type = Type::kNon, .code = Code::kContent, .token = token});
    bench.Receive(TestAddress(3), {.type = static_cast<Type>(2 + i % 2),
                                   .code = Code::kEmpty,
                                   .id = static_cast<std::uint16_t>(i)});
  }
  EXPECT_EQ(bench.handler.events.size(), 0u);
  EXPECT_EQ(bench.layer().usage().outgoing, 64u);
  EXPECT_EQ(bench.statistics().unmatched_responses, 300'000u);
  EXPECT_EQ(bench.layer().usage().peers, 1u);
  EXPECT_EQ(bench.TakeSent().size(), 0u);
}

/// A sink without room: what is lost so is made up for by retransmission.
TEST_F(LayerHostileTest, ASinkWithoutRoomIsALossyNetwork) {
  class Full : public DatagramSink {
   public:
    std::span<std::byte> Reserve(const SocketAddress&, std::size_t) override { return {}; }
    void Commit(std::size_t) override { ADD_FAILURE(); }
  };
  Full full;
  LayerBench bench;
  AnswerAll(bench);
  const std::vector<std::byte> request = Written{.id = 1}.Bytes();
  bench.layer().Receive({bench.now, full, bench.handler}, {request, TestAddress(2)});
  ASSERT_TRUE(bench.layer().Request({bench.now, full, bench.handler}, TestAddress(3), {}).ok());
  EXPECT_EQ(bench.statistics().no_output, 2u);
  bench.Receive(TestAddress(2), {.id = 1});
  EXPECT_EQ(bench.handler.requests, 1u);
  bench.Wait(seconds(4));
  EXPECT_EQ(bench.TakeSent().size(), 2u);
}

}  // namespace
}  // namespace waxvm::coap
