// SPDX-License-Identifier: Apache-2.0
// Cryptographically generated addresses: an IPv6 address that only the holder of a key can claim.
#ifndef WAXVM_CGA_H_
#define WAXVM_CGA_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "waxvm/address.h"
#include "waxvm/key.h"

namespace waxvm::cga {

/// What the three Sec bits of an address mean: the hash, and how many leading bits of Hash2 are
/// zero, each of which doubles what it costs to find another key for the same address.
/// Codes 0 to 2 are those of RFC 3972; 3 to 5 are private to waxvm, not registered.
inline constexpr int kSha1 = 0;
inline constexpr int kSha1Bits16 = 1;
inline constexpr int kSha1Bits32 = 2;
inline constexpr int kSha256 = 3;
inline constexpr int kSha256Bits16 = 4;
inline constexpr int kSha256Bits32 = 5;

inline constexpr int kMaxCollisionCount = 2;

using Modifier = std::array<std::uint8_t, 16>;
using Prefix = std::array<std::uint8_t, 8>;
using Hash2 = std::array<std::uint8_t, 14>;

/// The CGA Parameters of an address. Spec: RFC 3972 section 3.
struct Parameters {
  Modifier modifier{};
  Prefix prefix{};
  int collision_count = 0;
  std::string public_key = {};  ///< SubjectPublicKeyInfo in DER
  std::string extensions = {};  ///< as they are on the wire; empty in waxvm's own addresses
  bool operator==(const Parameters&) const = default;
};

/// The bytes of the RFC's structure, and back. Errors: kInvalidArgument.
std::string Serialize(const Parameters& parameters);
absl::StatusOr<Parameters> ParseParameters(std::string_view bytes);

/// The /64 that belongs to an Ed25519 key: `fd`, then 7 bytes of a hash of the key. Every key has
/// its own, so that 115 bits bind an address to it instead of 59.
Prefix PrefixOf(const PublicKey& key);
/// The multicast group of a topic: `ff18`, then 14 bytes of a hash of its key.
Address GroupOf(const PublicKey& topic);

struct GenerateOptions {
  int sec_code = kSha256Bits16;
  int collision_count = 0;  ///< how many addresses before this one were taken
  /// Where the search begins; it counts up as a big-endian number of 128 bits. A random one keeps
  /// the addresses of one key from being linked by it.
  Modifier modifier{};
  /// 0: one for each CPU that this thread may run on.
  unsigned threads = 0;
  /// The search ends soon after a stop is requested.
  std::stop_token stop = {};
  /// Is told now and then, on the calling thread, how many modifiers were tried.
  std::function<void(std::uint64_t tries)> progress = nullptr;
};

struct Generated {
  Address address = {};
  Parameters parameters = {};
  Hash2 hash2{};
  std::uint64_t tries = 0;  ///< modifiers up to the one that was found
};

/// The address of a key under waxvm's own prefix. The modifier is the first from
/// `options.modifier` on that has the zero bits, whatever the number of threads.
/// Blocks: computing: 16 bits take about 2^16 hashes of 0.4 µs, 32 bits 2^32 of them.
/// Errors: kCancelled after a stop; kInvalidArgument for codes and counts that do not exist.
absl::StatusOr<Generated> Generate(const PublicKey& key, const GenerateOptions& options = {});

/// The same for any key and prefix. Spec: RFC 3972 section 4.
absl::StatusOr<Generated> Generate(std::string_view public_key_der, const Prefix& prefix,
                                   const GenerateOptions& options);

/// OK where `address` is one that the holder of the key made. Spec: RFC 3972 section 5.
/// Errors: kPermissionDenied with the step that failed; kInvalidArgument for a collision count
/// above 2, an unknown Sec code or a key that is no DER.
/// Thread safety: any number of threads.
absl::Status Verify(const Address& address, const Parameters& parameters);

/// The same for an address of waxvm's profile: its prefix must be the key's own as well.
absl::Status Verify(const Address& address, const PublicKey& key, const Modifier& modifier,
                    int collision_count);

/// The Sec code of an address.
int SecCodeOf(const Address& address);

}  // namespace waxvm::cga

#endif  // WAXVM_CGA_H_
