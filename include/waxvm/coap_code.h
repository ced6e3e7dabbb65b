// SPDX-License-Identifier: Apache-2.0
// The numbers of CoAP: methods and response codes, options, content formats.
#ifndef WAXVM_COAP_CODE_H_
#define WAXVM_COAP_CODE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace waxvm::coap {

/// How a message is acknowledged. Spec: RFC 7252 section 3.
enum class Type : std::uint8_t { kCon = 0, kNon = 1, kAck = 2, kRst = 3 };

/// Methods and response codes; any other number is a code as well.
/// Spec: RFC 7252 section 12.1, RFC 7959, 8132, 8516, 8768, 9175.
enum class Code : std::uint8_t {
  kEmpty = 0x00,
  kGet = 0x01,
  kPost = 0x02,
  kPut = 0x03,
  kDelete = 0x04,
  kFetch = 0x05,
  kPatch = 0x06,
  kIPatch = 0x07,
  kCreated = 0x41,
  kDeleted = 0x42,
  kValid = 0x43,
  kChanged = 0x44,
  kContent = 0x45,
  kContinue = 0x5f,
  kBadRequest = 0x80,
  kUnauthorized = 0x81,
  kBadOption = 0x82,
  kForbidden = 0x83,
  kNotFound = 0x84,
  kMethodNotAllowed = 0x85,
  kNotAcceptable = 0x86,
  kRequestEntityIncomplete = 0x88,
  kConflict = 0x89,
  kPreconditionFailed = 0x8c,
  kRequestEntityTooLarge = 0x8d,
  kUnsupportedContentFormat = 0x8f,
  kUnprocessableEntity = 0x96,
  kTooManyRequests = 0x9d,
  kInternalServerError = 0xa0,
  kNotImplemented = 0xa1,
  kBadGateway = 0xa2,
  kServiceUnavailable = 0xa3,
  kGatewayTimeout = 0xa4,
  kProxyingNotSupported = 0xa5,
  kHopLimitReached = 0xa8,
};

constexpr unsigned ClassOf(Code code) { return static_cast<unsigned>(code) >> 5; }
constexpr unsigned DetailOf(Code code) { return static_cast<unsigned>(code) & 31; }
/// Class 0 without the empty message.
constexpr bool IsRequest(Code code) { return ClassOf(code) == 0 && code != Code::kEmpty; }
/// Classes 2, 4 and 5.
constexpr bool IsResponse(Code code) { return (0x34u >> ClassOf(code) & 1) != 0; }
constexpr bool IsSuccess(Code code) { return ClassOf(code) == 2; }
/// Classes that mean nothing over a datagram. Spec: RFC 7252 section 3.
constexpr bool IsReserved(Code code) { return (0xcau >> ClassOf(code) & 1) != 0; }

/// "2.05".
std::string ToText(Code code);
/// "Content", "GET"; empty for a code that nobody registered.
std::string_view NameOf(Code code);
/// A code from what ToText or NameOf write of it.
std::optional<Code> ParseCode(std::string_view text);

/// Options; any other number is one as well.
/// Spec: RFC 7252 section 12.2, RFC 7641, 7959, 7967, 8613, 8768, 9175, 9177.
enum class OptionNumber : std::uint16_t {
  kIfMatch = 1,
  kUriHost = 3,
  kETag = 4,
  kIfNoneMatch = 5,
  kObserve = 6,
  kUriPort = 7,
  kLocationPath = 8,
  kOscore = 9,
  kUriPath = 11,
  kContentFormat = 12,
  kMaxAge = 14,
  kUriQuery = 15,
  kHopLimit = 16,
  kAccept = 17,
  kQBlock1 = 19,
  kLocationQuery = 20,
  kBlock2 = 23,
  kBlock1 = 27,
  kSize2 = 28,
  kQBlock2 = 31,
  kProxyUri = 35,
  kProxyScheme = 39,
  kSize1 = 60,
  kEcho = 252,
  kNoResponse = 258,
  kRequestTag = 292,
};

/// What the number says of an option to those who do not know it. Spec: RFC 7252 section 5.4.6.
constexpr bool IsCritical(OptionNumber number) { return (static_cast<unsigned>(number) & 1) != 0; }
constexpr bool IsUnsafe(OptionNumber number) { return (static_cast<unsigned>(number) & 2) != 0; }
constexpr bool IsNoCacheKey(OptionNumber number) {
  return (static_cast<unsigned>(number) & 0x1e) == 0x1c;
}

/// "Uri-Path"; empty for a number that nobody registered.
std::string_view NameOf(OptionNumber number);

/// Content formats; any other number is one as well. Spec: the IANA registry "CoAP
/// Content-Formats".
enum class ContentFormat : std::uint16_t {
  kTextPlain = 0,
  kCoseEncrypt0 = 16,
  kCoseMac0 = 17,
  kCoseSign1 = 18,
  kLinkFormat = 40,
  kXml = 41,
  kOctetStream = 42,
  kExi = 47,
  kJson = 50,
  kJsonPatch = 51,
  kMergePatch = 52,
  kCbor = 60,
  kCwt = 61,
  kMultipart = 62,
  kCborSequence = 63,
  kCoseEncrypt = 96,
  kCoseMac = 97,
  kCoseSign = 98,
  kCoseKey = 101,
  kCoseKeySet = 102,
  kSenmlJson = 110,
  kSensmlJson = 111,
  kSenmlCbor = 112,
  kSensmlCbor = 113,
  kProblemDetails = 257,
};

/// "application/json"; empty for a number that is not listed above.
std::string_view NameOf(ContentFormat format);
/// A format from its media type or its decimal number.
std::optional<ContentFormat> ParseContentFormat(std::string_view text);

}  // namespace waxvm::coap

#endif  // WAXVM_COAP_CODE_H_
