// SPDX-License-Identifier: Apache-2.0
#include "waxvm/coap_uri.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/coap/bytes_for_test.h"

namespace waxvm::coap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

Uri Parsed(std::string_view text) {
  auto uri = Uri::Parse(text);
  EXPECT_TRUE(uri.ok()) << text << ": " << uri.status();
  return uri.ok() ? *uri : Uri();
}

std::vector<std::pair<int, std::string>> OptionsFor(std::string_view text) {
  Message request(Code::kGet);
  Parsed(text).ToOptions(request);
  return ListOf(request.options());
}

// RFC 7252 appendix B.
TEST(Uri, BecomesTheOptionsOfTheRfc) {
  EXPECT_THAT(OptionsFor("coap://example.net/"), ElementsAre(Pair(3, "example.net")));
  EXPECT_THAT(OptionsFor("coap://[2001:db8::2:1]/"), IsEmpty());
  EXPECT_THAT(OptionsFor("coap://example.net/.well-known/core"),
              ElementsAre(Pair(3, "example.net"), Pair(11, ".well-known"), Pair(11, "core")));
  EXPECT_THAT(OptionsFor("coap://xn--18j4d.example/"
                         "%E3%81%93%E3%82%93%E3%81%AB%E3%81%A1%E3%81%AF"),
              ElementsAre(Pair(3, "xn--18j4d.example"), Pair(11, "こんにちは")));
  EXPECT_THAT(OptionsFor("coap://198.51.100.1:61616//%2F//?%2F%2F&?%26"),
              ElementsAre(Pair(11, ""), Pair(11, "/"), Pair(11, ""), Pair(11, ""), Pair(15, "//"),
                          Pair(15, "?&")));
}

TEST(Uri, IsComposedFromTheOptionsOfTheRfc) {
  const auto composed = [](const char* destination, const Message& request) {
    const auto uri = Uri::FromOptions(request.options(), Parsed(destination));
    EXPECT_TRUE(uri.ok()) << uri.status();
    return uri.ok() ? uri->ToText() : "";
  };
  EXPECT_EQ(composed("coap://[2001:db8::2:1]", Message(Code::kGet)), "coap://[2001:db8::2:1]/");
  EXPECT_EQ(composed("coap://[2001:db8::2:1]", Message(Code::kGet).SetUriHost("example.net")),
            "coap://example.net/");
  EXPECT_EQ(composed("coap://[2001:db8::2:1]", Message(Code::kGet)
                                                   .SetUriHost("xn--18j4d.example")
                                                   .Add(OptionNumber::kUriPath, "こんにちは")),
            "coap://xn--18j4d.example/%E3%81%93%E3%82%93%E3%81%AB%E3%81%A1%E3%81%AF");
  EXPECT_EQ(composed("coap://198.51.100.1:61616", Message(Code::kGet)
                                                      .Add(OptionNumber::kUriPath, "")
                                                      .Add(OptionNumber::kUriPath, "/")
                                                      .Add(OptionNumber::kUriPath, "")
                                                      .Add(OptionNumber::kUriPath, "")
                                                      .AddQuery("//")
                                                      .AddQuery("?&")),
            "coap://198.51.100.1:61616//%2F//?//&?%26");
  EXPECT_EQ(composed("coap://h", Message(Code::kGet).SetUriPort(1).SetUriHost("[::1]")),
            "coap://[::1]:1/");
  EXPECT_FALSE(Uri::FromOptions(Message(Code::kGet).SetUriPort(0).options(), Uri()).ok());
  EXPECT_FALSE(Uri::FromOptions(Message(Code::kGet).SetPath("/a/..").options(), Uri()).ok());
  EXPECT_FALSE(Uri::FromOptions(Message(Code::kGet).AddQuery("\xff").options(), Uri()).ok());
  EXPECT_FALSE(Uri::FromOptions(Message(Code::kGet).SetUriHost("[::1").options(), Uri()).ok());
}

// RFC 7252 section 6.3: three that are equivalent, and more of the kind.
TEST(Uri, HasANormalForm) {
  for (const char* same :
       {"coap://example.com:5683/~sensors/temp.xml", "coap://EXAMPLE.com/%7Esensors/temp.xml",
        "coap://EXAMPLE.com:/%7esensors/temp.xml", "COAP://example.com/~sensors/./temp.xml",
        "coap://example.com/x/../~sensors/temp.xml",
        "coap://example.com/x/%2e%2E/~sensors/temp.xml"})
    EXPECT_EQ(Parsed(same).ToText(), "coap://example.com/~sensors/temp.xml") << same;
  EXPECT_EQ(Parsed("coap://[2001:DB8:0:0::1]:5683").ToText(), "coap://[2001:db8::1]/");
  EXPECT_EQ(Parsed("coap://h?a=b&c").ToText(), "coap://h/?a=b&c");
  EXPECT_EQ(Parsed("coap://h/a/").ToText(), "coap://h/a/");
  EXPECT_EQ(Parsed("coap://h/a/.").ToText(), "coap://h/a/");
  EXPECT_EQ(Parsed("coap://h/a/..").ToText(), "coap://h/");
  EXPECT_EQ(Parsed("coap://h/a/b/..").ToText(), "coap://h/a/");
  EXPECT_EQ(Parsed("coap://h//").ToText(), "coap://h//");
  EXPECT_EQ(Parsed("coap://h/?").ToText(), "coap://h/?");
  EXPECT_EQ(Parsed("coap://h/?a?/b").ToText(), "coap://h/?a?/b");
  EXPECT_EQ(Parsed("coap://a%2Fb/").ToText(), "coap://a%2Fb/");
  EXPECT_TRUE(Parsed("coap://1.2.3.4/").host_is_address);
  for (const char* name : {"coap://1.2.3/", "coap://1.2.3.256/", "coap://01.2.3.4/",
                           "coap://1.2.3.4.5/", "coap://1..3.4/"})
    EXPECT_FALSE(Parsed(name).host_is_address) << name;
}

TEST(Uri, KnowsSchemesAndPorts) {
  EXPECT_EQ(Parsed("coap://h").port, 5683);
  EXPECT_EQ(Parsed("coaps://h").port, 5684);
  EXPECT_EQ(Parsed("coap+tcp://h").port, 5683);
  EXPECT_EQ(Parsed("coaps+tcp://h").port, 5684);
  EXPECT_EQ(Parsed("coap+ws://h").port, 80);
  EXPECT_EQ(Parsed("coaps+ws://h").port, 443);
  EXPECT_TRUE(IsSecure(Parsed("coaps://h").scheme));
  EXPECT_FALSE(IsSecure(Parsed("coap+tcp://h").scheme));
  EXPECT_EQ(Parsed("coaps+tcp://h:1/x").ToText(), "coaps+tcp://h:1/x");
  EXPECT_THAT(OptionsFor("coap://h:7/"), ElementsAre(Pair(3, "h")));
  Message request(Code::kGet);
  Parsed("coap://h:7/").ToOptions(request, 5683);
  EXPECT_EQ(request.options().uri_port(), 7);
}

TEST(Uri, RefusesWhatIsNone) {
  const std::string long_segment = "coap://h/" + std::string(256, 'a');
  const std::string long_query = "coap://h/?" + std::string(256, 'a');
  const std::string long_host = "coap://" + std::string(256, 'a');
  const std::string long_uri = "coap://h/" + std::string(Uri::kMaxBytes, '/');
  for (const std::string& text : {std::string(""),
                                  std::string("/a"),
                                  std::string("h"),
                                  std::string("coap:/h"),
                                  std::string("coap:h"),
                                  std::string("http://h/"),
                                  std::string("coap://"),
                                  std::string("coap:///a"),
                                  std::string("coap://h/#f"),
                                  std::string("coap://h/a#"),
                                  std::string("coap://user@h/"),
                                  std::string("coap://h:0/"),
                                  std::string("coap://h:65536/"),
                                  std::string("coap://h:+1/"),
                                  std::string("coap://h:1x/"),
                                  std::string("coap://[::1/"),
                                  std::string("coap://[::1]x/"),
                                  std::string("coap://[fe80::1%25eth0]/"),
                                  std::string("coap://[fe80::1%eth0]/"),
                                  std::string("coap://[v1.x]/"),
                                  std::string("coap://[]/"),
                                  std::string("coap://::1/"),
                                  std::string("coap://%5B::1%5D/"),
                                  std::string("coap://h%00/"),
                                  std::string("coap://h/%"),
                                  std::string("coap://h/%4"),
                                  std::string("coap://h/%4g"),
                                  std::string("coap://h/%ff"),
                                  std::string("coap://h/a b"),
                                  std::string("coap://h/\"\""),
                                  std::string("coap://h/?\xc3\xa4"),
                                  std::string("coap://h/.."),
                                  std::string("coap://h/a/../.."),
                                  std::string("coap://h/%2e%2e"),
                                  std::string("coap://h\\x/"),
                                  std::string("coap://h/a\0b", 12),
                                  long_segment,
                                  long_query,
                                  long_host,
                                  long_uri})
    EXPECT_FALSE(Uri::Parse(text).ok()) << text.substr(0, 100);
  EXPECT_THAT(Uri::Parse("coap://[fe80::1%25eth0]/").status().ToString(), HasSubstr("zone"));
  EXPECT_TRUE(Uri::Parse("coap://h/" + std::string(255, 'a') + "?" + std::string(255, 'b')).ok());
}

TEST(Uri, SurvivesTheWayThroughOptions) {
  for (const char* text : {"coap://h/", "coap://h//", "coap://h/a/b//?c=d&&e", "coap://h/%25?%26",
                           "coap://[::1]:9/a", "coap://1.2.3.4/?", "coap://%C3%A4/x"}) {
    const Uri uri = Parsed(text);
    Message request(Code::kGet);
    uri.ToOptions(request);
    EXPECT_TRUE(request.Check().ok());
    const auto again = Uri::FromOptions(request.options(), uri);
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(*again, uri);
    EXPECT_EQ(again->ToText(), text);
    EXPECT_EQ(PathAndQueryOf(request.options()), uri.PathAndQuery());
  }
  EXPECT_EQ(LocationOf(Message(Code::kCreated).SetLocation("/a/b").AddLocationQuery("c").options()),
            "/a/b?c");
}

}  // namespace
}  // namespace waxvm::coap
