// SPDX-License-Identifier: Apache-2.0
// What the Sec codes mean, and the search for a modifier.
#ifndef WAXVM_SRC_IDENTITY_CGA_HASH_H_
#define WAXVM_SRC_IDENTITY_CGA_HASH_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "waxvm/cga.h"

namespace waxvm::cga {

/// The first 14 bytes of a hash: as much of it as RFC 3972 ever looks at.
using HashHead = Hash2;

/// One Sec code.
struct Sec {
  HashHead (*hash)(std::string_view bytes);
  int zero_bits;  ///< of Hash2
};

/// Empty for a code that does not exist.
std::optional<Sec> SecOf(int code);

bool HasZeroBits(const HashHead& hash, int bits);

/// The bytes that Hash2 is taken of, with the modifier at their start.
std::string Hash2Input(const Modifier& modifier, std::string_view key_and_extensions);

struct Found {
  Modifier modifier{};
  Hash2 hash2{};
  std::uint64_t tries = 0;
};

/// The first modifier from options.modifier on with the zero bits that `sec` asks for.
/// Errors: kCancelled.
absl::StatusOr<Found> Search(const Sec& sec, std::string_view key_and_extensions,
                             const GenerateOptions& options);

}  // namespace waxvm::cga

#endif  // WAXVM_SRC_IDENTITY_CGA_HASH_H_
