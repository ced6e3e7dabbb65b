// SPDX-License-Identifier: Apache-2.0
#include "src/isolation/output_limiter.h"

#include <gtest/gtest.h>

#include <string>

namespace waxvm {
namespace {

struct Sink {
  std::string output;
  std::string error;
  OutputWriter writer = [this](Stream stream, std::string_view data) {
    (stream == Stream::kOutput ? output : error) += data;
    return absl::OkStatus();
  };
};

TEST(OutputLimiterTest, BothStreamsShareTheBound) {
  Sink sink;
  OutputLimiter limiter(5, sink.writer);
  EXPECT_EQ(*limiter.Write(Stream::kOutput, "abc"), 3u);
  EXPECT_EQ(*limiter.Write(Stream::kError, "de"), 2u);
  EXPECT_FALSE(limiter.limit_reached()) << "exactly the bound is within it";
  EXPECT_EQ(*limiter.Write(Stream::kOutput, ""), 0u);
  EXPECT_FALSE(limiter.limit_reached());
  EXPECT_EQ(*limiter.Write(Stream::kOutput, "f"), 0u);
  EXPECT_TRUE(limiter.limit_reached());
  EXPECT_EQ(limiter.bytes(), 5u);
  EXPECT_EQ(sink.output, "abc");
  EXPECT_EQ(sink.error, "de");
}

TEST(OutputLimiterTest, WhatFitsIsDelivered) {
  Sink sink;
  OutputLimiter limiter(4, sink.writer);
  EXPECT_EQ(*limiter.Write(Stream::kOutput, "abcdef"), 4u);
  EXPECT_TRUE(limiter.limit_reached());
  EXPECT_EQ(sink.output, "abcd");
}

TEST(OutputLimiterTest, ZeroMeansNoneAtAllAndEmptyUnlimited) {
  Sink sink;
  OutputLimiter none(0, sink.writer);
  EXPECT_EQ(*none.Write(Stream::kOutput, "a"), 0u);
  EXPECT_TRUE(none.limit_reached());
  OutputLimiter unlimited(std::nullopt, nullptr);
  EXPECT_EQ(*unlimited.Write(Stream::kOutput, std::string(1 << 20, 'x')), 1u << 20);
  EXPECT_EQ(unlimited.bytes(), 1u << 20);
}

TEST(OutputLimiterTest, TheWritersErrorIsPassedOn) {
  OutputLimiter limiter(10, [](Stream, std::string_view) { return absl::DataLossError("gone"); });
  EXPECT_EQ(limiter.Write(Stream::kOutput, "a").status(), absl::DataLossError("gone"));
  EXPECT_EQ(limiter.bytes(), 0u);
}

}  // namespace
}  // namespace waxvm
