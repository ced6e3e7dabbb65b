// SPDX-License-Identifier: Apache-2.0
// The proxy between clients and a server that are made up, with a clock of the test's own.
#include "src/coap_edge/proxy.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace waxvm::coap::edge {
namespace {

using namespace std::chrono_literals;

struct Sent {
  SessionId session;
  Carriage carriage;
  std::uint16_t mid;
  std::string token;
  Message message;
};

class FakeOutside final : public Outside {
 public:
  Session* Find(SessionId session) override {
    const auto at = sessions.find(session);
    return at == sessions.end() ? nullptr : &at->second;
  }
  void Send(SessionId session, Carriage carriage, std::uint16_t mid, const std::string& token,
            const Message& message) override {
    sent.push_back({session, carriage, mid, token, message});
  }
  void Acknowledge(SessionId, std::uint16_t mid) override { acknowledged.push_back(mid); }
  std::size_t RoomOf(SessionId) override { return room; }
  void Hold(SessionId session) override { ++holds[session]; }
  void Release(SessionId session) override { --holds[session]; }

  std::map<SessionId, Session> sessions;
  std::vector<Sent> sent;
  std::vector<std::uint16_t> acknowledged;
  std::map<SessionId, int> holds;
  std::size_t room = 1148;
};

class FakeInside final : public InsideClient {
 public:
  struct Asked {
    Call call;
    Handler handler;
  };
  absl::StatusOr<std::uint64_t> Request(Call call, Handler handler) override {
    if (!refusal.ok()) return refusal;
    asked.push_back({std::move(call), std::move(handler)});
    return asked.size();
  }
  void Cancel(std::uint64_t id) override { cancelled.push_back(id); }

  absl::Status refusal;
  std::deque<Asked> asked;
  std::vector<std::uint64_t> cancelled;
};

class ProxyTest : public ::testing::Test {
 protected:
  ProxyTest() {
    options_.hosts = {{"s", *SocketAddress::Parse("[fd00::1]:5683")}};
    options_.mappings = {{"/m", "coap://s/in"}};
    options_.rules = {{.who = "*", .methods = {Code::kGet, Code::kPost, Code::kPut, Code::kFetch}}};
    for (SessionId id = 1; id <= 3; ++id) {
      Session session;
      session.id = id;
      session.transport = id == 2 ? EdgeTransport::kTcp : EdgeTransport::kUdp;
      session.peer = *SocketAddress::Parse("[2001:db8::1]:1000");
      session.peer.port = static_cast<std::uint16_t>(1000 + id);
      session.source = "source";
      session.identity = "anonymous";
      session.verified = id == 3;
      outside_.sessions[id] = session;
    }
  }
  ~ProxyTest() override {
    proxy_.reset();
    for (const auto& [session, holds] : outside_.holds) EXPECT_EQ(holds, 0) << session;
  }

  void Make() {
    proxy_ = std::make_unique<Proxy>(
        options_, *Policy::Create(options_), std::array<std::uint8_t, 16>{1}, outside_, inside_,
        [this](std::uint64_t exchange, absl::StatusOr<Message> answer, bool more) {
          proxy_->OnAnswer(exchange, std::move(answer), more, now_);
        });
  }
  void Ask(SessionId session, std::uint16_t mid, const Message& message,
           const std::string& token = "t", bool confirmable = true) {
    if (!proxy_) Make();
    OutsideRequest request;
    request.message = message;
    request.token = token;
    request.mid = mid;
    request.confirmable = confirmable;
    request.wire_bytes = 5 + message.options().encoded().size() + message.payload().size();
    proxy_->OnRequest(outside_.sessions[session], std::move(request), now_);
  }
  void Reply(std::size_t index, absl::StatusOr<Message> answer, bool more = false) {
    inside_.asked[index].handler(std::move(answer), more);
  }
  void Pass(std::chrono::milliseconds time) {
    now_ += time;
    proxy_->OnTime(now_);
  }
  Message Get() const { return Message(Code::kGet).SetPath("/m/x"); }
  const Sent& last() const { return outside_.sent.back(); }

  EdgeOptions options_;
  FakeOutside outside_;
  FakeInside inside_;
  TimePoint now_{std::chrono::hours(1)};
  std::unique_ptr<Proxy> proxy_;
};

TEST_F(ProxyTest, OptionsOnTheirWay) {
  Ask(3, 1,
      Get()
          .SetHopLimit(7)
          .SetNoResponse(0)
          .SetAccept(ContentFormat::kCbor)
          .SetEcho("e")
          .AddQuery("q=1")
          .SetBlock2({.number = 0, .exponent = 2}));
  const Message& inward = inside_.asked.at(0).call.request;
  EXPECT_EQ(PathAndQueryOf(inward.options()), "/in/x?q=1");
  EXPECT_EQ(inward.options().uri_host(), "s");
  EXPECT_EQ(inward.options().hop_limit(), 6u);
  EXPECT_EQ(inward.options().accept(), ContentFormat::kCbor);
  for (const OptionNumber number : {OptionNumber::kNoResponse, OptionNumber::kEcho,
                                    OptionNumber::kBlock2, OptionNumber::kProxyUri})
    EXPECT_FALSE(inward.options().Has(number));
  Reply(0, Message(Code::kCreated, "made").SetLocation("/in/new/1").AddETag("tag").SetMaxAge(9));
  EXPECT_EQ(LocationOf(last().message.options()), "/m/new/1");
  EXPECT_EQ(last().message.options().etag(), "tag");
  EXPECT_EQ(last().message.options().max_age_seconds(), 9u);
  EXPECT_EQ(last().carriage, Carriage::kPiggybacked);
}

TEST_F(ProxyTest, AHopLimitOfOneAndOfZero) {
  Ask(3, 1, Get().SetHopLimit(1));
  EXPECT_EQ(last().message.code(), Code::kHopLimitReached);
  Ask(3, 2, Get().Set(OptionNumber::kHopLimit, std::string_view("\0", 1)));
  EXPECT_EQ(last().message.code(), Code::kBadRequest);
  EXPECT_TRUE(inside_.asked.empty());
}

TEST_F(ProxyTest, UnsafeOptionsThatNobodyKnows) {
  Ask(3, 1, Get().Add(static_cast<OptionNumber>(2050), "x"));  // unsafe, elective
  EXPECT_EQ(last().message.code(), Code::kBadOption);
  Ask(3, 2, Get().Add(static_cast<OptionNumber>(2048), "x"));  // safe to forward
  EXPECT_TRUE(inside_.asked.at(0).call.request.options().Has(static_cast<OptionNumber>(2048)));
  Reply(0, Message(Code::kContent).Add(static_cast<OptionNumber>(2050), "x"));
  EXPECT_EQ(last().message.code(), Code::kBadGateway);
}

TEST_F(ProxyTest, FailuresInside) {
  const std::pair<absl::Status, Code> cases[] = {
      {absl::DeadlineExceededError(""), Code::kGatewayTimeout},
      {absl::AbortedError(""), Code::kBadGateway},
      {absl::UnavailableError(""), Code::kBadGateway},
      {absl::InvalidArgumentError(""), Code::kBadGateway},
      {absl::CancelledError(""), Code::kServiceUnavailable}};
  std::uint16_t mid = 0;
  for (const auto& [status, code] : cases) {
    Ask(3, ++mid, Get());
    Reply(mid - 1u, status);
    EXPECT_EQ(last().message.code(), code) << status;
  }
  inside_.refusal = absl::ResourceExhaustedError("");
  Ask(3, ++mid, Get());
  EXPECT_EQ(last().message.code(), Code::kServiceUnavailable);
}

TEST_F(ProxyTest, SlowAnswersAreSeparateForVerifiedClientsOnly) {
  Ask(3, 1, Get());
  Ask(1, 2, Get());
  Pass(1100ms);
  EXPECT_EQ(outside_.acknowledged, std::vector<std::uint16_t>{1});
  Ask(3, 1, Get());  // a retransmission
  EXPECT_EQ(outside_.acknowledged.size(), 2u);
  Ask(1, 2, Get());
  EXPECT_EQ(outside_.acknowledged.size(), 2u);
  Reply(0, Message(Code::kContent, "a"));
  EXPECT_EQ(last().carriage, Carriage::kConfirmable);
  Reply(1, Message(Code::kContent, "b"));
  EXPECT_EQ(last().carriage, Carriage::kPiggybacked);
  EXPECT_EQ(last().mid, 2);
  EXPECT_EQ(inside_.asked.size(), 2u);
}

TEST_F(ProxyTest, TooLate) {
  Ask(3, 1, Get());
  Pass(1100ms);
  Pass(20s);
  EXPECT_EQ(last().message.code(), Code::kGatewayTimeout);
  EXPECT_EQ(inside_.cancelled, std::vector<std::uint64_t>{1});
  const std::size_t before = outside_.sent.size();
  Reply(0, Message(Code::kContent));
  EXPECT_EQ(outside_.sent.size(), before);
}

TEST_F(ProxyTest, ChangesAndObservationsAreForVerifiedClients) {
  Ask(1, 1, Message(Code::kPost).SetPath("/m/x"));
  EXPECT_EQ(last().message.code(), Code::kUnauthorized);
  const std::string echo(*last().message.options().echo());
  Ask(1, 2, Get().SetObserve(0));
  EXPECT_EQ(last().message.code(), Code::kUnauthorized);
  EXPECT_TRUE(inside_.asked.empty());
  Ask(1, 3, Message(Code::kPost).SetPath("/m/x").SetEcho(echo));
  EXPECT_EQ(inside_.asked.size(), 1u);
  // From then on it is known.
  Ask(1, 4, Get().SetObserve(0));
  EXPECT_EQ(inside_.asked.size(), 2u);
  Ask(2, 1, Message(Code::kPost).SetPath("/m/x"));
  EXPECT_EQ(inside_.asked.size(), 3u);
}

TEST_F(ProxyTest, AnEchoOfSomebodyElseOrOfLongAgo) {
  Ask(1, 1, Message(Code::kPost).SetPath("/m/x"));
  const std::string echo(*last().message.options().echo());
  outside_.sessions[3].verified = false;
  Ask(3, 1, Message(Code::kPost).SetPath("/m/x").SetEcho(echo));
  EXPECT_EQ(last().message.code(), Code::kUnauthorized);
  Pass(121s);
  Ask(1, 2, Message(Code::kPost).SetPath("/m/x").SetEcho(echo));
  EXPECT_EQ(last().message.code(), Code::kUnauthorized);
  EXPECT_TRUE(inside_.asked.empty());
}

TEST_F(ProxyTest, ObservationsAndTheirEnds) {
  Ask(3, 1, Get().SetObserve(0));
  EXPECT_TRUE(inside_.asked.at(0).call.observe);
  Reply(0, Message(Code::kContent, "1"), true);
  const auto first = last().message.options().observe();
  ASSERT_TRUE(first.has_value());
  Reply(0, Message(Code::kContent, "2"), true);
  EXPECT_GT(*last().message.options().observe(), *first);
  EXPECT_EQ(last().carriage, Carriage::kConfirmable);
  // More at once is not confirmable, and the latest comes again, confirmable.
  Reply(0, Message(Code::kContent, "3"), true);
  Reply(0, Message(Code::kContent, "4"), true);
  EXPECT_EQ(last().carriage, Carriage::kNonConfirmable);
  const std::size_t before = outside_.sent.size();
  Pass(2s);
  ASSERT_EQ(outside_.sent.size(), before + 1);
  EXPECT_EQ(last().message.payload(), "4");
  EXPECT_EQ(last().carriage, Carriage::kConfirmable);
  EXPECT_EQ(proxy_->stats().observations_now, 1u);
  // Reset by the client.
  proxy_->OnRejected(3, "t");
  EXPECT_EQ(proxy_->stats().observations_now, 0u);
  EXPECT_EQ(inside_.cancelled.size(), 1u);
  // By the server, with an error.
  Ask(3, 2, Get().SetObserve(0), "u");
  Reply(1, Message(Code::kContent), true);
  Reply(1, Message(Code::kNotFound), false);
  EXPECT_EQ(last().message.code(), Code::kNotFound);
  EXPECT_FALSE(last().message.options().observe().has_value());
  // By a request, and by the end of the session.
  Ask(3, 3, Get().SetObserve(0), "v");
  Reply(2, Message(Code::kContent), true);
  Ask(3, 4, Get().SetObserve(1), "v");
  EXPECT_EQ(proxy_->stats().observations_now, 0u);
  EXPECT_FALSE(inside_.asked.at(3).call.observe);
  Ask(3, 5, Get().SetObserve(0), "w");
  Reply(4, Message(Code::kContent), true);
  proxy_->OnClosed(3);
  EXPECT_EQ(proxy_->stats().observations_now + proxy_->stats().requests_now, 0u);
}

TEST_F(ProxyTest, TooManyObservations) {
  options_.limits.observations_per_source = 2;
  for (std::uint16_t i = 0; i < 3; ++i) {
    Ask(3, i, Get().SetObserve(0), std::string(1, static_cast<char>('a' + i)));
    Reply(i, Message(Code::kContent), true);
    EXPECT_EQ(last().message.options().observe().has_value(), i < 2);
  }
  EXPECT_EQ(inside_.cancelled, std::vector<std::uint64_t>{3});
}

TEST_F(ProxyTest, BlocksOfAnAnswerComeFromOneBody) {
  const std::string body = std::string(1024, 'a') + std::string(1000, 'b');
  Ask(3, 1, Get());
  Reply(0, Message(Code::kContent, body));
  EXPECT_EQ(last().message.payload(), body.substr(0, 1024));
  EXPECT_TRUE(last().message.options().block2()->more);
  Ask(3, 2, Get().SetBlock2({.number = 1, .exponent = 6}));
  EXPECT_EQ(last().message.payload(), body.substr(1024));
  EXPECT_EQ(inside_.asked.size(), 1u);
  // Not those of another client, nor after a minute.
  Ask(2, 1, Get().SetBlock2({.number = 1, .exponent = 6}));
  EXPECT_EQ(inside_.asked.size(), 2u);
  Pass(61s);
  Ask(3, 3, Get().SetBlock2({.number = 1, .exponent = 6}));
  EXPECT_EQ(inside_.asked.size(), 4u - 1u);
  Ask(3, 4, Message(Code::kPost).SetPath("/m/x").SetBlock2({.number = 1, .exponent = 6}));
  EXPECT_EQ(last().message.code(), Code::kRequestEntityIncomplete);
}

TEST_F(ProxyTest, BlocksOfARequestAreForWhoMay) {
  const auto put = [](std::uint32_t number, bool more, std::size_t bytes) {
    return Message(Code::kPut, std::string(bytes, 'p'))
        .SetPath("/m/x")
        .SetBlock1({.number = number, .more = more, .exponent = 6});
  };
  Ask(3, 1, put(0, true, 1024));
  EXPECT_EQ(last().message.code(), Code::kContinue);
  Ask(3, 2, put(1, false, 10));
  EXPECT_EQ(inside_.asked.at(0).call.request.payload().size(), 1034u);
  Reply(0, Message(Code::kChanged));
  EXPECT_EQ(last().message.options().block1()->number, 1u);
  Ask(3, 3, put(5, false, 10));
  EXPECT_EQ(last().message.code(), Code::kRequestEntityIncomplete);
  Ask(3, 4, put(0, true, 1024).SetPath("/elsewhere"));
  EXPECT_EQ(last().message.code(), Code::kNotFound);
  EXPECT_EQ(proxy_->stats().refused, 1u);
}

TEST_F(ProxyTest, RequestsUnderWayAreBounded) {
  options_.limits.requests = 3;
  options_.limits.requests_per_source = 2;
  Ask(3, 1, Get());
  Ask(3, 2, Get());
  Ask(3, 3, Get());
  EXPECT_EQ(last().message.code(), Code::kTooManyRequests);
  outside_.sessions[2].source = "another";
  Ask(2, 1, Get());
  Ask(2, 2, Get());
  EXPECT_EQ(last().message.code(), Code::kServiceUnavailable);
  Reply(0, Message(Code::kContent));
  Ask(2, 3, Get());
  EXPECT_EQ(inside_.asked.size(), 4u);
}

TEST_F(ProxyTest, WhatIsKeptOfAnsweredRequestsIsBounded) {
  options_.limits.max_bodies_bytes = 20'000;
  for (int i = 0; i < 1000; ++i) {
    Ask(3, static_cast<std::uint16_t>(i), Get());
    Reply(static_cast<std::size_t>(i), Message(Code::kContent, std::string(900, 'x')));
    EXPECT_LE(proxy_->stats().body_bytes, 40'000u);
  }
  proxy_->OnClosed(3);
  EXPECT_EQ(proxy_->stats().body_bytes, 0u);
}

TEST_F(ProxyTest, AClientWithoutRoom) {
  outside_.room = 0;
  Ask(2, 1, Get());
  Reply(0, Message(Code::kContent, std::string(5000, 'x')));
  EXPECT_LE(last().message.payload().size(), 16u);
}

}  // namespace
}  // namespace waxvm::coap::edge
