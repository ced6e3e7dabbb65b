// SPDX-License-Identifier: Apache-2.0
// The options of a CoAP message, read where they lie.
#ifndef WAXVM_COAP_OPTIONS_H_
#define WAXVM_COAP_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <span>
#include <string_view>

#include "waxvm/coap_code.h"

namespace waxvm::coap {

using Bytes = std::span<const std::byte>;

inline Bytes ToBytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline std::string_view ToText(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// One option, pointing into its message.
struct OptionView {
  OptionNumber number{};
  Bytes value;

  std::string_view text() const { return ToText(value); }
  /// The value as an unsigned integer, leading zeros allowed. nullopt: longer than 8 bytes.
  /// Spec: RFC 7252 section 3.2.
  std::optional<std::uint64_t> AsUint() const;
  /// Whether its definition allows that length; always for numbers that are not in OptionNumber.
  /// Otherwise it counts as one that is not recognized. Spec: RFC 7252 section 5.4.3.
  bool HasLegalLength() const;
};

/// Which part of a body a message carries or asks for. Spec: RFC 7959 section 2.2.
struct Block {
  static constexpr std::uint32_t kMaxNumber = (1u << 20) - 1;
  static constexpr std::uint8_t kMaxExponent = 6;

  std::uint32_t number = 0;  ///< at most kMaxNumber
  bool more = false;
  /// SZX: 0 to 6 are 16 to 1024 bytes; 7 is reserved, and a request with it gets 4.00.
  std::uint8_t exponent = kMaxExponent;

  bool is_legal() const { return exponent <= kMaxExponent && number <= kMaxNumber; }
  std::size_t bytes() const { return std::size_t{16} << exponent; }
  std::uint64_t offset() const { return std::uint64_t{number} << (exponent + 4); }
  std::uint32_t ToUint() const { return number << 4 | (more ? 8u : 0u) | exponent; }
  static Block FromUint(std::uint32_t value) {
    return {value >> 4, (value & 8) != 0, static_cast<std::uint8_t>(value & 7)};
  }
  bool operator==(const Block&) const = default;
};

/// Encoded options in a row, in ascending order. Every step is checked, so that bytes that change
/// meanwhile end the row early and are never read past. What is looked for by name is the first
/// option of that number with a length that its definition allows.
/// Thread safety: may be read from any number of threads at once.
class OptionsView {
 public:
  class Iterator {
   public:
    using value_type = OptionView;
    using difference_type = std::ptrdiff_t;
    Iterator() = default;
    Iterator(const std::byte* at, const std::byte* end) : at_(at), end_(end) { ++*this; }
    const OptionView& operator*() const { return option_; }
    const OptionView* operator->() const { return &option_; }
    Iterator& operator++();
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const { return done_; }

   private:
    const std::byte* at_ = nullptr;
    const std::byte* end_ = nullptr;
    OptionView option_;
    bool done_ = false;
  };

  OptionsView() = default;
  explicit OptionsView(Bytes encoded) : encoded_(encoded) {}
  Iterator begin() const { return {encoded_.data(), encoded_.data() + encoded_.size()}; }
  std::default_sentinel_t end() const { return {}; }
  Bytes encoded() const { return encoded_; }

  std::optional<OptionView> Find(OptionNumber number) const;
  bool Has(OptionNumber number) const { return Find(number).has_value(); }
  std::optional<std::string_view> Text(OptionNumber number) const;
  /// nullopt as well where the number is longer than four bytes.
  std::optional<std::uint32_t> Uint(OptionNumber number) const;
  /// `visit(std::string_view)` for each value of a repeatable option.
  template <typename Visit>
  void ForEach(OptionNumber number, Visit&& visit) const {
    for (const OptionView& option : *this)
      if (option.number == number && option.HasLegalLength()) visit(option.text());
  }

  std::optional<std::string_view> uri_host() const { return Text(OptionNumber::kUriHost); }
  std::optional<std::uint16_t> uri_port() const;
  /// Whether the Uri-Path is that of `path`, "/a/b"; nothing is decoded.
  bool PathIs(std::string_view path) const;
  std::optional<ContentFormat> content_format() const;
  std::optional<ContentFormat> accept() const;
  /// 60 where nothing is said. Spec: RFC 7252 section 5.10.5.
  std::uint32_t max_age_seconds() const { return Uint(OptionNumber::kMaxAge).value_or(60); }
  std::optional<std::string_view> etag() const { return Text(OptionNumber::kETag); }
  bool if_none_match() const { return Has(OptionNumber::kIfNoneMatch); }
  std::optional<std::uint32_t> observe() const { return Uint(OptionNumber::kObserve); }
  /// May hold the reserved size: see Block::is_legal.
  std::optional<Block> block1() const { return BlockOf(OptionNumber::kBlock1); }
  std::optional<Block> block2() const { return BlockOf(OptionNumber::kBlock2); }
  std::optional<std::uint32_t> size1() const { return Uint(OptionNumber::kSize1); }
  std::optional<std::uint32_t> size2() const { return Uint(OptionNumber::kSize2); }
  std::optional<std::string_view> proxy_uri() const { return Text(OptionNumber::kProxyUri); }
  std::optional<std::string_view> proxy_scheme() const { return Text(OptionNumber::kProxyScheme); }
  std::optional<std::uint32_t> hop_limit() const { return Uint(OptionNumber::kHopLimit); }
  std::optional<std::uint32_t> no_response() const { return Uint(OptionNumber::kNoResponse); }
  std::optional<std::string_view> echo() const { return Text(OptionNumber::kEcho); }
  std::optional<std::string_view> request_tag() const { return Text(OptionNumber::kRequestTag); }

 private:
  std::optional<Block> BlockOf(OptionNumber number) const;

  Bytes encoded_;
};

}  // namespace waxvm::coap

#endif  // WAXVM_COAP_OPTIONS_H_
