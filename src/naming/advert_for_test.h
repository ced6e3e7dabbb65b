// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_NAMING_ADVERT_FOR_TEST_H_
#define WAXVM_SRC_NAMING_ADVERT_FOR_TEST_H_

#include <cstdint>
#include <string>
#include <utility>

#include "waxvm/advert.h"

namespace waxvm::naming {

/// A moment that no clock of a test is compared with.
inline constexpr std::uint64_t kTestTime = 1'800'000'000;

/// The key of a number: always the same.
inline SigningKey KeyOf(unsigned number) {
  std::string seed(kKeyBytes, static_cast<char>(number & 0xff));
  seed[31] = static_cast<char>(seed[31] ^ (number >> 8 & 0xff));
  seed[30] = static_cast<char>(seed[30] ^ (number >> 16 & 0xff));
  return *SigningKey::FromSeed(seed);
}

/// `label` of `author`, leading to `target`; it lives for `lifetime` seconds.
inline Advert NameAdvert(const SigningKey& author, const std::string& label,
                         const PublicKey& target, std::uint64_t sequence,
                         std::uint64_t created = kTestTime, std::uint64_t lifetime = 86'400,
                         std::uint32_t ttl = 300) {
  return *Advert::Make({.sequence = sequence,
                        .created = created,
                        .expires = created + lifetime,
                        .ttl = ttl,
                        .body = NameBody{.label = label, .target = target}},
                       author);
}

inline AddressClaim NewClaim(const PublicKey& key) {
  const auto made = cga::Generate(key, {.sec_code = cga::kSha256});
  return {.address = made->address, .modifier = made->parameters.modifier, .collision_count = 0};
}

/// A host with two transports.
inline Advert HostAdvert(const SigningKey& host, std::uint64_t sequence = 1,
                         std::uint32_t ttl = 600) {
  return *Advert::Make(
      {.sequence = sequence,
       .created = kTestTime,
       .expires = kTestTime + 5000,
       .ttl = ttl,
       .body = HostBody{.claim = NewClaim(host.public_key()),
                        .tunnel_key = ExchangeKey::FromBytes(std::string(32, 4))->public_key(),
                        .transports = {{"tcp", *Address::Parse("::2"), 2, 1},
                                       {"udp", *Address::Parse("::1"), 1, 100}}}},
      host);
}

/// An instance with one service.
inline Advert VmAdvert(const SigningKey& vm, const SigningKey& host, std::uint64_t sequence = 1,
                       std::uint16_t port = 5683) {
  return *Advert::Make({.sequence = sequence,
                        .created = kTestTime,
                        .expires = kTestTime + 1000,
                        .ttl = 60,
                        .body = VmBody{.claim = NewClaim(vm.public_key()),
                                       .services = {{"coap", 17, port}},
                                       .mailboxes = {host.public_key()}}},
                       vm, &host);
}

inline Advert RevocationAdvert(const SigningKey& author, std::uint64_t sequence = 0) {
  return *Advert::Make({.sequence = sequence,
                        .created = kTestTime,
                        .expires = kNeverExpires,
                        .ttl = 300,
                        .body = RevocationBody{}},
                       author);
}

}  // namespace waxvm::naming

#endif  // WAXVM_SRC_NAMING_ADVERT_FOR_TEST_H_
