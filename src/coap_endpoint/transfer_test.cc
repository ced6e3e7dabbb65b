// SPDX-License-Identifier: Apache-2.0
// Long bodies, observers and lossy networks.
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "src/coap_endpoint/endpoint_for_test.h"
#include "waxvm/coap_endpoint.h"

namespace waxvm::coap {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr NetworkConditions kLossy = {.loss = 0.15,
                                      .duplication = 0.15,
                                      .reordering = 0.2,
                                      .min_delay = milliseconds(1),
                                      .max_delay = milliseconds(30),
                                      .reordering_delay = milliseconds(200)};

/// Answers with what it is sent.
Resource Mirror(int& handled) {
  return {.path = "/mirror",
          .methods = {Code::kPost, Code::kFetch},
          .handler = [&handled](const ServedRequest& request, Responder& responder) {
            ++handled;
            responder.Send(Message(Code::kContent, std::string(ToText(request.payload))));
          }};
}

TEST(CoapBlocks, LongBodiesPassBothWaysAndTheHandlerRunsOnce) {
  for (const std::uint8_t exponent : {std::uint8_t{0}, std::uint8_t{2}, std::uint8_t{6}}) {
    SimulatedWorld world;
    Endpoint& server = world.Add("[fd00::1]:5683", {.block_exponent = exponent});
    Endpoint& client = world.Add("[fd00::2]:5683");
    int handled = 0;
    ASSERT_TRUE(server.Serve(Mirror(handled)).ok());
    int rounds = 0;
    for (const std::size_t bytes : {1u, 16u, 17u, 1024u, 1025u, 2048u, 5000u}) {
      const std::string body = LongText(bytes);
      for (const Code code : {Code::kPost, Code::kFetch}) {
        const Heard heard = world.AskOnce(client, server, Message(code, body).SetPath("/mirror"));
        ASSERT_TRUE(heard.status.ok()) << heard.status;
        EXPECT_EQ(heard.code(), Code::kContent) << bytes;
        EXPECT_TRUE(heard.payload() == body) << bytes;
        EXPECT_FALSE(heard.message.options().block2());
        EXPECT_EQ(handled, ++rounds);
      }
    }
    EXPECT_EQ(client.stats().requests, 0u);
    world.RunFor(seconds(200));
    EXPECT_EQ(server.stats().body_bytes, 0u);
  }
}

TEST(CoapBlocks, OverALossyNetworkEveryRequestRunsOnceAndEveryBodyIsWhole) {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    SimulatedWorld world(kLossy, seed);
    // With so much loss, a message that is sent five times still gets lost now and then.
    const EndpointOptions options = {.transmission = {.max_retransmit = 8}};
    Endpoint& server = world.Add("[fd00::1]:5683", options);
    Endpoint& client = world.Add("[fd00::2]:5683", options);
    int handled = 0;
    ASSERT_TRUE(server.Serve(Mirror(handled)).ok());
    for (int round = 1; round <= 3; ++round) {
      const std::string body = LongText(20'000 + static_cast<std::size_t>(round));
      const auto heard = world.Ask(client, server, Message(Code::kPost, body).SetPath("/mirror"));
      ASSERT_TRUE(world.RunUntil([&] { return !heard->empty(); }, std::chrono::hours(2)));
      ASSERT_TRUE(heard->front().status.ok()) << heard->front().status;
      EXPECT_TRUE(heard->front().payload() == body);
      EXPECT_EQ(handled, round);
    }
    EXPECT_GT(server.stats().messages.duplicates, 0u);
    EXPECT_GT(client.stats().messages.retransmissions, 0u);
  }
}

TEST(CoapBlocks, ConcurrentTransfersOfOneClientDoNotMix) {
  SimulatedWorld world(kLossy, 9);
  const EndpointOptions options = {.transmission = {.max_retransmit = 8, .nstart = 8}};
  Endpoint& server = world.Add("[fd00::1]:5683", options);
  Endpoint& client = world.Add("[fd00::2]:5683", options);
  int handled = 0;
  ASSERT_TRUE(server.Serve(Mirror(handled)).ok());
  std::vector<std::string> bodies;
  std::vector<std::shared_ptr<std::vector<Heard>>> all;
  for (int i = 0; i < 4; ++i) {
    bodies.push_back(std::to_string(i) + LongText(6000));
    all.push_back(
        world.Ask(client, server, Message(Code::kPost, bodies.back()).SetPath("/mirror")));
  }
  ASSERT_TRUE(world.RunUntil(
      [&] {
        return std::none_of(all.begin(), all.end(), [](const auto& one) { return one->empty(); });
      },
      std::chrono::hours(2)));
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_TRUE(all[i]->front().status.ok()) << all[i]->front().status;
    EXPECT_TRUE(all[i]->front().payload() == bodies[i]) << i;
  }
  EXPECT_EQ(handled, 4);
}

TEST(CoapBlocks, WhatIsLongerThanTheBoundsIsRefusedByEitherSide) {
  SimulatedWorld world;
  Endpoint& server = world.Add("[fd00::1]:5683", {.max_body_bytes = 4000});
  Endpoint& client = world.Add("[fd00::2]:5683", {.max_body_bytes = 3000});
  int handled = 0;
  ASSERT_TRUE(server.Serve(Mirror(handled)).ok());
  const auto ask = [&](std::size_t bytes) {
    return world.AskOnce(client, server, Message(Code::kPost, LongText(bytes)).SetPath("/mirror"));
  };
  EXPECT_EQ(ask(3000).payload().size(), 3000u);
  EXPECT_EQ(ask(5000).code(), Code::kRequestEntityTooLarge);
  EXPECT_EQ(ask(3500).status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(handled, 2);
  EXPECT_EQ(client.stats().requests, 0u);
}

TEST(CoapBlocks, ABodyThatChangesWhileItIsFetchedIsNeverMixed) {
  SimulatedWorld world;
  Endpoint& server = world.Add("[fd00::1]:5683", {.max_bodies_bytes = 1});
  Endpoint& client = world.Add("[fd00::2]:5683");
  int version = 0;
  // Nothing is kept, so that each block is of what there is at its time.
  ASSERT_TRUE(server
                  .Serve({.path = "/doc",
                          .handler =
                              [&](const ServedRequest&, Responder& responder) {
                                ++version;
                                const char letter = version < 4 ? 'a' : 'b';
                                responder.Send(Code::kContent, ToBytes(std::string(5000, letter)));
                              }})
                  .ok());
  const Heard heard = world.AskOnce(client, server, Get("/doc"));
  ASSERT_TRUE(heard.status.ok()) << heard.status;
  EXPECT_EQ(heard.payload(), std::string(5000, 'b'));
}

TEST(CoapBlocks, ALaterBlockOfWhatIsGoneIsRefusedWhereTheRequestChangesThings) {
  SimulatedWorld world;
  Endpoint& server = world.Add("[fd00::1]:5683");
  Endpoint& client = world.Add("[fd00::2]:5683");
  int handled = 0;
  ASSERT_TRUE(server.Serve(Mirror(handled)).ok());
  const Message request = Message(Code::kPost).SetPath("/mirror").SetBlock2({3, false, 6});
  EXPECT_EQ(world.AskOnce(client, server, request).code(), Code::kRequestEntityIncomplete);
  EXPECT_EQ(handled, 0);
}

/// A number that is observed.
class CoapObserve : public testing::Test {
 protected:
  void Start(const EndpointOptions& server_options = {}, const NetworkConditions& conditions = {},
             std::uint64_t seed = 1) {
    world = std::make_unique<SimulatedWorld>(conditions, seed);
    server = &world->Add("[fd00::1]:5683", server_options);
    client = &world->Add("[fd00::2]:5683", {.transmission = {.nstart = 8}});
    ASSERT_TRUE(
        server
            ->Serve({.path = "/n",
                     .observable = true,
                     .handler =
                         [this](const ServedRequest&, Responder& responder) {
                           if (code != Code::kContent) return responder.Send(code);
                           responder.Send(
                               Message(code, std::to_string(number) + padding).SetMaxAge(max_age));
                         }})
            .ok());
  }
  auto Observe() { return world->Ask(*client, *server, Get("/n"), {.observe = true}); }
  void Change() {
    ++number;
    server->Notify("/n");
  }

  std::unique_ptr<SimulatedWorld> world;
  Endpoint* server = nullptr;
  Endpoint* client = nullptr;
  int number = 0;
  std::uint32_t max_age = 3600;
  std::string padding;
  Code code = Code::kContent;
};

TEST_F(CoapObserve, EveryChangeIsToldInOrder) {
  Start();
  const auto heard = Observe();
  world->RunFor(seconds(1));
  ASSERT_EQ(heard->size(), 1u);
  EXPECT_TRUE(heard->front().more);
  for (int i = 0; i < 100; ++i) {
    Change();
    world->RunFor(milliseconds(50));
  }
  ASSERT_EQ(heard->size(), 101u);
  for (int i = 0; i <= 100; ++i) EXPECT_EQ((*heard)[i].payload(), std::to_string(i));
  EXPECT_EQ(server->stats().observers, 1u);
  EXPECT_EQ(server->stats().notifications, 100u);
  // Some are confirmable, most are not.
  EXPECT_EQ(server->stats().messages.empty_acks_sent, 0u);
  EXPECT_EQ(client->stats().messages.empty_acks_sent, 3u);
}

TEST_F(CoapObserve, AStrangerShowsThatItReceivesFirst) {
  Start();
  const auto heard = Observe();
  world->RunFor(seconds(1));
  EXPECT_EQ(heard->size(), 1u);
  EXPECT_EQ(server->stats().challenged, 1u);
}

TEST_F(CoapObserve, WhoeverCancelsIsForgottenAndToldNothingMore) {
  Start();
  const auto heard = Observe();
  const RequestId id = world->last;
  world->RunFor(seconds(1));
  EXPECT_TRUE(client->Cancel(id));
  EXPECT_FALSE(client->Cancel(id));
  EXPECT_EQ(server->stats().observers, 1u);
  Change();
  world->RunFor(seconds(1));
  EXPECT_EQ(server->stats().observers, 0u);
  EXPECT_EQ(heard->size(), 1u);
  EXPECT_EQ(client->stats().requests, 0u);
}

TEST_F(CoapObserve, WhoeverIsGoneIsFoundOut) {
  Start({.confirm_every = 4});
  const auto heard = Observe();
  world->RunFor(seconds(1));
  world->network.Partition(*Address::Parse("fd00::1"), *Address::Parse("fd00::2"), true);
  for (int i = 0; i < 4; ++i) Change();
  // What changes while one is awaited is told once, by the newest state.
  for (int i = 0; i < 50; ++i) Change();
  EXPECT_EQ(server->stats().notifications, 4u);
  world->RunFor(seconds(300));
  EXPECT_EQ(server->stats().observers, 0u);
}

TEST_F(CoapObserve, ChangesWhileOneIsConfirmedAreToldByTheNewestState) {
  Start({.confirm_every = 1});
  const auto heard = Observe();
  world->RunFor(seconds(1));
  for (int i = 0; i < 50; ++i) Change();
  world->RunFor(seconds(1));
  ASSERT_EQ(heard->size(), 3u);
  EXPECT_EQ((*heard)[1].payload(), "1");
  EXPECT_EQ((*heard)[2].payload(), "50");
}

TEST_F(CoapObserve, OverALossyNetworkTheNewestStateArrivesAndOldOnesNeverFollow) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    number = 0;
    Start({.transmission = {.max_retransmit = 10}, .confirm_every = 3}, kLossy, seed);
    const auto heard = Observe();
    ASSERT_TRUE(world->RunUntil([&] { return !heard->empty(); }));
    for (int i = 0; i < 60; ++i) {
      Change();
      world->RunFor(milliseconds(300));
    }
    // The last may have been lost; one that is confirmed follows.
    for (int i = 0; i < 3; ++i) Change();
    world->RunFor(seconds(600));
    ASSERT_FALSE(heard->empty());
    EXPECT_EQ(heard->back().payload(), std::to_string(number))
        << seed << ": " << server->stats().observers << " observers, "
        << server->stats().notifications << " notifications, "
        << server->stats().messages.resets_received << " resets, "
        << server->stats().messages.timeouts << " timeouts, "
        << server->stats().messages.retransmissions << " retransmissions, "
        << server->stats().messages.queued << " queued, " << server->stats().messages.sent
        << " sent, last " << heard->back().status;
    for (std::size_t i = 1; i < heard->size(); ++i)
      EXPECT_LT(std::stoi((*heard)[i - 1].payload()), std::stoi((*heard)[i].payload()));
  }
}

TEST_F(CoapObserve, AnErrorOrARemovedResourceEndsIt) {
  Start();
  auto heard = Observe();
  world->RunFor(seconds(1));
  code = Code::kForbidden;
  Change();
  world->RunFor(seconds(1));
  ASSERT_EQ(heard->size(), 2u);
  EXPECT_EQ(heard->back().code(), Code::kForbidden);
  EXPECT_FALSE(heard->back().more);
  EXPECT_EQ(server->stats().observers, 0u);
  code = Code::kContent;
  heard = Observe();
  world->RunFor(seconds(1));
  ASSERT_TRUE(server->Remove("/n").ok());
  world->RunFor(seconds(1));
  ASSERT_EQ(heard->size(), 2u);
  EXPECT_EQ(heard->back().code(), Code::kNotFound);
  EXPECT_FALSE(heard->back().more);
  EXPECT_EQ(client->stats().requests, 0u);
}

TEST_F(CoapObserve, RegistrationsAreBoundedAndTheRestIsAnswered) {
  Start({.max_observers = 10, .max_observers_per_peer = 3});
  std::vector<std::shared_ptr<std::vector<Heard>>> all;
  for (int i = 0; i < 5; ++i) all.push_back(Observe());
  world->RunFor(seconds(5));
  EXPECT_EQ(server->stats().observers, 3u);
  EXPECT_EQ(server->stats().observers_refused, 2u);
  int going_on = 0;
  for (const auto& heard : all) {
    ASSERT_EQ(heard->size(), 1u);
    going_on += heard->front().more;
  }
  EXPECT_EQ(going_on, 3);
}

TEST_F(CoapObserve, AMessageCanBeTheSameForAllAndLong) {
  Start();
  const auto heard = Observe();
  world->RunFor(seconds(1));
  const std::string text = LongText(10'000);
  EXPECT_EQ(server->Notify("/n", Message(Code::kContent, text)), 1u);
  world->RunFor(seconds(5));
  ASSERT_EQ(heard->size(), 2u);
  EXPECT_EQ(heard->back().payload(), text);
  EXPECT_TRUE(heard->back().more);
  Change();
  world->RunFor(seconds(5));
  ASSERT_EQ(heard->size(), 3u);
  EXPECT_EQ(heard->back().payload(), "1");
}

TEST_F(CoapObserve, WhatIsLateIsAskedForAgain) {
  Start();
  max_age = 5;
  const auto heard = Observe();
  world->RunFor(seconds(1));
  // The server forgets everything.
  const auto port = server->local_address();
  world->Remove(*server);
  auto again = Endpoint::Create(*world->network.NewPort(port),
                                {.clock = [this] { return world->network.now(); }});
  ASSERT_TRUE(again.ok());
  ASSERT_TRUE((*again)
                  ->Serve({.path = "/n",
                           .observable = true,
                           .handler =
                               [](const ServedRequest&, Responder& responder) {
                                 responder.Send(Message(Code::kContent, "new").SetMaxAge(5));
                               }})
                  .ok());
  world->endpoints.push_back(*std::move(again));
  ASSERT_TRUE(world->RunUntil([&] { return heard->size() > 1; }, seconds(30)));
  EXPECT_EQ((*heard)[1].payload(), "new");
  EXPECT_TRUE((*heard)[1].more);
}

TEST_F(CoapObserve, DeregisteringEndsIt) {
  Start();
  const auto heard = Observe();
  world->RunFor(seconds(1));
  EXPECT_EQ(server->stats().observers, 1u);
  // Another request with Observe of 1 has another token, and ends nothing.
  const Heard other = world->AskOnce(*client, *server, Get("/n").SetObserve(1));
  EXPECT_EQ(other.code(), Code::kContent);
  EXPECT_FALSE(other.message.options().observe());
  EXPECT_EQ(server->stats().observers, 1u);
}

TEST(CoapClient, WhoDoesNotAnswerOrIsNotThereIsToldApart) {
  SimulatedWorld world({.reports_unreachable = false});
  Endpoint& client = world.Add("[fd00::2]:5683", {.transmission = {.max_retransmit = 2}});
  const SocketAddress nobody = *SocketAddress::Parse("[fd00::9]:5683");
  auto heard = world.Ask(client, nobody, Get("/"));
  world.RunFor(seconds(60));
  ASSERT_EQ(heard->size(), 1u);
  EXPECT_EQ(heard->front().status.code(), absl::StatusCode::kDeadlineExceeded);
  ASSERT_TRUE(world.network.SetConditions({.reports_unreachable = true}).ok());
  heard = world.Ask(client, nobody, Get("/"));
  const auto start = world.network.now();
  ASSERT_TRUE(world.RunUntil([&] { return !heard->empty(); }));
  EXPECT_EQ(heard->front().status.code(), absl::StatusCode::kUnavailable);
  EXPECT_LT(world.network.now() - start, seconds(1));
  EXPECT_EQ(client.stats().requests, 0u);
}

TEST(CoapClient, RequestsThatCannotBeAreRefusedAndNothingIsLeft) {
  SimulatedWorld world;
  Endpoint& client =
      world.Add("[fd00::2]:5683", {.limits = {.outgoing = 64, .outgoing_per_peer = 16}});
  const SocketAddress peer = *SocketAddress::Parse("[fd00::9]:5683");
  const auto code = [&](const SocketAddress& to, const Message& message,
                        const RequestOptions& options = {}) {
    return client
        .Request(
            to, message, [](const absl::StatusOr<Response>&) { ADD_FAILURE(); }, options)
        .status()
        .code();
  };
  EXPECT_EQ(code(peer, Message(Code::kContent)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(*SocketAddress::Parse("[fd00::9]:0"), Get("/")),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(peer, Get("/" + std::string(300, 'x'))), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(peer, Message(Code::kPost), {.observe = true}),
            absl::StatusCode::kInvalidArgument);
  Message long_query = Get("/");
  for (int i = 0; i < 10; ++i) long_query.AddQuery(std::string(200, 'q'));
  EXPECT_EQ(code(peer, long_query), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(client.stats().requests, 0u);
  int cancelled = 0;
  int refused = 0;
  for (int i = 0; i < 30; ++i)
    refused += absl::IsResourceExhausted(client
                                             .Request(peer, Get("/"),
                                                      [&](const auto& response) {
                                                        cancelled +=
                                                            absl::IsCancelled(response.status());
                                                      })
                                             .status());
  EXPECT_EQ(refused, 14);
  EXPECT_EQ(client.stats().requests, 16u);
  world.Remove(client);
  EXPECT_EQ(cancelled, 16);
}

TEST(CoapClient, AHandlerMayAskAgainAndCancelOthers) {
  SimulatedWorld world;
  Endpoint& server = world.Add("[fd00::1]:5683");
  Endpoint& client = world.Add("[fd00::2]:5683", {.transmission = {.nstart = 4}});
  ASSERT_TRUE(server
                  .Serve({.path = "/a",
                          .handler = [](const ServedRequest&,
                                        Responder& responder) { responder.Send(Code::kValid); }})
                  .ok());
  int left = 100;
  RequestId doomed;
  std::function<void(const absl::StatusOr<Response>&)> again =
      [&](const absl::StatusOr<Response>& response) {
        EXPECT_TRUE(response.ok()) << response.status();
        client.Cancel(doomed);
        if (--left == 0) return;
        EXPECT_TRUE(client.Request(server.local_address(), Get("/a"), again).ok());
        doomed = *client.Request(server.local_address(), Get("/a"),
                                 [](const auto&) { ADD_FAILURE() << "it was cancelled"; });
        EXPECT_FALSE(client.Poll(world.network.now()).ok());
        EXPECT_FALSE(client.Ask(server.local_address(), Get("/a")).ok());
      };
  ASSERT_TRUE(client.Request(server.local_address(), Get("/a"), again).ok());
  ASSERT_TRUE(world.RunUntil([&] { return left == 0; }));
  world.RunFor(seconds(200));
  EXPECT_EQ(client.stats().requests, 0u);
}

}  // namespace
}  // namespace waxvm::coap
