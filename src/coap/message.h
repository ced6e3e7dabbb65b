// SPDX-License-Identifier: Apache-2.0
// The encoding of single options, shared by what reads and what writes them.
#ifndef WAXVM_SRC_COAP_MESSAGE_H_
#define WAXVM_SRC_COAP_MESSAGE_H_

#include <cstddef>
#include <cstdint>

#include "waxvm/coap_message.h"

namespace waxvm::coap {

inline constexpr std::byte kPayloadMarker{0xff};
inline constexpr std::uint32_t kMaxOptionNumber = 65535;
/// What the longest form of a length or delta can say: 269 and 16 bits.
inline constexpr std::size_t kMaxOptionBytes = 65804;

/// A 4-bit field, 13 and 14 of which say that one or two bytes more follow; `at` is moved past
/// them. False: reserved, or cut off.
inline bool TakeExtended(const std::byte*& at, const std::byte* end, std::uint32_t& field) {
  if (field < 13) [[likely]]
    return true;
  if (field == 13) {
    if (at == end) return false;
    field = 13 + static_cast<std::uint32_t>(*at++);
    return true;
  }
  if (field != 14 || end - at < 2) return false;
  field = 269 + (static_cast<std::uint32_t>(at[0]) << 8 | static_cast<std::uint32_t>(at[1]));
  at += 2;
  return true;
}

/// Takes one option from [at, end), which is not empty and does not begin with the payload marker;
/// `number` is that of the option before it and becomes its own. False: malformed.
inline bool TakeOption(const std::byte*& at, const std::byte* end, std::uint32_t& number,
                       const std::byte*& value, std::uint32_t& length) {
  const auto head = static_cast<std::uint32_t>(*at++);
  std::uint32_t delta = head >> 4;
  length = head & 15;
  if (!TakeExtended(at, end, delta) || !TakeExtended(at, end, length)) return false;
  number += delta;
  // Attack: deltas that add up past 16 bits, to come round to an option that was checked before.
  if (number > kMaxOptionNumber) return false;
  if (static_cast<std::size_t>(end - at) < length) return false;
  value = at;
  at += length;
  return true;
}

/// What TakeExtended takes; what follows the field is written to `out`. Returns the field.
std::uint32_t PutExtended(std::size_t value, std::byte*& out);
constexpr std::size_t ExtendedBytes(std::size_t value) {
  return value < 13 ? 0 : value < 269 ? 1 : 2;
}

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_MESSAGE_H_
