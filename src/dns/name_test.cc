// SPDX-License-Identifier: Apache-2.0
#include "src/dns/name.h"

#include <gtest/gtest.h>

#include "src/dns/wire.h"

namespace waxvm::dns {
namespace {

Name Must(std::string_view text, const Name& origin = {}) {
  const auto name = Name::FromText(text, origin);
  EXPECT_TRUE(name.ok()) << text << ": " << name.status();
  return name.ok() ? *name : Name();
}

TEST(Name, TextAndBack) {
  for (const char* text :
       {".", "internal.", "Sensor.Internal.", "_coap._udp.sensor.internal.", "a\\.b.internal.",
        "\\000\\255.x.", "quote\\\".x.", "back\\\\slash.", "sp\\032ace.", "*.x."})
    EXPECT_EQ(Must(text).ToText(), text);
  EXPECT_EQ(Must("a\\046b.").ToText(), "a\\.b.");
  EXPECT_EQ(Must("a\\x.").ToText(), "ax.");
  EXPECT_EQ(ToText(Must("a.bc.").bytes()), std::string_view("\1a\2bc\0", 6));
}

TEST(Name, RelativeNamesAreBelowTheOrigin) {
  const Name origin = Must("internal.");
  EXPECT_EQ(Must("sensor", origin).ToText(), "sensor.internal.");
  EXPECT_EQ(Must("sensor.", origin).ToText(), "sensor.");
  EXPECT_EQ(Must("@", origin).ToText(), "internal.");
}

TEST(Name, WhatIsNoNameIsRefused) {
  const std::string label(63, 'a');
  const std::string longest = label + "." + label + "." + label + "." + std::string(61, 'b') + ".";
  EXPECT_EQ(Must(longest).size(), 255u);
  for (const std::string& text :
       {std::string(), std::string(".."), std::string(".a"), std::string("a..b"),
        std::string(64, 'a'), "b" + longest, std::string("a\\"), std::string("a\\25"),
        std::string("a\\256"), std::string("a\\2x5")})
    EXPECT_FALSE(Name::FromText(text).ok()) << text;
  EXPECT_FALSE(Name::FromText(longest.substr(0, longest.size() - 1), Must("x.")).ok())
      << "with the origin";
}

TEST(Name, CaseOfLettersAloneDoesNotCount) {
  EXPECT_EQ(Must("SeNsOr.Internal."), Must("sensor.iNTERNAL."));
  EXPECT_FALSE(Must("a[.") == Must("a{.")) << "these differ by the same bit as letters do";
  EXPECT_FALSE(Must("\\192.") == Must("\\224."));
}

TEST(Name, Within) {
  EXPECT_TRUE(Must("a.Internal.").IsWithin(Must("internal.")));
  EXPECT_TRUE(Must("internal.").IsWithin(Must("internal.")));
  EXPECT_TRUE(Must("internal.").IsWithin(Name()));
  EXPECT_FALSE(Must("xinternal.").IsWithin(Must("internal.")));
  EXPECT_FALSE(Must("internal.").IsWithin(Must("a.internal.")));
  EXPECT_FALSE(Must("a\\.internal.").IsWithin(Must("internal."))) << "the dot is in the label";
  EXPECT_EQ(Must("a.b.").Parent(), Must("b."));
  EXPECT_EQ(Must("a.b.c.").labels(), 3u);
  EXPECT_EQ(Name().labels(), 0u);
}

std::string Read(std::string_view message, std::size_t at,
                 Compression compression = Compression::kAllowed) {
  Reader reader(ToBytes(message), at, message.size());
  const Name name = reader.ReadName(compression);
  return reader.ok() ? name.ToText() + " " + std::to_string(reader.position()) : "refused";
}

TEST(Reader, FollowsPointersBackwardsAlone) {
  using namespace std::string_view_literals;
  EXPECT_EQ(Read("\1a\1b\0"sv, 0), "a.b. 5");
  EXPECT_EQ(Read("\1a\1b\0\1c\xc0\0z"sv, 5), "c.a.b. 9");
  EXPECT_EQ(Read("\1a\1b\0\xc0\2"sv, 5), "b. 7");
  EXPECT_EQ(Read("\1a\1b\0\xc0\2"sv, 5, Compression::kRefused), "refused");
  EXPECT_EQ(Read("\xc0\0"sv, 0), "refused") << "to itself";
  EXPECT_EQ(Read("\xc0\2\1a\0"sv, 0), "refused") << "forward";
  EXPECT_EQ(Read("\1a\xc0\0"sv, 0), "refused") << "a loop over a label";
  EXPECT_EQ(Read("\1a\xc0\5\0\1b\xc0\0"sv, 5), "refused") << "two that lead to each other";
  EXPECT_EQ(Read("\0\xc0\0\xc0\1"sv, 3), ". 5") << "a chain backwards";
  EXPECT_EQ(Read("\x40\1a\0"sv, 0), "refused") << "a label type of the past";
  EXPECT_EQ(Read("\x80\1a\0"sv, 0), "refused");
  EXPECT_EQ(Read("\3ab"sv, 0), "refused") << "cut off";
  EXPECT_EQ(Read("\1a"sv, 0), "refused");
  EXPECT_EQ(Read("\xc0"sv, 0), "refused");
  EXPECT_EQ(Read(""sv, 0), "refused");
}

TEST(Reader, NamesGrowNoLongerByPointers) {
  // Labels of 63 bytes, each followed by a pointer to the one before.
  std::string message("\0", 1);
  std::size_t last = 0;
  for (int i = 0; i < 4; ++i) {
    const std::size_t at = message.size();
    message += '\x3f' + std::string(63, 'a');
    message += {'\xc0', static_cast<char>(last)};
    last = at;
    EXPECT_EQ(Read(message, at) == "refused", i == 3) << i;
  }
}

TEST(Writer, CompressesAndKeepsTheCase) {
  std::array<std::uint8_t, 64> out;
  Writer writer(out);
  writer.Put(ToBytes("head"));
  writer.PutCompressed(Must("a.Example."));
  writer.PutCompressed(Must("b.a.Example."));
  writer.PutCompressed(Must("a.example."));
  writer.PutCompressed(Must("Example."));
  using namespace std::string_view_literals;
  EXPECT_EQ(ToText(writer.written()), "head\1a\7Example\0\1b\xc0\4\1a\7example\0\xc0\6"sv);
}

TEST(Writer, StopsAtTheEndAndGoesBack) {
  std::array<std::uint8_t, 16> out;
  Writer writer(out);
  writer.PutCompressed(Must("abc."));
  const std::size_t before = writer.position();
  writer.PutCompressed(Must("0123456789abcdef."));
  EXPECT_FALSE(writer.ok());
  writer.Rewind(before);
  EXPECT_TRUE(writer.ok());
  writer.PutCompressed(Must("z.y."));
  writer.PutCompressed(Must("y."));
  EXPECT_EQ(writer.position(), before + 5 + 2);
}

}  // namespace
}  // namespace waxvm::dns
