// SPDX-License-Identifier: Apache-2.0
// A message of one side as it is sent to the other.
#ifndef WAXVM_SRC_COAP_EDGE_TRANSLATION_H_
#define WAXVM_SRC_COAP_EDGE_TRANSLATION_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "src/coap_edge/policy.h"

namespace waxvm::coap::edge {

/// What is sent inside: without what was meant for the gateway. Spec: RFC 7252 section 5.7.
Message InwardOf(const Message& request, const Uri& uri, std::uint16_t port,
                 std::uint8_t hop_limit);

/// What is sent outside. What makes no sense becomes 5.02.
Message OutwardOf(const Message& response, const Decision& decision, std::size_t max_body_bytes);

/// What a client is told where no answer came.
Code CodeOf(const absl::Status& status);

/// Whether a response of this code is not wanted by a request with that No-Response value.
/// Spec: RFC 7967 section 2.1.
bool IsSuppressed(std::optional<std::uint32_t> no_response, Code code);

/// The same for all requests for blocks of one body, and for no others of the same client.
std::string BodyKeyOf(const Message& request);

}  // namespace waxvm::coap::edge

#endif  // WAXVM_SRC_COAP_EDGE_TRANSLATION_H_
