// SPDX-License-Identifier: Apache-2.0
#include "src/coap/cache.h"

#include <cstdint>

namespace waxvm::coap {
namespace {

bool IsInKey(OptionNumber number, CacheKeyFor purpose) {
  if (IsNoCacheKey(number) && !IsUnsafe(number)) return false;
  switch (number) {
    case OptionNumber::kETag:
    case OptionNumber::kObserve:
    case OptionNumber::kNoResponse:
    case OptionNumber::kHopLimit:
      return false;
    case OptionNumber::kBlock1:
    case OptionNumber::kBlock2:
    case OptionNumber::kQBlock1:
    case OptionNumber::kQBlock2:
      return purpose == CacheKeyFor::kResponse;
    default:
      return true;
  }
}

void AppendNumber(std::size_t number, std::string& key) {
  for (int shift = 24; shift >= 0; shift -= 8) key += static_cast<char>(number >> shift & 0xff);
}

}  // namespace

void AppendCacheKey(const MessageView& request, CacheKeyFor purpose, std::string& key) {
  key += static_cast<char>(request.code());
  for (const OptionView& option : request.options()) {
    if (!IsInKey(option.number, purpose)) continue;
    AppendNumber(static_cast<std::size_t>(option.number), key);
    AppendNumber(option.value.size(), key);
    key += option.text();
  }
  if (purpose != CacheKeyFor::kResponse) return;
  if (request.code() != Code::kFetch && request.code() != Code::kPatch &&
      request.code() != Code::kIPatch)
    return;
  // No option has that number.
  AppendNumber(0xffffffff, key);
  key += ToText(request.payload());
}

bool PreconditionsHold(OptionsView request, std::optional<std::string_view> current) {
  if (current && request.if_none_match()) return false;
  bool asked = false;
  bool matched = false;
  request.ForEach(OptionNumber::kIfMatch, [&](std::string_view wanted) {
    asked = true;
    // An empty one is fulfilled by whatever exists.
    if (current) matched |= wanted.empty() || wanted == *current;
  });
  return !asked || matched;
}

bool HasCurrent(OptionsView request, std::string_view current) {
  bool matched = false;
  if (current.empty()) return false;
  request.ForEach(OptionNumber::kETag, [&](std::string_view etag) { matched |= etag == current; });
  return matched;
}

}  // namespace waxvm::coap
