// SPDX-License-Identifier: Apache-2.0
#include "waxvm/envelope.h"

#include <sodium.h>

#include <cstring>
#include <utility>

#include "src/base/status.h"
#include "src/identity/sodium_ready.h"
#include "src/identity/text.h"
#include "src/messaging/envelope_codec.h"

namespace waxvm {
namespace messaging {
namespace {

using identity::Raw;

static_assert(kTagBytes == crypto_aead_xchacha20poly1305_ietf_ABYTES);
// A key encrypts one envelope, so that the nonce need not change.
constexpr unsigned char kNonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES] = {};

/// Wiped when it goes.
struct Wiped {
  unsigned char bytes[kKeyBytes];
  ~Wiped() { sodium_memzero(bytes, sizeof bytes); }
};

/// The key of one envelope: both public keys are in it, so that it fits no other pair.
void DeriveKey(std::string_view shared, std::string_view header, Wiped& key) {
  crypto_generichash_state state;
  crypto_generichash_init(&state, nullptr, 0, sizeof key.bytes);
  crypto_generichash_update(&state, Raw(header), header.size());
  crypto_generichash_update(&state, Raw(shared), shared.size());
  crypto_generichash_final(&state, key.bytes, sizeof key.bytes);
  sodium_memzero(&state, sizeof state);
}

}  // namespace

absl::StatusOr<std::string> Encrypt(std::string_view envelope, const PublicKey& receiver) {
  WAXVM_RETURN_IF_ERROR(identity::SodiumReady());
  WAXVM_ASSIGN_OR_RETURN(const PublicKey to, ExchangeKeyOf(receiver));
  Wiped scalar;
  Wiped shared;
  Wiped key;
  PublicKey ephemeral;
  randombytes_buf(scalar.bytes, sizeof scalar.bytes);
  crypto_scalarmult_base(ephemeral.bytes.data(), scalar.bytes);
  if (crypto_scalarmult(shared.bytes, scalar.bytes, to.bytes.data()) != 0)
    return InvalidArgument("nothing can be encrypted to a key of small order");
  std::string bytes;
  bytes.reserve(kEncryptionBytes + envelope.size());
  bytes.append(kEncryptedContext).append(receiver.view()).append(ephemeral.view());
  DeriveKey(identity::AsView(shared.bytes), bytes, key);
  bytes.resize(kEncryptionBytes + envelope.size());
  crypto_aead_xchacha20poly1305_ietf_encrypt(Raw(bytes.data()) + kCiphertextAt, nullptr,
                                             Raw(envelope), envelope.size(), Raw(bytes.data()),
                                             kCiphertextAt, nullptr, kNonce, key.bytes);
  return bytes;
}

absl::StatusOr<std::string> Decrypt(std::string_view bytes, const ExchangeKey& exchange_key) {
  if (bytes.size() <= kEncryptionBytes || !bytes.starts_with(kEncryptedContext))
    return InvalidArgument("%d bytes are no encrypted envelope", bytes.size());
  WAXVM_ASSIGN_OR_RETURN(const PublicKey ephemeral,
                         PublicKey::FromBytes(bytes.substr(kEphemeralAt, kKeyBytes)));
  const auto shared = exchange_key.Agree(ephemeral);
  // With a key of small order everybody would know what both sides agree on.
  if (absl::IsInvalidArgument(shared.status()))
    return absl::UnauthenticatedError("the envelope's ephemeral key is one of small order");
  WAXVM_RETURN_IF_ERROR(shared.status());
  Wiped key;
  DeriveKey(shared->view(), bytes.substr(0, kCiphertextAt), key);
  const std::string_view ciphertext = bytes.substr(kCiphertextAt);
  std::string envelope(ciphertext.size() - kTagBytes, '\0');
  if (crypto_aead_xchacha20poly1305_ietf_decrypt(Raw(envelope.data()), nullptr, nullptr,
                                                 Raw(ciphertext), ciphertext.size(), Raw(bytes),
                                                 kCiphertextAt, kNonce, key.bytes) != 0)
    return absl::UnauthenticatedError("the envelope cannot be decrypted with this key");
  return envelope;
}

namespace {

absl::Status CheckTime(const EnvelopeFields& fields, std::uint64_t now) {
  if (fields.created > now && fields.created - now > kMaxMessageSkew)
    return absl::OutOfRangeError(
        absl::StrFormat("the message was created %d ms from now, at most %d", fields.created - now,
                        kMaxMessageSkew));
  if (fields.expires <= now)
    return absl::DeadlineExceededError(
        absl::StrFormat("the message expired %d ms ago", now - fields.expires));
  return absl::OkStatus();
}

absl::Status CheckDestination(const EnvelopeDestination& is, const OpenOptions& options) {
  if (is.kind == options.kind && is.key == options.destination) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrFormat("the message is for the %s %s",
                      is.kind == DestinationKind::kTopic ? "topic" : "engine", is.key.ToHex()));
}

absl::Status CheckSize(std::string_view bytes) {
  if (bytes.size() <= kMaxEnvelopeBytes) return absl::OkStatus();
  return InvalidArgument("an envelope has %d bytes, at most %d", bytes.size(), kMaxEnvelopeBytes);
}

/// Everything before the signature; a Cap'n Proto message has a whole number of words.
absl::StatusOr<std::string_view> SignedPart(std::string_view bytes) {
  if (bytes.size() <= kContextBytes + kSignatureBytes)
    return InvalidArgument("%d bytes are no envelope", bytes.size());
  return bytes.substr(0, bytes.size() - kSignatureBytes);
}

bool IsEncrypted(std::string_view bytes) { return bytes.starts_with(kEncryptedContext); }

absl::StatusOr<std::string> OpenEncryption(std::string_view bytes, const OpenOptions& options) {
  WAXVM_ASSIGN_OR_RETURN(const EnvelopeDestination destination, DestinationOf(bytes));
  WAXVM_RETURN_IF_ERROR(CheckDestination(destination, options));
  if (options.exchange_key == nullptr)
    return absl::UnauthenticatedError("there is no key here to decrypt an envelope with");
  return Decrypt(bytes, *options.exchange_key);
}

}  // namespace
}  // namespace messaging

absl::StatusOr<std::string> SealEnvelope(const EnvelopeFields& fields, const Signer& sender) {
  EnvelopeFields all = fields;
  all.sender = sender.public_key();
  WAXVM_ASSIGN_OR_RETURN(std::string bytes, messaging::EncodeUnsigned(all));
  WAXVM_ASSIGN_OR_RETURN(const Signature signature, sender.Sign(bytes));
  bytes.append(signature.view());
  if (!all.encrypted) return bytes;
  return messaging::Encrypt(bytes, all.destination);
}

absl::StatusOr<Envelope> OpenEnvelope(std::string bytes, const OpenOptions& options) {
  WAXVM_RETURN_IF_ERROR(messaging::CheckSize(bytes));
  const bool encrypted = messaging::IsEncrypted(bytes);
  if (encrypted) {
    WAXVM_ASSIGN_OR_RETURN(bytes, messaging::OpenEncryption(bytes, options));
  }
  WAXVM_ASSIGN_OR_RETURN(const std::string_view part, messaging::SignedPart(bytes));
  WAXVM_ASSIGN_OR_RETURN(EnvelopeFields fields, messaging::ParseUnsigned(part));
  // What was to be read by one alone has not been, or somebody else wrapped what all could read.
  if (fields.encrypted != encrypted)
    return InvalidArgument("the message was signed to be %s, and it is not",
                           fields.encrypted ? "encrypted" : "open");
  WAXVM_RETURN_IF_ERROR(messaging::CheckDestination({fields.kind, fields.destination}, options));
  WAXVM_RETURN_IF_ERROR(messaging::CheckTime(fields, options.now));
  Signature signature;
  std::memcpy(signature.bytes.data(), bytes.data() + part.size(), kSignatureBytes);
  // Last: it costs more than all before it together, which who floods would have us pay.
  if (!Verify(fields.sender, part, signature))
    return absl::UnauthenticatedError("the sender did not sign this message");
  return Envelope(std::move(bytes), std::move(fields));
}

absl::StatusOr<EnvelopeDestination> DestinationOf(std::string_view bytes) {
  WAXVM_RETURN_IF_ERROR(messaging::CheckSize(bytes));
  if (messaging::IsEncrypted(bytes)) {
    if (bytes.size() <= messaging::kEncryptionBytes)
      return InvalidArgument("%d bytes are no encrypted envelope", bytes.size());
    WAXVM_ASSIGN_OR_RETURN(const PublicKey receiver,
                           PublicKey::FromBytes(bytes.substr(messaging::kReceiverAt, kKeyBytes)));
    return EnvelopeDestination{.kind = DestinationKind::kEngine, .key = receiver};
  }
  WAXVM_ASSIGN_OR_RETURN(const std::string_view part, messaging::SignedPart(bytes));
  // Somewhere in another buffer it need not lie at a multiple of 8.
  const std::string aligned(reinterpret_cast<std::uintptr_t>(part.data()) % 8 == 0 ? "" : part);
  WAXVM_ASSIGN_OR_RETURN(const EnvelopeFields fields,
                         messaging::ParseUnsigned(aligned.empty() ? part : aligned));
  return EnvelopeDestination{.kind = fields.kind, .key = fields.destination};
}

MessageId MessageId::Of(const PublicKey& sender, DestinationKind kind, const PublicKey& destination,
                        std::uint64_t sequence) {
  using messaging::kContextBytes;
  std::array<unsigned char, kContextBytes + 1 + 2 * kKeyBytes + 8> named;
  std::memcpy(named.data(), messaging::kIdContext.data(), kContextBytes);
  named[kContextBytes] = static_cast<unsigned char>(kind);
  std::memcpy(&named[kContextBytes + 1], sender.bytes.data(), kKeyBytes);
  std::memcpy(&named[kContextBytes + 1 + kKeyBytes], destination.bytes.data(), kKeyBytes);
  for (int i = 0; i < 8; ++i)
    named[named.size() - 1 - static_cast<std::size_t>(i)] =
        static_cast<unsigned char>(sequence >> (8 * i));
  MessageId id;
  crypto_hash_sha256(id.bytes.data(), named.data(), named.size());
  return id;
}

}  // namespace waxvm
