// SPDX-License-Identifier: Apache-2.0
#include "advert_json.h"

#include <array>
#include <string>
#include <vector>

namespace waxvm::cli {
namespace {

Json Keys(const std::vector<PublicKey>& keys) {
  Json list = Json::array();
  for (const PublicKey& key : keys) list.push_back(key.ToHex());
  return list;
}

void AddClaim(Json& to, const AddressClaim& claim) {
  to["address"] = claim.address.ToText();
  to["modifier"] = Hex({reinterpret_cast<const char*>(claim.modifier.data()), 16});
  to["collision_count"] = claim.collision_count;
  to["sec_code"] = cga::SecCodeOf(claim.address);
}

std::string ProtocolName(std::uint8_t protocol) {
  if (protocol == 6) return "tcp";
  return protocol == 17 ? "udp" : std::to_string(protocol);
}

void AddBody(Json& to, const VmBody& body) {
  AddClaim(to, body.claim);
  to["host"] = body.host.ToHex();
  Json services = Json::array();
  for (const AdvertisedService& service : body.services) services.push_back(ServiceToJson(service));
  to["services"] = services;
  to["mailboxes"] = Keys(body.mailboxes);
}

void AddBody(Json& to, const HostBody& body) {
  AddClaim(to, body.claim);
  to["tunnel_key"] = body.tunnel_key.ToHex();
  to["relay"] = body.relay;
  to["mailbox"] = body.mailbox;
  Json transports = Json::array();
  for (const AdvertisedTransport& transport : body.transports)
    transports.push_back(TransportToJson(transport));
  to["transports"] = transports;
}

void AddBody(Json& to, const TopicBody& body) {
  to["relays"] = Keys(body.relays);
  to["publishers"] = body.open ? Json("open") : Keys(body.publishers);
  to["tags"] = body.tags;
}

void AddBody(Json& to, const RevocationBody& body) { to["reason"] = ReasonName(body.reason); }

void AddBody(Json& to, const NameBody& body) {
  to["label"] = body.label;
  to["target"] = body.target.ToHex();
}

}  // namespace

Json ServiceToJson(const AdvertisedService& service) {
  return {
      {"name", service.name}, {"protocol", ProtocolName(service.protocol)}, {"port", service.port}};
}

Json TransportToJson(const AdvertisedTransport& transport) {
  return {{"scheme", transport.scheme},
          {"address", transport.address.ToText()},
          {"port", transport.port},
          {"weight", transport.weight}};
}

std::string_view ReasonName(RevocationBody::Reason reason) {
  static constexpr std::array<std::string_view, 4> kNames = {"unspecified", "compromised",
                                                             "replaced", "retired"};
  return kNames.at(static_cast<std::size_t>(reason));
}

Json AdvertToJson(const AdvertFields& fields) {
  Json json = {{"type", AdvertTypeName(fields.type())},
               {"author", fields.author.ToHex()},
               {"author_base32", fields.author.ToBase32()},
               {"sequence", fields.sequence},
               {"created", fields.created},
               {"expires", fields.expires},
               {"ttl", fields.ttl}};
  if (fields.type() == AdvertType::kTopic) json["group"] = cga::GroupOf(fields.author).ToText();
  std::visit([&](const auto& body) { AddBody(json, body); }, fields.body);
  return json;
}

}  // namespace waxvm::cli
