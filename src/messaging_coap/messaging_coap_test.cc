// SPDX-License-Identifier: Apache-2.0
// Engines of several processes over CoAP, on a simulated network.
#include "waxvm/messaging_coap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "src/coap_endpoint/endpoint_for_test.h"
#include "src/messaging/messaging_for_test.h"
#include "src/messaging_coap/messaging_coap_for_test.h"
#include "waxvm/cga.h"

namespace waxvm {
namespace {

using coap::Code;
using coap::ContentFormat;
using coap::Endpoint;
using messaging::KeyOf;
using messaging::kTestTime;
using messaging::Number;
using messaging::PublicOf;
using messaging::TopicAdvert;
using testing::ElementsAre;

using Text = BytesMessage<0xa020>;

coap::Message Post(std::string body) {
  coap::Message message = coap::Message(Code::kPost).SetPath("/wx");
  return message.SetPayload(ContentFormat::kOctetStream, std::move(body));
}

class MessagingCoap : public testing::Test {
 protected:
  explicit MessagingCoap(const NetworkConditions& conditions = {}) : world_(conditions) {}

  Side& AddSide(CoapTransportOptions options = {}, coap::EndpointOptions endpoint = {}) {
    const std::string at = "[fd00::" + std::to_string(sides_.size() + 1) + "]:5683";
    sides_.push_back(
        std::make_unique<Side>(world_.Add(at, endpoint), places_, clock_, std::move(options)));
    return *sides_.back();
  }
  Engine& AddEngine(Side& side, unsigned number, EngineOptions options = {}) {
    places_.engines[PublicOf(number)] = side.endpoint.local_address();
    return side.Add(number, options);
  }
  /// An engine that answers a number with the next one.
  Engine& AddCounting(Side& side, unsigned number) {
    Engine& engine = AddEngine(side, number);
    EXPECT_TRUE(engine
                    .On<Number>([&engine, this](const Number& from, const MessageInfo& info) {
                      EXPECT_FALSE(info.local);
                      encrypted_ += info.encrypted;
                      ++counted_[from.value];
                      const SendOptions options = {.encrypt = info.encrypted};
                      EXPECT_TRUE(engine.Reply(info, Number{from.value + 1}, options).ok());
                    })
                    .ok());
    return engine;
  }
  Engine& AddAsking(Side& side, unsigned number) {
    Engine& engine = AddEngine(side, number);
    EXPECT_TRUE(engine
                    .On<Number>([this](const Number& from, const MessageInfo& info) {
                      encrypted_ += info.encrypted;
                      answers_[from.value].push_back(info.in_reply_to);
                    })
                    .ok());
    return engine;
  }
  /// With the topic known, and an engine that has joined it and notes what it sees.
  Engine& AddReader(Side& side, unsigned number, std::vector<std::string>& seen) {
    EXPECT_TRUE(side.hub->SetTopic(TopicAdvert(KeyOf(50), {PublicOf(1)})).ok());
    Engine& engine = AddEngine(side, number);
    EXPECT_TRUE(engine
                    .On<Number>([&seen](const Number& n, const MessageInfo&) {
                      seen.push_back(std::to_string(n.value));
                    })
                    .ok());
    EXPECT_TRUE(engine.Join(PublicOf(50)).ok());
    return engine;
  }
  bool RunUntil(const std::function<bool()>& done,
                std::chrono::nanoseconds limit = std::chrono::minutes(10)) {
    return world_.RunUntil(
        [&] {
          for (const auto& side : sides_) side->Poll();
          return done();
        },
        limit);
  }
  void RunFor(std::chrono::nanoseconds time) {
    RunUntil([] { return false; }, time);
  }
  std::string Sealed(unsigned from, unsigned to, std::uint64_t sequence,
                     DestinationKind kind = DestinationKind::kEngine, std::string payload = "7") {
    return *SealEnvelope({.type = Number::kMessageType,
                          .kind = kind,
                          .destination = PublicOf(to),
                          .sequence = sequence,
                          .first_sequence = kind == DestinationKind::kTopic ? 1u : 0u,
                          .created = kTestTime,
                          .expires = kTestTime + 60'000,
                          .payload = payload},
                         KeyOf(from));
  }

  coap::SimulatedWorld world_;
  messaging::TestClock clock_;
  Places places_;
  std::map<std::uint64_t, int> counted_;
  std::map<std::uint64_t, std::vector<std::uint64_t>> answers_;
  int encrypted_ = 0;
  std::vector<std::unique_ptr<Side>> sides_;
};

TEST_F(MessagingCoap, CarriesRequestsAndReplies) {
  Side& here = AddSide();
  Side& there = AddSide();
  Engine& asking = AddAsking(here, 1);
  Engine& counting = AddCounting(there, 2);
  const auto plain = asking.Send(counting.key(), Number{1});
  const auto secret = asking.Send(counting.key(), Number{10}, {.encrypt = true});
  ASSERT_TRUE(plain.ok() && secret.ok()) << plain.status() << secret.status();
  EXPECT_GT(here.transport->stats().unsent_bytes, 0u);
  ASSERT_TRUE(RunUntil([&] { return answers_.size() == 2; }));
  EXPECT_THAT(answers_[2], ElementsAre(*plain));
  EXPECT_THAT(answers_[11], ElementsAre(*secret));
  EXPECT_EQ(encrypted_, 2) << "the second message and its reply";
  RunFor(std::chrono::seconds(5));
  for (const auto& side : sides_) {
    const CoapTransportStats stats = side->transport->stats();
    EXPECT_EQ(stats.sent, 2u);
    EXPECT_EQ(stats.accepted, 2u);
    EXPECT_EQ(stats.received, 2u);
    EXPECT_EQ(stats.failed + stats.refused + stats.unsent_bytes, 0u);
  }
  EXPECT_EQ(there.endpoint.stats().challenged, 1u) << "who sends shows first where it is";
  EXPECT_EQ(here.endpoint.stats().challenged, 0u) << "which it did when it answered";
}

TEST_F(MessagingCoap, CarriesLongMessagesInBlocks) {
  Side& here = AddSide();
  Side& there = AddSide();
  Engine& sender = AddEngine(here, 1);
  Engine& receiver = AddEngine(there, 2);
  const std::string text = coap::LongText(300'000);
  int right = 0;
  ASSERT_TRUE(
      receiver.On<Text>([&](const Text& from, const MessageInfo&) { right += from.bytes == text; })
          .ok());
  ASSERT_TRUE(sender.Send(receiver.key(), Text{text}).ok());
  ASSERT_TRUE(sender.Send(receiver.key(), Text{text}, {.encrypt = true}).ok());
  EXPECT_TRUE(RunUntil([&] { return right == 2; }));
}

TEST_F(MessagingCoap, CarriesTopicsToTheirGroup) {
  Side& here = AddSide({.multicast_interface = 0});
  Side& there = AddSide({.multicast_interface = 0});
  std::vector<std::string> seen_here, seen_there;
  AddReader(here, 3, seen_here);
  Engine& reader = AddReader(there, 4, seen_there);
  Engine& publisher = AddEngine(here, 1);
  for (std::uint64_t i = 1; i <= 3; ++i) {
    ASSERT_TRUE(publisher.Publish(PublicOf(50), Number{i}).ok());
    RunFor(std::chrono::seconds(1));
  }
  EXPECT_THAT(seen_there, ElementsAre("1", "2", "3"));
  EXPECT_THAT(seen_here, ElementsAre("1", "2", "3")) << "what comes back from the group is not new";
  EXPECT_EQ(here.transport->stats().multicast, 3u);
  EXPECT_EQ(there.transport->stats().received, 3u);
  EXPECT_EQ(there.endpoint.stats().messages.sent, 0u) << "nobody answers a group";
  // What needs blocks does not go to a group, and says so.
  const auto published = publisher.Publish(PublicOf(50), Text{coap::LongText(2000)});
  EXPECT_TRUE(absl::IsInvalidArgument(published.status())) << published.status();
  ASSERT_TRUE(reader.Leave(PublicOf(50)).ok());
  ASSERT_TRUE(publisher.Publish(PublicOf(50), Number{4}).ok());
  RunFor(std::chrono::seconds(1));
  EXPECT_EQ(there.transport->stats().received, 3u);
}

TEST_F(MessagingCoap, CarriesTopicsToPeersAndTheLastMessageToWhoIsLate) {
  Side& here = AddSide();
  places_.topic_peers = {here.endpoint.local_address(), *SocketAddress::Parse("[fd00::2]:5683")};
  Side& there = AddSide();
  std::vector<std::string> seen_here, seen_there, seen_late;
  AddReader(here, 3, seen_here);
  AddReader(there, 4, seen_there);
  Engine& publisher = AddEngine(here, 1);
  for (std::uint64_t i = 1; i <= 20; ++i)
    ASSERT_TRUE(publisher.Publish(PublicOf(50), Number{i}).ok());
  ASSERT_TRUE(RunUntil([&] { return seen_there.size() == 20; }));
  EXPECT_EQ(seen_here.size(), 20u);
  Side& late = AddSide();
  AddReader(late, 5, seen_late);
  RunFor(std::chrono::seconds(10));
  EXPECT_THAT(seen_late, ElementsAre("20")) << "both peers have it, and it is taken once";
  EXPECT_EQ(seen_there.back(), "20");
  const auto get = [&](const std::string& key) {
    return world_.AskOnce(late.endpoint, here.endpoint, coap::Get("/wx/t" + key));
  };
  EXPECT_EQ(get("/" + PublicOf(50).ToBase32()).payload(), *here.hub->Retained(PublicOf(50)));
  EXPECT_EQ(get("/" + PublicOf(51).ToBase32()).code(), Code::kNotFound);
  EXPECT_EQ(get("/key").code(), Code::kBadRequest);
  EXPECT_EQ(get("").code(), Code::kNotFound);
  EXPECT_EQ(get("/" + PublicOf(50).ToBase32() + "/more").code(), Code::kNotFound);
}

TEST_F(MessagingCoap, RefusesWhatIsNoGood) {
  Side& side = AddSide({.max_envelope_bytes = 3000}, {.max_body_bytes = 5000});
  std::vector<std::string> seen;
  AddReader(side, 2, seen);
  Endpoint& stranger = world_.Add("[fd00::99]:5683");
  const auto post = [&](std::string body) {
    const coap::Heard heard = world_.AskOnce(stranger, side.endpoint, Post(std::move(body)));
    EXPECT_TRUE(heard.status.ok()) << heard.status;
    EXPECT_EQ(heard.payload(), "");
    return heard.code();
  };
  constexpr DestinationKind kTopic = DestinationKind::kTopic;
  EXPECT_EQ(post(""), Code::kBadRequest);
  std::mt19937 random(1);
  for (std::size_t size = 1; size < 1000; size += 37) {
    std::string garbage = Sealed(1, 2, 1);
    garbage.resize(size);
    for (char& c : garbage) c = static_cast<char>(random());
    EXPECT_EQ(post(garbage), Code::kBadRequest) << size;
  }
  EXPECT_EQ(post(coap::LongText(4000)), Code::kRequestEntityTooLarge);
  EXPECT_EQ(post(coap::LongText(6000)), Code::kRequestEntityTooLarge) << "by the endpoint";
  EXPECT_EQ(post(Sealed(1, 77, 1)), Code::kNotFound);
  EXPECT_EQ(post(Sealed(1, 77, 1, kTopic)), Code::kNotFound);
  EXPECT_EQ(post(Sealed(9, 50, 1, kTopic)), Code::kForbidden) << "not named by the advert";
  std::string forged = Sealed(1, 50, 1, kTopic);
  forged.back() = static_cast<char>(forged.back() ^ 1);
  EXPECT_EQ(post(forged), Code::kUnauthorized);
  EXPECT_EQ(side.hub->stats().delivered, 0u);
  EXPECT_EQ(post(Sealed(1, 50, 1, kTopic)), Code::kChanged);
  EXPECT_EQ(post(Sealed(1, 50, 1, kTopic)), Code::kConflict) << "it was heard";
  side.Poll();
  EXPECT_THAT(seen, ElementsAre("7"));
  clock_.now += 120'000;
  EXPECT_EQ(post(Sealed(1, 50, 2, kTopic)), Code::kBadRequest) << "it has expired";
  coap::Message other = Post(Sealed(1, 2, 1));
  other.SetContentFormat(ContentFormat::kCbor);
  EXPECT_EQ(world_.AskOnce(stranger, side.endpoint, other).code(), Code::kUnsupportedContentFormat);
  EXPECT_EQ(world_.AskOnce(stranger, side.endpoint, coap::Get("/wx")).code(),
            Code::kMethodNotAllowed);
  other = Post(Sealed(1, 50, 3, kTopic)).SetPath("/wx/t");
  EXPECT_EQ(world_.AskOnce(stranger, side.endpoint, other).code(), Code::kMethodNotAllowed)
      << "that is where groups are sent to";
}

TEST_F(MessagingCoap, RefusesWhatWasRecorded) {
  Side& here = AddSide();
  Side& there = AddSide();
  Engine& sender = AddEngine(here, 1);
  Engine& receiver = AddCounting(there, 2);
  // Somebody on the way, who keeps what it is to hand on.
  Endpoint& spy = world_.Add("[fd00::99]:5683");
  std::string recorded;
  ASSERT_TRUE(spy.Serve({.path = "/wx",
                         .methods = {Code::kPost},
                         .handler =
                             [&](const coap::ServedRequest& request, coap::Responder& responder) {
                               recorded = coap::ToText(request.payload);
                               responder.Send(Code::kChanged);
                             }})
                  .ok());
  places_.engines[PublicOf(2)] = spy.local_address();
  ASSERT_TRUE(sender.Send(receiver.key(), Number{5}).ok());
  ASSERT_TRUE(RunUntil([&] { return !recorded.empty(); }));
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(world_.AskOnce(spy, there.endpoint, Post(recorded)).code(), Code::kChanged);
  RunFor(std::chrono::seconds(1));
  EXPECT_EQ(counted_[5], 1);
  EXPECT_EQ(receiver.stats().handled, 1u);
  EXPECT_EQ(receiver.stats().replays, 2u);
}

TEST_F(MessagingCoap, HearsNobodyWhoDoesNotShowWhereItIs) {
  Side& side = AddSide({.multicast_interface = 0});
  std::vector<std::string> seen;
  Engine& reader = AddReader(side, 2, seen);
  // One that reads no answers, as a forged address would not.
  const auto deaf = *world_.network.NewPort(*SocketAddress::Parse("[fd00::98]:5683"));
  const auto send = [&](coap::Type type, std::uint16_t id, const SocketAddress& to,
                        const coap::Message& message) {
    std::array<std::byte, 1500> buffer;
    coap::MessageWriter writer(buffer, type, message.code(), id);
    message.WriteTo(writer);
    ASSERT_TRUE(writer.ok());
    const Datagram datagram = {.peer = to, .local = {}, .bytes = writer.message()};
    ASSERT_EQ(*deaf->Send(std::span(&datagram, 1)), 1u);
    RunFor(std::chrono::seconds(1));
  };
  const SocketAddress at = side.endpoint.local_address();
  const SocketAddress group = {.address = cga::GroupOf(PublicOf(50)), .port = 5683};
  send(coap::Type::kCon, 1, at, Post(Sealed(1, 2, 1)));
  send(coap::Type::kNon, 2, at, Post(Sealed(1, 2, 1)));
  // Nor does a group carry anything but topics.
  send(coap::Type::kNon, 3, group, Post(Sealed(1, 2, 1)));
  send(coap::Type::kNon, 4, group, Post(Sealed(1, 2, 1)).SetPath("/wx/t"));
  send(coap::Type::kNon, 5, group, Post("garbage").SetPath("/wx/t"));
  EXPECT_EQ(side.hub->stats().delivered, 0u);
  EXPECT_EQ(reader.stats().handled, 0u);
  EXPECT_EQ(side.transport->stats().refused, 2u);
  send(coap::Type::kNon, 6, group,
       Post(Sealed(1, 50, 1, DestinationKind::kTopic)).SetPath("/wx/t"));
  EXPECT_THAT(seen, ElementsAre("7")) << "whose signature says who it is from";
}

TEST_F(MessagingCoap, TellsTheSenderWhatFailed) {
  std::vector<absl::StatusCode> failed;
  Side& here = AddSide({.max_unsent_bytes_per_peer = 2000,
                        .on_failure = [&](const PublicKey&, const absl::Status& status) {
                          failed.push_back(status.code());
                        }});
  Side& there = AddSide();
  Engine& sender = AddEngine(here, 1);
  AddEngine(there, 2, {.remote_messages = 2});
  EXPECT_TRUE(absl::IsNotFound(sender.Send(PublicOf(70), Number{1}).status()));
  places_.engines[PublicOf(71)] = there.endpoint.local_address();
  places_.engines[PublicOf(72)] = *SocketAddress::Parse("[fd00::98]:5683");
  places_.engines[PublicOf(73)] = *SocketAddress::Parse("[ff18::1]:5683");
  EXPECT_TRUE(absl::IsInvalidArgument(sender.Send(PublicOf(73), Number{1}).status()));
  ASSERT_TRUE(sender.Send(PublicOf(71), Number{1}).ok());
  ASSERT_TRUE(RunUntil([&] { return !failed.empty(); }));
  EXPECT_THAT(failed, ElementsAre(absl::StatusCode::kNotFound));
  failed.clear();
  // Nobody polls that engine: it has room for two.
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(sender.Send(PublicOf(2), Number{1}).ok());
  ASSERT_TRUE(world_.RunUntil([&] { return !failed.empty(); }));
  EXPECT_THAT(failed, ElementsAre(absl::StatusCode::kResourceExhausted));
  failed.clear();
  // And nobody is there at all.
  ASSERT_TRUE(sender.Send(PublicOf(72), Text{coap::LongText(1500)}).ok());
  EXPECT_TRUE(
      absl::IsResourceExhausted(sender.Send(PublicOf(72), Text{coap::LongText(1500)}).status()));
  EXPECT_TRUE(sender.Send(PublicOf(2), Text{coap::LongText(1500)}).ok()) << "another has room";
  ASSERT_TRUE(RunUntil([&] { return !failed.empty(); }));
  EXPECT_THAT(failed, ElementsAre(absl::StatusCode::kDeadlineExceeded));
  EXPECT_EQ(here.transport->stats().unsent_bytes, 0u);
  EXPECT_EQ(here.transport->stats().failed, 3u);
  // Those behind one that is not answered are not waited for.
  failed.clear();
  for (std::uint64_t i = 0; i < 3; ++i) ASSERT_TRUE(sender.Send(PublicOf(72), Number{i}).ok());
  ASSERT_TRUE(RunUntil([&] { return !failed.empty(); }, std::chrono::seconds(100)));
  EXPECT_EQ(failed.size(), 3u);
  EXPECT_EQ(here.transport->stats().unsent_bytes, 0u);
  // What is under way at the end is told to nobody.
  ASSERT_TRUE(sender.Send(PublicOf(72), Number{1}).ok());
  here.transport->Stop();
  RunFor(std::chrono::minutes(5));
  EXPECT_EQ(failed.size(), 3u);
  EXPECT_EQ(here.transport->stats().failed, 7u);
}

TEST_F(MessagingCoap, LeavesTheEndpointAsItWas) {
  Endpoint& endpoint = world_.Add("[fd00::1]:5683");
  const auto hub = *MessageHub::Create();
  CoapTransportOptions options = {
      .find = [](const PublicKey&) { return absl::NotFoundError("nobody"); }};
  ASSERT_TRUE(endpoint.Serve({.path = "/wx/t", .handler = [](const auto&, auto&) {}}).ok());
  {
    const auto transport = *CoapTransport::Create(&endpoint, options);
    EXPECT_TRUE(absl::IsAlreadyExists(transport->Serve(hub.get())));
  }
  EXPECT_TRUE(absl::IsNotFound(endpoint.Remove("/wx")));
  EXPECT_TRUE(endpoint.Remove("/wx/t").ok());
  {
    const auto transport = *CoapTransport::Create(&endpoint, options);
    EXPECT_TRUE(transport->Serve(hub.get()).ok());
    EXPECT_TRUE(absl::IsFailedPrecondition(transport->Serve(hub.get())));
    transport->Stop();
    EXPECT_TRUE(transport->Serve(hub.get()).ok());
  }
  EXPECT_TRUE(absl::IsNotFound(endpoint.Remove("/wx")));
  for (const char* path : {"", "/", "wx", "/wx/"}) {
    options.path = path;
    EXPECT_FALSE(CoapTransport::Create(&endpoint, options).ok()) << path;
  }
  EXPECT_FALSE(CoapTransport::Create(&endpoint, {}).ok());
}

class LossyMessagingCoap : public MessagingCoap {
 protected:
  LossyMessagingCoap() : MessagingCoap({.loss = 0.1, .duplication = 0.2, .reordering = 0.3}) {}
};

TEST_F(LossyMessagingCoap, DeliversExactlyOnce) {
  Side& here = AddSide();
  Side& there = AddSide();
  Engine& asking = AddAsking(here, 1);
  Engine& counting = AddCounting(there, 2);
  std::map<std::string, int> texts;
  ASSERT_TRUE(
      counting.On<Text>([&](const Text& text, const MessageInfo&) { ++texts[text.bytes]; }).ok());
  for (std::uint64_t i = 0; i < 40; ++i) ASSERT_TRUE(asking.Send(counting.key(), Number{i}).ok());
  const std::string text = coap::LongText(10'000);
  ASSERT_TRUE(asking.Send(counting.key(), Text{text}).ok());
  EXPECT_TRUE(
      RunUntil([&] { return answers_.size() == 40 && !texts.empty(); }, std::chrono::hours(1)));
  RunFor(std::chrono::minutes(5));
  EXPECT_GT(world_.network.stats().lost, 10u);
  EXPECT_GT(world_.network.stats().duplicated, 10u);
  EXPECT_EQ(counted_.size(), 40u);
  for (const auto& [number, times] : counted_) EXPECT_EQ(times, 1) << number;
  for (const auto& [number, replies] : answers_) EXPECT_EQ(replies.size(), 1u) << number;
  EXPECT_EQ(texts[text], 1);
}

}  // namespace
}  // namespace waxvm
