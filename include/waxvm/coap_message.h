// SPDX-License-Identifier: Apache-2.0
// One CoAP message as it lies in a datagram, read where it is and written where it goes.
#ifndef WAXVM_COAP_MESSAGE_H_
#define WAXVM_COAP_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "waxvm/coap_code.h"
#include "waxvm/coap_options.h"

namespace waxvm::coap {

/// The longest token that can be written. Spec: RFC 8974 section 2.1.
inline constexpr std::size_t kMaxTokenBytes = 65804;
inline constexpr std::size_t kHeaderBytes = 4;

/// What a peer may make this end read.
struct ParseLimits {
  /// Above 8, extended tokens are understood. At most kMaxTokenBytes.
  std::size_t max_token_bytes = 8;
  /// Attack: a datagram of thousands of empty options, gone through at each question about it.
  std::size_t max_options = 256;
};

/// What is wrong with a datagram.
enum class WireFault : std::uint8_t {
  kNone,
  kNoMessage,       ///< shorter than a header, or another version: there is nobody to answer
  kFormat,          ///< a message format error, and an empty message that is not empty
  kReservedCode,    ///< a code of class 1, 3, 6 or 7
  kTypeMismatch,    ///< a code that cannot come with this type
  kTooManyOptions,  ///< more than ParseLimits::max_options
  /// Longer than ParseLimits::max_token_bytes, with extended tokens understood. All of the message
  /// can be read; a request gets 4.00 with its token. Spec: RFC 8974 section 2.2.2.
  kTokenTooLong,
};

/// A datagram taken apart. Points into the datagram, which must outlive it.
/// Thread safety: may be read from any number of threads at once.
/// Spec: RFC 7252 section 3, RFC 8974 section 2.1.
class MessageView {
 public:
  MessageView() = default;
  /// Never allocates. With a fault() other than kNone and kTokenTooLong only type() and id() mean
  /// something, and with kNoMessage not even these.
  static MessageView Parse(Bytes datagram, const ParseLimits& limits = {});

  WireFault fault() const { return fault_; }
  bool ok() const { return fault_ == WireFault::kNone; }
  /// Whether the fault is answered with a Reset: a confirmable message that cannot be processed is,
  /// anything else is ignored. Spec: RFC 7252 sections 4.2 and 4.3.
  bool wants_reset() const {
    return fault_ > WireFault::kNoMessage && fault_ != WireFault::kTokenTooLong &&
           type_ == Type::kCon;
  }

  Type type() const { return type_; }
  Code code() const { return code_; }
  std::uint16_t id() const { return id_; }
  Bytes token() const { return token_; }
  OptionsView options() const { return OptionsView(options_); }
  /// Empty where there is none.
  Bytes payload() const { return payload_; }
  bool is_request() const { return IsRequest(code_); }
  bool is_response() const { return IsResponse(code_); }
  bool is_empty() const { return code_ == Code::kEmpty; }

  /// As OptionsView's; at once where a number below 64 is not there.
  bool Has(OptionNumber number) const { return Find(number).has_value(); }
  std::optional<OptionView> Find(OptionNumber number) const;
  /// One bit for each option number below 64 that is there.
  std::uint64_t present() const { return present_; }
  /// Whether there is a critical option with a number of 64 or more.
  bool has_high_critical() const { return high_critical_; }

 private:
  Bytes token_;
  Bytes options_;
  Bytes payload_;
  std::uint64_t present_ = 0;
  std::uint16_t id_ = 0;
  Type type_ = Type::kCon;
  Code code_ = Code::kEmpty;
  WireFault fault_ = WireFault::kNoMessage;
  bool high_critical_ = false;
};

/// Writes one message into a buffer of the caller's, from front to back. Once something did not fit
/// or was out of order, ok() is false and nothing is written any more.
/// Thread safety: none; distinct objects may be used from distinct threads.
class MessageWriter {
 public:
  /// `token`: at most kMaxTokenBytes; more than 8 only for a peer that understands RFC 8974.
  MessageWriter(std::span<std::byte> out, Type type, Code code, std::uint16_t id, Bytes token = {});

  /// Numbers must not descend.
  void Option(OptionNumber number, Bytes value);
  void Option(OptionNumber number, std::string_view value) { Option(number, ToBytes(value)); }
  /// In as few bytes as it takes: none for 0.
  void UintOption(OptionNumber number, std::uint64_t value);
  /// Options that are encoded already, none of them below what was written.
  void Options(OptionsView options);
  /// The last part; empty: none.
  void Payload(Bytes payload);
  /// Where a payload may be written in place, instead of by Payload: as many bytes as CommitPayload
  /// then says, from its front. Empty: no room.
  std::span<std::byte> PayloadRoom();
  void CommitPayload(std::size_t bytes);

  bool ok() const { return ok_; }
  /// What was written; empty where ok() is false.
  Bytes message() const { return ok_ ? Bytes(out_.first(at_)) : Bytes(); }

 private:
  bool Have(std::size_t bytes);

  std::span<std::byte> out_;
  std::size_t at_ = 0;
  std::uint16_t last_ = 0;
  bool payload_ = false;
  bool ok_ = true;
};

/// An empty acknowledgement or a Reset, as it is sent.
struct EmptyMessage {
  EmptyMessage(Type type, std::uint16_t id)
      : bytes{std::byte(0x40 | static_cast<int>(type) << 4), std::byte{0}, std::byte(id >> 8),
              std::byte(id & 0xff)} {}
  std::byte bytes[kHeaderBytes];
};

}  // namespace waxvm::coap

#endif  // WAXVM_COAP_MESSAGE_H_
