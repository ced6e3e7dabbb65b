// SPDX-License-Identifier: Apache-2.0
// coap URIs, and the options that they are in a request.
#ifndef WAXVM_COAP_URI_H_
#define WAXVM_COAP_URI_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/coap_options.h"
#include "waxvm/coap_owned_message.h"

namespace waxvm::coap {

/// Spec: RFC 7252 section 6, RFC 8323 section 8.
enum class Scheme : std::uint8_t { kCoap, kCoaps, kCoapTcp, kCoapsTcp, kCoapWs, kCoapsWs };

/// "coap", "coaps+tcp".
std::string_view NameOf(Scheme scheme);
/// 5683 and 5684; 80 and 443 over WebSockets.
std::uint16_t DefaultPort(Scheme scheme);
/// Whether it demands DTLS or TLS.
bool IsSecure(Scheme scheme);

/// An absolute URI taken apart, with everything decoded. A host that is a literal address is kept
/// as its text, IPv6 without brackets; a name is in lower case.
struct Uri {
  /// Longer ones are refused: what they decode to would fit no datagram.
  static constexpr std::size_t kMaxBytes = 8192;

  Scheme scheme = Scheme::kCoap;
  std::string host = {};
  bool host_is_address = false;
  std::uint16_t port = 5683;
  std::vector<std::string> path = {};   ///< one Uri-Path each; none for "/"
  std::vector<std::string> query = {};  ///< one Uri-Query each

  /// Refused are a fragment, user information, a zone, "." and ".." above the root, and what no
  /// option can hold. Dot segments are resolved, percent-encoded ones as well.
  /// Errors: kInvalidArgument. Spec: RFC 7252 section 6.4, RFC 3986.
  static absl::StatusOr<Uri> Parse(std::string_view text);
  /// Of a request that came to `destination` (an address as host) with that scheme.
  /// Errors: kInvalidArgument where its options make no URI. Spec: RFC 7252 section 6.5.
  static absl::StatusOr<Uri> FromOptions(OptionsView options, const Uri& destination);

  /// Sets Uri-Host, Uri-Port, Uri-Path and Uri-Query of a request that is sent to `port` of the
  /// host. Spec: RFC 7252 section 6.4, steps 5 to 9.
  void ToOptions(Message& request, std::uint16_t destination_port) const;
  void ToOptions(Message& request) const { ToOptions(request, port); }

  /// In normal form: two that name the same resource have the same text. Spec: RFC 7252 sections
  /// 6.3 and 6.5.
  std::string ToText() const;
  /// The part after the authority: "/a/b?c".
  std::string PathAndQuery() const;

  bool operator==(const Uri&) const = default;
};

/// "/a/b%2Fc?d&e" of a request's Uri-Path and Uri-Query. Spec: RFC 7252 section 6.5, steps 7 to 9.
std::string PathAndQueryOf(OptionsView options);
/// The same of a response's Location-Path and Location-Query.
std::string LocationOf(OptionsView options);

}  // namespace waxvm::coap

#endif  // WAXVM_COAP_URI_H_
