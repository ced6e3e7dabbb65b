// SPDX-License-Identifier: Apache-2.0
// Links to resources, as /.well-known/core lists them.
#ifndef WAXVM_COAP_LINK_H_
#define WAXVM_COAP_LINK_H_

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace waxvm::coap {

/// An attribute of a link; without a value it is there or not, as "obs".
struct LinkAttribute {
  std::string name;
  std::optional<std::string> value = std::nullopt;
  bool operator==(const LinkAttribute&) const = default;
};

/// One link: `</sensors/temp>;rt="temperature-c";if="sensor"`. Spec: RFC 6690.
struct Link {
  std::string target;  ///< a URI or a reference to one
  std::vector<LinkAttribute> attributes = {};

  /// The first attribute of that name, in upper or lower case.
  const LinkAttribute* Find(std::string_view name) const;
  /// Adds one.
  Link& With(std::string_view name, std::string_view value);
  Link& With(std::string_view name);
  bool operator==(const Link&) const = default;
};

/// Attack: a peer whose list never ends.
struct LinkLimits {
  std::size_t max_bytes = std::size_t{1} << 20;
  std::size_t max_links = 4096;
  std::size_t max_attributes = 64;  ///< of one link
};

/// Errors: kInvalidArgument tells where. Spaces and line ends between parts are passed over, since
/// servers write them. Spec: RFC 6690 section 2.
absl::StatusOr<std::vector<Link>> ParseLinks(std::string_view text, const LinkLimits& limits = {});

/// Values that are no numbers are quoted. Errors: kInvalidArgument where a target or
/// the name of an attribute could not be read again.
absl::StatusOr<std::string> LinksToText(std::span<const Link> links);

/// Whether a link is asked for by a Uri-Query: "rt=light", "rt=li*", "href=/a*". Of `rt`, `if` and
/// `rel` one of the values that spaces part must match, of others the whole; a name alone matches
/// where the attribute is there. Spec: RFC 6690 section 4.1.
bool Matches(const Link& link, std::string_view query);

}  // namespace waxvm::coap

#endif  // WAXVM_COAP_LINK_H_
