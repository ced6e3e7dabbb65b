// SPDX-License-Identifier: Apache-2.0
// What an endpoint answers, over a simulated network.
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

constexpr Methods kAll = {Code::kGet,   Code::kPost,  Code::kPut,   Code::kDelete,
                          Code::kFetch, Code::kPatch, Code::kIPatch};

class CoapServe : public testing::Test {
 protected:
  /// Serves a text; counts how often it is asked for.
  void ServeText(std::string path, std::string text, Resource resource = {}) {
    resource.path = std::move(path);
    resource.handler = [this, text](const ServedRequest&, Responder& responder) {
      ++asked;
      responder.Send(Code::kContent, ToBytes(text), ContentFormat::kTextPlain);
    };
    const absl::Status served = server.Serve(std::move(resource));
    ASSERT_TRUE(served.ok()) << served;
  }
  Heard Ask(const Message& message, const RequestOptions& options = {}) {
    return world.AskOnce(client, server, message, options);
  }

  SimulatedWorld world;
  Endpoint& server = world.Add("[fd00::1]:5683");
  Endpoint& client = world.Add("[fd00::2]:5683");
  int asked = 0;
};

TEST_F(CoapServe, AnswersWithWhatTheHandlerSays) {
  ServeText("/a/b", "hello");
  for (const bool confirmable : {true, false}) {
    const Heard heard = Ask(Get("/a/b"), {.confirmable = confirmable});
    ASSERT_TRUE(heard.status.ok()) << heard.status;
    EXPECT_EQ(heard.code(), Code::kContent);
    EXPECT_EQ(heard.payload(), "hello");
    EXPECT_EQ(heard.message.options().content_format(), ContentFormat::kTextPlain);
    EXPECT_EQ(heard.peer, server.local_address());
    EXPECT_FALSE(heard.more);
  }
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(server.stats().handled, 2u);
  EXPECT_EQ(client.stats().requests, 0u);
}

TEST_F(CoapServe, TheHandlerSeesTheRequestAsItWasSent) {
  ServedRequest seen;
  std::string options, payload;
  ASSERT_TRUE(server
                  .Serve({.path = "/x",
                          .methods = kAll,
                          .handler =
                              [&](const ServedRequest& request, Responder& responder) {
                                seen = request;
                                payload = ToText(request.payload);
                                request.options.ForEach(OptionNumber::kUriQuery,
                                                        [&](std::string_view query) {
                                                          options += std::string(query) + ";";
                                                        });
                                responder.Send(Message(Code::kCreated).SetLocation("/x/1"));
                              }})
                  .ok());
  Message request(Code::kPost, "body");
  request.SetPath("/x").AddQuery("a=1").AddQuery("b=2");
  const Heard heard = Ask(request);
  EXPECT_EQ(heard.code(), Code::kCreated);
  EXPECT_EQ(heard.message.options().Text(OptionNumber::kLocationPath), "x");
  EXPECT_EQ(seen.code, Code::kPost);
  EXPECT_EQ(payload, "body");
  EXPECT_EQ(options, "a=1;b=2;");
  EXPECT_EQ(seen.peer, client.local_address());
  EXPECT_EQ(seen.local, server.local_address());
  EXPECT_TRUE(seen.confirmable);
  EXPECT_FALSE(seen.multicast);
  EXPECT_FALSE(seen.notification);
}

TEST_F(CoapServe, TheLongestPathIsAskedAndPrefixesTakeWhatIsBelow) {
  ServeText("/a", "a");
  ServeText("/a/b", "a/b and below", {.prefix = true});
  ServeText("/a/b/c/d", "a/b/c/d");
  ServeText("/", "root");
  ServeText("/slash/", "with an empty segment");
  const std::map<std::string, std::string> expected = {{"/", "root"},
                                                       {"/a", "a"},
                                                       {"/a/b", "a/b and below"},
                                                       {"/a/b/c", "a/b and below"},
                                                       {"/a/b/c/d", "a/b/c/d"},
                                                       {"/a/b/c/d/e", "a/b and below"},
                                                       {"/slash/", "with an empty segment"}};
  for (const auto& [path, text] : expected) EXPECT_EQ(Ask(Get(path)).payload(), text) << path;
  for (const char* path : {"/b", "/a/c", "/slash", "/A", "/a/"})
    EXPECT_EQ(Ask(Get(path)).code(), Code::kNotFound) << path;
  // One segment with a slash in it is not two.
  EXPECT_EQ(Ask(Message(Code::kGet).Add(OptionNumber::kUriPath, "a/b")).code(), Code::kNotFound);
}

TEST_F(CoapServe, RefusesWhatCannotBeServed) {
  ServeText("/a", "a");
  const auto handler = [](const ServedRequest&, Responder&) {};
  EXPECT_EQ(server.Serve({.path = "/a", .handler = handler}).code(),
            absl::StatusCode::kAlreadyExists);
  for (const std::string& path :
       {std::string(), std::string("a"), std::string("/a/../b"), "/" + std::string(256, 'x')})
    EXPECT_EQ(server.Serve({.path = path, .handler = handler}).code(),
              absl::StatusCode::kInvalidArgument)
        << path;
  EXPECT_EQ(server.Serve({.path = "/b"}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(server.Remove("/b").code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(server.Remove("/a").ok());
  EXPECT_EQ(Ask(Get("/a")).code(), Code::kNotFound);
  ServeText("/a", "again");
  EXPECT_EQ(Ask(Get("/a")).payload(), "again");
}

TEST_F(CoapServe, ErrorsAreThoseOfTheStandard) {
  ServeText("/a", "a", {.consumes = {ContentFormat::kJson}, .produces = {ContentFormat::kCbor}});
  EXPECT_EQ(Ask(Message(Code::kPut, "x").SetPath("/a")).code(), Code::kMethodNotAllowed);
  EXPECT_EQ(Ask(Message(static_cast<Code>(0x1e)).SetPath("/a")).code(), Code::kMethodNotAllowed);
  EXPECT_EQ(Ask(Get("/a").SetPayload(ContentFormat::kXml, "<x/>")).code(),
            Code::kUnsupportedContentFormat);
  EXPECT_EQ(Ask(Get("/a").SetPayload("untyped")).code(), Code::kUnsupportedContentFormat);
  EXPECT_EQ(Ask(Get("/a").SetPayload(ContentFormat::kJson, "{}")).code(), Code::kContent);
  EXPECT_EQ(Ask(Get("/a").SetAccept(ContentFormat::kXml)).code(), Code::kNotAcceptable);
  EXPECT_EQ(Ask(Get("/a").SetAccept(ContentFormat::kCbor)).code(), Code::kContent);
  EXPECT_EQ(Ask(Get("/a").Set(static_cast<OptionNumber>(2049), "?")).code(), Code::kBadOption);
  EXPECT_EQ(Ask(Get("/a").Set(static_cast<OptionNumber>(2050), "?")).code(), Code::kContent);
  EXPECT_EQ(Ask(Get("/a").SetBlock2({.number = 0, .more = false, .exponent = 7})).code(),
            Code::kBadRequest);
  EXPECT_EQ(Ask(Get("/a").SetProxyUri("coap://x/y")).code(), Code::kProxyingNotSupported);
  // A non-confirmable one that cannot be understood is passed over.
  const Heard silence = Ask(Get("/a").Set(static_cast<OptionNumber>(2049), "?"),
                            {.confirmable = false, .timeout = seconds(5)});
  EXPECT_EQ(silence.status.code(), absl::StatusCode::kDeadlineExceeded) << silence.status;
}

TEST_F(CoapServe, AHandlerThatSaysNothingOrNonsenseIsAnError) {
  ASSERT_TRUE(
      server.Serve({.path = "/silent", .handler = [](const ServedRequest&, Responder&) {}}).ok());
  ASSERT_TRUE(server
                  .Serve({.path = "/dropped",
                          .handler = [](const ServedRequest&,
                                        Responder& responder) { (void)responder.Defer(); }})
                  .ok());
  ASSERT_TRUE(server
                  .Serve({.path = "/nonsense",
                          .handler = [](const ServedRequest&,
                                        Responder& responder) { responder.Send(Code::kGet); }})
                  .ok());
  ASSERT_TRUE(server
                  .Serve({.path = "/huge_options",
                          .handler =
                              [](const ServedRequest&, Responder& responder) {
                                Message message(Code::kContent);
                                for (int i = 0; i < 10; ++i)
                                  message.AddLocationQuery(std::string(200, 'q'));
                                responder.Send(message);
                              }})
                  .ok());
  ASSERT_TRUE(server
                  .Serve({.path = "/twice",
                          .handler =
                              [](const ServedRequest&, Responder& responder) {
                                responder.Send(Code::kValid);
                                responder.Send(Code::kContent);
                              }})
                  .ok());
  for (const char* path : {"/silent", "/dropped", "/nonsense", "/huge_options"})
    EXPECT_EQ(Ask(Get(path)).code(), Code::kInternalServerError) << path;
  EXPECT_EQ(Ask(Get("/twice")).code(), Code::kValid);
}

TEST_F(CoapServe, AnAnswerMayComeLaterAndIsAcknowledgedMeanwhile) {
  std::vector<DeferredResponder> later;
  ASSERT_TRUE(server
                  .Serve({.path = "/slow",
                          .handler =
                              [&](const ServedRequest&, Responder& responder) {
                                ++asked;
                                later.push_back(responder.Defer());
                              }})
                  .ok());
  const auto heard = world.Ask(client, server, Get("/slow"));
  const auto unreliable = world.Ask(client, server, Get("/slow"), {.confirmable = false});
  world.RunFor(seconds(20));
  EXPECT_TRUE(heard->empty());
  ASSERT_EQ(later.size(), 2u);
  EXPECT_EQ(server.stats().messages.empty_acks_sent, 1u);
  for (DeferredResponder& responder : later) {
    responder.Send(Message(Code::kContent, "at last"));
    responder.Send(Message(Code::kForbidden));
  }
  ASSERT_TRUE(world.RunUntil([&] { return !heard->empty() && !unreliable->empty(); }));
  EXPECT_EQ(heard->front().payload(), "at last");
  EXPECT_EQ(unreliable->front().payload(), "at last");
  world.RunFor(seconds(100));
  EXPECT_EQ(heard->size(), 1u);
  EXPECT_EQ(asked, 2);
}

TEST_F(CoapServe, ADeferredAnswerMayOutliveTheEndpoint) {
  DeferredResponder later;
  ASSERT_TRUE(server
                  .Serve({.path = "/slow",
                          .handler = [&](const ServedRequest&,
                                         Responder& responder) { later = responder.Defer(); }})
                  .ok());
  const auto heard = world.Ask(client, server, Get("/slow"));
  world.RunFor(milliseconds(100));
  world.Remove(server);
  later.Send(Message(Code::kContent));
  EXPECT_TRUE(heard->empty());
}

TEST_F(CoapServe, ListsWhatItServesAndFilters) {
  ServeText("/temp", "21",
            {.produces = {ContentFormat::kTextPlain, ContentFormat::kCbor},
             .observable = true,
             .attributes = {{"rt", "temperature-c"}, {"if", "sensor"}}});
  ServeText("/light", "on", {.attributes = {{"rt", "light-lux core.s"}}});
  ServeText("/secret", "x", {.listed = false});
  const auto list = [&](std::string_view query) {
    Message message = Get("/.well-known/core");
    if (!query.empty()) message.AddQuery(query);
    const Heard heard = Ask(message);
    EXPECT_EQ(heard.message.options().content_format(), ContentFormat::kLinkFormat);
    return heard.payload();
  };
  const std::string light = "</light>;rt=\"light-lux core.s\"";
  const std::string temp = "</temp>;rt=\"temperature-c\";if=\"sensor\";obs;ct=\"0 60\"";
  EXPECT_EQ(list(""), light + "," + temp);
  EXPECT_EQ(list("rt=core.s"), light);
  EXPECT_EQ(list("rt=temp*"), temp);
  EXPECT_EQ(list("href=/l*"), light);
  EXPECT_EQ(list("obs"), temp);
  EXPECT_EQ(list("rt=nothing"), "");
  EXPECT_EQ(Ask(Message(Code::kDelete).SetPath("/.well-known/core")).code(),
            Code::kMethodNotAllowed);
}

TEST_F(CoapServe, ALongListComesInBlocks) {
  for (int i = 0; i < 300; ++i) ServeText("/resource/number/" + std::to_string(i), "x");
  const Heard heard = Ask(Get("/.well-known/core"));
  EXPECT_EQ(heard.code(), Code::kContent);
  const auto links = ParseLinks(heard.payload());
  ASSERT_TRUE(links.ok()) << links.status();
  EXPECT_EQ(links->size(), 300u);
}

TEST_F(CoapServe, KnownRepresentationsAreNotSentAgainAndConditionsHold) {
  std::optional<std::string> state = "one";
  const auto etag = [&]() -> std::optional<std::string> {
    if (!state) return std::nullopt;
    return "v" + std::to_string(state->size());
  };
  ASSERT_TRUE(server
                  .Serve({.path = "/doc",
                          .methods = kAll,
                          .handler =
                              [&](const ServedRequest& request, Responder& responder) {
                                const auto now = etag();
                                if (!responder.PreconditionsHold(
                                        now ? std::optional<std::string_view>(*now) : std::nullopt))
                                  return;
                                if (request.code == Code::kGet) {
                                  if (!state) return responder.Send(Code::kNotFound);
                                  return responder.Send(
                                      Message(Code::kContent, *state).AddETag(*now).SetMaxAge(7));
                                }
                                if (request.code == Code::kPut)
                                  state = std::string(ToText(request.payload));
                                if (request.code == Code::kDelete) state.reset();
                                responder.Send(Code::kChanged);
                              }})
                  .ok());
  const Heard full = Ask(Get("/doc"));
  EXPECT_EQ(full.code(), Code::kContent);
  EXPECT_EQ(full.message.options().etag(), "v3");
  const Heard valid = Ask(Get("/doc").AddETag("old").AddETag("v3"));
  EXPECT_EQ(valid.code(), Code::kValid);
  EXPECT_EQ(valid.payload(), "");
  EXPECT_EQ(valid.message.options().etag(), "v3");
  EXPECT_EQ(valid.message.options().max_age_seconds(), 7u);
  EXPECT_EQ(Ask(Get("/doc").AddETag("old")).payload(), "one");
  const auto put = [&](std::string text) { return Message(Code::kPut, text).SetPath("/doc"); };
  EXPECT_EQ(Ask(put("fourth").AddIfMatch("v2")).code(), Code::kPreconditionFailed);
  EXPECT_EQ(Ask(put("fourth").SetIfNoneMatch()).code(), Code::kPreconditionFailed);
  EXPECT_EQ(*state, "one");
  EXPECT_EQ(Ask(put("fourth").AddIfMatch("v3")).code(), Code::kChanged);
  EXPECT_EQ(*state, "fourth");
  EXPECT_EQ(Ask(Message(Code::kDelete).SetPath("/doc")).code(), Code::kChanged);
  EXPECT_EQ(Ask(put("new").AddIfMatch("")).code(), Code::kPreconditionFailed);
  EXPECT_EQ(Ask(put("new").SetIfNoneMatch()).code(), Code::kChanged);
}

TEST_F(CoapServe, NoResponseIsRespected) {
  ServeText("/a", "a");
  const auto all = world.Ask(client, server, Get("/a").SetNoResponse(26), {.confirmable = false});
  world.RunFor(seconds(10));
  EXPECT_TRUE(all->empty());
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(client.stats().requests, 0u);
  const auto confirmed = world.Ask(client, server, Get("/a").SetNoResponse(26));
  world.RunFor(seconds(10));
  EXPECT_TRUE(confirmed->empty());
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(client.stats().requests, 0u);
  // Errors are wanted.
  const Heard error = Ask(Get("/b").SetNoResponse(2), {.confirmable = false});
  EXPECT_EQ(error.code(), Code::kNotFound);
}

TEST_F(CoapServe, ProxiedRequestsHaveAHandlerAndTheirHopsAreCounted) {
  std::vector<int> hops;
  server.ServeProxied([&](const ServedRequest& request, Responder& responder) {
    hops.push_back(request.hop_limit.value_or(0));
    responder.Send(Code::kContent, ToBytes(request.options.proxy_uri().value_or("?")));
  });
  EXPECT_EQ(Ask(Get("/").SetProxyUri("coap://far/away")).payload(), "coap://far/away");
  EXPECT_EQ(Ask(Get("/").SetProxyUri("coap://far/away").SetHopLimit(5)).code(), Code::kContent);
  EXPECT_EQ(Ask(Get("/").SetProxyUri("coap://far/away").SetHopLimit(1)).code(),
            Code::kHopLimitReached);
  EXPECT_EQ(Ask(Get("/").SetProxyScheme("coap").SetUriHost("far")).payload(), "?");
  EXPECT_EQ(hops, (std::vector<int>{16, 4, 16}));
}

TEST(CoapRateLimit, ManyRequestsOfOnePeerGetTooManyAndOthersAreServed) {
  SimulatedWorld world;
  Endpoint& server =
      world.Add("[fd00::1]:5683", {.max_requests_per_second = 2, .request_burst = 4});
  Endpoint& greedy = world.Add("[fd00::2]:5683", {.transmission = {.nstart = 100}});
  Endpoint& modest = world.Add("[fd00::3]:5683");
  ASSERT_TRUE(server
                  .Serve({.path = "/a",
                          .handler = [](const ServedRequest&,
                                        Responder& responder) { responder.Send(Code::kValid); }})
                  .ok());
  std::vector<std::shared_ptr<std::vector<Heard>>> all;
  for (int i = 0; i < 10; ++i) all.push_back(world.Ask(greedy, server, Get("/a")));
  world.RunFor(milliseconds(100));
  int served = 0;
  for (const auto& heard : all) {
    ASSERT_EQ(heard->size(), 1u);
    served += heard->front().code() == Code::kValid;
    if (heard->front().code() == Code::kValid) continue;
    EXPECT_EQ(heard->front().code(), Code::kTooManyRequests);
    EXPECT_EQ(heard->front().message.options().max_age_seconds(), 1u);
  }
  EXPECT_EQ(served, 4);
  EXPECT_EQ(server.stats().rate_limited, 6u);
  EXPECT_EQ(world.AskOnce(modest, server, Get("/a")).code(), Code::kValid);
  // The client waits as it was told, and is served then.
  const auto start = world.network.now();
  EXPECT_EQ(world.AskOnce(greedy, server, Get("/a")).code(), Code::kValid);
  EXPECT_GE(world.network.now() - start, milliseconds(800));
}

TEST(CoapEcho, StrangersShowThatTheyReceiveBeforeTheyAreHandled) {
  for (const EchoPolicy policy : {EchoPolicy::kUnsafe, EchoPolicy::kAlways}) {
    SimulatedWorld world;
    Endpoint& server = world.Add("[fd00::1]:5683", {.echo_policy = policy});
    Endpoint& client = world.Add("[fd00::2]:5683");
    int handled = 0;
    ASSERT_TRUE(server
                    .Serve({.path = "/a",
                            .methods = kAll,
                            .handler =
                                [&](const ServedRequest& request, Responder& responder) {
                                  ++handled;
                                  EXPECT_TRUE(request.verified || request.code == Code::kGet);
                                  responder.Send(Code::kChanged);
                                }})
                    .ok());
    EXPECT_EQ(world.AskOnce(client, server, Get("/a")).code(), Code::kChanged);
    EXPECT_EQ(server.stats().challenged, policy == EchoPolicy::kAlways ? 1u : 0u);
    // The client answers the challenge by itself.
    const std::string body = LongText(5000);
    EXPECT_EQ(world.AskOnce(client, server, Message(Code::kPost, body).SetPath("/a")).code(),
              Code::kChanged);
    EXPECT_EQ(server.stats().challenged, 1u);
    EXPECT_EQ(handled, 2);
  }
}

TEST(CoapEcho, ALongAnswerToAStrangerIsNotSentBeforeItIsKnown) {
  SimulatedWorld world;
  Endpoint& server = world.Add("[fd00::1]:5683");
  Endpoint& client = world.Add("[fd00::2]:5683");
  const std::string text = LongText(1000);
  ASSERT_TRUE(server
                  .Serve({.path = "/a",
                          .handler =
                              [&](const ServedRequest&, Responder& responder) {
                                responder.Send(Code::kContent, ToBytes(text));
                              }})
                  .ok());
  const Heard heard = world.AskOnce(client, server, Get("/a"));
  EXPECT_EQ(heard.payload(), text);
  EXPECT_EQ(server.stats().messages.echo_challenges, 1u);
}

TEST(CoapGroup, MembersAnswerAndErrorsAreKeptBack) {
  SimulatedWorld world;
  const Address group = *Address::Parse("ff15::99");
  Endpoint& client = world.Add("[fd00::99]:5683");
  for (int i = 1; i <= 3; ++i) {
    Endpoint& member = world.Add("[fd00::" + std::to_string(i) + "]:5683");
    ASSERT_TRUE(member.Join(group, 0).ok());
    if (i == 3) continue;
    ASSERT_TRUE(member
                    .Serve({.path = "/all",
                            .multicast = true,
                            .attributes = {{"rt", "member"}},
                            .handler =
                                [i](const ServedRequest& request, Responder& responder) {
                                  EXPECT_TRUE(request.multicast);
                                  responder.Send(Code::kContent, ToBytes(std::to_string(i)));
                                }})
                    .ok());
    ASSERT_TRUE(member
                    .Serve({.path = "/one",
                            .handler = [](const ServedRequest&,
                                          Responder& responder) { responder.Send(Code::kValid); }})
                    .ok());
  }
  const SocketAddress to = {group, 5683, 0};
  const auto heard = world.Ask(client, to, Get("/all"), {.timeout = seconds(10)});
  world.RunFor(seconds(20));
  ASSERT_EQ(heard->size(), 3u);
  std::string texts;
  for (const Heard& one : *heard) texts += one.payload();
  std::sort(texts.begin(), texts.end());
  EXPECT_EQ(texts, "12");
  EXPECT_EQ(heard->back().status.code(), absl::StatusCode::kDeadlineExceeded);
  const auto one = world.Ask(client, to, Get("/one"), {.timeout = seconds(10)});
  const auto none = world.Ask(client, to, Get("/nowhere"), {.timeout = seconds(10)});
  const auto list = world.Ask(client, to, Get("/.well-known/core").AddQuery("rt=member"),
                              {.timeout = seconds(10)});
  world.RunFor(seconds(20));
  EXPECT_EQ(one->size(), 1u);
  EXPECT_EQ(none->size(), 1u);
  EXPECT_EQ(list->size(), 3u);
  // Only the client that asked is at an end.
  EXPECT_EQ(client.stats().requests, 0u);
}

}  // namespace
}  // namespace waxvm::coap
