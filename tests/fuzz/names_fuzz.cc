// SPDX-License-Identifier: Apache-2.0
// Any bytes at all as a DNS message, and as the name of a question, for a server that answers from
// a resolver with a petname, a name that its key gave, a vm, a host, and a key that was revoked.
// Every answer is a message with the id of its question, within the bound; every record is one of
// its type.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "src/dns/message.h"
#include "src/dns/rdata.h"
#include "src/dns/responder.h"
#include "src/naming/advert_for_test.h"
#include "waxvm/resolver_dns.h"

namespace waxvm::dns {
namespace {

using naming::KeyOf;
using naming::kTestTime;

void Require(bool condition) {
  if (!condition) __builtin_trap();
}

struct World {
  World() {
    const SigningKey alice = KeyOf(1), sensor = KeyOf(2), host = KeyOf(3), dead = KeyOf(4);
    Require(petnames.Set("alice", alice.public_key()).ok());
    Require(petnames.Set("dead", dead.public_key()).ok());
    const Advert adverts[] = {naming::NameAdvert(alice, "sensor", sensor.public_key(), 1),
                              naming::NameAdvert(alice, "dead", dead.public_key(), 1),
                              naming::VmAdvert(sensor, host), naming::HostAdvert(host),
                              naming::RevocationAdvert(dead)};
    for (const absl::Status& status : directory->Put(adverts)) Require(status.ok());
    const auto clock = [] { return kTestTime; };
    resolver = Resolver::Create(directory.get(), &petnames, {.clock = clock, .max_cached = 100});
    source =
        *ResolverDnsSource::Create(resolver.get(), directory.get(), &petnames, {.clock = clock});
  }

  std::unique_ptr<Directory> directory = NewMemoryDirectory();
  Petnames petnames = Petnames::InMemory();
  std::unique_ptr<Resolver> resolver;
  std::shared_ptr<DnsSource> source;
  Responder responder = *Responder::Create({});
  Scratch scratch;
  std::vector<std::uint8_t> out = std::vector<std::uint8_t>(4096);
};

void CheckUdp(World& world, Bytes query) {
  const Response response = world.responder.Respond(query, {.max_udp_bytes = 1232}, *world.source,
                                                    world.scratch, world.out);
  Require(!response.pending && response.bytes <= 1232);
  if (response.bytes == 0) return;
  const auto message = DecodeMessage(Bytes(world.out).first(response.bytes));
  Require(message.ok() && message->id == Load16(query.data()));
}

void CheckName(World& world, DnsType type, std::string_view name) {
  DnsAnswer answer;
  const DnsFound found = world.source->Lookup({.name = name, .type = type}, answer);
  Require(found == DnsFound::kYes || found == DnsFound::kNo);
  Require(found == DnsFound::kYes || answer.entries().empty());
  for (const DnsAnswer::Entry& entry : answer.entries())
    Require(entry.type == type &&
            CheckRdata(static_cast<std::uint16_t>(type), answer.data(entry)).ok());
}

}  // namespace
}  // namespace waxvm::dns

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static waxvm::dns::World world;
  if (size == 0) return 0;
  const waxvm::dns::Bytes bytes(data + 1, size - 1);
  if (data[0] == 1) {
    waxvm::dns::CheckUdp(world, bytes);
  } else {
    waxvm::dns::CheckName(world, static_cast<waxvm::DnsType>(data[0]), waxvm::dns::ToText(bytes));
  }
  return 0;
}
