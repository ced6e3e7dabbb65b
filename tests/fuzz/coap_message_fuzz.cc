// SPDX-License-Identifier: Apache-2.0
// Any bytes at all as a CoAP datagram, as links, as a URI, and as a row of requests with blocks. A
// message that is accepted can be written from what was read of it, and is then the same in
// meaning, byte for byte where it was written as shortly as it can be. What is put together stays
// within its bounds.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/coap/block.h"
#include "src/coap/block_assembler.h"
#include "src/coap/cache.h"
#include "src/coap/message.h"
#include "src/coap/option_rules.h"
#include "waxvm/coap_link.h"
#include "waxvm/coap_owned_message.h"
#include "waxvm/coap_uri.h"

namespace waxvm::coap {
namespace {

void Require(bool condition) {
  if (!condition) __builtin_trap();
}

bool Same(OptionsView a, OptionsView b) {
  auto x = a.begin();
  auto y = b.begin();
  for (; x != a.end() && y != b.end(); ++x, ++y)
    if (x->number != y->number || x->text() != y->text()) return false;
  return x == a.end() && y == b.end();
}

void CheckWritten(const MessageView& view, Bytes datagram, const ParseLimits& limits) {
  // Nothing is longer in its shortest form.
  std::vector<std::byte> buffer(datagram.size());
  MessageWriter writer(buffer, view.type(), view.code(), view.id(), view.token());
  for (const OptionView& option : view.options()) writer.Option(option.number, option.value);
  writer.Payload(view.payload());
  Require(writer.ok());
  const MessageView again = MessageView::Parse(writer.message(), limits);
  Require(again.ok() && again.type() == view.type() && again.code() == view.code());
  Require(again.id() == view.id() && ToText(again.token()) == ToText(view.token()));
  Require(Same(again.options(), view.options()));
  Require(ToText(again.payload()) == ToText(view.payload()));
  Require(again.present() == view.present());
  // A second time nothing can become shorter.
  const std::vector<std::byte> first(writer.message().begin(), writer.message().end());
  const MessageView copy = MessageView::Parse(first, limits);
  MessageWriter second(buffer, copy.type(), copy.code(), copy.id(), copy.token());
  Message::From(copy).WriteTo(second);
  Require(second.ok() && ToText(second.message()) == ToText(first));
}

void CheckOptionsOf(const MessageView& view, std::size_t most) {
  std::size_t count = 0;
  std::uint32_t last = 0;
  for (const OptionView& option : view.options()) {
    Require(++count <= most && static_cast<std::uint32_t>(option.number) >= last);
    last = static_cast<std::uint32_t>(option.number);
    if (option.HasLegalLength()) Require(view.Has(option.number));
  }
  const OptionCheck check = CheckOptions(view);
  Require(check.ok() || IsCritical(check.number));
  for (const CacheKeyFor purpose : {CacheKeyFor::kResponse, CacheKeyFor::kBlocks}) {
    std::string key;
    AppendCacheKey(view, purpose, key);
    Require(key.size() <=
            1 + count * 8 + 4 + view.options().encoded().size() + view.payload().size());
  }
  const auto uri = Uri::FromOptions(view.options(), {.host = "::1", .host_is_address = true});
  if (uri.ok()) Require(uri->path.size() + uri->query.size() <= count);
  (void)PathAndQueryOf(view.options());
}

void CheckMessage(Bytes datagram) {
  for (const ParseLimits& limits :
       {ParseLimits{}, ParseLimits{.max_token_bytes = 20, .max_options = 4},
        ParseLimits{.max_token_bytes = kMaxTokenBytes, .max_options = 65536}}) {
    const MessageView view = MessageView::Parse(datagram, limits);
    if (view.fault() == WireFault::kTokenTooLong)
      Require(view.token().size() > limits.max_token_bytes);
    else if (!view.ok())
      Require(view.options().encoded().empty() && view.payload().empty());
    if (view.wants_reset()) Require(view.type() == Type::kCon && datagram.size() >= kHeaderBytes);
    if (!view.ok()) continue;
    Require(view.token().size() <= limits.max_token_bytes);
    CheckOptionsOf(view, limits.max_options);
    CheckWritten(view, datagram, limits);
  }
}

void CheckLinks(std::string_view text) {
  const LinkLimits limits{.max_bytes = 4096, .max_links = 50, .max_attributes = 10};
  const auto links = ParseLinks(text, limits);
  if (!links.ok()) return;
  Require(links->size() <= limits.max_links);
  for (const Link& link : *links) {
    Require(link.attributes.size() <= limits.max_attributes);
    (void)Matches(link, text.substr(0, 40));
    Require(Matches(link, "href=*"));
  }
  const auto written = LinksToText(*links);
  // Control characters in quotes are read, never written.
  if (!written.ok()) return;
  const auto again = ParseLinks(*written);
  Require(again.ok() && *again == *links);
}

void CheckUri(std::string_view text) {
  const auto uri = Uri::Parse(text);
  if (!uri.ok()) return Require(absl::IsInvalidArgument(uri.status()));
  const std::string normal = uri->ToText();
  // Percent-encoding is at most three times as long, which may be more than is read.
  if (normal.size() <= Uri::kMaxBytes) {
    const auto again = Uri::Parse(normal);
    Require(again.ok() && *again == *uri && again->ToText() == normal);
  }
  Message request(Code::kGet);
  uri->ToOptions(request);
  Require(request.Check().ok());
  const auto composed = Uri::FromOptions(request.options(), *uri);
  Require(composed.ok() && *composed == *uri);
}

/// Datagrams of a length byte each, to both sides of block-wise transfers.
void CheckBlocks(Bytes input) {
  const AssemblyLimits limits{.max_body_bytes = 500,
                              .max_total_bytes = 2500,
                              .max_assemblies = 4,
                              .max_assemblies_per_peer = 2,
                              .protected_time = std::chrono::seconds(1)};
  BlockAssembler assembler(limits);
  BlockDownload download({.max_bytes = 500, .max_restarts = 2});
  BlockAssembler::TimePoint now{};
  SocketAddress peer;
  while (input.size() > 2) {
    const auto bytes = std::min<std::size_t>(static_cast<std::size_t>(input[0]), input.size() - 2);
    peer.port = static_cast<std::uint16_t>(input[1]) % 4;
    now += std::chrono::milliseconds(100 * (static_cast<int>(input[1]) / 4));
    const MessageView view = MessageView::Parse(input.subspan(2, bytes));
    input = input.subspan(2 + bytes);
    if (!view.ok()) continue;
    const AssemblyAnswer answer = assembler.Add(peer, view, now);
    Require(assembler.assemblies() <= limits.max_assemblies);
    Require(assembler.bytes() <= limits.max_total_bytes);
    Require(answer.body.size() <= limits.max_body_bytes);
    (void)download.OnResponse(view.options(), view.payload());
    Require(download.body().size() <= 500 && download.restarts() <= 2);
  }
  assembler.Expire(now + std::chrono::hours(1));
  Require(assembler.assemblies() == 0 && assembler.bytes() == 0);
}

}  // namespace
}  // namespace waxvm::coap

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace waxvm::coap;
  if (size == 0) return 0;
  const Bytes bytes(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      CheckMessage(bytes);
      break;
    case 1:
      CheckLinks(ToText(bytes));
      break;
    case 2:
      CheckUri(ToText(bytes));
      break;
    default:
      CheckBlocks(bytes);
  }
  return 0;
}
