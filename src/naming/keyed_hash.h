// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_NAMING_KEYED_HASH_H_
#define WAXVM_SRC_NAMING_KEYED_HASH_H_

#include <sodium.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace waxvm::naming {

/// SipHash with that many rounds for each word and at the end. Spec: Aumasson and Bernstein,
/// "SipHash: a fast short-input PRF"; 2 and 4 are what libsodium has, 1 and 3 suffice for tables.
template <int kRounds, int kLastRounds>
std::uint64_t SipHash(const std::array<std::uint64_t, 2>& key, std::string_view text) {
  std::uint64_t a = key[0] ^ 0x736f6d6570736575, b = key[1] ^ 0x646f72616e646f6d;
  std::uint64_t c = key[0] ^ 0x6c7967656e657261, d = key[1] ^ 0x7465646279746573;
  const auto round = [&](int times) {
    for (int i = 0; i < times; ++i) {
      a += b, c += d;
      b = std::rotl(b, 13) ^ a, d = std::rotl(d, 16) ^ c;
      a = std::rotl(a, 32);
      c += b, a += d;
      b = std::rotl(b, 17) ^ c, d = std::rotl(d, 21) ^ a;
      c = std::rotl(c, 32);
    }
  };
  const auto take = [&](std::uint64_t word) {
    d ^= word;
    round(kRounds);
    a ^= word;
  };
  std::uint64_t last = static_cast<std::uint64_t>(text.size()) << 56;
  for (; text.size() >= 8; text.remove_prefix(8)) {
    std::uint64_t word;
    std::memcpy(&word, text.data(), 8);
    take(word);
  }
  for (std::size_t i = 0; i < text.size(); ++i)
    last |= std::uint64_t{static_cast<unsigned char>(text[i])} << (8 * i);
  take(last);
  c ^= 0xff;
  round(kLastRounds);
  return a ^ b ^ c ^ d;
}

/// For tables of names that strangers choose: with a key that nobody knows they cannot choose some
/// that collide.
class KeyedHash {
 public:
  using is_transparent = void;
  KeyedHash() { randombytes_buf(key_.data(), sizeof key_); }
  std::size_t operator()(std::string_view text) const { return SipHash<1, 3>(key_, text); }

 private:
  std::array<std::uint64_t, 2> key_;
};

}  // namespace waxvm::naming

#endif  // WAXVM_SRC_NAMING_KEYED_HASH_H_
