// SPDX-License-Identifier: Apache-2.0
// ETSI CoAP plugtest, TD_COAP_OBS_01, 02 and 04 to 12, in both roles. docs/coap.md has the table.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/coap/plugtest.h"

namespace waxvm::coap {
namespace {

using std::chrono::seconds;
using testing::Values;

class PlugtestObserve : public Plugtest {
 protected:
  PlugtestObserve() { ServeObserved(); }

  using Notifications = std::shared_ptr<std::vector<Heard>>;
  Notifications Observe(bool confirmable = true) {
    const auto heard = wire.Ask(client, server.local_address(), Get("/obs"),
                                {.confirmable = confirmable, .observe = true});
    EXPECT_TRUE(wire.RunUntil([&] { return !heard->empty(); }, seconds(10)));
    return heard;
  }
  /// The registration that the first two datagrams are. Returns its token.
  std::string ExpectRegistration(Type type = Type::kCon) {
    const Captured request = Expect(0, client, type, Code::kGet);
    EXPECT_EQ(request.options().observe(), 0u);
    EXPECT_FALSE(request.token().empty());
    const Captured response =
        Expect(1, server, type == Type::kCon ? Type::kAck : Type::kNon, Code::kContent);
    EXPECT_TRUE(response.options().observe());
    EXPECT_EQ(response.token(), request.token());
    EXPECT_TRUE(response.options().content_format());
    return request.token();
  }
  void Change(const std::string& text) {
    SetObserved(text);
    wire.RunFor(seconds(1));
  }

  /// A server whose notifications all are confirmable, in place of the other one.
  void ConfirmAll() {
    // Endpoints tell which notifications are by their number.
    EndpointOptions options = PlugtestOptions();
    options.confirm_every = 1;
    confirming = &wire.Add(options);
    Resource resource;
    resource.path = "/obs";
    resource.observable = true;
    resource.methods = {Code::kGet, Code::kPut, Code::kDelete};
    resource.handler = [this](const ServedRequest& request, Responder& responder) {
      if (request.code == Code::kDelete) {
        responder.Send(Code::kDeleted);
        return (void)confirming->Remove("/obs");
      }
      if (request.code == Code::kPut) {
        observed = ToText(request.payload);
        observed_format = request.options.content_format().value_or(observed_format);
        responder.Send(Code::kChanged);
        return (void)confirming->Notify("/obs");
      }
      Message answer(Code::kContent);
      responder.Send(answer.SetPayload(observed_format, observed).SetMaxAge(observed_max_age));
    };
    ASSERT_TRUE(confirming->Serve(std::move(resource)).ok());
  }
  Notifications ObserveConfirming() {
    const auto heard =
        wire.Ask(client, confirming->local_address(), Get("/obs"), {.observe = true});
    EXPECT_TRUE(wire.RunUntil([&] { return !heard->empty(); }, seconds(10)));
    return heard;
  }
  void ChangeConfirming(const std::string& text) {
    observed = text;
    confirming->Notify("/obs");
    wire.RunFor(seconds(1));
  }

  Endpoint* confirming = nullptr;
};

INSTANTIATE_TEST_SUITE_P(Over, PlugtestObserve, Values(Carrier::kSimulated, Carrier::kLoopback),
                         CarrierName);

std::vector<std::string> PayloadsOf(const std::vector<Heard>& heard) {
  std::vector<std::string> payloads;
  for (const Heard& one : heard) payloads.push_back(one.payload());
  return payloads;
}

TEST_P(PlugtestObserve, Obs01ConfirmableNotifications) {
  ConfirmAll();
  const auto heard = ObserveConfirming();
  ChangeConfirming("second");
  ChangeConfirming("third");
  EXPECT_EQ(PayloadsOf(*heard), (std::vector<std::string>{"first", "second", "third"}));
  ASSERT_EQ(wire.captured().size(), 6u) << wire.ToText();
  const Captured request = Expect(0, client, Type::kCon, Code::kGet);
  EXPECT_EQ(request.options().observe(), 0u);
  const Captured response = Expect(1, *confirming, Type::kAck, Code::kContent);
  std::uint32_t last = response.options().observe().value_or(0);
  EXPECT_TRUE(response.options().observe());
  for (const std::size_t at : {2, 4}) {
    const Captured notification = Expect(at, *confirming, Type::kCon, Code::kContent);
    EXPECT_EQ(notification.token(), request.token());
    EXPECT_EQ(notification.options().content_format(), response.options().content_format());
    ASSERT_TRUE(notification.options().observe());
    EXPECT_GT(*notification.options().observe(), last);
    last = *notification.options().observe();
    EXPECT_EQ(Expect(at + 1, client, Type::kAck, Code::kEmpty).id(), notification.id());
  }
}

TEST_P(PlugtestObserve, Obs02NonConfirmableNotifications) {
  const auto heard = Observe(/*confirmable=*/false);
  Change("second");
  Change("third");
  EXPECT_EQ(PayloadsOf(*heard), (std::vector<std::string>{"first", "second", "third"}));
  const std::string token = ExpectRegistration(Type::kNon);
  ASSERT_EQ(wire.captured().size(), 4u) << wire.ToText();
  std::uint32_t last = wire.captured()[1].options().observe().value_or(0);
  for (const std::size_t at : {2, 3}) {
    const Captured notification = Expect(at, server, Type::kNon, Code::kContent);
    EXPECT_EQ(notification.token(), token);
    EXPECT_EQ(notification.options().content_format(), ContentFormat::kTextPlain);
    EXPECT_GT(notification.options().observe().value_or(0), last);
    last = notification.options().observe().value_or(0);
  }
}

TEST_P(PlugtestObserve, Obs04ClientNoticesByMaxAge) {
  observed_max_age = 15;
  const auto heard = Observe();
  Change("second");
  ExpectRegistration();
  EXPECT_EQ(wire.captured()[1].options().max_age_seconds(), 15u);
  // The server is switched off and on again, and has forgotten everything.
  const SocketAddress address = server.local_address();
  wire.Remove(server);
  EndpointOptions options = PlugtestOptions();
  Endpoint& again = wire.Add(options, &address);
  Resource resource;
  resource.path = "/obs";
  resource.observable = true;
  resource.handler = [](const ServedRequest&, Responder& responder) {
    responder.Send(Code::kContent, ToBytes("after the restart"), ContentFormat::kTextPlain);
  };
  ASSERT_TRUE(again.Serve(std::move(resource)).ok());
  const std::size_t before = wire.captured().size();
  wire.RunFor(seconds(13));
  EXPECT_EQ(wire.captured().size(), before) << "it asked before Max-Age was over";
  EXPECT_TRUE(wire.RunUntil([&] { return heard->size() == 3; }, seconds(20))) << wire.ToText();
  const Captured renewed = Expect(before, client, Type::kCon, Code::kGet);
  EXPECT_EQ(renewed.options().observe(), 0u);
  const Captured response = Expect(before + 1, again, Type::kAck, Code::kContent);
  EXPECT_EQ(response.token(), renewed.token());
  EXPECT_TRUE(response.options().observe());
  EXPECT_EQ(heard->back().payload(), "after the restart");
  again.Notify("/obs");
  wire.RunFor(seconds(1));
  EXPECT_EQ(heard->size(), 4u);
}

TEST_P(PlugtestObserve, Obs05ServerNoticesThatTheClientIsOff) {
  ConfirmAll();
  (void)ObserveConfirming();
  EXPECT_EQ(confirming->stats().observers, 1u);
  wire.Remove(client);
  const std::size_t before = wire.captured().size();
  ChangeConfirming("second");
  wire.RunFor(seconds(200));
  // Once, and four times again, further and further apart.
  ASSERT_EQ(wire.captured().size(), before + 5) << wire.ToText();
  for (std::size_t at = before; at < before + 5; ++at) {
    const Captured notification = Expect(at, *confirming, Type::kCon, Code::kContent);
    EXPECT_EQ(notification.bytes, wire.captured()[before].bytes);
    if (at < before + 2) continue;
    EXPECT_GE(notification.time - wire.captured()[at - 1].time,
              (wire.captured()[at - 1].time - wire.captured()[at - 2].time) * 19 / 10);
  }
  EXPECT_EQ(confirming->stats().observers, 0u);
  ChangeConfirming("third");
  EXPECT_EQ(wire.captured().size(), before + 5);
}

TEST_P(PlugtestObserve, Obs06ServerNoticesAReset) {
  for (const bool confirmable : {false, true}) {
    if (confirmable) ConfirmAll();
    Endpoint& source = confirmable ? *confirming : server;
    wire.captured().clear();
    const auto heard = confirmable ? ObserveConfirming() : Observe();
    ASSERT_TRUE(client.Cancel(wire.last_request()));
    confirmable ? ChangeConfirming("second") : Change("second");
    ASSERT_EQ(wire.captured().size(), 4u) << wire.ToText();
    const Captured notification =
        Expect(2, source, confirmable ? Type::kCon : Type::kNon, Code::kContent);
    const Captured reset = Expect(3, client, Type::kRst, Code::kEmpty);
    EXPECT_EQ(reset.id(), notification.id());
    EXPECT_EQ(heard->size(), 1u);
    confirmable ? ChangeConfirming("third") : Change("third");
    EXPECT_EQ(wire.captured().size(), 4u) << "it was told once more\n" << wire.ToText();
    EXPECT_EQ(source.stats().observers, 0u);
  }
}

TEST_P(PlugtestObserve, Obs07DeleteEndsObservations) {
  const auto heard = Observe();
  const std::string token = ExpectRegistration();
  EXPECT_EQ(Ask(Message(Code::kDelete).SetPath("/obs")).code(), Code::kDeleted);
  wire.RunFor(seconds(1));
  ASSERT_EQ(heard->size(), 2u) << wire.ToText();
  EXPECT_EQ(heard->back().code(), Code::kNotFound);
  EXPECT_FALSE(heard->back().more);
  bool seen = false;
  for (const Captured& message : wire.captured()) {
    if (message.code() != Code::kNotFound) continue;
    seen = true;
    EXPECT_EQ(message.token(), token);
    EXPECT_FALSE(message.options().observe());
  }
  EXPECT_TRUE(seen);
  EXPECT_EQ(server.stats().observers, 0u);
}

TEST_P(PlugtestObserve, Obs08AnotherContentFormatEndsObservations) {
  const auto heard = Observe();
  const std::string token = ExpectRegistration();
  Message put(Code::kPut);
  put.SetPath("/obs").SetPayload(ContentFormat::kJson, "{}");
  EXPECT_EQ(Ask(put).code(), Code::kChanged);
  wire.RunFor(seconds(1));
  ASSERT_EQ(heard->size(), 2u) << wire.ToText();
  EXPECT_EQ(heard->back().code(), Code::kNotAcceptable);
  EXPECT_FALSE(heard->back().more);
  const Captured last = wire.captured().back();
  const Captured ended =
      last.code() == Code::kNotAcceptable ? last : wire.captured()[wire.captured().size() - 2];
  EXPECT_EQ(ended.code(), Code::kNotAcceptable) << wire.ToText();
  EXPECT_EQ(ended.token(), token);
  EXPECT_FALSE(ended.options().observe());
  EXPECT_EQ(server.stats().observers, 0u);
  const std::size_t before = wire.captured().size();
  Change("{}");
  EXPECT_EQ(wire.captured().size(), before);
}

TEST_P(PlugtestObserve, Obs09UpdateOfTheObserved) {
  const auto heard = Observe();
  const std::string token = ExpectRegistration();
  Message put(Code::kPut);
  put.SetPath("/obs").SetPayload(ContentFormat::kTextPlain, "put");
  EXPECT_EQ(Ask(put).code(), Code::kChanged);
  wire.RunFor(seconds(1));
  EXPECT_EQ(PayloadsOf(*heard), (std::vector<std::string>{"first", "put"}));
  bool seen = false;
  for (const Captured& message : wire.captured()) {
    if (message.payload() != "put" || message.from != server.local_address()) continue;
    seen = true;
    EXPECT_EQ(message.token(), token);
    EXPECT_TRUE(message.options().observe());
  }
  EXPECT_TRUE(seen);
}

TEST_P(PlugtestObserve, Obs10GetDoesNotCancel) {
  const auto heard = Observe();
  const std::string token = ExpectRegistration();
  EXPECT_EQ(Ask(Get("/obs")).payload(), "first");
  ASSERT_EQ(wire.captured().size(), 4u) << wire.ToText();
  const Captured request = Expect(2, client, Type::kCon, Code::kGet);
  EXPECT_NE(request.token(), token);
  EXPECT_FALSE(request.options().observe());
  EXPECT_FALSE(Expect(3, server, Type::kAck, Code::kContent).options().observe());
  Change("second");
  EXPECT_EQ(PayloadsOf(*heard), (std::vector<std::string>{"first", "second"}));
  EXPECT_EQ(Expect(4, server, Type::kNon, Code::kContent).token(), token);
}

TEST_P(PlugtestObserve, Obs11ConfirmableNotificationsThatAreLost) {
  ConfirmAll();
  const auto heard = ObserveConfirming();
  // Each notification and each acknowledgement is lost the first time.
  int notifications = 0, acknowledgements = 0;
  wire.Lose([&](const Captured& message) {
    if (message.from == client.local_address()) return ++acknowledgements % 2 == 1;
    return ++notifications % 2 == 1;
  });
  const std::size_t before = wire.captured().size();
  ChangeConfirming("second");
  wire.RunFor(seconds(60));
  ChangeConfirming("third");
  wire.RunFor(seconds(60));
  EXPECT_EQ(PayloadsOf(*heard), (std::vector<std::string>{"first", "second", "third"}))
      << wire.ToText();
  // Whatever is sent again has the same id and token; the client acknowledges it each time.
  std::map<std::uint16_t, std::string> by_id;
  for (std::size_t at = before; at < wire.captured().size(); ++at) {
    const Captured& message = wire.captured()[at];
    if (message.type() == Type::kAck) {
      EXPECT_EQ(by_id.count(message.id()), 1u);
      continue;
    }
    EXPECT_EQ(message.type(), Type::kCon);
    const auto known = by_id.emplace(message.id(), message.bytes).first;
    EXPECT_EQ(known->second, message.bytes);
  }
  EXPECT_EQ(by_id.size(), 2u) << wire.ToText();
  EXPECT_GE(notifications, 4);
  EXPECT_GE(acknowledgements, 3);
  EXPECT_EQ(confirming->stats().observers, 1u);
}

// As a server. The client ends an observation with a reset (see Obs06), the other way that RFC 7641
// section 3.6 has.
TEST_P(PlugtestObserve, Obs12GetWithObserveOneCancels) {
  const auto raw = wire.NewSocket();
  const SocketAddress me = raw->local_address();
  SendRaw(*raw, server.local_address(),
          Compose(Type::kCon, Code::kGet, 1, "tok", Get("/obs").SetObserve(0)));
  wire.RunFor(seconds(1));
  EXPECT_TRUE(Expect(1, server, Type::kAck, Code::kContent).options().observe());
  Change("second");
  EXPECT_EQ(Expect(2, server, Type::kNon, Code::kContent).token(), "tok");
  EXPECT_EQ(server.stats().observers, 1u);
  // Another token of the same client, and the same token of another client, end nothing.
  SendRaw(*raw, server.local_address(),
          Compose(Type::kCon, Code::kGet, 2, "other", Get("/obs").SetObserve(1)));
  wire.RunFor(seconds(1));
  const auto stranger = wire.NewSocket();
  SendRaw(*stranger, server.local_address(),
          Compose(Type::kCon, Code::kGet, 2, "tok", Get("/obs").SetObserve(1)));
  wire.RunFor(seconds(1));
  EXPECT_EQ(server.stats().observers, 1u);
  const std::size_t before = wire.captured().size();
  SendRaw(*raw, server.local_address(),
          Compose(Type::kCon, Code::kGet, 3, "tok", Get("/obs").SetObserve(1)));
  wire.RunFor(seconds(1));
  ExpectFrom(before, me, Type::kCon, Code::kGet);
  const Captured response = Expect(before + 1, server, Type::kAck, Code::kContent);
  EXPECT_EQ(response.token(), "tok");
  EXPECT_EQ(response.id(), 3);
  EXPECT_FALSE(response.options().observe());
  EXPECT_EQ(server.stats().observers, 0u);
  Change("third");
  EXPECT_EQ(wire.captured().size(), before + 2) << wire.ToText();
}

}  // namespace
}  // namespace waxvm::coap
