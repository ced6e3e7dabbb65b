// SPDX-License-Identifier: Apache-2.0
// ETSI CoAP plugtest, TD_COAP_CORE_01 to 23 and 31, in both roles. docs/coap.md has the table.
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "src/coap/message_layer.h"
#include "tests/coap/plugtest.h"
#include "waxvm/coap_uri.h"

namespace waxvm::coap {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Values;

using PlugtestCore = Plugtest;
INSTANTIATE_TEST_SUITE_P(Over, PlugtestCore, Values(Carrier::kSimulated, Carrier::kLoopback),
                         CarrierName);

Message WithText(Code method, std::string_view path) {
  Message message(method);
  message.SetPath(path).SetPayload(ContentFormat::kTextPlain, "what is sent");
  return message;
}

TEST_P(PlugtestCore, Core01GetConfirmable) {
  Captured response;
  Transaction(Type::kCon, Get("/test"), Code::kContent, nullptr, &response);
  EXPECT_EQ(response.payload(), "a text");
}
TEST_P(PlugtestCore, Core02DeleteConfirmable) {
  Transaction(Type::kCon, Message(Code::kDelete).SetPath("/test"), Code::kDeleted);
}
TEST_P(PlugtestCore, Core03PutConfirmable) {
  Transaction(Type::kCon, WithText(Code::kPut, "/test"), Code::kChanged);
}
TEST_P(PlugtestCore, Core04PostConfirmable) {
  Transaction(Type::kCon, WithText(Code::kPost, "/test"), Code::kCreated);
}
TEST_P(PlugtestCore, Core05GetNonConfirmable) {
  Captured response;
  Transaction(Type::kNon, Get("/test"), Code::kContent, nullptr, &response);
  EXPECT_EQ(response.payload(), "a text");
}
TEST_P(PlugtestCore, Core06DeleteNonConfirmable) {
  Transaction(Type::kNon, Message(Code::kDelete).SetPath("/test"), Code::kDeleted);
}
TEST_P(PlugtestCore, Core07PutNonConfirmable) {
  Transaction(Type::kNon, WithText(Code::kPut, "/test"), Code::kChanged);
}
TEST_P(PlugtestCore, Core08PostNonConfirmable) {
  Transaction(Type::kNon, WithText(Code::kPost, "/test"), Code::kCreated);
}

TEST_P(PlugtestCore, Core09SeparateResponse) {
  const Heard heard = Ask(Get("/separate"));
  EXPECT_EQ(heard.code(), Code::kContent);
  ExpectSent(4);
  const Captured request = Expect(0, client, Type::kCon, Code::kGet);
  const Captured empty = Expect(1, server, Type::kAck, Code::kEmpty);
  EXPECT_EQ(empty.id(), request.id());
  EXPECT_EQ(empty.bytes.size(), 4u);
  const Captured response = Expect(2, server, Type::kCon, Code::kContent);
  EXPECT_EQ(response.token(), request.token());
  EXPECT_FALSE(response.payload().empty());
  EXPECT_TRUE(response.options().content_format());
  const Captured acknowledged = Expect(3, client, Type::kAck, Code::kEmpty);
  EXPECT_EQ(acknowledged.id(), response.id());
  EXPECT_EQ(acknowledged.bytes.size(), 4u);
}

TEST_P(PlugtestCore, Core10TokenOfOneToEightBytes) {
  std::set<std::string> tokens;
  for (int i = 0; i < 3; ++i) {
    Captured request;
    Transaction(Type::kCon, Get("/test"), Code::kContent, &request);
    EXPECT_GE(request.token().size(), 1u);
    EXPECT_LE(request.token().size(), 8u);
    tokens.insert(request.token());
  }
  EXPECT_EQ(tokens.size(), 3u);
  // As a server: every length comes back.
  const auto raw = wire.NewSocket();
  for (std::size_t bytes = 1; bytes <= 8; ++bytes) {
    wire.captured().clear();
    const std::string token = std::string("\0\xff tokens", 9).substr(0, bytes);
    SendRaw(
        *raw, server.local_address(),
        Compose(Type::kCon, Code::kGet, static_cast<std::uint16_t>(bytes), token, Get("/test")));
    ExpectSent(2);
    const Captured response = Expect(1, server, Type::kAck, Code::kContent);
    EXPECT_EQ(response.token(), token);
    EXPECT_EQ(response.id(), bytes);
  }
}

TEST_P(PlugtestCore, Core11TokenWithSeparateResponse) {
  EXPECT_EQ(Ask(Get("/separate")).code(), Code::kContent);
  ExpectSent(4);
  const std::string token = Expect(0, client, Type::kCon, Code::kGet).token();
  EXPECT_GE(token.size(), 1u);
  EXPECT_LE(token.size(), 8u);
  EXPECT_EQ(Expect(1, server, Type::kAck, Code::kEmpty).token(), "");
  EXPECT_EQ(Expect(2, server, Type::kCon, Code::kContent).token(), token);
  EXPECT_EQ(Expect(3, client, Type::kAck, Code::kEmpty).token(), "");
}

// As a server only: the client never leaves its token out, which the case allows.
TEST_P(PlugtestCore, Core12EmptyToken) {
  const auto raw = wire.NewSocket();
  SendRaw(*raw, server.local_address(), Compose(Type::kCon, Code::kGet, 77, "", Get("/test")));
  ExpectSent(2);
  const Captured response = Expect(1, server, Type::kAck, Code::kContent);
  EXPECT_EQ(response.token(), "");
  EXPECT_EQ(response.id(), 77);
  EXPECT_EQ(response.payload(), "a text");
  EXPECT_TRUE(response.options().content_format());
}

TEST_P(PlugtestCore, Core13SeveralUriPathOptions) {
  Serve("/seg1/seg2/seg3", {Code::kGet}, [](const ServedRequest&, Responder& responder) {
    responder.Send(Code::kContent, ToBytes("deep"), ContentFormat::kTextPlain);
  });
  Captured request, response;
  Transaction(Type::kCon, Get("/seg1/seg2/seg3"), Code::kContent, &request, &response);
  EXPECT_EQ(All(request, OptionNumber::kUriPath),
            (std::vector<std::string>{"seg1", "seg2", "seg3"}));
  EXPECT_EQ(response.payload(), "deep");
}

TEST_P(PlugtestCore, Core14SeveralUriQueryOptions) {
  Serve("/query", {Code::kGet}, [](const ServedRequest& request, Responder& responder) {
    std::string seen;
    request.options.ForEach(OptionNumber::kUriQuery,
                            [&](std::string_view query) { seen += std::string(query) + ";"; });
    responder.Send(Code::kContent, ToBytes(seen), ContentFormat::kTextPlain);
  });
  Captured request, response;
  Transaction(Type::kCon, Get("/query").AddQuery("first=1").AddQuery("second=2"), Code::kContent,
              &request, &response);
  EXPECT_EQ(All(request, OptionNumber::kUriQuery),
            (std::vector<std::string>{"first=1", "second=2"}));
  EXPECT_EQ(response.payload(), "first=1;second=2;");
}

TEST_P(PlugtestCore, Core15LossyPiggybacked) {
  // One after another: the request, and then its response, are lost once.
  for (const bool request_is_lost : {true, false}) {
    wire.captured().clear();
    handled = 0;
    bool lost = false;
    wire.Lose([&](const Captured& message) {
      const bool loses = !lost && (message.code() == Code::kGet) == request_is_lost;
      lost |= loses;
      return loses;
    });
    const auto heard = wire.Ask(client, server.local_address(), Get("/test"));
    ExpectSent(request_is_lost ? 3 : 4);
    ASSERT_EQ(heard->size(), 1u);
    EXPECT_EQ(heard->front().payload(), "a text");
    EXPECT_EQ(handled, 1) << "a retransmission ran the handler again";
    const std::size_t again = request_is_lost ? 1 : 2;
    const Captured first = Expect(0, client, Type::kCon, Code::kGet);
    const Captured second = Expect(again, client, Type::kCon, Code::kGet);
    EXPECT_EQ(second.bytes, first.bytes);
    EXPECT_GE(second.time - first.time, seconds(2));
    EXPECT_LE(second.time - first.time, seconds(3));
    const Captured response = Expect(again + 1, server, Type::kAck, Code::kContent);
    EXPECT_EQ(response.id(), first.id());
    EXPECT_EQ(response.token(), first.token());
    if (!request_is_lost) {
      EXPECT_EQ(Expect(1, server, Type::kAck, Code::kContent).bytes, response.bytes);
    }
  }
}

TEST_P(PlugtestCore, Core16LossySeparate) {
  // Which of request, empty acknowledgement, response and its acknowledgement is lost, once.
  for (int victim = 0; victim < 4; ++victim) {
    SCOPED_TRACE(victim);
    wire.captured().clear();
    handled = 0;
    bool lost = false;
    wire.Lose([&](const Captured& message) {
      const bool from_client = message.from == client.local_address();
      const bool is[] = {message.code() == Code::kGet, message.type() == Type::kAck && !from_client,
                         message.code() == Code::kContent,
                         message.type() == Type::kAck && from_client};
      const bool loses = !lost && is[victim];
      lost |= loses;
      return loses;
    });
    const auto heard = wire.Ask(client, server.local_address(), Get("/separate"));
    wire.RunFor(seconds(300));
    EXPECT_TRUE(lost);
    ASSERT_EQ(heard->size(), 1u) << wire.ToText();
    EXPECT_EQ(heard->front().code(), Code::kContent);
    EXPECT_EQ(handled, 1) << wire.ToText();
    // Whatever is sent twice is the same, and the client acknowledges each response that it gets.
    std::map<std::string, std::string> by_code;
    std::size_t responses = 0, acknowledgements = 0;
    for (const Captured& message : wire.captured()) {
      if (message.code() != Code::kEmpty) {
        const auto at = by_code.emplace(ToText(message.code()), message.bytes).first;
        EXPECT_EQ(message.bytes, at->second) << wire.ToText();
      }
      if (message.lost) continue;
      responses += message.code() == Code::kContent;
      acknowledgements += message.type() == Type::kAck && message.from == client.local_address();
    }
    EXPECT_EQ(by_code.size(), 2u);
    EXPECT_EQ(responses, victim == 3 ? 2u : 1u) << wire.ToText();
    EXPECT_EQ(acknowledgements, 1u) << wire.ToText();
  }
}

// With both directions losing a third, and repeating and reordering, of a seeded network.
TEST(PlugtestCoreLossy, Core15And16OnANetworkThatLosesAThird) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    Wire wire(Carrier::kSimulated, {.loss = 0.33, .duplication = 0.1, .reordering = 0.1}, seed);
    Endpoint& server = wire.Add(PlugtestOptions());
    Endpoint& client = wire.Add();
    std::map<std::string, int> handled;
    std::vector<DeferredResponder> deferred;
    const auto serve = [&](std::string path, bool separate) {
      Resource resource;
      resource.path = std::move(path);
      resource.handler = [&, separate](const ServedRequest& request, Responder& responder) {
        std::string query(request.options.Text(OptionNumber::kUriQuery).value_or(""));
        ++handled[query];
        if (!separate)
          return responder.Send(Code::kContent, ToBytes(query), ContentFormat::kTextPlain);
        deferred.push_back(responder.Defer());
        wire.At(milliseconds(1500), [&, query, at = deferred.size() - 1] {
          deferred[at].Send(Message(Code::kContent).SetPayload(ContentFormat::kTextPlain, query));
        });
      };
      ASSERT_TRUE(server.Serve(std::move(resource)).ok());
    };
    serve("/test", false);
    serve("/separate", true);
    int answered = 0;
    for (int i = 0; i < 10; ++i) {
      const std::string query = std::to_string(i);
      const Heard heard = wire.AskOnce(client, server.local_address(),
                                       Get(i % 2 != 0 ? "/test" : "/separate").AddQuery(query));
      // Five losses in a row happen; then the client says so.
      if (!heard.status.ok()) {
        EXPECT_EQ(heard.status.code(), absl::StatusCode::kDeadlineExceeded);
        continue;
      }
      ++answered;
      EXPECT_EQ(heard.payload(), query);
    }
    wire.RunFor(seconds(300));
    EXPECT_GE(answered, 7);
    for (const auto& [query, times] : handled) EXPECT_EQ(times, 1) << query;
  }
}

TEST_P(PlugtestCore, Core17SeparateResponseToNonConfirmable) {
  EXPECT_EQ(Ask(Get("/separate"), {.confirmable = false}).code(), Code::kContent);
  ExpectSent(2);
  const Captured request = Expect(0, client, Type::kNon, Code::kGet);
  const Captured response = Expect(1, server, Type::kNon, Code::kContent);
  EXPECT_EQ(response.token(), request.token());
  EXPECT_FALSE(response.payload().empty());
  EXPECT_TRUE(response.options().content_format());
}

TEST_P(PlugtestCore, Core18PostWithLocationPath) {
  Serve("/location", {Code::kPost}, [](const ServedRequest&, Responder& responder) {
    responder.Send(Message(Code::kCreated).SetLocation("/location1/location2/location3"));
  });
  Captured response;
  Transaction(Type::kCon, WithText(Code::kPost, "/location"), Code::kCreated, nullptr, &response);
  EXPECT_EQ(All(response, OptionNumber::kLocationPath),
            (std::vector<std::string>{"location1", "location2", "location3"}));
}

TEST_P(PlugtestCore, Core19PostWithLocationQuery) {
  Serve("/location-query", {Code::kPost}, [](const ServedRequest&, Responder& responder) {
    Message answer(Code::kCreated);
    responder.Send(answer.AddLocationQuery("first=1").AddLocationQuery("second=2"));
  });
  Captured response;
  Transaction(Type::kCon, WithText(Code::kPost, "/location-query"), Code::kCreated, nullptr,
              &response);
  EXPECT_EQ(All(response, OptionNumber::kLocationQuery),
            (std::vector<std::string>{"first=1", "second=2"}));
}

TEST_P(PlugtestCore, Core20Accept) {
  Resource resource;
  resource.produces = {ContentFormat::kTextPlain, ContentFormat::kXml};
  Serve(
      "/multi-format", {Code::kGet},
      [](const ServedRequest& request, Responder& responder) {
        const bool xml = request.options.accept() == ContentFormat::kXml;
        responder.Send(Code::kContent, ToBytes(xml ? "<x/>" : "x"),
                       xml ? ContentFormat::kXml : ContentFormat::kTextPlain);
      },
      std::move(resource));
  for (const ContentFormat format : {ContentFormat::kTextPlain, ContentFormat::kXml}) {
    Captured request, response;
    Transaction(Type::kCon, Get("/multi-format").SetAccept(format), Code::kContent, &request,
                &response);
    EXPECT_EQ(request.options().accept(), format);
    EXPECT_EQ(response.options().content_format(), format);
    EXPECT_EQ(response.payload(), format == ContentFormat::kXml ? "<x/>" : "x");
  }
  Transaction(Type::kCon, Get("/multi-format").SetAccept(ContentFormat::kCbor),
              Code::kNotAcceptable);
}

/// A text with a tag that tells its versions apart.
struct Validated {
  std::string text = "one";
  int version = 1;
  std::string etag() const { return "v" + std::to_string(version); }
};

ResourceHandler HandlerOf(Validated& state) {
  return [&state](const ServedRequest& request, Responder& responder) {
    if (request.code == Code::kGet) {
      Message answer(Code::kContent);
      answer.SetPayload(ContentFormat::kTextPlain, state.text).AddETag(state.etag());
      return responder.Send(answer);
    }
    if (!responder.PreconditionsHold(state.etag())) return;
    state.text = ToText(request.payload);
    ++state.version;
    responder.Send(Code::kChanged);
  };
}

TEST_P(PlugtestCore, Core21ETag) {
  Validated state;
  Serve("/validate", {Code::kGet, Code::kPut}, HandlerOf(state));
  Captured request, response;
  Transaction(Type::kCon, Get("/validate"), Code::kContent, &request, &response);
  EXPECT_FALSE(request.options().Has(OptionNumber::kETag));
  const std::string etag(response.options().etag().value_or(""));
  ASSERT_FALSE(etag.empty());
  EXPECT_LE(etag.size(), 8u);
  Transaction(Type::kCon, Get("/validate").AddETag(etag), Code::kValid, &request, &response);
  EXPECT_EQ(request.options().etag(), etag);
  EXPECT_EQ(response.options().etag(), etag);
  EXPECT_EQ(response.payload(), "");
  Transaction(Type::kCon, WithText(Code::kPut, "/validate"), Code::kChanged);
  Transaction(Type::kCon, Get("/validate").AddETag(etag), Code::kContent, &request, &response);
  EXPECT_EQ(request.options().etag(), etag);
  EXPECT_NE(response.options().etag().value_or(etag), etag);
  EXPECT_EQ(response.payload(), "what is sent");
}

TEST_P(PlugtestCore, Core22IfMatch) {
  Validated state;
  Serve("/validate", {Code::kGet, Code::kPut}, HandlerOf(state));
  Captured request, response;
  Transaction(Type::kCon, Get("/validate"), Code::kContent, nullptr, &response);
  const std::string etag(response.options().etag().value_or(""));
  Transaction(Type::kCon, WithText(Code::kPut, "/validate").AddIfMatch(etag), Code::kChanged,
              &request);
  EXPECT_EQ(All(request, OptionNumber::kIfMatch), std::vector<std::string>{etag});
  EXPECT_EQ(state.text, "what is sent");
  Transaction(Type::kCon, Get("/validate"), Code::kContent, nullptr, &response);
  EXPECT_NE(response.options().etag().value_or(etag), etag);
  // Somebody else changes it meanwhile.
  ++state.version;
  Message stale(Code::kPut, "too late");
  stale.SetPath("/validate").SetContentFormat(ContentFormat::kTextPlain);
  Transaction(Type::kCon, stale.AddIfMatch(etag), Code::kPreconditionFailed);
  EXPECT_EQ(state.text, "what is sent");
}

TEST_P(PlugtestCore, Core23IfNoneMatch) {
  std::optional<std::string> created;
  Serve("/create1", {Code::kPut}, [&](const ServedRequest& request, Responder& responder) {
    if (!responder.PreconditionsHold(created ? std::optional<std::string_view>("x") : std::nullopt))
      return;
    created = ToText(request.payload);
    responder.Send(Code::kCreated);
  });
  Captured request;
  Transaction(Type::kCon, WithText(Code::kPut, "/create1").SetIfNoneMatch(), Code::kCreated,
              &request);
  EXPECT_TRUE(request.options().if_none_match());
  EXPECT_EQ(created, "what is sent");
  Message again(Code::kPut, "again");
  again.SetPath("/create1").SetContentFormat(ContentFormat::kTextPlain).SetIfNoneMatch();
  Transaction(Type::kCon, again, Code::kPreconditionFailed);
  EXPECT_EQ(created, "what is sent");
}

TEST_P(PlugtestCore, Core31Ping) {
  // As a server.
  const auto raw = wire.NewSocket();
  SendRaw(*raw, server.local_address(), std::string("\x40\x00\x12\x34", 4));
  ExpectSent(2);
  const Captured reset = Expect(1, server, Type::kRst, Code::kEmpty);
  EXPECT_EQ(reset.id(), 0x1234);
  EXPECT_EQ(reset.bytes.size(), 4u);
}

/// Takes what a layer sends, and what it tells.
class PingSide final : public LayerHandler, public DatagramSink {
 public:
  std::span<std::byte> Reserve(const SocketAddress&, std::size_t) override { return room_; }
  void Commit(std::size_t bytes) override { sent.emplace_back(ToText(Bytes(room_).first(bytes))); }
  void OnRequest(const Turn&, const IncomingRequest&) override {}
  void OnResponse(const Turn&, const IncomingResponse&) override {}
  void OnRequestFailed(const Turn&, OutgoingId, std::uint64_t, Failure) override {}
  void OnMessageEnded(const Turn&, OutgoingId, std::uint64_t, std::optional<Failure> end) override {
    ended.push_back(end);
  }
  std::vector<std::string> sent;
  std::vector<std::optional<Failure>> ended;

 private:
  std::array<std::byte, 2048> room_{};
};

TEST(PlugtestCoreLayer, Core31PingAsAClient) {
  auto layer = *MessageLayer::Create({}, {}, {});
  PingSide side;
  const Turn turn = {Time(seconds(100)), side, side};
  const SocketAddress peer = *SocketAddress::Parse("[::1]:5683");
  ASSERT_TRUE(layer->Ping(turn, peer, 1).ok());
  ASSERT_EQ(side.sent.size(), 1u);
  ASSERT_EQ(side.sent[0].size(), 4u);
  const MessageView ping = MessageView::Parse(ToBytes(side.sent[0]));
  EXPECT_EQ(ping.type(), Type::kCon);
  EXPECT_EQ(ping.code(), Code::kEmpty);
  const EmptyMessage reset(Type::kRst, ping.id());
  layer->Receive(turn, {.bytes = Bytes(reset.bytes), .from = peer});
  ASSERT_EQ(side.ended.size(), 1u);
  EXPECT_EQ(side.ended[0], Failure::kReset);
}

}  // namespace
}  // namespace waxvm::coap
