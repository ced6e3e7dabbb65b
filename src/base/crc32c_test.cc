// SPDX-License-Identifier: Apache-2.0
#include "src/base/crc32c.h"

#include <gtest/gtest.h>

#include <array>
#include <string_view>

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

}  // namespace
}  // namespace waxvm
