// SPDX-License-Identifier: Apache-2.0
// Reading and writing the bytes of a message, within bounds.
#ifndef WAXVM_SRC_DNS_WIRE_H_
#define WAXVM_SRC_DNS_WIRE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "src/dns/name.h"

namespace waxvm::dns {

inline constexpr std::size_t kHeaderBytes = 12;
inline constexpr std::size_t kMaxMessageBytes = 65535;
inline constexpr std::uint16_t kClassIn = 1;

/// Bits of the header's second 16-bit word.
inline constexpr std::uint16_t kFlagQr = 0x8000;
inline constexpr std::uint16_t kFlagAa = 0x0400;
inline constexpr std::uint16_t kFlagTc = 0x0200;
inline constexpr std::uint16_t kFlagRd = 0x0100;
inline constexpr std::uint16_t kFlagRa = 0x0080;
inline constexpr std::uint16_t kOpcodeMask = 0x7800;
inline constexpr std::uint16_t kRcodeMask = 0x000f;

enum class Rcode : std::uint16_t {
  kNoError = 0,
  kFormErr = 1,
  kServFail = 2,
  kNxDomain = 3,
  kNotImp = 4,
  kRefused = 5,
  kBadVers = 16,
};

using Bytes = std::span<const std::uint8_t>;

inline Bytes ToBytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}
inline std::string_view ToText(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline std::uint16_t Load16(const std::uint8_t* at) {
  return static_cast<std::uint16_t>(at[0] << 8 | at[1]);
}
inline void Store16(std::uint8_t* at, std::size_t value) {
  at[0] = static_cast<std::uint8_t>(value >> 8);
  at[1] = static_cast<std::uint8_t>(value);
}

/// Which pointers a name may hold where it is read.
enum class Compression { kAllowed, kRefused };

/// Takes values from the front of a part of a message. Once something was not there, everything is
/// zero and ok() is false.
/// Thread safety: none; distinct objects may be used from distinct threads.
class Reader {
 public:
  /// Names may point into all of `message`; values come from [begin, end) of it.
  Reader(Bytes message, std::size_t begin, std::size_t end)
      : message_(message.first(end)), at_(begin), ok_(begin <= end) {}
  explicit Reader(Bytes message) : Reader(message, 0, message.size()) {}

  std::uint8_t U8() { return Have(1) ? message_[at_++] : std::uint8_t{0}; }
  std::uint16_t U16() {
    if (!Have(2)) return 0;
    at_ += 2;
    return Load16(&message_[at_ - 2]);
  }
  std::uint32_t U32() {
    const std::uint32_t high = U16();
    return high << 16 | U16();
  }
  Bytes Take(std::size_t count) {
    if (!Have(count)) return {};
    at_ += count;
    return message_.subspan(at_ - count, count);
  }
  /// A pointer must lead to before everything that was read of the name: then no chain of them
  /// loops, and none is longer than the name's 127 labels.
  Name ReadName(Compression compression);

  bool ok() const { return ok_; }
  void Fail() { ok_ = false; }
  std::size_t position() const { return at_; }
  std::size_t left() const { return ok_ ? message_.size() - at_ : 0; }

 private:
  bool Have(std::size_t count) {
    if (ok_ && message_.size() - at_ < count) ok_ = false;
    return ok_;
  }

  Bytes message_;
  std::size_t at_;
  bool ok_;
};

/// Appends values to a message. Once something did not fit, ok() is false and nothing is written
/// any more, until Rewind.
/// Thread safety: none; distinct objects may be used from distinct threads.
class Writer {
 public:
  explicit Writer(std::span<std::uint8_t> out) : out_(out) {}

  void U8(std::uint8_t value) {
    if (Have(1)) out_[at_++] = value;
  }
  void U16(std::size_t value) {
    if (!Have(2)) return;
    Store16(&out_[at_], value);
    at_ += 2;
  }
  void U32(std::uint32_t value) {
    U16(value >> 16);
    U16(value & 0xffff);
  }
  void Put(Bytes bytes) {
    if (bytes.empty() || !Have(bytes.size())) return;
    std::memcpy(&out_[at_], bytes.data(), bytes.size());
    at_ += bytes.size();
  }
  /// Where its end was written before, in the same case, points there.
  void PutCompressed(const Name& name);
  /// As it is; later names may point to it.
  void PutName(const Name& name);
  /// Later names may point to this one, which begins at `offset` and is not compressed.
  void Remember(std::size_t offset);

  /// Writes a 16-bit value over what is there.
  void Patch16(std::size_t offset, std::size_t value) { Store16(&out_[offset], value); }
  /// Goes back to `position`, and takes back what did not fit.
  void Rewind(std::size_t position);
  /// Nothing may be written past this.
  void Limit(std::size_t bytes) { out_ = out_.first(bytes); }

  bool ok() const { return ok_; }
  std::size_t position() const { return at_; }
  Bytes written() const { return out_.first(at_); }

 private:
  struct Target {
    std::uint16_t offset;
    std::uint16_t hash;
  };
  // What a name may point to is bounded so that a message of many names is not quadratic in them.
  static constexpr std::size_t kMaxTargets = 64;

  bool Have(std::size_t count) {
    if (ok_ && out_.size() - at_ < count) ok_ = false;
    return ok_;
  }
  bool SameName(std::size_t offset, Bytes name) const;
  /// The offset of a name with exactly these bytes, or 0.
  std::size_t Find(Bytes name, std::uint16_t hash) const;
  void Add(std::size_t offset, std::uint16_t hash);

  std::span<std::uint8_t> out_;
  std::size_t at_ = 0;
  bool ok_ = true;
  std::size_t targets_count_ = 0;
  std::array<Target, kMaxTargets> targets_;
};

}  // namespace waxvm::dns

#endif  // WAXVM_SRC_DNS_WIRE_H_
