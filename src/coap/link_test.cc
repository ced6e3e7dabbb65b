// SPDX-License-Identifier: Apache-2.0
#include "waxvm/coap_link.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace waxvm::coap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<Link> Parsed(std::string_view text) {
  auto links = ParseLinks(text);
  EXPECT_TRUE(links.ok()) << text << ": " << links.status();
  return links.ok() ? *links : std::vector<Link>();
}

// RFC 6690 section 5.
constexpr char kExample[] =
    "</sensors>;ct=40;title=\"Sensor Index\","
    "</sensors/temp>;rt=\"temperature-c\";if=\"sensor\","
    "</sensors/light>;rt=\"light-lux\";if=\"sensor\","
    "<http://www.example.com/sensors/t123>;anchor=\"/sensors/temp\";rel=\"describedby\","
    "</t>;anchor=\"/sensors/temp\";rel=\"alternate\"";

TEST(Links, ReadTheExampleOfTheRfc) {
  const std::vector<Link> links = Parsed(kExample);
  ASSERT_EQ(links.size(), 5u);
  EXPECT_EQ(links[0].target, "/sensors");
  EXPECT_EQ(links[0].Find("ct")->value, "40");
  EXPECT_EQ(links[0].Find("TITLE")->value, "Sensor Index");
  EXPECT_EQ(links[0].Find("rt"), nullptr);
  EXPECT_EQ(links[3].target, "http://www.example.com/sensors/t123");
  EXPECT_EQ(LinksToText(links).value(), kExample);
}

TEST(Links, ReadFlagsQuotesAndSpaces) {
  const std::vector<Link> links =
      Parsed(" </a> ; obs ; title=\"a \\\"b\\\\, <c>;\" ,\r\n <b>;if=x*/y\t");
  ASSERT_EQ(links.size(), 2u);
  EXPECT_EQ(links[0].Find("obs")->value, std::nullopt);
  EXPECT_EQ(links[0].Find("title")->value, "a \"b\\, <c>;");
  EXPECT_EQ(links[1].Find("if")->value, "x*/y");
  EXPECT_EQ(Parsed(LinksToText(links).value()), links);
  EXPECT_TRUE(Parsed("").empty());
  EXPECT_EQ(Parsed("<>").size(), 1u);
  EXPECT_EQ(Parsed("</a>;title*=UTF-8'de'%c3%a4")[0].Find("title*")->value, "UTF-8'de'%c3%a4");
}

TEST(Links, AreWritten) {
  const Link links[] = {Link{"/a"}.With("ct", "0").With("obs").With("rt", "x y"),
                        Link{"/b"}.With("sz", "007").With("title", "\"\\")};
  EXPECT_EQ(LinksToText(links).value(),
            "</a>;ct=0;obs;rt=\"x y\",</b>;sz=\"007\";title=\"\\\"\\\\\"");
  for (const Link& wrong : {Link{"/a>"}, Link{"/a b"}, Link{"/a"}.With("a b"), Link{"/a"}.With(""),
                            Link{"/a"}.With("rt", "a\nb")})
    EXPECT_FALSE(LinksToText({&wrong, 1}).ok());
}

TEST(Links, RefuseWhatIsMalformed) {
  for (const char* text :
       {"a", "<a", "</a>x", "</a>,", "</a>,,</b>", "</a>;", "</a>;=x", "</a>;rt=", "</a>;rt=\"x",
        "</a>;rt=\"x\\", "</a>;rt=\"x\"y", "<a<b>", "</a b>", "</a>;rt==\"", ",</a>", "</a>;;rt"})
    EXPECT_FALSE(ParseLinks(text).ok()) << text;
  EXPECT_THAT(ParseLinks("</a>x").status().ToString(), HasSubstr("at byte 4"));
}

TEST(Links, AreBounded) {
  EXPECT_FALSE(ParseLinks("</a>,</b>", {.max_links = 1}).ok());
  EXPECT_FALSE(ParseLinks("</a>;b;c", {.max_attributes = 1}).ok());
  EXPECT_FALSE(ParseLinks("</a>", {.max_bytes = 3}).ok());
  EXPECT_TRUE(
      ParseLinks("</a>;b,</c>;d", {.max_bytes = 13, .max_links = 2, .max_attributes = 1}).ok());
}

// RFC 6690 section 4.1 and its examples.
TEST(Links, AreFiltered) {
  const std::vector<Link> links =
      Parsed(std::string(kExample) + ",</m>;rt=\"light-lux core.sen-light\";if=\"a b\";obs");
  const auto found = [&](std::string_view query) {
    std::vector<std::string> targets;
    for (const Link& link : links)
      if (Matches(link, query)) targets.push_back(link.target);
    return targets;
  };
  EXPECT_THAT(found("rt=temperature-c"), ElementsAre("/sensors/temp"));
  EXPECT_THAT(found("rt=light-lux"), ElementsAre("/sensors/light", "/m"));
  EXPECT_THAT(found("rt=core.sen-*"), ElementsAre("/m"));
  EXPECT_THAT(found("rt=light"), ElementsAre());
  EXPECT_THAT(found("rt=light-lux core.sen-light"), ElementsAre());
  EXPECT_THAT(found("if=sensor"), ElementsAre("/sensors/temp", "/sensors/light"));
  EXPECT_THAT(found("if=b"), ElementsAre("/m"));
  EXPECT_THAT(found("href=/sensors*"), ElementsAre("/sensors", "/sensors/temp", "/sensors/light"));
  EXPECT_THAT(found("href=/sensors"), ElementsAre("/sensors"));
  EXPECT_THAT(found("anchor=/sensors/temp"),
              ElementsAre("http://www.example.com/sensors/t123", "/t"));
  EXPECT_THAT(found("rel=alternate"), ElementsAre("/t"));
  EXPECT_THAT(found("title=Sensor Index"), ElementsAre("/sensors"));
  EXPECT_THAT(found("title=Sensor*"), ElementsAre("/sensors"));
  EXPECT_THAT(found("title=Index"), ElementsAre());
  EXPECT_THAT(found("obs"), ElementsAre("/m"));
  EXPECT_THAT(found("ct=40"), ElementsAre("/sensors"));
  EXPECT_THAT(found("rt=*"), ElementsAre("/sensors/temp", "/sensors/light", "/m"));
  EXPECT_EQ(found("href=*").size(), 6u);
  EXPECT_THAT(found(""), ElementsAre());
}

}  // namespace
}  // namespace waxvm::coap
