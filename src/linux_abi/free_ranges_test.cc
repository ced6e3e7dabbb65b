// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/free_ranges.h"

#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace waxvm::linux_abi {
namespace {

constexpr std::uint64_t kPage = 4096;

TEST(FreeRangesTest, FindsFromTheTopAndTakesWhatIsFree) {
  FreeRanges ranges(0x10000, 0x100000);
  EXPECT_EQ(ranges.FindHighest(kPage, kPage), 0xff000u);
  ranges.Take(0xff000, 0x100000);
  EXPECT_EQ(ranges.FindHighest(kPage, kPage), 0xfe000u);
  ranges.Take(0xf0000, 0x200000);  // part of it is taken, part lies behind the end
  EXPECT_EQ(ranges.FindHighest(kPage, kPage), 0xef000u);
  EXPECT_EQ(ranges.FindHighest(0xe0000, kPage), 0x10000u);
  EXPECT_FALSE(ranges.FindHighest(0xe1000, kPage));
  ranges.Give(0xf0000, 0x100000);
  EXPECT_EQ(ranges.FindHighest(0xf0000, kPage), 0x10000u) << "joined again";
}

TEST(FreeRangesTest, Aligns) {
  FreeRanges ranges(0x1000, 0x501000);
  EXPECT_EQ(ranges.FindHighest(0x200000, 0x200000), 0x200000u);
  EXPECT_FALSE(ranges.FindHighest(0x400000, 0x400000));
}

TEST(FreeRangesTest, FindsWithinBounds) {
  FreeRanges ranges(0x1000, 0x100000);
  EXPECT_EQ(ranges.FindWithin(kPage, 0x4000, 0x8000), 0x7000u);
  ranges.Take(0x5000, 0x9000);
  EXPECT_EQ(ranges.FindWithin(kPage, 0x4000, 0x8000), 0x4000u);
  EXPECT_FALSE(ranges.FindWithin(2 * kPage, 0x4000, 0x8000));
}

// Against a map of pages.
TEST(FreeRangesTest, AgreesWithASimpleModel) {
  constexpr std::uint64_t kPages = 256;
  std::mt19937 random(7);
  FreeRanges ranges(0, kPages * kPage);
  std::vector<bool> taken(kPages);
  for (int round = 0; round < 20'000; ++round) {
    const std::uint64_t first = random() % kPages;
    const std::uint64_t count = 1 + random() % 8;
    const std::uint64_t last = std::min(first + count, kPages);
    bool all_taken = true;
    for (std::uint64_t i = first; i < last; ++i) all_taken &= taken[i];
    if (all_taken)
      ranges.Give(first * kPage, last * kPage);
    else
      ranges.Take(first * kPage, last * kPage);
    for (std::uint64_t i = first; i < last; ++i) taken[i] = !all_taken;
    const std::uint64_t wanted = 1 + random() % 16;
    std::uint64_t longest = 0;
    std::uint64_t run = 0;
    for (std::uint64_t i = 0; i < kPages; ++i) {
      run = taken[i] ? 0 : run + 1;
      longest = std::max(longest, run);
    }
    const auto found = ranges.FindHighest(wanted * kPage, kPage);
    ASSERT_EQ(found.has_value(), longest >= wanted) << "round " << round;
    if (!found) continue;
    for (std::uint64_t i = 0; i < wanted; ++i)
      ASSERT_FALSE(taken[*found / kPage + i]) << "round " << round;
  }
}

}  // namespace
}  // namespace waxvm::linux_abi
