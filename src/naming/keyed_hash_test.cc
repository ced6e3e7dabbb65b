// SPDX-License-Identifier: Apache-2.0
#include "src/naming/keyed_hash.h"

#include <gtest/gtest.h>

#include <string>

namespace waxvm::naming {
namespace {

TEST(KeyedHash, IsSipHash) {
  // The key 00 01 … 0f of the paper, and texts 00 01 02 …
  std::array<std::uint64_t, 2> key;
  unsigned char bytes[16];
  for (unsigned char i = 0; i < 16; ++i) bytes[i] = i;
  std::memcpy(key.data(), bytes, sizeof bytes);
  std::string text;
  for (int size = 0; size < 70; ++size) {
    std::uint64_t expected = 0;
    crypto_shorthash(reinterpret_cast<unsigned char*>(&expected),
                     reinterpret_cast<const unsigned char*>(text.data()), text.size(), bytes);
    EXPECT_EQ((SipHash<2, 4>(key, text)), expected) << size;
    // Appendix A of the paper.
    if (size == 15) {
      EXPECT_EQ((SipHash<2, 4>(key, text)), 0xa129ca6149be45e5u);
    }
    text.push_back(static_cast<char>(size));
  }
  EXPECT_NE((SipHash<1, 3>(key, "a")), (SipHash<1, 3>(key, "b")));
}

TEST(KeyedHash, NobodyKnowsTheKey) {
  EXPECT_EQ(KeyedHash()("") == KeyedHash()("") && KeyedHash()("") == KeyedHash()(""), false);
}

}  // namespace
}  // namespace waxvm::naming
