// SPDX-License-Identifier: Apache-2.0
// Values there and back, and messages that nobody should have written.
#include "waxvm/value.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "waxvm/session.h"

namespace waxvm {
namespace {

using ::testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

Value Nested(int levels) {
  Value value = ValueList{};
  for (int i = 1; i < levels; ++i) value = ValueList{std::move(value)};
  return value;
}

Value Sample() {
  return ValueMap{{"null", Value()},
                  {"true", true},
                  {"least", std::numeric_limits<std::int64_t>::min()},
                  {"most", std::numeric_limits<std::uint64_t>::max()},
                  {"half", 0.5},
                  {"", "empty key, \xe2\x82\xac"},
                  {"data", Data{std::string("\0\xff\x80", 3)}},
                  {"list", ValueList{1, -1, "two", ValueList{}, ValueMap{}}}};
}

TEST(ValueTest, EverythingComesBackAsItWas) {
  for (const Value& value :
       {Value(), Value(false), Value(true), Value(-7), Value(std::uint64_t{7}), Value(-0.0),
        Value(""), Value("text"), Value(Data{}), Value(Data{std::string(100'000, '\xee')}),
        Value(ValueList{}), Value(ValueMap{}), Nested(kMaxValueDepth), Sample(),
        Value(ValueList(10'000, Value("many")))}) {
    const auto message = EncodeValue(value);
    ASSERT_TRUE(message.ok()) << message.status();
    EXPECT_EQ(message->size() % 8, 0u);
    const auto back = DecodeValue(*message);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_TRUE(*back == value);
    EXPECT_EQ(back->kind.index(), value.kind.index());
  }
  EXPECT_TRUE(std::isnan(*DecodeValue(*EncodeValue(std::nan("")))->As<double>()));
}

TEST(ValueTest, MapsAreLookedIn) {
  const Value value = Sample();
  EXPECT_EQ(*value.Find("half")->As<double>(), 0.5);
  EXPECT_EQ(value.Find("half")->As<std::string>(), nullptr);
  EXPECT_EQ(value.Find("quarter"), nullptr);
  EXPECT_EQ(Value(1).Find("half"), nullptr);
}

TEST(ValueTest, WhatCannotBeWrittenIsRefused) {
  const struct {
    Value value;
    std::string why;
  } kCases[] = {
      {Value("\xff"), "not UTF-8"},
      {ValueMap{{"\xc0\x80", 1}}, "key of a map is not UTF-8"},
      {ValueMap{{"a", 1}, {"b", 2}, {"a", 3}}, "a key is twice"},
      {Data{std::string(kMaxCallBytes + 1, 'x')}, "more than 15728640 bytes"},
  };
  for (const auto& wrong : kCases) {
    const absl::Status status = EncodeValue(wrong.value).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(Message(status), HasSubstr(wrong.why));
  }
}

TEST(ValueTest, DepthIsBoundedExactly) {
  EXPECT_TRUE(EncodeValue(Nested(kMaxValueDepth)).ok());
  EXPECT_THAT(Message(EncodeValue(Nested(kMaxValueDepth + 1)).status()),
              HasSubstr("more than 32 levels"));
  EXPECT_TRUE(EncodeValue(ValueList(kMaxValues / 2, Value())).ok());
  EXPECT_THAT(Message(EncodeValue(ValueList(650'000, ValueList{Value()})).status()),
              HasSubstr("more than"));
}

/// A message of one segment.
std::string Words(const std::vector<std::uint64_t>& words) {
  const std::uint64_t table = static_cast<std::uint64_t>(words.size()) << 32;
  std::string message(reinterpret_cast<const char*>(&table), 8);
  message.append(reinterpret_cast<const char*>(words.data()), words.size() * 8);
  return message;
}
// A pointer to a struct of a value, and to a list of them; `offset` in words from the next one.
constexpr std::uint64_t kValueSize = std::uint64_t{2} << 32 | std::uint64_t{1} << 48;
std::uint64_t ToValue(std::int32_t offset) {
  return kValueSize | (static_cast<std::uint32_t>(offset) << 2);
}
std::uint64_t ToList(std::int32_t offset, std::uint64_t words) {
  return (words << 35) | (std::uint64_t{7} << 32) | (static_cast<std::uint32_t>(offset) << 2) | 1;
}
std::uint64_t ListTag(std::uint64_t count) { return kValueSize | count << 2; }
// The first word of a value: what it is, in its first 16 bits; a boolean is the bit after them.
constexpr std::uint64_t kIsList = 7;
constexpr std::uint64_t kIsMap = 8;

TEST(HostileValueTest, HandmadeMessagesAreUnderstood) {
  // So that those below are refused for what they do and not for how they are made.
  const auto list = DecodeValue(Words({ToValue(0), kIsList, 0, ToList(0, 3), ListTag(1), 0, 0, 0}));
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_TRUE(*list == Value(ValueList{Value()}));
}

TEST(HostileValueTest, ThePageOfTheFormatIsRight) {
  const std::string message = *EncodeValue(ValueList{true});
  EXPECT_EQ(message, Words({ToValue(0), kIsList, 0, ToList(0, 3), ListTag(1), 0x10001, 0, 0}));
}

TEST(HostileValueTest, AListInsideOfItself) {
  // The one element of the list points to the list.
  const auto status = DecodeValue(Words({ToValue(0), kIsList, 0, ToList(0, 3), ListTag(1), kIsList,
                                         0, ToList(-4, 3)}))
                          .status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
}

TEST(HostileValueTest, ListsThatShareTheirElementsCannotGrow) {
  // Eight levels of a list whose ten elements all lead to the same next list: 10^8 values.
  std::vector<std::uint64_t> words = {ToValue(0), kIsList, 0, ToList(0, 30)};
  for (int level = 0; level < 8; ++level) {
    words.push_back(ListTag(10));
    for (int i = 0; i < 10; ++i) {
      words.push_back(level == 7 ? 0 : kIsList);
      words.push_back(0);
      words.push_back(level == 7 ? 0 : ToList((9 - i) * 3, 30));
    }
  }
  const auto status = DecodeValue(Words(words)).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
}

TEST(HostileValueTest, KindsAndListsThatAreNone) {
  EXPECT_THAT(Message(DecodeValue(Words({ToValue(0), 9, 0, 0})).status()), HasSubstr("kind 9"));
  // A list of bytes where values should be; a list longer than the message; a far pointer.
  for (const std::uint64_t pointer :
       {std::uint64_t{1} | std::uint64_t{2} << 32 | std::uint64_t{8} << 35, ToList(0, 1 << 20),
        std::uint64_t{2} | std::uint64_t{5} << 32}) {
    for (const std::uint64_t kind : {kIsList, kIsMap}) {
      const auto status =
          DecodeValue(Words({ToValue(0), kind, 0, pointer, 0x4141414141414141})).status();
      EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    }
  }
  // A claim of many elements without a byte.
  const auto empty = DecodeValue(
      Words({ToValue(0), kIsList, 0, ToList(0, 0), (std::uint64_t{1} << 29) << 2 & 0xfffffffc}));
  EXPECT_TRUE(absl::IsInvalidArgument(empty.status())) << empty.status();
}

TEST(HostileValueTest, TruncatedMessages) {
  const std::string message = *EncodeValue(Sample());
  for (std::size_t bytes = 0; bytes < message.size(); ++bytes)
    EXPECT_TRUE(absl::IsInvalidArgument(DecodeValue(message.substr(0, bytes)).status())) << bytes;
  EXPECT_TRUE(absl::IsInvalidArgument(DecodeValue(std::string(kMaxCallBytes + 8, '\0')).status()));
}

TEST(HostileValueTest, FlippedBitsAndNoise) {
  const std::string message = *EncodeValue(Sample());
  for (std::size_t bit = 0; bit < message.size() * 8; ++bit) {
    std::string flipped = message;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const auto back = DecodeValue(flipped);  // whatever it is, it can be written again
    EXPECT_TRUE(!back.ok() || EncodeValue(*back).ok()) << bit;
  }
  std::mt19937_64 random(4);
  for (int i = 0; i < 20'000; ++i) {
    std::string noise = message;
    for (int n = 0; n < 4; ++n) noise[random() % noise.size()] = static_cast<char>(random());
    const auto back = DecodeValue(noise);
    EXPECT_TRUE(back.ok() || absl::IsInvalidArgument(back.status())) << back.status();
  }
}

}  // namespace
}  // namespace waxvm
