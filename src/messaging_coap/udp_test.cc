// SPDX-License-Identifier: Apache-2.0
// Engines of two processes over loopback, each part on a thread of its own.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "src/messaging/messaging_for_test.h"
#include "src/messaging_coap/messaging_coap_for_test.h"
#include "waxvm/messaging_coap.h"

namespace waxvm {
namespace {

using messaging::KeyOf;
using messaging::Number;
using messaging::PublicOf;
using messaging::TopicAdvert;

std::unique_ptr<coap::Endpoint> Open() {
  auto endpoint =
      coap::Endpoint::Create(*NewUdpSocket({.local = *SocketAddress::Parse("[::1]:0")}));
  EXPECT_TRUE(endpoint.ok()) << endpoint.status();
  EXPECT_TRUE((*endpoint)->Start().ok());
  return *std::move(endpoint);
}

template <typename Done>
bool Await(Done done) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!done() && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return done();
}

TEST(MessagingCoapUdp, CarriesRequestsRepliesAndTopics) {
  const auto endpoint_here = Open();
  const auto endpoint_there = Open();
  messaging::TestClock clock;
  const Places places = {.engines = {{PublicOf(1), endpoint_here->local_address()},
                                     {PublicOf(2), endpoint_there->local_address()}},
                         .topic_peers = {endpoint_there->local_address()}};
  std::atomic<int> answered = 0, encrypted = 0, seen = 0;
  std::atomic<bool> right = true;
  Side here(*endpoint_here, places, clock);
  Side there(*endpoint_there, places, clock);
  Engine& asking = here.Add(1);
  Engine& counting = there.Add(2);
  ASSERT_TRUE(asking
                  .On<Number>([&](const Number&, const MessageInfo& info) {
                    encrypted += info.encrypted;
                    ++answered;
                  })
                  .ok());
  ASSERT_TRUE(counting
                  .On<Number>([&](const Number& from, const MessageInfo& info) {
                    if (info.topic != nullptr) {
                      right = right && from.value == static_cast<std::uint64_t>(seen);
                      ++seen;
                      return;
                    }
                    if (!counting.Reply(info, from, {.encrypt = info.encrypted}).ok())
                      right = false;
                  })
                  .ok());
  for (const auto& side : {&here, &there})
    ASSERT_TRUE(side->hub->SetTopic(TopicAdvert(KeyOf(50), {PublicOf(1)})).ok());
  ASSERT_TRUE(counting.Join(PublicOf(50)).ok());
  ASSERT_TRUE(asking.Start().ok());
  ASSERT_TRUE(counting.Start().ok());
  for (std::uint64_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(asking.Send(counting.key(), Number{i}, {.encrypt = i % 2 == 1}).ok());
    ASSERT_TRUE(asking.Publish(PublicOf(50), Number{i}).ok());
  }
  EXPECT_TRUE(Await([&] { return answered == 100 && seen == 100; })) << answered << " " << seen;
  EXPECT_EQ(encrypted, 50);
  EXPECT_TRUE(right) << "topics are read in order, and replies are sent";
  EXPECT_TRUE(Await([&] { return here.transport->stats().unsent_bytes == 0; }));
  EXPECT_EQ(here.transport->stats().accepted, 200u);
  EXPECT_EQ(there.transport->stats().refused, 0u);
}

TEST(MessagingCoapUdp, StopsWhileOthersSend) {
  const auto endpoint_here = Open();
  const auto endpoint_there = Open();
  messaging::TestClock clock;
  const Places places = {.engines = {{PublicOf(2), endpoint_there->local_address()}}};
  for (int round = 0; round < 20; ++round) {
    auto here = std::make_unique<Side>(*endpoint_here, places, clock);
    auto there = std::make_unique<Side>(*endpoint_there, places, clock);
    Engine& sender = here->Add(1);
    Engine& receiver = there->Add(2);
    std::atomic<int> handled = 0;
    ASSERT_TRUE(receiver.On<Number>([&](const Number&, const MessageInfo&) { ++handled; }).ok());
    ASSERT_TRUE(receiver.Start().ok());
    for (std::uint64_t i = 0; i < 50; ++i) ASSERT_TRUE(sender.Send(PublicOf(2), Number{i}).ok());
    EXPECT_TRUE(Await([&] { return handled > 0; }));
    there.reset();
    here.reset();
  }
}

}  // namespace
}  // namespace waxvm
