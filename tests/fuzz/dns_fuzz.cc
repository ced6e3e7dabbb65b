// SPDX-License-Identifier: Apache-2.0
// Any bytes at all as a DNS message, as a question over UDP, as a stream of questions over TCP, and
// as a zone. A message that is accepted can be written, and is then the same; its records have a
// text that gives them again. Every answer is a message with the id of its question, within the
// bound.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/dns/message.h"
#include "src/dns/rdata.h"
#include "src/dns/responder.h"
#include "src/dns/stream.h"
#include "waxvm/dns.h"

namespace waxvm::dns {
namespace {

constexpr char kZone[] =
    "@ TXT about\n"
    "a AAAA fd00::1\n"
    "_coap._udp.a SRV 0 0 5683 a\n"
    "_coap._udp.a SRV 0 0 5684 b.c\n"
    "b.c HTTPS 1 a alpn=h3 port=8443\n"
    "b.c TXT x y z\n";

void Require(bool condition) {
  if (!condition) __builtin_trap();
}

struct World {
  Responder responder = *Responder::Create({});
  std::shared_ptr<DnsSource> source = *StaticDnsSource::FromZone(kZone, "internal");
  Scratch scratch;
  std::vector<std::uint8_t> out = std::vector<std::uint8_t>(2 * Stream::kAnswerBytes);
};

void CheckText(const Record& record) {
  // OPT is in no zone.
  if (!FieldsOf(record.type) || record.type == 41) return;
  const auto words = SplitWords(RdataToText(record.type, record.data));
  Require(words.ok());
  const auto again = RdataFromText(record.type, *words, Name());
  Require(again.ok() && *again == record.data);
  const auto owner = Name::FromText(record.owner.ToText());
  Require(owner.ok() && *owner == record.owner);
}

void CheckMessage(Bytes bytes) {
  const auto message = DecodeMessage(bytes);
  if (!message.ok()) return Require(absl::IsInvalidArgument(message.status()));
  for (const auto* section : {&message->answers, &message->authority, &message->additional})
    for (const Record& record : *section) CheckText(record);
  const auto written = EncodeMessage(*message);
  // Names that were compressed by chance may not be again.
  if (!written.ok()) return Require(absl::IsResourceExhausted(written.status()));
  const auto again = DecodeMessage(ToBytes(*written));
  Require(again.ok() && *again == *message);
}

void CheckUdp(World& world, Bytes query) {
  for (const std::size_t most : {std::size_t{512}, std::size_t{4096}}) {
    const Response response = world.responder.Respond(query, {.max_udp_bytes = most}, *world.source,
                                                      world.scratch, world.out);
    Require(!response.pending && response.bytes <= most);
    if (response.bytes == 0) continue;
    const Bytes raw = Bytes(world.out).first(response.bytes);
    const auto message = DecodeMessage(raw);
    Require(message.ok() && message->id == Load16(query.data()));
    Require((message->flags & (kFlagQr | kFlagRa)) == kFlagQr);
    Require(response.truncated == ((message->flags & kFlagTc) != 0));
  }
}

void CheckTcp(World& world, Bytes input) {
  Stream stream(512);
  std::vector<std::uint8_t> held;
  while (!input.empty()) {
    const std::size_t part = std::min<std::size_t>(input.size(), 1 + input[0] % 97u);
    held.insert(held.end(), input.begin(), input.begin() + static_cast<std::ptrdiff_t>(part));
    input = input.subspan(part);
    const Stream::Result result =
        stream.Answer(held, false, world.responder, *world.source, world.scratch, world.out);
    Require(result.consumed <= held.size() && result.produced <= world.out.size());
    held.erase(held.begin(), held.begin() + static_cast<std::ptrdiff_t>(result.consumed));
    if (result.broken) return;
    // What is held is one question that is not there as a whole, or room was missing.
    Require(held.size() < 2 + 512 || result.produced > 0);
  }
}

void CheckZone(std::string_view text) {
  const auto source = StaticDnsSource::FromZone(text, "internal");
  if (!source.ok()) return;
  DnsAnswer answer;
  (void)(*source)->Lookup({.name = "a", .type = DnsType::kAaaa}, answer);
}

}  // namespace
}  // namespace waxvm::dns

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static waxvm::dns::World world;
  if (size == 0) return 0;
  const waxvm::dns::Bytes bytes(data + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      waxvm::dns::CheckMessage(bytes);
      break;
    case 1:
      waxvm::dns::CheckUdp(world, bytes);
      break;
    case 2:
      waxvm::dns::CheckTcp(world, bytes);
      break;
    default:
      waxvm::dns::CheckZone(waxvm::dns::ToText(bytes));
  }
  return 0;
}
