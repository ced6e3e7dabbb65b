// SPDX-License-Identifier: Apache-2.0
#include "src/base/crc32c.h"

#include <nmmintrin.h>

#include <array>
#include <cstring>

namespace waxvm {
namespace {

constexpr std::uint32_t kPolynomial = 0x82f63b78;  // reversed

using Table = std::array<std::uint32_t, 256>;

constexpr Table MakeTable() {
  Table table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ ((value & 1) != 0 ? kPolynomial : 0);
    table[i] = value;
  }
  return table;
}

constexpr Table kTable = MakeTable();

constexpr std::uint32_t Step(std::uint32_t state, std::uint8_t byte) {
  return kTable[(state ^ byte) & 0xff] ^ state >> 8;
}

std::uint32_t ByTable(std::span<const std::byte> bytes, std::uint32_t state) {
  for (const std::byte byte : bytes) state = Step(state, static_cast<std::uint8_t>(byte));
  return state;
}

// The instruction takes a third of its latency to start, so three blocks are gone through at once.
// What the first of two blocks leaves as it stands behind the second is a linear function of it:
// what as many zero bytes make of it. One table for each byte of the state.
constexpr std::size_t kBlockBytes = 1024;

constexpr std::array<Table, 4> MakeShift() {
  std::array<std::uint32_t, 32> of_bit{};
  for (int bit = 0; bit < 32; ++bit) {
    std::uint32_t state = std::uint32_t{1} << bit;
    for (std::size_t i = 0; i < kBlockBytes; ++i) state = Step(state, 0);
    of_bit[static_cast<std::size_t>(bit)] = state;
  }
  std::array<Table, 4> shift{};
  for (std::size_t byte = 0; byte < 4; ++byte)
    for (std::size_t value = 0; value < 256; ++value)
      for (std::size_t bit = 0; bit < 8; ++bit)
        if ((value >> bit & 1) != 0) shift[byte][value] ^= of_bit[byte * 8 + bit];
  return shift;
}

constexpr std::array<Table, 4> kShift = MakeShift();

std::uint32_t PastBlock(std::uint64_t state) {
  return kShift[0][state & 0xff] ^ kShift[1][state >> 8 & 0xff] ^ kShift[2][state >> 16 & 0xff] ^
         kShift[3][state >> 24 & 0xff];
}

std::uint64_t Word(const std::byte* at) {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

__attribute__((target("sse4.2"))) std::uint32_t ByInstruction(std::span<const std::byte> bytes,
                                                              std::uint32_t state) {
  std::uint64_t wide = state;
  while (bytes.size() >= 3 * kBlockBytes) {
    std::uint64_t second = 0;
    std::uint64_t third = 0;
    const std::byte* const from = bytes.data();
    for (std::size_t i = 0; i < kBlockBytes; i += sizeof wide) {
      wide = _mm_crc32_u64(wide, Word(from + i));
      second = _mm_crc32_u64(second, Word(from + kBlockBytes + i));
      third = _mm_crc32_u64(third, Word(from + 2 * kBlockBytes + i));
    }
    wide = PastBlock(PastBlock(wide) ^ second) ^ third;
    bytes = bytes.subspan(3 * kBlockBytes);
  }
  for (; bytes.size() >= sizeof wide; bytes = bytes.subspan(sizeof wide))
    wide = _mm_crc32_u64(wide, Word(bytes.data()));
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
