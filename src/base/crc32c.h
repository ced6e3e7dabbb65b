// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_BASE_CRC32C_H_
#define WAXVM_SRC_BASE_CRC32C_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace waxvm {

/// The CRC-32C (Castagnoli) of `bytes`, going on from that of what came before; 0 at the start.
/// Finds every change of up to 32 adjacent bits. It is no defence against whoever can write
/// another one. Spec: RFC 3720, appendix B.4.
std::uint32_t Crc32c(std::span<const std::byte> bytes, std::uint32_t before = 0);

}  // namespace waxvm

#endif  // WAXVM_SRC_BASE_CRC32C_H_
