// SPDX-License-Identifier: Apache-2.0
#include "src/base/crc32c.h"

#include <gtest/gtest.h>

#include <array>
#include <string_view>
#include <vector>

namespace waxvm {
namespace {

std::uint32_t Of(std::string_view text) { return Crc32c(std::as_bytes(std::span(text))); }

// RFC 3720, appendix B.4.
TEST(Crc32c, KnownAnswers) {
  EXPECT_EQ(Of("123456789"), 0xe3069283u);
  std::array<std::byte, 32> bytes{};
  EXPECT_EQ(Crc32c(bytes), 0x8a9136aau);
  bytes.fill(std::byte{0xff});
  EXPECT_EQ(Crc32c(bytes), 0x62a8ab43u);
}

TEST(Crc32c, GoesOn) {
  const std::string_view text = "a text of some length, in pieces";
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut)
    EXPECT_EQ(Crc32c(bytes.subspan(cut), Crc32c(bytes.first(cut))), Of(text));
}

// Long inputs take another way than single bytes do.
TEST(Crc32c, IsTheSameInOnePieceAndByteByByte) {
  std::vector<std::byte> bytes(10'000);
  std::uint32_t random = 1;
  for (std::byte& byte : bytes) byte = std::byte((random = random * 1664525 + 1013904223) >> 24);
  for (const std::size_t size : {3071, 3072, 3073, 3080, 6143, 6144, 7777, 9216, 9999, 10'000}) {
    const std::span<const std::byte> all = std::span(bytes).first(size);
    std::uint32_t one_by_one = 0;
    for (const std::byte& byte : all) one_by_one = Crc32c(std::span(&byte, 1), one_by_one);
    EXPECT_EQ(Crc32c(all), one_by_one) << size;
    EXPECT_EQ(Crc32c(all.subspan(5), Crc32c(all.first(5))), one_by_one) << size;
  }
}

}  // namespace
}  // namespace waxvm
