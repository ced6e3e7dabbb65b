// SPDX-License-Identifier: Apache-2.0
// The entries of page tables. Spec: AMD64 Architecture Programmer's Manual volume 2, chapter 5.
#ifndef WAXVM_SRC_VMM_PAGE_BITS_H_
#define WAXVM_SRC_VMM_PAGE_BITS_H_

#include <cstddef>
#include <cstdint>

namespace waxvm::vmm::page_bits {

inline constexpr std::uint64_t kPresent = 1 << 0;
inline constexpr std::uint64_t kWritable = 1 << 1;
inline constexpr std::uint64_t kUser = 1 << 2;
// Set in advance, so that the hardware never writes to the tables.
inline constexpr std::uint64_t kAccessed = 1 << 5;
inline constexpr std::uint64_t kDirty = 1 << 6;
inline constexpr std::uint64_t kLarge = 1 << 7;
// Ignored by hardware: the entry owns a frame, whether ring 3 may reach it or not.
inline constexpr std::uint64_t kOwned = 1 << 9;
// Ignored by hardware: the frame is a SharedFrame, which outlives the entry. An entry with neither
// bit is the machine's own; no method for the guest's pages touches it.
inline constexpr std::uint64_t kShared = 1 << 10;
// Ignored by hardware: the page got its first bytes from elsewhere, so that zero is not what is
// found where it is made again.
inline constexpr std::uint64_t kFilled = 1 << 11;
inline constexpr std::uint64_t kOwnership = kOwned | kShared;
inline constexpr std::uint64_t kNoExecute = std::uint64_t{1} << 63;
inline constexpr std::uint64_t kFrameMask = 0x000ffffffffff000;

inline constexpr std::uint64_t kTableFlags = kPresent | kWritable | kUser | kAccessed;
inline constexpr int kLevels = 4;
inline constexpr std::uint64_t kUserHalfBytes = std::uint64_t{1} << 47;

constexpr int ShiftOf(int level) { return 12 + 9 * (level - 1); }
constexpr std::size_t IndexOf(std::uint64_t address, int level) {
  return (address >> ShiftOf(level)) & 511;
}
constexpr std::uint64_t BytesOf(int level) { return std::uint64_t{1} << ShiftOf(level); }

}  // namespace waxvm::vmm::page_bits

#endif  // WAXVM_SRC_VMM_PAGE_BITS_H_
