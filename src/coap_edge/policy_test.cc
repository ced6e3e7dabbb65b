// SPDX-License-Identifier: Apache-2.0
#include "src/coap_edge/policy.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace waxvm::coap::edge {
namespace {

EdgeOptions Options() {
  EdgeOptions options;
  options.hosts = {{"thermo", *SocketAddress::Parse("[fd00::1]:5683")},
                   {"lock", *SocketAddress::Parse("[fd00::2]:6000")},
                   {"fd00::3", *SocketAddress::Parse("[fd00::3]:5683")}};
  options.mappings = {{"/t", "coap://thermo/sensors"}, {"/t/door", "coap://lock:6000/door"}};
  options.rules = {
      {.who = "anonymous", .host = "thermo", .path = "/sensors/*"},
      {.who = "psk:alice", .host = "lock", .path = "/door", .methods = {Code::kGet, Code::kPut}},
      {.who = "rpk:*", .host = "fd00::3", .path = "/a"}};
  return options;
}

class PolicyTest : public ::testing::Test {
 protected:
  Decision Decide(const std::string& who, const Message& request) const {
    return policy_.Decide(who, request.code(), request.options());
  }
  Code Of(const std::string& who, const Message& request) const {
    return Decide(who, request).refusal;
  }
  const Policy policy_ = *Policy::Create(Options());
};

Message Get(const std::string& path) { return Message(Code::kGet).SetPath(path); }
Message Proxied(const std::string& uri) { return Message(Code::kGet).SetProxyUri(uri); }

TEST_F(PolicyTest, TheLongestMappingCounts) {
  const Decision decision = Decide("anonymous", Get("/t/temp").AddQuery("unit=k"));
  EXPECT_EQ(decision.refusal, Code::kEmpty);
  EXPECT_EQ(decision.address.ToText(), "[fd00::1]:5683");
  EXPECT_EQ(decision.uri.PathAndQuery(), "/sensors/temp?unit=k");
  EXPECT_EQ(Decide("psk:alice", Get("/t/door")).uri.ToText(), "coap://lock:6000/door");
  EXPECT_EQ(Of("anonymous", Get("/t/door")), Code::kForbidden);
  EXPECT_EQ(Of("anonymous", Get("/u")), Code::kNotFound);
}

TEST_F(PolicyTest, WhoHostPathAndMethodMustAllFit) {
  EXPECT_EQ(Of("psk:alice", Message(Code::kPut).SetPath("/t/door")), Code::kEmpty);
  EXPECT_EQ(Of("psk:alice", Message(Code::kDelete).SetPath("/t/door")), Code::kMethodNotAllowed);
  EXPECT_EQ(Of("psk:alic", Get("/t/door")), Code::kForbidden);
  EXPECT_EQ(Of("psk:alice2", Get("/t/door")), Code::kForbidden);
  EXPECT_EQ(Of("psk:alice", Get("/t/door/below")), Code::kForbidden);
  EXPECT_EQ(Of("psk:alice", Get("/t/temp")), Code::kForbidden);  // for nobody but "anonymous"
}

TEST(PolicyNames, AStarWithinANameIsOnlyItself) {
  EdgeOptions options = Options();
  options.rules = {{.who = "psk:site:*", .host = "thermo", .path = "/*"}};
  const auto policy = Policy::Create(options);
  ASSERT_TRUE(policy.ok()) << policy.status();
  const Message request = Get("/t/temp");
  const auto of = [&](std::string_view who) {
    return policy->Decide(who, Code::kGet, request.options()).refusal;
  };
  EXPECT_EQ(of("psk:anybody"), Code::kForbidden);
  EXPECT_EQ(of("psk:site:a"), Code::kForbidden);
  EXPECT_EQ(of("psk:site:*"), Code::kEmpty);
}

TEST_F(PolicyTest, ForwardProxying) {
  EXPECT_EQ(Of("anonymous", Proxied("coap://thermo/sensors")), Code::kEmpty);
  EXPECT_EQ(Of("anonymous", Proxied("coap://THERMO:5683/sensors/a")), Code::kEmpty);
  EXPECT_EQ(Of("anonymous", Proxied("coap://thermo/other")), Code::kForbidden);
  EXPECT_EQ(Of("anonymous", Proxied("coap://thermo:7/sensors")), Code::kForbidden);
  EXPECT_EQ(Of("anonymous", Proxied("coap://unknown/sensors")), Code::kForbidden);
  EXPECT_EQ(Of("anonymous", Proxied("coaps://thermo/sensors")), Code::kProxyingNotSupported);
  EXPECT_EQ(Of("anonymous", Proxied("http://thermo/sensors")), Code::kBadOption);
  EXPECT_EQ(Of("anonymous", Proxied("coap://user@thermo/sensors")), Code::kBadOption);
  EXPECT_EQ(Of("rpk:00", Proxied("coap://[fd00:0::3]/a")), Code::kEmpty);
  const auto scheme = [&](const std::string& name) {
    return Of("anonymous", Get("/sensors").SetProxyScheme(name).SetUriHost("thermo"));
  };
  EXPECT_EQ(scheme("coap"), Code::kEmpty);
  EXPECT_EQ(scheme("coaps"), Code::kProxyingNotSupported);
  EXPECT_EQ(Of("anonymous", Get("/sensors").SetProxyScheme("coap")), Code::kBadOption);
}

TEST_F(PolicyTest, NoWayAroundAPath) {
  for (const char* uri : {"coap://thermo/sensors/../other", "coap://thermo/sensors/%2e%2e/other",
                          "coap://thermo/sensors%2f../other", "coap://thermo//sensors",
                          "coap://thermo/Sensors", "coap://thermo/sensors2"})
    EXPECT_NE(Of("anonymous", Proxied(uri)), Code::kEmpty) << uri;
  Message dots(Code::kGet);
  for (const char* segment : {"t", "..", "other"}) dots.Add(OptionNumber::kUriPath, segment);
  EXPECT_EQ(Of("anonymous", dots), Code::kBadOption);
  // Both ways of naming a resource: the Proxy-Uri counts. Spec: RFC 7252 section 5.7.2.
  EXPECT_EQ(Of("anonymous", Get("/t/temp").SetProxyUri("coap://thermo/other")), Code::kForbidden);
}

TEST_F(PolicyTest, DiscoveryListsWhatSomebodyMayGet) {
  EXPECT_EQ(policy_.Discovery("anonymous"), "</t>");
  EXPECT_EQ(policy_.Discovery("psk:alice"), "</t/door>");
  EXPECT_EQ(policy_.Discovery("psk:bob"), "");
}

TEST_F(PolicyTest, WhatMakesNoSense) {
  const auto refused = [](auto change) {
    EdgeOptions options = Options();
    change(options);
    return Policy::Create(options).status().code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_FALSE(refused([](EdgeOptions&) {}));
  EXPECT_TRUE(refused([](EdgeOptions& o) { o.hosts.push_back(o.hosts[0]); }));
  EXPECT_TRUE(refused([](EdgeOptions& o) { o.hosts[0].name = "Thermo"; }));
  EXPECT_TRUE(refused([](EdgeOptions& o) { o.hosts[0].name = "*"; }));
  EXPECT_TRUE(refused([](EdgeOptions& o) { o.hosts[0].name = "a/b"; }));
  EXPECT_TRUE(refused([](EdgeOptions& o) { o.hosts[0].address.port = 0; }));
  EXPECT_TRUE(refused([](EdgeOptions& o) { o.mappings[0].uri = "coaps://thermo/"; }));
  EXPECT_TRUE(refused([](EdgeOptions& o) { o.mappings[0].uri = "coap://thermo/?q"; }));
  EXPECT_TRUE(refused([](EdgeOptions& o) { o.mappings[0].path = "t"; }));
  EXPECT_TRUE(refused([](EdgeOptions& o) { o.rules[0].who = "psk:"; }));
  EXPECT_TRUE(refused([](EdgeOptions& o) { o.rules[0].methods = {Code::kContent}; }));
}

}  // namespace
}  // namespace waxvm::coap::edge
