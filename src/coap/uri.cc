// SPDX-License-Identifier: Apache-2.0
#include "waxvm/coap_uri.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "src/base/status.h"
#include "src/base/utf8.h"
#include "waxvm/address.h"

namespace waxvm::coap {
namespace {

constexpr std::size_t kMaxOptionText = 255;

struct SchemeFacts {
  Scheme scheme;
  std::string_view name;
  std::uint16_t port;
  bool secure;
};
constexpr SchemeFacts kSchemes[] = {
    {Scheme::kCoap, "coap", 5683, false},        {Scheme::kCoaps, "coaps", 5684, true},
    {Scheme::kCoapTcp, "coap+tcp", 5683, false}, {Scheme::kCoapsTcp, "coaps+tcp", 5684, true},
    {Scheme::kCoapWs, "coap+ws", 80, false},     {Scheme::kCoapsWs, "coaps+ws", 443, true},
};

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
std::string ToLower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), Lower);
  return lower;
}

bool IsAlphanumeric(char c) {
  return (c >= '0' && c <= '9') || (Lower(c) >= 'a' && Lower(c) <= 'z');
}
bool IsOneOf(char c, std::string_view set) { return set.find(c) != set.npos; }
bool IsControl(char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; }
bool IsUnreserved(char c) { return IsAlphanumeric(c) || IsOneOf(c, "-._~"); }
bool IsSubDelimiter(char c) { return IsOneOf(c, "!$&'()*+,;="); }

/// What may stand for itself in a part of a URI. Spec: RFC 3986 appendix A.
bool InRegName(char c) { return IsUnreserved(c) || IsSubDelimiter(c); }
bool InSegment(char c) { return InRegName(c) || c == ':' || c == '@'; }
bool InQuery(char c) { return InSegment(c) || c == '/' || c == '?'; }
/// What is written as itself in an argument of a query, `&` being what parts them.
bool InArgument(char c) { return InQuery(c) && c != '&'; }

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return Lower(c) >= 'a' && Lower(c) <= 'f' ? Lower(c) - 'a' + 10 : -1;
}

/// `text` with percent-encodings decoded. nullopt: a character that must not stand for itself, a
/// malformed encoding, or what is no UTF-8.
template <typename Allowed>
std::optional<std::string> Decode(std::string_view text, Allowed allowed) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      if (!allowed(text[i])) return std::nullopt;
      decoded += text[i];
      continue;
    }
    if (text.size() - i < 3) return std::nullopt;
    const int high = HexDigit(text[i + 1]);
    const int low = HexDigit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    decoded += static_cast<char>(high << 4 | low);
    i += 2;
  }
  if (!IsUtf8(decoded)) return std::nullopt;
  return decoded;
}

template <typename Allowed>
void Encode(std::string_view text, Allowed allowed, std::string& out) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  for (const char c : text) {
    if (allowed(c)) {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
}

std::string Compose(OptionsView options, OptionNumber path, OptionNumber query) {
  std::string text;
  options.ForEach(path, [&](std::string_view segment) {
    text += '/';
    Encode(segment, InSegment, text);
  });
  if (text.empty()) text = "/";
  char mark = '?';
  options.ForEach(query, [&](std::string_view argument) {
    text += mark;
    mark = '&';
    Encode(argument, InArgument, text);
  });
  return text;
}

/// Four numbers of 0 to 255 without leading zeros. Spec: RFC 3986 section 3.2.2.
bool IsIpv4(std::string_view text) {
  for (int part = 0; part < 4; ++part) {
    const std::size_t dot = text.find('.');
    if ((dot == text.npos) != (part == 3)) return false;
    const std::string_view number = text.substr(0, dot);
    if (number.empty() || number.size() > 3 || (number.size() > 1 && number[0] == '0'))
      return false;
    int value = 0;
    for (const char c : number) {
      if (c < '0' || c > '9') return false;
      value = value * 10 + (c - '0');
    }
    if (value > 255) return false;
    if (part < 3) text.remove_prefix(dot + 1);
  }
  return true;
}

absl::Status ReadHost(std::string_view text, Uri& uri) {
  if (text.starts_with('[')) {
    if (!text.ends_with(']')) return InvalidArgument("'[' in the host is not closed");
    const std::string_view literal = text.substr(1, text.size() - 2);
    // A zone means something on one machine only, and chooses an interface of the one that asks.
    if (literal.find('%') != literal.npos)
      return InvalidArgument("an address in a URI must have no zone");
    WAXVM_ASSIGN_OR_RETURN(const Address address, Address::Parse(literal));
    uri.host = address.ToText();
    uri.host_is_address = true;
    return absl::OkStatus();
  }
  const std::optional<std::string> name = Decode(text, InRegName);
  if (!name) return InvalidArgument("the host has characters that must not be there");
  if (name->empty() || name->size() > kMaxOptionText)
    return InvalidArgument("a host has 1 to 255 bytes, not %d", name->size());
  // Attack: a name that is another one, or an address, to whoever reads it next.
  if (name->front() == '[' || std::any_of(name->begin(), name->end(), IsControl))
    return InvalidArgument("the host has encoded characters that no name has");
  uri.host = ToLower(*name);
  uri.host_is_address = IsIpv4(uri.host);
  return absl::OkStatus();
}

absl::Status ReadAuthority(std::string_view text, Uri& uri) {
  if (text.find('@') != text.npos)
    return InvalidArgument("a coap URI must have no user information");
  std::string_view port;
  const std::size_t colon = text.rfind(':');
  const std::size_t bracket = text.rfind(']');
  if (colon != text.npos && (bracket == text.npos || colon > bracket)) {
    port = text.substr(colon + 1);
    text = text.substr(0, colon);
  }
  if (!port.empty()) {
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), uri.port);
    if (error != std::errc() || end != port.data() + port.size() || uri.port == 0)
      return InvalidArgument("'%s' is no port", port.substr(0, 20));
  }
  return ReadHost(text, uri);
}

absl::Status ReadPath(std::string_view text, Uri& uri) {
  if (text.empty() || text == "/") return absl::OkStatus();
  bool open = false;  // whether the last segment was a dot segment, after which there is a slash
  while (!text.empty()) {
    text.remove_prefix(1);
    const std::size_t slash = std::min(text.find('/'), text.size());
    std::optional<std::string> segment = Decode(text.substr(0, slash), InSegment);
    text.remove_prefix(slash);
    if (!segment) return InvalidArgument("the path has characters that must not be there");
    if (segment->size() > kMaxOptionText)
      return InvalidArgument("a segment of the path has %d bytes, more than 255", segment->size());
    open = *segment == "." || *segment == "..";
    if (!open) {
      uri.path.push_back(*std::move(segment));
    } else if (*segment == "..") {
      // RFC 3986 would stay at the root; who writes such a thing tries where it leads.
      if (uri.path.empty()) return InvalidArgument("the path leads above its root");
      uri.path.pop_back();
    }
  }
  if (open && !uri.path.empty()) uri.path.emplace_back();
  if (uri.path.size() == 1 && uri.path[0].empty()) uri.path.clear();
  return absl::OkStatus();
}

absl::Status ReadQuery(std::string_view text, Uri& uri) {
  while (true) {
    const std::size_t end = std::min(text.find('&'), text.size());
    std::optional<std::string> argument = Decode(text.substr(0, end), InQuery);
    if (!argument) return InvalidArgument("the query has characters that must not be there");
    if (argument->size() > kMaxOptionText)
      return InvalidArgument("an argument of the query has %d bytes, more than 255",
                             argument->size());
    uri.query.push_back(*std::move(argument));
    if (end == text.size()) return absl::OkStatus();
    text.remove_prefix(end + 1);
  }
}

}  // namespace

std::string_view NameOf(Scheme scheme) { return kSchemes[static_cast<std::size_t>(scheme)].name; }
std::uint16_t DefaultPort(Scheme scheme) { return kSchemes[static_cast<std::size_t>(scheme)].port; }
bool IsSecure(Scheme scheme) { return kSchemes[static_cast<std::size_t>(scheme)].secure; }

absl::StatusOr<Uri> Uri::Parse(std::string_view text) {
  if (text.size() > kMaxBytes)
    return InvalidArgument("a URI has at most %d bytes, not %d", kMaxBytes, text.size());
  const std::size_t colon = text.find("://");
  if (colon == text.npos)
    return InvalidArgument("'%s' is no absolute URI, like coap://[::1]/a", text.substr(0, 80));
  const std::string name = ToLower(text.substr(0, colon));
  const auto* const facts =
      std::find_if(std::begin(kSchemes), std::end(kSchemes),
                   [&](const SchemeFacts& known) { return known.name == name; });
  if (facts == std::end(kSchemes))
    return InvalidArgument("the scheme '%s' is none of CoAP's", name.substr(0, 80));
  if (text.find('#') != text.npos) return InvalidArgument("a coap URI must have no fragment");
  Uri uri;
  uri.scheme = facts->scheme;
  uri.port = facts->port;
  text.remove_prefix(colon + 3);
  const std::size_t authority = std::min(text.find_first_of("/?"), text.size());
  WAXVM_RETURN_IF_ERROR(ReadAuthority(text.substr(0, authority), uri));
  text.remove_prefix(authority);
  const std::size_t path = std::min(text.find('?'), text.size());
  WAXVM_RETURN_IF_ERROR(ReadPath(text.substr(0, path), uri));
  if (path != text.size()) WAXVM_RETURN_IF_ERROR(ReadQuery(text.substr(path + 1), uri));
  return uri;
}

absl::StatusOr<Uri> Uri::FromOptions(OptionsView options, const Uri& destination) {
  Uri uri;
  uri.scheme = destination.scheme;
  uri.host = destination.host;
  uri.host_is_address = destination.host_is_address;
  uri.port = options.uri_port().value_or(destination.port);
  if (uri.port == 0) return InvalidArgument("the Uri-Port is 0");
  if (const auto host = options.uri_host()) {
    if (host->starts_with('[')) {
      WAXVM_RETURN_IF_ERROR(ReadHost(*host, uri));
    } else {
      if (!IsUtf8(*host)) return InvalidArgument("the Uri-Host is no UTF-8");
      uri.host = ToLower(*host);
      uri.host_is_address = IsIpv4(uri.host);
    }
  }
  bool utf8 = true;
  bool dots = false;
  options.ForEach(OptionNumber::kUriPath, [&](std::string_view segment) {
    utf8 &= IsUtf8(segment);
    dots |= segment == "." || segment == "..";
    uri.path.emplace_back(segment);
  });
  options.ForEach(OptionNumber::kUriQuery, [&](std::string_view argument) {
    utf8 &= IsUtf8(argument);
    uri.query.emplace_back(argument);
  });
  if (!utf8) return InvalidArgument("a Uri-Path or Uri-Query is no UTF-8");
  if (dots) return InvalidArgument("a Uri-Path is a dot segment");
  // "coap://host/" either way. Spec: RFC 7252 section 6.5, step 7.
  if (uri.path.size() == 1 && uri.path[0].empty()) uri.path.clear();
  return uri;
}

void Uri::ToOptions(Message& request, std::uint16_t destination_port) const {
  request.Remove(OptionNumber::kUriHost)
      .Remove(OptionNumber::kUriPort)
      .Remove(OptionNumber::kUriPath)
      .Remove(OptionNumber::kUriQuery);
  if (!host_is_address) request.SetUriHost(host);
  if (port != destination_port) request.SetUriPort(port);
  for (const std::string& segment : path) request.Add(OptionNumber::kUriPath, segment);
  for (const std::string& argument : query) request.Add(OptionNumber::kUriQuery, argument);
}

std::string Uri::ToText() const {
  std::string text = absl::StrFormat("%s://", NameOf(scheme));
  if (host_is_address && host.find(':') != host.npos) {
    text += '[' + host + ']';
  } else {
    Encode(host, InRegName, text);
  }
  if (port != DefaultPort(scheme)) text += ':' + std::to_string(port);
  return text + PathAndQuery();
}

std::string Uri::PathAndQuery() const {
  std::string text;
  for (const std::string& segment : path) {
    text += '/';
    Encode(segment, InSegment, text);
  }
  if (text.empty()) text = "/";
  char mark = '?';
  for (const std::string& argument : query) {
    text += mark;
    mark = '&';
    Encode(argument, InArgument, text);
  }
  return text;
}

std::string PathAndQueryOf(OptionsView options) {
  return Compose(options, OptionNumber::kUriPath, OptionNumber::kUriQuery);
}
std::string LocationOf(OptionsView options) {
  return Compose(options, OptionNumber::kLocationPath, OptionNumber::kLocationQuery);
}

}  // namespace waxvm::coap
