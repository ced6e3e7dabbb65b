// SPDX-License-Identifier: Apache-2.0
// SipHash over whole words: a keyed hash for tables whose keys an attacker chooses, and the source
// of unguessable numbers.
#ifndef WAXVM_SRC_COAP_SIPHASH_H_
#define WAXVM_SRC_COAP_SIPHASH_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace waxvm::coap {

struct SipKey {
  std::uint64_t k0 = 0;
  std::uint64_t k1 = 0;
};

/// SipHash-kRounds-kFinal of the words as little-endian bytes.
/// Spec: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012.
template <int kRounds, int kFinal>
class SipHash {
 public:
  static std::uint64_t Of(const SipKey& key, std::span<const std::uint64_t> words) {
    SipHash state(key);
    for (const std::uint64_t word : words) state.Add(word);
    // The last block has the length in its top byte; whole words leave nothing else for it.
    state.Add(std::uint64_t{words.size() * 8} << 56);
    state.v2_ ^= 0xff;
    for (int i = 0; i < kFinal; ++i) state.Round();
    return state.v0_ ^ state.v1_ ^ state.v2_ ^ state.v3_;
  }

 private:
  explicit SipHash(const SipKey& key)
      : v0_(key.k0 ^ 0x736f6d6570736575),
        v1_(key.k1 ^ 0x646f72616e646f6d),
        v2_(key.k0 ^ 0x6c7967656e657261),
        v3_(key.k1 ^ 0x7465646279746573) {}

  void Add(std::uint64_t word) {
    v3_ ^= word;
    for (int i = 0; i < kRounds; ++i) Round();
    v0_ ^= word;
  }
  void Round() {
    v0_ += v1_;
    v1_ = std::rotl(v1_, 13) ^ v0_;
    v0_ = std::rotl(v0_, 32);
    v2_ += v3_;
    v3_ = std::rotl(v3_, 16) ^ v2_;
    v0_ += v3_;
    v3_ = std::rotl(v3_, 21) ^ v0_;
    v2_ += v1_;
    v1_ = std::rotl(v1_, 17) ^ v2_;
    v2_ = std::rotl(v2_, 32);
  }

  std::uint64_t v0_;
  std::uint64_t v1_;
  std::uint64_t v2_;
  std::uint64_t v3_;
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_SIPHASH_H_
