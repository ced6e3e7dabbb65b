// SPDX-License-Identifier: Apache-2.0
// Peers that mean harm, handlers that do what they may, and threads that meet.
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "src/coap_endpoint/endpoint_for_test.h"
#include "waxvm/coap_endpoint.h"

namespace waxvm::coap {
namespace {

using std::chrono::seconds;

class CoapHostile : public testing::Test {
 protected:
  SimulatedWorld world;
  Endpoint& server = world.Add("[fd00::1]:5683");
  Endpoint& client = world.Add("[fd00::2]:5683");
};

TEST_F(CoapHostile, WhoAnswersLaterDoesNotWaitForAHandler) {
  DeferredResponder owed;
  ASSERT_TRUE(server
                  .Serve({.path = "/later",
                          .handler = [&](const ServedRequest&,
                                         Responder& responder) { owed = responder.Defer(); }})
                  .ok());
  std::thread other;
  std::future_status told = std::future_status::deferred;
  ASSERT_TRUE(server
                  .Serve({.path = "/waits",
                          .handler =
                              [&](const ServedRequest&, Responder& responder) {
                                std::promise<void> done;
                                auto sent = done.get_future();
                                other = std::thread([&owed, done = std::move(done)]() mutable {
                                  owed.Send(Message(Code::kContent, "at last"));
                                  done.set_value();
                                });
                                // As one does that asks a store whose thread is about to answer.
                                told = sent.wait_for(seconds(5));
                                responder.Send(Code::kValid);
                              }})
                  .ok());
  const auto later = world.Ask(client, server, Get("/later"));
  world.RunFor(seconds(3));
  ASSERT_TRUE(later->empty());
  EXPECT_EQ(world.AskOnce(client, server, Get("/waits")).code(), Code::kValid);
  if (other.joinable()) other.join();
  EXPECT_EQ(told, std::future_status::ready);
  ASSERT_TRUE(world.RunUntil([&] { return !later->empty(); }));
  EXPECT_EQ(later->front().payload(), "at last");
}

TEST_F(CoapHostile, ABodyInBlocksOpensNothingToStrangers) {
  int handled = 0;
  ASSERT_TRUE(server
                  .Serve({.path = "/a",
                          .methods = {Code::kGet, Code::kPost},
                          .verified = {Code::kGet, Code::kPost},
                          .handler =
                              [&](const ServedRequest& request, Responder& responder) {
                                ++handled;
                                EXPECT_TRUE(request.verified);
                                responder.Send(Code::kChanged);
                              }})
                  .ok());
  const Message one = Get("/a").SetBlock1({.number = 0, .more = false, .exponent = 6});
  EXPECT_EQ(world.AskOnce(client, server, one).code(), Code::kChanged);
  EXPECT_EQ(server.stats().challenged, 1u);
  Endpoint& another = world.Add("[fd00::3]:5683");
  const Message post = Message(Code::kPost, LongText(5000)).SetPath("/a");
  EXPECT_EQ(world.AskOnce(another, server, post).code(), Code::kChanged);
  EXPECT_EQ(server.stats().challenged, 2u);
  EXPECT_EQ(handled, 2);
}

TEST_F(CoapHostile, AProxyMayPutAnotherInItsPlace) {
  std::weak_ptr<int> held;
  bool alive = false;
  auto kept = std::make_shared<int>(1);
  held = kept;
  server.ServeProxied([&, kept = std::move(kept)](const ServedRequest&, Responder& responder) {
    server.ServeProxied([](const ServedRequest&, Responder& next) { next.Send(Code::kValid); });
    alive = !held.expired();  // what runs is not destroyed meanwhile
    responder.Send(Code::kContent);
  });
  const Message away = Get("/").SetProxyUri("coap://far/away");
  EXPECT_EQ(world.AskOnce(client, server, away).code(), Code::kContent);
  EXPECT_TRUE(alive);
  EXPECT_TRUE(held.expired());
  EXPECT_EQ(world.AskOnce(client, server, away).code(), Code::kValid);
  server.ServeProxied({});
  EXPECT_EQ(world.AskOnce(client, server, away).code(), Code::kProxyingNotSupported);
}

class CoapHostileGroup : public CoapHostile {
 protected:
  void SetUp() override { ASSERT_TRUE(server.Join(group, 0).ok()); }
  const Address group = *Address::Parse("ff15::99");
  const SocketAddress to = {group, 5683, 0};
};

TEST_F(CoapHostileGroup, NobodyIsMadeToProxyWithAllOthers) {
  int proxied = 0;
  server.ServeProxied([&](const ServedRequest&, Responder& responder) {
    ++proxied;
    responder.Send(Code::kContent);
  });
  const auto heard =
      world.Ask(client, to, Get("/").SetProxyUri("coap://victim/"), {.timeout = seconds(10)});
  world.RunFor(seconds(20));
  ASSERT_EQ(heard->size(), 1u);
  EXPECT_TRUE(absl::IsDeadlineExceeded(heard->front().status));
  EXPECT_EQ(proxied, 0);
}

TEST_F(CoapHostileGroup, AMemberWithALongAnswerDoesNotMakeTheClientAskTheGroupAgain) {
  const std::string body = LongText(5000);
  ASSERT_TRUE(server
                  .Serve({.path = "/long",
                          .multicast = true,
                          .handler =
                              [&](const ServedRequest&, Responder& responder) {
                                responder.Send(Code::kContent, ToBytes(body));
                              }})
                  .ok());
  // Strangers are sent no long answers to a group.
  ASSERT_EQ(world.AskOnce(client, server, Get("/long")).payload(), body);
  const std::uint64_t sent = client.stats().datagrams.sent;
  const auto heard = world.Ask(client, to, Get("/long"), {.timeout = seconds(10)});
  world.RunFor(seconds(20));
  ASSERT_EQ(heard->size(), 2u);
  EXPECT_EQ(heard->front().payload(), body.substr(0, 1024));
  ASSERT_TRUE(heard->front().message.options().block2());
  EXPECT_TRUE(heard->front().message.options().block2()->more);
  EXPECT_EQ(client.stats().datagrams.sent, sent + 1);
  // The rest is asked for where it is.
  Message rest = Get("/long").SetBlock2({.number = 1, .more = false, .exponent = 6});
  EXPECT_EQ(world.AskOnce(client, server, rest).payload(), body.substr(1024, 1024));
}

TEST_F(CoapHostileGroup, ABodyForAGroupFitsIntoABlock) {
  const auto none = [](const absl::StatusOr<Response>&) {};
  const auto send = [&](std::size_t bytes) {
    return client.Request(to, Message(Code::kPost, LongText(bytes)), none).status();
  };
  EXPECT_TRUE(absl::IsInvalidArgument(send(1025))) << send(1025);
  EXPECT_TRUE(send(1024).ok()) << send(1024);
}

/// A network that says of everything sent through it that it had no room.
class Crowded final : public DatagramSocket {
 public:
  explicit Crowded(std::unique_ptr<DatagramSocket> under) : under_(std::move(under)) {}
  absl::StatusOr<std::span<const Datagram>> Receive(std::size_t most) override {
    return under_->Receive(most);
  }
  absl::StatusOr<std::size_t> Send(std::span<const Datagram> datagrams) override {
    for (const Datagram& datagram : datagrams) peers_.push_back(datagram.peer);
    return under_->Send(datagrams);
  }
  std::size_t TakeErrors(std::span<DatagramError> errors) override {
    std::size_t count = 0;
    for (; count < errors.size() && !peers_.empty(); peers_.pop_back())
      errors[count++] = {peers_.back(), absl::ResourceExhaustedError("no room")};
    return count;
  }
  absl::Status Wait(TimePoint deadline, bool or_writable) override {
    return under_->Wait(deadline, or_writable);
  }
  void Wake() override { under_->Wake(); }
  int descriptor() const override { return under_->descriptor(); }
  SocketAddress local_address() const override { return under_->local_address(); }
  absl::Status Join(const Address& to, std::uint32_t on) override { return under_->Join(to, on); }
  absl::Status Leave(const Address& to, std::uint32_t on) override { return under_->Leave(to, on); }
  DatagramStats stats() const override { return under_->stats(); }

 private:
  const std::unique_ptr<DatagramSocket> under_;
  std::vector<SocketAddress> peers_;
};

TEST_F(CoapHostile, OneDatagramWithoutRoomEndsNoRequests) {
  ASSERT_TRUE(server
                  .Serve({.path = "/a",
                          .handler = [](const ServedRequest&,
                                        Responder& responder) { responder.Send(Code::kValid); }})
                  .ok());
  auto port = world.network.NewPort(*SocketAddress::Parse("[fd00::3]:5683"));
  ASSERT_TRUE(port.ok());
  auto made =
      Endpoint::Create(std::make_unique<Crowded>(*std::move(port)),
                       {.clock = [this] { return world.network.now(); }, .seed = SeedOf(9)});
  ASSERT_TRUE(made.ok());
  world.endpoints.push_back(*std::move(made));
  Endpoint& crowded = *world.endpoints.back();
  const Heard heard = world.AskOnce(crowded, server, Get("/a"));
  EXPECT_TRUE(heard.status.ok()) << heard.status;
  EXPECT_EQ(heard.code(), Code::kValid);
}

TEST_F(CoapHostile, WhoWantsNoResponseDoesNotWaitForOne) {
  Message silent = Get("/a");
  silent.SetNoResponse(26);
  EXPECT_TRUE(absl::IsInvalidArgument(client.Ask(server.local_address(), silent).status()));
  EXPECT_EQ(client.stats().requests, 0u);
}

TEST_F(CoapHostile, NothingIsAskedOfWhatIsBeingDestroyed) {
  absl::Status first;
  absl::Status again;
  absl::Status waiting;
  const SocketAddress to = server.local_address();
  const auto id = client.Request(to, Get("/a"), [&](const absl::StatusOr<Response>& response) {
    first = response.status();
    again = client.Request(to, Get("/a"), [](const absl::StatusOr<Response>&) {}).status();
    waiting = client.Ask(to, Get("/a")).status();
  });
  ASSERT_TRUE(id.ok());
  world.Remove(client);
  EXPECT_TRUE(absl::IsCancelled(first)) << first;
  EXPECT_TRUE(absl::IsCancelled(again)) << again;
  EXPECT_TRUE(absl::IsFailedPrecondition(waiting)) << waiting;
}

}  // namespace
}  // namespace waxvm::coap
