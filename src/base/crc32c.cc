// SPDX-License-Identifier: Apache-2.0
#include "src/base/crc32c.h"

#include <nmmintrin.h>

#include <array>
#include <cstring>

namespace waxvm {
namespace {

constexpr std::uint32_t kPolynomial = 0x82f63b78;  // reversed

constexpr std::array<std::uint32_t, 256> MakeTable() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ ((value & 1) != 0 ? kPolynomial : 0);
    table[i] = value;
  }
  return table;
}

std::uint32_t ByTable(std::span<const std::byte> bytes, std::uint32_t state) {
  static constexpr std::array<std::uint32_t, 256> kTable = MakeTable();
  for (const std::byte byte : bytes)
    state = kTable[(state ^ static_cast<std::uint32_t>(byte)) & 0xff] ^ state >> 8;
  return state;
}

__attribute__((target("sse4.2"))) std::uint32_t ByInstruction(std::span<const std::byte> bytes,
                                                              std::uint32_t state) {
  std::uint64_t wide = state;
  while (bytes.size() >= sizeof wide) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data(), sizeof word);
    wide = _mm_crc32_u64(wide, word);
    bytes = bytes.subspan(sizeof word);
  }
  auto narrow = static_cast<std::uint32_t>(wide);
  for (const std::byte byte : bytes)
    narrow = _mm_crc32_u8(narrow, static_cast<unsigned char>(byte));
  return narrow;
}

}  // namespace

std::uint32_t Crc32c(std::span<const std::byte> bytes, std::uint32_t before) {
  static const bool has_instruction = __builtin_cpu_supports("sse4.2") != 0;
  return ~(has_instruction ? ByInstruction(bytes, ~before) : ByTable(bytes, ~before));
}

}  // namespace waxvm
