// SPDX-License-Identifier: Apache-2.0
// Endpoints over loopback, with threads.
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "src/coap_endpoint/endpoint_for_test.h"
#include "waxvm/coap_endpoint.h"

namespace waxvm::coap {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

class CoapUdp : public testing::TestWithParam<UdpBackend> {
 protected:
  std::unique_ptr<Endpoint> Open(const std::string& at, const EndpointOptions& options = {}) {
    auto socket = NewUdpSocket({.local = *SocketAddress::Parse(at), .backend = GetParam()});
    EXPECT_TRUE(socket.ok()) << socket.status();
    auto endpoint = Endpoint::Create(*std::move(socket), options);
    EXPECT_TRUE(endpoint.ok()) << endpoint.status();
    return *std::move(endpoint);
  }
  /// Answers with what it is sent.
  static void ServeMirror(Endpoint& server, std::atomic<int>& handled) {
    ASSERT_TRUE(server
                    .Serve({.path = "/mirror",
                            .methods = {Code::kPost},
                            .handler =
                                [&handled](const ServedRequest& request, Responder& responder) {
                                  ++handled;
                                  responder.Send(Code::kContent, request.payload);
                                }})
                    .ok());
  }
};

INSTANTIATE_TEST_SUITE_P(Backends, CoapUdp,
                         testing::Values(UdpBackend::kMmsg, UdpBackend::kIoUring),
                         [](const auto& tested) {
                           return tested.param == UdpBackend::kMmsg ? "mmsg" : "io_uring";
                         });

Message Post(std::string text) { return Message(Code::kPost, std::move(text)).SetPath("/mirror"); }

TEST_P(CoapUdp, WhoeverAsksRunsTheEndpointMeanwhile) {
  std::atomic<int> handled = 0;
  const auto server = Open("[::1]:0");
  ServeMirror(*server, handled);
  ASSERT_TRUE(server->Start().ok());
  EXPECT_FALSE(server->Start().ok());
  EXPECT_FALSE(server->Poll(Clock::now()).ok());
  const auto client = Open("[::1]:0");
  for (const std::string& text : {std::string("short"), LongText(100'000)}) {
    const auto reply = client->Ask(server->local_address(), Post(text));
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->message.code(), Code::kContent);
    EXPECT_TRUE(reply->message.payload() == text);
    EXPECT_EQ(reply->peer, server->local_address());
  }
  EXPECT_EQ(handled, 2);
}

TEST_P(CoapUdp, ManyThreadsAskOneEndpoint) {
  std::atomic<int> handled = 0;
  const auto server = Open("[::1]:0");
  ServeMirror(*server, handled);
  ASSERT_TRUE(server->Start().ok());
  const auto client = Open("[::1]:0", {.transmission = {.nstart = 16}});
  ASSERT_TRUE(client->Start().ok());
  constexpr int kThreads = 4;
  constexpr int kEach = 200;
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([&, i] {
      for (int j = 0; j < kEach; ++j) {
        const std::string text = std::to_string(i) + "/" + std::to_string(j);
        const auto reply = client->Ask(server->local_address(), Post(text));
        EXPECT_TRUE(reply.ok()) << reply.status();
        right += reply.ok() && reply->message.payload() == text;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, kThreads * kEach);
  EXPECT_EQ(handled, kThreads * kEach);
  EXPECT_EQ(client->stats().requests, 0u);
}

TEST_P(CoapUdp, AnotherThreadAnswersLater) {
  auto server = Open("[::1]:0");
  std::vector<std::thread> threads;
  ASSERT_TRUE(server
                  ->Serve({.path = "/slow",
                           .handler =
                               [&](const ServedRequest&, Responder& responder) {
                                 threads.emplace_back([later = responder.Defer()]() mutable {
                                   std::this_thread::sleep_for(milliseconds(20));
                                   later.Send(Message(Code::kContent, "from elsewhere"));
                                 });
                               }})
                  .ok());
  ASSERT_TRUE(server->Start().ok());
  const auto client = Open("[::1]:0");
  for (int i = 0; i < 5; ++i) {
    const auto reply = client->Ask(server->local_address(), Get("/slow"));
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->message.payload(), "from elsewhere");
  }
  server.reset();
  for (std::thread& thread : threads) thread.join();
}

TEST_P(CoapUdp, AClosedPortIsToldAtOnce) {
  const auto client = Open("[::1]:0");
  SocketAddress closed;
  closed = Open("[::1]:0")->local_address();
  const auto start = Clock::now();
  const auto reply = client->Ask(closed, Get("/"));
  EXPECT_EQ(reply.status().code(), absl::StatusCode::kUnavailable) << reply.status();
  EXPECT_LT(Clock::now() - start, seconds(2));
}

TEST_P(CoapUdp, AnEventLoopCanRunIt) {
  std::atomic<int> handled = 0;
  const auto server = Open("[::1]:0");
  ServeMirror(*server, handled);
  const auto client = Open("[::1]:0");
  ASSERT_TRUE(server->Poll(Clock::now()).ok());
  ASSERT_TRUE(client->Poll(Clock::now()).ok());
  std::string got;
  ASSERT_TRUE(client
                  ->Request(server->local_address(), Post("looped"),
                            [&](const absl::StatusOr<Response>& response) {
                              if (response.ok()) got = ToText(response->payload);
                            })
                  .ok());
  // What is to be sent is due at once.
  EXPECT_LE(client->next_deadline(), Clock::now());
  ASSERT_TRUE(client->Poll(Clock::now()).ok());
  for (Endpoint* endpoint : {server.get(), client.get()}) {
    pollfd polled = {endpoint->descriptor(), POLLIN, 0};
    ASSERT_EQ(poll(&polled, 1, 5000), 1);
    ASSERT_TRUE(endpoint->Poll(Clock::now()).ok());
  }
  EXPECT_EQ(got, "looped");
  // What another thread asks for wakes the loop.
  pollfd polled = {client->descriptor(), POLLIN, 0};
  for (int i = 0; i < 100 && poll(&polled, 1, 0) == 1; ++i)
    ASSERT_TRUE(client->Poll(Clock::now()).ok());
  std::thread other([&] {
    EXPECT_TRUE(client->Request(server->local_address(), Post("again"), [](const auto&) {}).ok());
  });
  EXPECT_EQ(poll(&polled, 1, 5000), 1);
  other.join();
}

TEST_P(CoapUdp, AnEventLoopIsWokenByWhatAnotherThreadAnswers) {
  const auto server = Open("[::1]:0");
  DeferredResponder owed;
  bool asked = false;
  ASSERT_TRUE(server
                  ->Serve({.path = "/later",
                           .handler =
                               [&](const ServedRequest&, Responder& responder) {
                                 asked = true;
                                 owed = responder.Defer();
                               }})
                  .ok());
  const auto client = Open("[::1]:0");
  ASSERT_TRUE(client->Start().ok());
  ASSERT_TRUE(server->Poll(Clock::now()).ok());
  std::atomic<bool> answered = false;
  ASSERT_TRUE(client
                  ->Request(server->local_address(), Get("/later"),
                            [&](const absl::StatusOr<Response>& response) {
                              answered = response.ok() && response->code == Code::kValid;
                            })
                  .ok());
  pollfd polled = {server->descriptor(), POLLIN, 0};
  // Until the client has its acknowledgement, and there is nothing to do any more.
  for (const auto end = Clock::now() + milliseconds(1500); !asked || Clock::now() < end;) {
    ASSERT_LT(Clock::now(), end + seconds(10));
    poll(&polled, 1, 20);
    ASSERT_TRUE(server->Poll(Clock::now()).ok());
  }
  const auto due = server->next_deadline();
  std::thread([&] { owed.Send(Message(Code::kValid)); }).join();
  EXPECT_GT(due, Clock::now() + seconds(1)) << "it would be looked at by chance";
  EXPECT_EQ(poll(&polled, 1, 1000), 1) << "nobody would send it";
  ASSERT_TRUE(server->Poll(Clock::now()).ok());
  for (int i = 0; i < 500 && !answered; ++i) std::this_thread::sleep_for(milliseconds(10));
  EXPECT_TRUE(answered);
}

TEST_P(CoapUdp, AnAnswerComesFromTheAddressThatWasAskedAlsoLater) {
  const auto server = Open("[::]:0");
  DeferredResponder later;
  ASSERT_TRUE(server
                  ->Serve({.path = "/slow",
                           .handler = [&](const ServedRequest&,
                                          Responder& responder) { later = responder.Defer(); }})
                  .ok());
  const auto client = Open("[::]:0");
  SocketAddress to = *SocketAddress::Parse("127.5.6.7:1");
  to.port = server->local_address().port;
  const SocketAddress from = *SocketAddress::Parse("127.8.9.10:0");
  SocketAddress answered;
  ASSERT_TRUE(client
                  ->Request(to, Get("/slow"),
                            [&](const absl::StatusOr<Response>& response) {
                              ASSERT_TRUE(response.ok()) << response.status();
                              answered = response->peer;
                            },
                            {.local = from})
                  .ok());
  const auto end = Clock::now() + seconds(10);
  const auto run = [&](auto done) {
    while (!done() && Clock::now() < end) {
      ASSERT_TRUE(client->Poll(Clock::now() + milliseconds(5)).ok());
      ASSERT_TRUE(server->Poll(Clock::now() + milliseconds(5)).ok());
    }
  };
  // Long enough for an empty acknowledgement.
  run([&] { return server->stats().messages.empty_acks_sent == 1; });
  later.Send(Message(Code::kContent, "at last"));
  run([&] { return answered.port != 0; });
  EXPECT_EQ(answered, to);
  EXPECT_EQ(client->stats().messages.retransmissions, 0u);
}

TEST_P(CoapUdp, ItCanBeDestroyedWhileRequestsAreUnderWay) {
  const auto silent = NewUdpSocket({.local = *SocketAddress::Parse("[::1]:0")});
  std::atomic<int> cancelled = 0;
  {
    const auto client = Open("[::1]:0", {.transmission = {.nstart = 10}});
    ASSERT_TRUE(client->Start().ok());
    for (int i = 0; i < 10; ++i)
      ASSERT_TRUE(client
                      ->Request((*silent)->local_address(), Get("/"),
                                [&](const absl::StatusOr<Response>& response) {
                                  cancelled += absl::IsCancelled(response.status());
                                })
                      .ok());
  }
  EXPECT_EQ(cancelled, 10);
}

TEST_P(CoapUdp, GarbageIsSurvivedAndWhatIsTooLongCounted) {
  std::atomic<int> handled = 0;
  const auto server = Open("[::1]:0");
  ServeMirror(*server, handled);
  ASSERT_TRUE(server->Start().ok());
  const auto attacker = *NewUdpSocket({.local = *SocketAddress::Parse("[::1]:0")});
  std::string bytes(60'000, '\0');
  std::uint32_t state = 12345;
  for (char& byte : bytes) byte = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  for (std::size_t i = 0; i < 5000; ++i) {
    const std::string_view part =
        std::string_view(bytes).substr(i * 7, i % 100 == 0 ? 10'000 : i % 60);
    const Datagram datagram = {
        .peer = server->local_address(), .local = {}, .bytes = ToBytes(part)};
    ASSERT_TRUE(attacker->Send({&datagram, 1}).ok());
    if (i % 500 == 0) std::this_thread::sleep_for(milliseconds(5));
  }
  const auto client = Open("[::1]:0");
  const auto reply = client->Ask(server->local_address(), Post("fine"));
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->message.payload(), "fine");
  EXPECT_GT(server->stats().truncated, 0u);
}

}  // namespace
}  // namespace waxvm::coap
