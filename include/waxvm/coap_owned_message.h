// SPDX-License-Identifier: Apache-2.0
// A CoAP message without its place in an exchange: what a client asks, what a server answers.
#ifndef WAXVM_COAP_OWNED_MESSAGE_H_
#define WAXVM_COAP_OWNED_MESSAGE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "waxvm/coap_code.h"
#include "waxvm/coap_message.h"
#include "waxvm/coap_options.h"

namespace waxvm::coap {

/// A code, options and a payload that belong to it. What changes it returns it, so that calls can
/// be strung together; options may be set in any order.
/// Thread safety: none; a const one may be read from any number of threads at once.
class Message {
 public:
  Message() = default;
  explicit Message(Code code) : code_(code) {}
  Message(Code code, std::string payload) : code_(code), payload_(std::move(payload)) {}
  /// A copy of what lies in a datagram.
  static Message From(const MessageView& view);

  Code code() const { return code_; }
  const std::string& payload() const { return payload_; }
  /// Points into this message, and is valid until its options change or it is moved.
  OptionsView options() const { return OptionsView(ToBytes(options_)); }

  Message& SetCode(Code code);
  Message& SetPayload(std::string payload);
  /// Together with the Content-Format.
  Message& SetPayload(ContentFormat format, std::string payload);

  /// Instead of all options of that number.
  Message& Set(OptionNumber number, std::string_view value);
  Message& SetUint(OptionNumber number, std::uint64_t value);
  /// After those of that number that are there.
  Message& Add(OptionNumber number, std::string_view value);
  Message& Remove(OptionNumber number);

  /// The segments of "/a/b", none for "/" or "". Nothing is decoded: see coap_uri.h.
  Message& SetPath(std::string_view path);
  Message& AddQuery(std::string_view query) { return Add(OptionNumber::kUriQuery, query); }
  Message& SetUriHost(std::string_view host) { return Set(OptionNumber::kUriHost, host); }
  Message& SetUriPort(std::uint16_t port) { return SetUint(OptionNumber::kUriPort, port); }
  Message& SetProxyUri(std::string_view uri) { return Set(OptionNumber::kProxyUri, uri); }
  Message& SetProxyScheme(std::string_view name) { return Set(OptionNumber::kProxyScheme, name); }
  Message& SetLocation(std::string_view path);
  Message& AddLocationQuery(std::string_view query) {
    return Add(OptionNumber::kLocationQuery, query);
  }
  Message& SetContentFormat(ContentFormat format);
  Message& SetAccept(ContentFormat format);
  Message& SetMaxAge(std::uint32_t seconds) { return SetUint(OptionNumber::kMaxAge, seconds); }
  /// Of a response; of a request, one of those that it already has the representation of.
  Message& AddETag(std::string_view etag) { return Add(OptionNumber::kETag, etag); }
  /// Empty: whatever exists.
  Message& AddIfMatch(std::string_view etag) { return Add(OptionNumber::kIfMatch, etag); }
  Message& SetIfNoneMatch() { return Set(OptionNumber::kIfNoneMatch, {}); }
  /// Only the lower 24 bits are sent.
  Message& SetObserve(std::uint32_t value);
  Message& SetBlock1(Block block) { return SetUint(OptionNumber::kBlock1, block.ToUint()); }
  Message& SetBlock2(Block block) { return SetUint(OptionNumber::kBlock2, block.ToUint()); }
  Message& SetSize1(std::uint32_t bytes) { return SetUint(OptionNumber::kSize1, bytes); }
  Message& SetSize2(std::uint32_t bytes) { return SetUint(OptionNumber::kSize2, bytes); }
  /// 1 to 255.
  Message& SetHopLimit(std::uint8_t hops) { return SetUint(OptionNumber::kHopLimit, hops); }
  /// The sum of 2, 8 and 16 for the classes of responses that are not wanted.
  /// Spec: RFC 7967 section 2.1.
  Message& SetNoResponse(std::uint8_t bits) { return SetUint(OptionNumber::kNoResponse, bits); }
  Message& SetEcho(std::string_view value) { return Set(OptionNumber::kEcho, value); }
  Message& SetRequestTag(std::string_view tag) { return Set(OptionNumber::kRequestTag, tag); }

  /// Whether its options are as their definitions demand. Errors: kInvalidArgument names the
  /// option.
  absl::Status Check() const;
  /// Its options and its payload; whether they had room is for writer.ok().
  void WriteTo(MessageWriter& writer) const;

  bool operator==(const Message&) const = default;

 private:
  Code code_ = Code::kEmpty;
  std::string options_;  // encoded
  std::string payload_;
};

}  // namespace waxvm::coap

#endif  // WAXVM_COAP_OWNED_MESSAGE_H_
