// SPDX-License-Identifier: Apache-2.0
#include "src/coap_edge/translation.h"

#include <algorithm>
#include <vector>

#include "src/coap/block.h"

namespace waxvm::coap::edge {
namespace {

/// Options between two neighbours only: each side has its own.
bool IsForOneHop(OptionNumber number) {
  switch (number) {
    case OptionNumber::kObserve:
    case OptionNumber::kHopLimit:
    case OptionNumber::kBlock1:
    case OptionNumber::kBlock2:
    case OptionNumber::kQBlock1:
    case OptionNumber::kQBlock2:
    case OptionNumber::kSize1:
    case OptionNumber::kSize2:
    case OptionNumber::kEcho:
    case OptionNumber::kNoResponse:
    case OptionNumber::kRequestTag:
      return true;
    default:
      return false;
  }
}

bool SaysWhere(OptionNumber number) {
  switch (number) {
    case OptionNumber::kUriHost:
    case OptionNumber::kUriPort:
    case OptionNumber::kUriPath:
    case OptionNumber::kUriQuery:
    case OptionNumber::kProxyUri:
    case OptionNumber::kProxyScheme:
      return true;
    default:
      return false;
  }
}

/// The place of something new as the client can ask for it: below the mapping that it used, or not
/// at all.
void AddLocation(const Message& response, const Decision& decision, Message& out) {
  std::vector<std::string> path;
  response.options().ForEach(OptionNumber::kLocationPath,
                             [&](std::string_view segment) { path.emplace_back(segment); });
  std::size_t skipped = 0;
  if (decision.mapped) {
    const auto& inner = decision.inner;
    if (inner.size() > path.size() || !std::equal(inner.begin(), inner.end(), path.begin())) return;
    skipped = inner.size();
    for (const std::string& segment : decision.outer) out.Add(OptionNumber::kLocationPath, segment);
  }
  for (std::size_t i = skipped; i < path.size(); ++i) out.Add(OptionNumber::kLocationPath, path[i]);
  response.options().ForEach(OptionNumber::kLocationQuery, [&](std::string_view argument) {
    out.Add(OptionNumber::kLocationQuery, argument);
  });
}

}  // namespace

Message InwardOf(const Message& request, const Uri& uri, std::uint16_t port,
                 std::uint8_t hop_limit) {
  Message inward(request.code(), request.payload());
  for (const OptionView& option : request.options())
    if (!IsForOneHop(option.number) && !SaysWhere(option.number))
      inward.Add(option.number, option.text());
  uri.ToOptions(inward, port);
  inward.SetHopLimit(hop_limit);
  return inward;
}

Message OutwardOf(const Message& response, const Decision& decision, std::size_t max_body_bytes) {
  if (!IsResponse(response.code()) || response.payload().size() > max_body_bytes)
    return Message(Code::kBadGateway);
  Message outward(response.code());
  for (const OptionView& option : response.options()) {
    // Spec: RFC 7252 section 5.7.1.
    if (NameOf(option.number).empty() && (IsUnsafe(option.number) || IsCritical(option.number)))
      return Message(Code::kBadGateway);
    if (!IsForOneHop(option.number) && !SaysWhere(option.number) &&
        option.number != OptionNumber::kLocationPath &&
        option.number != OptionNumber::kLocationQuery)
      outward.Add(option.number, option.text());
  }
  AddLocation(response, decision, outward);
  // The text of 5.08 lists addresses inside; and libcoap drops one that has the gateway's own.
  if (response.code() != Code::kHopLimitReached) outward.SetPayload(response.payload());
  return outward;
}

Code CodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kDeadlineExceeded:
      return Code::kGatewayTimeout;
    case absl::StatusCode::kCancelled:  // the endpoint inside is gone
      return Code::kServiceUnavailable;
    case absl::StatusCode::kResourceExhausted:  // a bound of it
      return Code::kServiceUnavailable;
    default:  // reset, unreachable, senseless
      return Code::kBadGateway;
  }
}

bool IsSuppressed(std::optional<std::uint32_t> no_response, Code code) {
  if (!no_response || !IsResponse(code)) return false;
  return (*no_response >> (ClassOf(code) - 1) & 1) != 0;
}

std::string BodyKeyOf(const Message& request) {
  Message key(request.code());
  for (const OptionView& option : request.options())
    if (!IsForOneHop(option.number)) key.Add(option.number, option.text());
  std::string text(1, static_cast<char>(request.code()));
  text.append(ToText(key.options().encoded()));
  // FETCH asks by its payload, which comes with each request for a block. Spec: RFC 8132
  // section 2.
  if (request.code() == Code::kFetch) text.append(ETagOf(request.payload()));
  return text;
}

}  // namespace waxvm::coap::edge
