// SPDX-License-Identifier: Apache-2.0
// The bytes of an envelope: docs/formats/envelope.md.
#ifndef WAXVM_SRC_MESSAGING_ENVELOPE_CODEC_H_
#define WAXVM_SRC_MESSAGING_ENVELOPE_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "waxvm/envelope.h"

namespace waxvm::messaging {

using std::string_view_literals::operator""sv;

/// At the start of everything that is signed or encrypted: no signature of one kind is one of
/// another. The version is its last digit.
inline constexpr std::string_view kEnvelopeContext = "waxvm-envelope-1"sv;
inline constexpr std::string_view kEncryptedContext = "waxvm-encrypt-v1"sv;
inline constexpr std::string_view kIdContext = "waxvm-message-id"sv;
inline constexpr std::size_t kContextBytes = 16;

// A signed envelope: context, Cap'n Proto message, signature.
inline constexpr std::size_t kBodyAt = kContextBytes;
// An encrypted one: context, receiver, ephemeral key, what was signed with 16 bytes of tag.
inline constexpr std::size_t kReceiverAt = kContextBytes;
inline constexpr std::size_t kEphemeralAt = kReceiverAt + kKeyBytes;
inline constexpr std::size_t kCiphertextAt = kEphemeralAt + kKeyBytes;
inline constexpr std::size_t kTagBytes = 16;
inline constexpr std::size_t kEncryptionBytes = kCiphertextAt + kTagBytes;

inline constexpr std::uint8_t kEncryptedFlag = 1;
inline constexpr std::uint8_t kWantsErrorsFlag = 2;

static_assert(kEnvelopeContext.size() == kContextBytes && kIdContext.size() == kContextBytes);
static_assert(kEncryptedContext.size() == kContextBytes);
// A Cap'n Proto message is read where it lies.
static_assert(kBodyAt % 8 == 0 && kEncryptionBytes == 96);

/// Everything before the signature. Errors: kInvalidArgument.
absl::StatusOr<std::string> EncodeUnsigned(const EnvelopeFields& fields);

/// Reads what EncodeUnsigned wrote, signature and all else that needs a key or a clock aside.
/// `unsigned_bytes` start at a multiple of 8, and the payload points into them.
/// Errors: kInvalidArgument.
absl::StatusOr<EnvelopeFields> ParseUnsigned(std::string_view unsigned_bytes);

/// Bounds of fields, those of time between each other included. Errors: kInvalidArgument.
absl::Status CheckFields(const EnvelopeFields& fields);

/// The envelope inside of one that is encrypted to the holder of `key`. Errors: kInvalidArgument,
/// kUnauthenticated.
absl::StatusOr<std::string> Decrypt(std::string_view bytes, const ExchangeKey& key);
absl::StatusOr<std::string> Encrypt(std::string_view envelope, const PublicKey& receiver);

}  // namespace waxvm::messaging

#endif  // WAXVM_SRC_MESSAGING_ENVELOPE_CODEC_H_
