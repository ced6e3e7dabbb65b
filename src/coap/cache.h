// SPDX-License-Identifier: Apache-2.0
// Which requests are the same one, and whether a condition of a request holds.
#ifndef WAXVM_SRC_COAP_CACHE_H_
#define WAXVM_SRC_COAP_CACHE_H_

#include <optional>
#include <string>
#include <string_view>

#include "waxvm/coap_message.h"

namespace waxvm::coap {

enum class CacheKeyFor {
  /// Whether a response can be used again: code, options, and of FETCH, PATCH and iPATCH the
  /// payload.
  kResponse,
  /// Whether two messages are of one block-wise transfer: without block options and payload.
  /// Spec: RFC 9175 section 3.3.
  kBlocks,
};

/// Appends bytes that are the same for two requests exactly if they are alike. Left out are options
/// that say so of themselves (NoCacheKey), and those whose effect on a cache is known: ETag,
/// Observe, No-Response and Hop-Limit. Host and port must be part of the options, or be added.
/// Spec: RFC 7252 sections 5.4.2 and 5.6, RFC 7641 section 2, RFC 8132 section 2.
void AppendCacheKey(const MessageView& request, CacheKeyFor purpose, std::string& key);

/// Whether If-Match and If-None-Match allow a request. `current`: the resource's ETag, empty where
/// it has none; nullopt where the resource does not exist. False: 4.12.
/// Spec: RFC 7252 section 5.10.8.
bool PreconditionsHold(OptionsView request, std::optional<std::string_view> current);

/// Whether the request has the representation already: 2.03. Spec: RFC 7252 section 5.10.6.2.
bool HasCurrent(OptionsView request, std::string_view current);

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_CACHE_H_
