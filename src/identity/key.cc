// SPDX-License-Identifier: Apache-2.0
#include "waxvm/key.h"

#include <sodium.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "src/base/status.h"
#include "src/identity/pkcs8.h"
#include "src/identity/sodium_ready.h"
#include "src/identity/text.h"

namespace waxvm {
namespace {

using identity::Raw;

static_assert(kKeyBytes == crypto_sign_PUBLICKEYBYTES && kKeyBytes == crypto_sign_SEEDBYTES);
static_assert(kKeyBytes == crypto_scalarmult_BYTES && kKeyBytes == crypto_scalarmult_SCALARBYTES);
static_assert(kSignatureBytes == crypto_sign_BYTES);

constexpr std::string_view kPublicLabel = "PUBLIC KEY";
constexpr std::string_view kSecretLabel = "PRIVATE KEY";

absl::Status CheckSize(std::string_view bytes, std::string_view what) {
  if (bytes.size() == kKeyBytes) return absl::OkStatus();
  return InvalidArgument("%s has %d bytes, not %d", what, bytes.size(), kKeyBytes);
}

/// Key files of both types differ in nothing but how the secret becomes a key.
template <typename Key, typename FromSecret>
absl::StatusOr<Key> ReadDer(std::string_view der, KeyType type, FromSecret from_secret) {
  WAXVM_ASSIGN_OR_RETURN(const identity::ParsedSecret parsed, identity::ParsePkcs8(der, type));
  WAXVM_ASSIGN_OR_RETURN(Key key, from_secret(parsed.secret.view()));
  if (parsed.public_key && *parsed.public_key != key.public_key())
    return InvalidArgument("the public key in the file belongs to another secret key");
  return key;
}

}  // namespace

std::string PublicKey::ToHex() const { return identity::ToHex(view()); }
std::string PublicKey::ToBase32() const { return identity::ToBase32(view()); }

std::string PublicKey::ToDer(KeyType type) const {
  return std::string(identity::SpkiPrefix(type)).append(view());
}

std::string PublicKey::ToPem(KeyType type) const {
  const std::string der = ToDer(type);
  std::string digits(sodium_base64_ENCODED_LEN(der.size(), sodium_base64_VARIANT_ORIGINAL), '\0');
  sodium_bin2base64(digits.data(), digits.size(), Raw(der), der.size(),
                    sodium_base64_VARIANT_ORIGINAL);
  digits.pop_back();  // the terminator; 60 digits fit into one line
  return absl::StrFormat("-----BEGIN %s-----\n%s\n-----END %s-----\n", kPublicLabel, digits,
                         kPublicLabel);
}

absl::StatusOr<PublicKey> PublicKey::Parse(std::string_view text) {
  std::optional<std::string> bytes;
  if (text.size() == 2 * kKeyBytes) bytes = identity::FromHex(text);
  if (text.size() == kKeyBase32Digits) bytes = identity::FromBase32(text);
  if (!bytes)
    return InvalidArgument("a public key is 64 hexadecimal or 52 base32 digits, not '%s'",
                           text.substr(0, 80));
  return FromBytes(*bytes);
}

absl::StatusOr<PublicKey> PublicKey::FromBytes(std::string_view bytes) {
  WAXVM_RETURN_IF_ERROR(CheckSize(bytes, "a public key"));
  PublicKey key;
  std::memcpy(key.bytes.data(), bytes.data(), kKeyBytes);
  return key;
}

absl::StatusOr<PublicKey> PublicKey::FromDer(std::string_view der, KeyType type) {
  const std::string_view prefix = identity::SpkiPrefix(type);
  if (!der.starts_with(prefix) || der.size() != prefix.size() + kKeyBytes)
    return InvalidArgument("this is not an %s public key in DER",
                           type == KeyType::kEd25519 ? "Ed25519" : "X25519");
  return FromBytes(der.substr(prefix.size()));
}

absl::StatusOr<PublicKey> PublicKey::FromPem(std::string_view pem, KeyType type) {
  WAXVM_ASSIGN_OR_RETURN(const Secret der, identity::DecodePem(pem, kPublicLabel));
  return FromDer(der.view(), type);
}

bool Verify(const PublicKey& key, std::string_view message, const Signature& signature) {
  // libsodium refuses S that is not reduced, keys that are not canonical, and R and keys of small
  // order; R is compared as bytes, so one that is not canonical never fits.
  return crypto_sign_verify_detached(signature.bytes.data(), Raw(message), message.size(),
                                     key.bytes.data()) == 0;
}

absl::StatusOr<SigningKey> SigningKey::Generate() {
  WAXVM_ASSIGN_OR_RETURN(Secret seed, Secret::Create(kKeyBytes));
  randombytes_buf(seed.data(), seed.size());
  return FromSeed(seed.view());
}

absl::StatusOr<SigningKey> SigningKey::FromSeed(std::string_view seed) {
  WAXVM_RETURN_IF_ERROR(CheckSize(seed, "a seed"));
  WAXVM_ASSIGN_OR_RETURN(Secret secret, Secret::Create(crypto_sign_SECRETKEYBYTES));
  PublicKey key;
  crypto_sign_seed_keypair(key.bytes.data(), Raw(secret.data()), Raw(seed));
  return SigningKey(std::move(secret), key);
}

absl::StatusOr<SigningKey> SigningKey::FromDer(std::string_view der) {
  return ReadDer<SigningKey>(der, KeyType::kEd25519, &SigningKey::FromSeed);
}

absl::StatusOr<SigningKey> SigningKey::FromPem(std::string_view pem) {
  WAXVM_ASSIGN_OR_RETURN(const Secret der, identity::DecodePem(pem, kSecretLabel));
  return FromDer(der.view());
}

absl::StatusOr<Signature> SigningKey::Sign(std::string_view message) const {
  Signature signature;
  crypto_sign_detached(signature.bytes.data(), nullptr, Raw(message), message.size(),
                       Raw(secret_.view()));
  return signature;
}

absl::StatusOr<Secret> SigningKey::ToSeed() const {
  WAXVM_ASSIGN_OR_RETURN(Secret seed, Secret::Create(kKeyBytes));
  std::copy_n(secret_.view().begin(), kKeyBytes, seed.data());
  return seed;
}

absl::StatusOr<Secret> SigningKey::ToDer() const {
  return identity::WritePkcs8(secret_.view().substr(0, kKeyBytes), KeyType::kEd25519);
}

absl::StatusOr<Secret> SigningKey::ToPem() const {
  WAXVM_ASSIGN_OR_RETURN(const Secret der, ToDer());
  return identity::EncodePem(der.view(), kSecretLabel);
}

absl::StatusOr<ExchangeKey> ExchangeKey::Generate() {
  WAXVM_ASSIGN_OR_RETURN(Secret scalar, Secret::Create(kKeyBytes));
  randombytes_buf(scalar.data(), scalar.size());
  return FromBytes(scalar.view());
}

absl::StatusOr<ExchangeKey> ExchangeKey::FromBytes(std::string_view scalar) {
  WAXVM_RETURN_IF_ERROR(CheckSize(scalar, "an X25519 key"));
  WAXVM_ASSIGN_OR_RETURN(Secret secret, Secret::Create(kKeyBytes));
  std::copy(scalar.begin(), scalar.end(), secret.data());
  PublicKey key;
  crypto_scalarmult_base(key.bytes.data(), Raw(secret.view()));
  return ExchangeKey(std::move(secret), key);
}

absl::StatusOr<ExchangeKey> ExchangeKey::FromDer(std::string_view der) {
  return ReadDer<ExchangeKey>(der, KeyType::kX25519, &ExchangeKey::FromBytes);
}

absl::StatusOr<ExchangeKey> ExchangeKey::FromPem(std::string_view pem) {
  WAXVM_ASSIGN_OR_RETURN(const Secret der, identity::DecodePem(pem, kSecretLabel));
  return FromDer(der.view());
}

absl::StatusOr<ExchangeKey> ExchangeKey::Of(const SigningKey& key) {
  WAXVM_ASSIGN_OR_RETURN(Secret secret, Secret::Create(crypto_sign_SECRETKEYBYTES));
  WAXVM_ASSIGN_OR_RETURN(const Secret seed, key.ToSeed());
  std::copy_n(seed.view().begin(), kKeyBytes, secret.data());
  std::copy_n(key.public_key().bytes.begin(), kKeyBytes, Raw(secret.data()) + kKeyBytes);
  WAXVM_ASSIGN_OR_RETURN(Secret scalar, Secret::Create(kKeyBytes));
  crypto_sign_ed25519_sk_to_curve25519(Raw(scalar.data()), Raw(secret.view()));
  return FromBytes(scalar.view());
}

absl::StatusOr<PublicKey> ExchangeKeyOf(const PublicKey& signing_key) {
  PublicKey key;
  if (crypto_sign_ed25519_pk_to_curve25519(key.bytes.data(), signing_key.bytes.data()) != 0)
    return InvalidArgument("the Ed25519 key %s is no point, or one of small order",
                           signing_key.ToHex());
  return key;
}

absl::StatusOr<Secret> ExchangeKey::Agree(const PublicKey& peer) const {
  WAXVM_ASSIGN_OR_RETURN(Secret shared, Secret::Create(kKeyBytes));
  if (crypto_scalarmult(Raw(shared.data()), Raw(secret_.view()), peer.bytes.data()) != 0)
    return InvalidArgument("the peer's X25519 key is one of small order");
  return shared;
}

absl::StatusOr<Secret> ExchangeKey::ToDer() const {
  return identity::WritePkcs8(secret_.view(), KeyType::kX25519);
}

absl::StatusOr<Secret> ExchangeKey::ToPem() const {
  WAXVM_ASSIGN_OR_RETURN(const Secret der, ToDer());
  return identity::EncodePem(der.view(), kSecretLabel);
}

}  // namespace waxvm
