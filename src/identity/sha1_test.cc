// SPDX-License-Identifier: Apache-2.0
#include "src/identity/sha1.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "src/identity/text.h"

namespace waxvm::identity {
namespace {

// NIST's examples of FIPS 180-4, and the empty message of its CAVP files.
TEST(Sha1, AnswersAsNistSays) {
  const std::pair<std::string, const char*> kVectors[] = {
      {"", "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
      {"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
       "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
      {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmn"
       "o"
       "pqrsmnopqrstnopqrstu",
       "a49b2446a02c645bf419f995b67091253a04a259"},
      {std::string(1'000'000, 'a'), "34aa973cd4c4daa4f61eeb2bdbad27316534016f"}};
  for (const auto& [message, digest] : kVectors)
    EXPECT_EQ(ToHex(AsView(Sha1(message))), digest) << message.substr(0, 80);
}

// The padding takes another path at each of these lengths; the digests are those of sha1sum.
TEST(Sha1, EveryLengthAroundABlock) {
  const std::pair<std::size_t, const char*> kVectors[] = {
      {55, "c1c8bbdc22796e28c0e15163d20899b65621d65a"},
      {56, "c2db330f6083854c99d4b5bfb6e8f29f201be699"},
      {63, "03f09f5b158a7a8cdad920bddc29b81c18a551f5"},
      {64, "0098ba824b5c16427bd7a1122a5a442a25ec644d"},
      {65, "11655326c708d70319be2610e8a57d9a5b959d3b"}};
  for (const auto& [size, digest] : kVectors)
    EXPECT_EQ(ToHex(AsView(Sha1(std::string(size, 'a')))), digest) << size;
}

}  // namespace
}  // namespace waxvm::identity
