// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_IDENTITY_SHA1_H_
#define WAXVM_SRC_IDENTITY_SHA1_H_

#include <array>
#include <cstdint>
#include <string_view>

namespace waxvm::identity {

inline constexpr std::size_t kSha1Bytes = 20;

/// SHA-1, for addresses with the codes of RFC 3972 and nothing else: collisions of it can be made.
/// Spec: FIPS 180-4 section 6.1.
std::array<std::uint8_t, kSha1Bytes> Sha1(std::string_view bytes);

}  // namespace waxvm::identity

#endif  // WAXVM_SRC_IDENTITY_SHA1_H_
