// SPDX-License-Identifier: Apache-2.0
// Two layers under thousands of schedules of a bad network: what holds under each of them.
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>

#include "src/coap/simulated_network_for_test.h"

namespace waxvm::coap {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// A body of one payload: the cookie in decimal digits, and filling.
std::string BodyOf(std::uint64_t cookie, std::size_t filling) {
  return "\xff" + std::to_string(cookie) + "." + std::string(filling, 'x');
}

/// Both ends: serves what it is asked, at once, later or never, and counts.
class Party : public LayerHandler {
 public:
  Party(SimulatedNetwork& network, std::mt19937_64& random) : network_(network), random_(random) {}

  void OnRequest(const Turn& turn, const IncomingRequest& request) override {
    const std::uint64_t cookie = std::stoull(std::string(ToText(request.message.payload())));
    ++handled[cookie];
    const std::uint64_t kind = random_() % 10;
    if (kind == 0) {
      EXPECT_TRUE(layer->Ignore(turn, request.exchange, random_() % 2 == 0).ok());
    } else if (kind < 4) {
      later.emplace(network_.now() + milliseconds(random_() % 8000),
                    std::pair(request.exchange, cookie));
    } else {
      Respond(turn, request.exchange, cookie);
    }
  }
  void OnResponse(const Turn&, const IncomingResponse& response) override {
    ++ended[response.cookie];
    EXPECT_FALSE(response.more);
    const std::string wanted = std::to_string(response.cookie) + ".";
    EXPECT_TRUE(ToText(response.message.payload()).starts_with(wanted));
    ++answered;
  }
  void OnRequestFailed(const Turn&, OutgoingId, std::uint64_t cookie, Failure) override {
    ++ended[cookie];
  }
  void OnMessageEnded(const Turn&, OutgoingId, std::uint64_t, std::optional<Failure>) override {
    ADD_FAILURE();
  }

  void Respond(const Turn& turn, ExchangeId exchange, std::uint64_t cookie) {
    const std::string body = BodyOf(cookie, random_() % 4 == 0 ? random_() % 600 : 4);
    EXPECT_TRUE(
        layer->Respond(turn, exchange, {.body = ToBytes(body), .confirmable = random_() % 2 == 0})
            .ok());
  }
  void RespondLate(const Turn& turn) {
    while (!later.empty() && later.begin()->first <= turn.now) {
      const auto entry = later.begin()->second;
      later.erase(later.begin());
      Respond(turn, entry.first, entry.second);
    }
  }

  MessageLayer* layer = nullptr;
  std::map<std::uint64_t, int> handled;  ///< by cookie, how often
  std::map<std::uint64_t, int> ended;
  std::multimap<Time, std::pair<ExchangeId, std::uint64_t>> later;
  int answered = 0;

 private:
  SimulatedNetwork& network_;
  std::mt19937_64& random_;
};

/// Counts what is outstanding on the wire: confirmable messages sent and not acknowledged, as the
/// sender can know it, i.e. by what was delivered to it. Here: ids in use at a time.
class WireCheck {
 public:
  void Sent(const Packet& packet, Time now) {
    const MessageView view = MessageView::Parse(packet.bytes, {.max_token_bytes = 8});
    ASSERT_TRUE(view.ok());
    if (view.type() != Type::kCon && view.type() != Type::kNon) return;
    const std::string text(ToText(packet.bytes));
    const auto key = std::pair(packet.from, view.id());
    const auto found = sent_.find(key);
    if (found == sent_.end()) {
      sent_[key] = {text, now};
      return;
    }
    // An id is used again only for the very same message, within its lifetime.
    if (found->second.first != text) {
      EXPECT_GT(now - found->second.second, seconds(247));
    }
  }

 private:
  std::map<std::pair<SocketAddress, std::uint16_t>, std::pair<std::string, Time>> sent_;
};

struct World {
  explicit World(std::uint64_t seed)
      : random(seed),
        network(seed ^ 0x5555, RandomWeather()),
        a(network, random),
        b(network, random),
        parameters{.nstart = static_cast<std::uint32_t>(1 + random() % 8),
                   .probing_rate = 0,
                   .amplification_limit = 0},
        node_a(TestAddress(1), a, parameters, {}, seed * 2),
        node_b(TestAddress(2), b, parameters, {}, seed * 2 + 1) {
    a.layer = &node_a.layer();
    b.layer = &node_b.layer();
    network.Attach(node_a);
    network.Attach(node_b);
    network.watch = [this](const Packet& packet) { wire.Sent(packet, network.now()); };
  }
  Weather RandomWeather() {
    return {.loss = static_cast<double>(random() % 50) / 100,
            .duplication = static_cast<double>(random() % 40) / 100,
            .least_delay = milliseconds(random() % 20),
            .most_delay = milliseconds(20 + random() % 3000)};
  }
  void Ask(SimulatedNode& from, const SimulatedNode& to, std::uint64_t cookie) {
    const std::string body = BodyOf(cookie, random() % 5 == 0 ? random() % 500 : 2);
    const auto id = from.layer().Request(from.At(network.now()), to.address(),
                                         {.code = static_cast<Code>(1 + random() % 4),
                                          .confirmable = random() % 3 != 0,
                                          .body = ToBytes(body),
                                          .cookie = cookie});
    ASSERT_TRUE(id.ok()) << id.status();
    ids[cookie] = {&from, *id};
  }
  void Step(milliseconds step) {
    network.RunFor(step);
    a.RespondLate(node_a.At(network.now()));
    b.RespondLate(node_b.At(network.now()));
  }

  std::mt19937_64 random;
  SimulatedNetwork network;
  Party a;
  Party b;
  TransmissionParameters parameters;
  SimulatedNode node_a;
  SimulatedNode node_b;
  WireCheck wire;
  std::map<std::uint64_t, std::pair<SimulatedNode*, OutgoingId>> ids;
};

void ExpectNothingLeft(SimulatedNode& node) {
  EXPECT_EQ(node.layer().usage().outgoing, 0u);
  EXPECT_EQ(node.layer().usage().deferred, 0u);
  EXPECT_EQ(node.layer().NextTimer(), Time::max());
}

class LayerPropertyTest : public testing::TestWithParam<int> {};

TEST_P(LayerPropertyTest, EachRequestEndsOnceAndIsHandledAtMostOnce) {
  constexpr std::uint64_t kSeeds = 250;
  int answered = 0;
  for (std::uint64_t i = 0; i < kSeeds; ++i) {
    const std::uint64_t seed = static_cast<std::uint64_t>(GetParam()) * kSeeds + i;
    SCOPED_TRACE(seed);
    World world(seed);
    std::uint64_t cookie = 0;
    std::set<std::uint64_t> cancelled;
    for (int round = 0; round < 12; ++round) {
      for (std::uint64_t n = world.random() % 4; n > 0; --n) {
        ++cookie;
        if (world.random() % 3 != 0)
          world.Ask(world.node_a, world.node_b, cookie);
        else
          world.Ask(world.node_b, world.node_a, cookie);
      }
      if (cookie != 0 && world.random() % 6 == 0) {
        const std::uint64_t victim = 1 + world.random() % cookie;
        const auto [node, id] = world.ids[victim];
        if (node->layer().Cancel(node->At(world.network.now()), id)) {
          EXPECT_TRUE(cancelled.insert(victim).second);
        }
      }
      world.Step(milliseconds(world.random() % 1500));
    }
    for (int round = 0; round < 1500; ++round) {
      world.Step(milliseconds(500));
      if (world.node_a.layer().usage().outgoing + world.node_b.layer().usage().outgoing == 0 &&
          world.a.later.empty() && world.b.later.empty())
        break;
    }
    world.network.RunUntilQuiet();
    for (const auto* party : {&world.a, &world.b})
      for (const auto& entry : party->handled) EXPECT_LE(entry.second, 1) << entry.first;
    for (std::uint64_t c = 1; c <= cookie; ++c)
      EXPECT_EQ(world.a.ended[c] + world.b.ended[c], cancelled.count(c) != 0 ? 0 : 1) << c;
    ExpectNothingLeft(world.node_a);
    ExpectNothingLeft(world.node_b);
    EXPECT_EQ(world.node_a.layer().statistics().early_evictions, 0u);
    answered += world.a.answered + world.b.answered;
    if (HasFailure()) return;
  }
  EXPECT_GT(answered, 1000);  // the network is bad, not dead
}

// 16 × 250 schedules, in parts that tell where one fails.
INSTANTIATE_TEST_SUITE_P(Schedules, LayerPropertyTest, testing::Range(0, 16));

TEST(LayerDeterminismTest, TheSameSeedGivesTheSameDatagrams) {
  const auto run = [](std::uint64_t seed) {
    World world(seed);
    std::string all;
    world.network.watch = [&](const Packet& packet) {
      all += std::to_string(world.network.now().time_since_epoch().count());
      all += ToText(packet.bytes);
    };
    for (std::uint64_t cookie = 1; cookie < 30; ++cookie) {
      world.Ask(world.node_a, world.node_b, cookie);
      world.Step(milliseconds(300));
    }
    return all;
  };
  EXPECT_EQ(run(7), run(7));
  EXPECT_NE(run(7), run(8));
}

/// Nobody at the other end: what is on the wire is outstanding, all of it.
TEST(LayerNstartTest, NoMoreIsOutstandingOnTheWire) {
  for (const std::uint32_t nstart : {1u, 3u, 64u}) {
    std::mt19937_64 random(nstart);
    SimulatedNetwork network(nstart, {.loss = 1});
    Party party(network, random);
    SimulatedNode node(TestAddress(1), party, {.nstart = nstart, .probing_rate = 0}, {}, nstart);
    network.Attach(node);
    std::map<std::uint16_t, Time> outstanding;
    std::size_t most = 0;
    network.watch = [&](const Packet& packet) {
      const std::uint16_t id = MessageView::Parse(packet.bytes).id();
      // The longest that a message of 4 retransmissions stays outstanding: MAX_TRANSMIT_WAIT.
      std::erase_if(outstanding, [&](const auto& entry) {
        return network.now() - entry.second > seconds(31 * 2);
      });
      outstanding.emplace(id, network.now());
      most = std::max(most, outstanding.size());
    };
    for (std::uint64_t cookie = 1; cookie <= 200; ++cookie)
      ASSERT_TRUE(node.layer()
                      .Request(node.At(network.now()), TestAddress(2),
                               {.body = ToBytes("\xff"), .cookie = cookie})
                      .ok());
    network.RunFor(seconds(60));
    EXPECT_EQ(most, nstart);
    network.RunUntilQuiet();
    EXPECT_EQ(party.ended.size(), 200u);
    EXPECT_EQ(node.layer().statistics().timeouts, 200u);
    EXPECT_EQ(node.layer().statistics().retransmissions, 800u);
    ExpectNothingLeft(node);
  }
}

}  // namespace
}  // namespace waxvm::coap
