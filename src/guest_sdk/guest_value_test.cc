// SPDX-License-Identifier: Apache-2.0
// The guests' reader and writer of typed values against the host's, and messages that nobody should
// have written.
#include "waxvm/guest_value.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "waxvm/guest_cpp.h"
#include "waxvm/value.h"

namespace waxvm {
namespace {

using GuestValue = guest::Value;

GuestValue Decode(std::string_view message) { return guest::DecodeValue(message); }

int CodeOf(std::string_view message) {
  waxvm_value* value = nullptr;
  const int code = waxvm_value_decode(message.data(), message.size(), &value);
  EXPECT_EQ(code == WAXVM_CODE_OK, value != nullptr);
  waxvm_value_free(value);
  return code;
}

/// The message, or empty.
std::string Encode(const waxvm_value* value) {
  void* message = nullptr;
  size_t bytes = 0;
  if (waxvm_value_encode(value, &message, &bytes) != WAXVM_CODE_OK) return "";
  std::string copy(static_cast<const char*>(message), bytes);
  std::free(message);
  return copy;
}

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
                  {std::string("a\0b", 3), std::string("c\0d", 3)},
                  {"data", Data{std::string("\0\xff\x80", 3)}},
                  {"list", ValueList{1, -1, "two", ValueList{}, ValueMap{}, false}}};
}

TEST(GuestValueTest, WhatTheHostWritesComesBackAsItWas) {
  for (const Value& value :
       {Value(), Value(false), Value(true), Value(-7), Value(std::uint64_t{7}), Value(-0.0),
        Value(""), Value("text"), Value(Data{}), Value(Data{std::string(100'000, '\xee')}),
        Value(ValueList{}), Value(ValueMap{}), Nested(kMaxValueDepth), Sample(),
        // Of many segments, and so with far pointers.
        Value(ValueList(10'000, Value("many"))), Value(ValueList(300, Sample()))}) {
    const GuestValue read = Decode(*EncodeValue(value));
    ASSERT_NE(read, nullptr);
    const auto back = DecodeValue(Encode(read.get()));
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_TRUE(*back == value);
    EXPECT_EQ(waxvm_value_kind(read.get()), static_cast<int>(value.kind.index()));
  }
  const GuestValue nan = Decode(*EncodeValue(std::nan("0x1234")));
  double to = 0;
  EXPECT_TRUE(waxvm_value_get_float64(nan.get(), &to) && std::isnan(to));
}

TEST(GuestValueTest, ValuesAreBuiltAndLookedAt) {
  waxvm_value* const list = waxvm_value_new_list();
  const GuestValue map(waxvm_value_new_map());
  EXPECT_EQ(waxvm_value_append(list, waxvm_value_new_int64(-5)), WAXVM_CODE_OK);
  EXPECT_EQ(waxvm_value_append(list, waxvm_value_new_uint64(5)), WAXVM_CODE_OK);
  EXPECT_EQ(waxvm_value_append(list, waxvm_value_new_data("\0x", 2)), WAXVM_CODE_OK);
  EXPECT_EQ(waxvm_value_insert(map.get(), "list", 4, list), WAXVM_CODE_OK);
  EXPECT_EQ(waxvm_value_insert(map.get(), "real", 4, waxvm_value_new_float64(1.5)), WAXVM_CODE_OK);
  EXPECT_EQ(waxvm_value_count(map.get()), 2u);
  std::size_t bytes = 9;
  EXPECT_STREQ(waxvm_value_key(map.get(), 1, &bytes), "real");
  EXPECT_EQ(bytes, 4u);
  EXPECT_EQ(waxvm_value_key(map.get(), 2, &bytes), nullptr);
  EXPECT_EQ(waxvm_value_find(map.get(), "lis", 3), nullptr);
  EXPECT_EQ(waxvm_value_find(map.get(), "list", 4), list);
  std::int64_t small = 0;
  std::uint64_t large = 0;
  double real = 0;
  EXPECT_TRUE(waxvm_value_get_int64(waxvm_value_at(list, 1), &small) && small == 5);
  EXPECT_FALSE(waxvm_value_get_uint64(waxvm_value_at(list, 0), &large));
  EXPECT_FALSE(waxvm_value_get_float64(waxvm_value_at(list, 0), &real));
  EXPECT_EQ(waxvm_value_get_bytes(waxvm_value_at(list, 2), &bytes)[1], 'x');
  EXPECT_EQ(waxvm_value_at(list, 3), nullptr);
  EXPECT_EQ(waxvm_value_kind(nullptr), -1);
  const Value expected = ValueMap{
      {"list", ValueList{-5, std::uint64_t{5}, Data{std::string("\0x", 2)}}}, {"real", 1.5}};
  EXPECT_TRUE(*DecodeValue(Encode(map.get())) == expected);
}

TEST(GuestValueTest, WhatCannotBePutTogetherIsNotEncoded) {
  const GuestValue list(waxvm_value_new_list());
  EXPECT_EQ(waxvm_value_append(list.get(), list.get()), WAXVM_CODE_INVALID_ARGUMENT);
  EXPECT_EQ(waxvm_value_insert(list.get(), "k", 1, waxvm_value_new_null()),
            WAXVM_CODE_INVALID_ARGUMENT);
  EXPECT_EQ(waxvm_value_append(nullptr, waxvm_value_new_null()), WAXVM_CODE_INVALID_ARGUMENT);
  EXPECT_NE(Encode(list.get()), "");
  EXPECT_EQ(waxvm_value_append(list.get(), nullptr), WAXVM_CODE_RESOURCE_EXHAUSTED);
  EXPECT_EQ(Encode(list.get()), "") << "an element is missing";
  EXPECT_EQ(waxvm_value_new_text("", std::size_t{15} << 20), nullptr);
}

TEST(GuestValueTest, BoundsAreTheHosts) {
  EXPECT_EQ(CodeOf(*EncodeValue(Nested(kMaxValueDepth))), WAXVM_CODE_OK);
  waxvm_value* deep = waxvm_value_new_list();
  for (int level = 1; level < 100'000; ++level) {
    waxvm_value* const outer = waxvm_value_new_list();
    ASSERT_EQ(waxvm_value_append(outer, deep), WAXVM_CODE_OK);
    deep = outer;
    if (level == kMaxValueDepth - 1) {
      EXPECT_TRUE(DecodeValue(Encode(deep)).ok());
    }
    if (level == kMaxValueDepth) {
      EXPECT_EQ(Encode(deep), "");
    }
  }
  waxvm_value_free(deep);  // without a stack as deep

  const GuestValue large(waxvm_value_new_list());
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(waxvm_value_append(large.get(),
                                 waxvm_value_new_data(std::string(6 << 20, 'x').data(), 6 << 20)),
              WAXVM_CODE_OK);
  EXPECT_EQ(Encode(large.get()), "");
}

/// A message of these segments.
std::string Segments(const std::vector<std::vector<std::uint64_t>>& segments) {
  std::vector<std::uint32_t> table = {static_cast<std::uint32_t>(segments.size() - 1)};
  for (const auto& words : segments) table.push_back(static_cast<std::uint32_t>(words.size()));
  if (table.size() % 2 != 0) table.push_back(0);
  std::string message(reinterpret_cast<const char*>(table.data()), table.size() * 4);
  for (const auto& words : segments)
    message.append(reinterpret_cast<const char*>(words.data()), words.size() * 8);
  return message;
}
std::string Words(const std::vector<std::uint64_t>& words) { return Segments({words}); }

constexpr std::uint64_t kValueSize = std::uint64_t{2} << 32 | std::uint64_t{1} << 48;
std::uint64_t ToValue(std::int32_t offset) {
  return kValueSize | (static_cast<std::uint32_t>(offset) << 2);
}
std::uint64_t ToList(std::int32_t offset, std::uint64_t words) {
  return (words << 35) | (std::uint64_t{7} << 32) | (static_cast<std::uint32_t>(offset) << 2) | 1;
}
std::uint64_t Far(std::uint64_t segment, std::uint64_t word, bool twice = false) {
  return segment << 32 | word << 3 | (twice ? 4 : 0) | 2;
}
std::uint64_t ListTag(std::uint64_t count) { return kValueSize | count << 2; }
constexpr std::uint64_t kIsList = 7;

TEST(HostileGuestValueTest, FarPointersOfBothKinds) {
  const Value expected = ValueList{Value(7)};
  const std::string once = Segments(
      {{Far(1, 0)}, {ToValue(0), kIsList, 0, Far(2, 0)}, {ToList(0, 3), ListTag(1), 2, 7, 0}});
  const std::string twice = Segments({{Far(1, 0, true)},
                                      {Far(2, 0), kValueSize},
                                      {kIsList, 0, ToList(0, 3), ListTag(1), 2, 7, 0}});
  for (const std::string& message : {once, twice}) {
    ASSERT_TRUE(*DecodeValue(message) == expected);
    const GuestValue read = Decode(message);
    ASSERT_NE(read, nullptr);
    EXPECT_TRUE(*DecodeValue(Encode(read.get())) == expected);
  }
  for (const std::string& message :
       {Segments({{Far(0, 0)}}), Segments({{Far(0, 0, true), Far(0, 0)}}), Segments({{Far(7, 0)}}),
        Segments({{Far(1, 9)}, {0}}), Segments({{Far(1, 0)}, {Far(0, 0)}}),
        Segments({{Far(1, 0, true)}, {Far(9, 0), kValueSize}})})
    EXPECT_EQ(CodeOf(message), WAXVM_CODE_INVALID_ARGUMENT);
}

TEST(HostileGuestValueTest, ListsInsideOfThemselvesAndShared) {
  EXPECT_EQ(
      CodeOf(Words({ToValue(0), kIsList, 0, ToList(0, 3), ListTag(1), kIsList, 0, ToList(-4, 3)})),
      WAXVM_CODE_INVALID_ARGUMENT);
  std::vector<std::uint64_t> words = {ToValue(0), kIsList, 0, ToList(0, 30)};
  for (int level = 0; level < 8; ++level) {
    words.push_back(ListTag(10));
    for (int i = 0; i < 10; ++i) {
      words.push_back(level == 7 ? 0 : kIsList);
      words.push_back(0);
      words.push_back(level == 7 ? 0 : ToList((9 - i) * 3, 30));
    }
  }
  EXPECT_EQ(CodeOf(Words(words)), WAXVM_CODE_INVALID_ARGUMENT);
  // 2^28 elements that have no bytes each.
  EXPECT_EQ(CodeOf(Words({ToValue(0), kIsList, 0, ToList(0, 0), std::uint64_t{1} << 30})),
            WAXVM_CODE_INVALID_ARGUMENT);
}

TEST(HostileGuestValueTest, KindsPointersAndTablesThatAreNone) {
  for (const std::string& message :
       {Words({ToValue(0), 9, 0, 0}), Words({ToValue(0), 0xffff, 0, 0}), Words({ToValue(5)}),
        Words({ToValue(-9), 0, 0, 0}), Words({ToList(0, 0), 0}), Words({std::uint64_t{3}}),
        Words({ToValue(0), 5, 0, std::uint64_t{2} << 32 | std::uint64_t{900} << 35 | 1}),
        // A text without its end.
        Words({ToValue(0), 5, 0, std::uint64_t{2} << 32 | std::uint64_t{8} << 35 | 1, ~0ull}),
        std::string(), std::string(7, '\0'), std::string(8, '\0'), std::string(8, '\xff'),
        std::string(16 << 20, '\0')})
    EXPECT_EQ(CodeOf(message), WAXVM_CODE_INVALID_ARGUMENT);
  // A struct without bytes is what the schema begins with.
  EXPECT_EQ(CodeOf(Words({0xfffffffcu})), WAXVM_CODE_OK);
  EXPECT_EQ(CodeOf(Words({0})), WAXVM_CODE_OK);
}

TEST(HostileGuestValueTest, TruncatedFlippedAndNoise) {
  const std::string message = *EncodeValue(ValueList{Sample(), Nested(8)});
  for (std::size_t bytes = 0; bytes < message.size(); ++bytes)
    EXPECT_EQ(CodeOf(message.substr(0, bytes)), WAXVM_CODE_INVALID_ARGUMENT) << bytes;
  std::mt19937_64 random(7);
  int read = 0, of_both = 0;
  const auto check = [&](const std::string& noise) {
    const auto host = DecodeValue(noise);
    const GuestValue value = Decode(noise);
    if (value == nullptr) return;
    ++read;
    const std::string again = Encode(value.get());
    ASSERT_NE(again, "");
    if (!host.ok()) return;
    ++of_both;
    // Encoded, because of numbers that are none.
    ASSERT_EQ(*EncodeValue(*DecodeValue(again)), *EncodeValue(*host));
  };
  for (std::size_t bit = 0; bit < message.size() * 8; ++bit) {
    std::string flipped = message;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    check(flipped);
  }
  for (int i = 0; i < 20'000; ++i) {
    std::string noise = message;
    for (int n = 0; n < 4; ++n) noise[random() % noise.size()] = static_cast<char>(random());
    check(noise);
  }
  EXPECT_GT(read, 1000);
  EXPECT_GT(of_both, 1000);
}

}  // namespace
}  // namespace waxvm
