// SPDX-License-Identifier: Apache-2.0
#include "waxvm/coap_code.h"

#include <charconv>

#include "src/base/strings.h"

namespace waxvm::coap {
namespace {

template <typename Number>
struct Named {
  Number number;
  std::string_view name;
};

constexpr Named<Code> kCodes[] = {
    {Code::kGet, "GET"},
    {Code::kPost, "POST"},
    {Code::kPut, "PUT"},
    {Code::kDelete, "DELETE"},
    {Code::kFetch, "FETCH"},
    {Code::kPatch, "PATCH"},
    {Code::kIPatch, "iPATCH"},
    {Code::kCreated, "Created"},
    {Code::kDeleted, "Deleted"},
    {Code::kValid, "Valid"},
    {Code::kChanged, "Changed"},
    {Code::kContent, "Content"},
    {Code::kContinue, "Continue"},
    {Code::kBadRequest, "Bad Request"},
    {Code::kUnauthorized, "Unauthorized"},
    {Code::kBadOption, "Bad Option"},
    {Code::kForbidden, "Forbidden"},
    {Code::kNotFound, "Not Found"},
    {Code::kMethodNotAllowed, "Method Not Allowed"},
    {Code::kNotAcceptable, "Not Acceptable"},
    {Code::kRequestEntityIncomplete, "Request Entity Incomplete"},
    {Code::kConflict, "Conflict"},
    {Code::kPreconditionFailed, "Precondition Failed"},
    {Code::kRequestEntityTooLarge, "Request Entity Too Large"},
    {Code::kUnsupportedContentFormat, "Unsupported Content-Format"},
    {Code::kUnprocessableEntity, "Unprocessable Entity"},
    {Code::kTooManyRequests, "Too Many Requests"},
    {Code::kInternalServerError, "Internal Server Error"},
    {Code::kNotImplemented, "Not Implemented"},
    {Code::kBadGateway, "Bad Gateway"},
    {Code::kServiceUnavailable, "Service Unavailable"},
    {Code::kGatewayTimeout, "Gateway Timeout"},
    {Code::kProxyingNotSupported, "Proxying Not Supported"},
    {Code::kHopLimitReached, "Hop Limit Reached"},
};

constexpr Named<OptionNumber> kOptions[] = {
    {OptionNumber::kIfMatch, "If-Match"},
    {OptionNumber::kUriHost, "Uri-Host"},
    {OptionNumber::kETag, "ETag"},
    {OptionNumber::kIfNoneMatch, "If-None-Match"},
    {OptionNumber::kObserve, "Observe"},
    {OptionNumber::kUriPort, "Uri-Port"},
    {OptionNumber::kLocationPath, "Location-Path"},
    {OptionNumber::kOscore, "OSCORE"},
    {OptionNumber::kUriPath, "Uri-Path"},
    {OptionNumber::kContentFormat, "Content-Format"},
    {OptionNumber::kMaxAge, "Max-Age"},
    {OptionNumber::kUriQuery, "Uri-Query"},
    {OptionNumber::kHopLimit, "Hop-Limit"},
    {OptionNumber::kAccept, "Accept"},
    {OptionNumber::kQBlock1, "Q-Block1"},
    {OptionNumber::kLocationQuery, "Location-Query"},
    {OptionNumber::kBlock2, "Block2"},
    {OptionNumber::kBlock1, "Block1"},
    {OptionNumber::kSize2, "Size2"},
    {OptionNumber::kQBlock2, "Q-Block2"},
    {OptionNumber::kProxyUri, "Proxy-Uri"},
    {OptionNumber::kProxyScheme, "Proxy-Scheme"},
    {OptionNumber::kSize1, "Size1"},
    {OptionNumber::kEcho, "Echo"},
    {OptionNumber::kNoResponse, "No-Response"},
    {OptionNumber::kRequestTag, "Request-Tag"},
};

constexpr Named<ContentFormat> kFormats[] = {
    {ContentFormat::kTextPlain, "text/plain;charset=utf-8"},
    {ContentFormat::kCoseEncrypt0, "application/cose;cose-type=\"cose-encrypt0\""},
    {ContentFormat::kCoseMac0, "application/cose;cose-type=\"cose-mac0\""},
    {ContentFormat::kCoseSign1, "application/cose;cose-type=\"cose-sign1\""},
    {ContentFormat::kLinkFormat, "application/link-format"},
    {ContentFormat::kXml, "application/xml"},
    {ContentFormat::kOctetStream, "application/octet-stream"},
    {ContentFormat::kExi, "application/exi"},
    {ContentFormat::kJson, "application/json"},
    {ContentFormat::kJsonPatch, "application/json-patch+json"},
    {ContentFormat::kMergePatch, "application/merge-patch+json"},
    {ContentFormat::kCbor, "application/cbor"},
    {ContentFormat::kCwt, "application/cwt"},
    {ContentFormat::kMultipart, "application/multipart-core"},
    {ContentFormat::kCborSequence, "application/cbor-seq"},
    {ContentFormat::kCoseEncrypt, "application/cose;cose-type=\"cose-encrypt\""},
    {ContentFormat::kCoseMac, "application/cose;cose-type=\"cose-mac\""},
    {ContentFormat::kCoseSign, "application/cose;cose-type=\"cose-sign\""},
    {ContentFormat::kCoseKey, "application/cose-key"},
    {ContentFormat::kCoseKeySet, "application/cose-key-set"},
    {ContentFormat::kSenmlJson, "application/senml+json"},
    {ContentFormat::kSensmlJson, "application/sensml+json"},
    {ContentFormat::kSenmlCbor, "application/senml+cbor"},
    {ContentFormat::kSensmlCbor, "application/sensml+cbor"},
    {ContentFormat::kProblemDetails, "application/concise-problem-details+cbor"},
};

template <typename Number, std::size_t kCount>
constexpr std::string_view NameIn(const Named<Number> (&names)[kCount], Number number) {
  for (const Named<Number>& named : names)
    if (named.number == number) return named.name;
  return {};
}

template <typename Number, std::size_t kCount>
constexpr std::optional<Number> NumberIn(const Named<Number> (&names)[kCount],
                                         std::string_view name) {
  for (const Named<Number>& named : names)
    if (named.name == name) return named.number;
  return std::nullopt;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

std::string ToText(Code code) { return absl::StrFormat("%d.%02d", ClassOf(code), DetailOf(code)); }
std::string_view NameOf(Code code) { return NameIn(kCodes, code); }
std::string_view NameOf(OptionNumber number) { return NameIn(kOptions, number); }
std::string_view NameOf(ContentFormat format) { return NameIn(kFormats, format); }

std::optional<Code> ParseCode(std::string_view text) {
  if (const auto named = NumberIn(kCodes, text)) return named;
  if (text.size() != 4 || text[1] != '.' || !IsDigit(text[0]) || !IsDigit(text[2]) ||
      !IsDigit(text[3]))
    return std::nullopt;
  const int detail = (text[2] - '0') * 10 + (text[3] - '0');
  if (text[0] > '7' || detail > 31) return std::nullopt;
  return static_cast<Code>((text[0] - '0') << 5 | detail);
}

std::optional<ContentFormat> ParseContentFormat(std::string_view text) {
  if (const auto named = NumberIn(kFormats, text)) return named;
  if (text == "text/plain") return ContentFormat::kTextPlain;
  std::uint16_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return static_cast<ContentFormat>(number);
}

}  // namespace waxvm::coap
