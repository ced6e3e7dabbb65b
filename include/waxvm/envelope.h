// SPDX-License-Identifier: Apache-2.0
// A message on its way to another process: signed, encrypted where asked for.
// docs/formats/envelope.md.
#ifndef WAXVM_ENVELOPE_H_
#define WAXVM_ENVELOPE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/key.h"
#include "waxvm/message.h"

namespace waxvm {

/// How far the clock of a sender may be ahead of ours. Units: milliseconds, as all times here.
inline constexpr std::uint64_t kMaxMessageSkew = 60'000;
/// From `created` to `expires`.
inline constexpr std::uint64_t kMaxMessageLifetime = std::uint64_t{30} * 86'400'000;
/// With everything around the payload.
inline constexpr std::size_t kMaxEnvelopeBytes = kMaxPayloadBytes + 1'024;

struct EnvelopeFields {
  MessageType type = 0;
  PublicKey sender = {};
  DestinationKind kind = DestinationKind::kEngine;
  PublicKey destination = {};        ///< the key of the engine or of the topic
  std::uint64_t sequence = 0;        ///< rises with every message of a sender to a destination
  std::uint64_t first_sequence = 0;  ///< to a topic: the first one since the publisher's start
  std::uint64_t created = 0;         ///< milliseconds since 1970
  std::uint64_t expires = 0;         ///< when it is no good any more
  std::uint64_t in_reply_to = 0;     ///< the sequence of what it answers; 0: nothing
  bool encrypted = false;            ///< to the receiver, which is an engine
  bool wants_errors = false;         ///< the sender wants to be told what went wrong with it
  std::vector<MessageId> dependencies = {};  ///< what should be read before it
  std::string_view payload = {};             ///< points into whatever it was made of

  MessageId id() const { return MessageId::Of(sender, kind, destination, sequence); }
};

/// An envelope that was opened. Move-only.
class Envelope {
 public:
  Envelope(std::string bytes, EnvelopeFields fields)
      : bytes_(std::move(bytes)), fields_(std::move(fields)) {}
  Envelope(Envelope&&) noexcept = default;  // never so short that its bytes would move
  Envelope& operator=(Envelope&&) noexcept = default;

  /// The payload is within bytes(), at an address that is a multiple of 8.
  const EnvelopeFields& fields() const { return fields_; }
  /// What was signed, and the signature; of an encrypted one, what was inside.
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
  EnvelopeFields fields_;
};

/// Signs, then encrypts where `fields.encrypted`: to the key that ExchangeKeyOf the receiver gives.
/// `fields.sender` is taken from `sender`. Errors: kInvalidArgument for what OpenEnvelope would
/// refuse whatever the time, and for a receiver's key that nothing can be encrypted to; those of
/// the signer. Thread safety: any number of threads.
absl::StatusOr<std::string> SealEnvelope(const EnvelopeFields& fields, const Signer& sender);

struct OpenOptions {
  std::uint64_t now = 0;
  /// Whose engine or topic this is; one to anybody else is refused.
  DestinationKind kind = DestinationKind::kEngine;
  PublicKey destination = {};
  /// ExchangeKey::Of the receiver. Without it nothing that is encrypted is opened.
  const ExchangeKey* exchange_key = nullptr;
};

/// Checks bytes from anybody: form, destination, time, signature, in this order; whoever comes for
/// the second time is seen by a ReplayGuard. Errors: kInvalidArgument for the form;
/// kUnauthenticated for a signature that does not hold, and for what cannot be decrypted;
/// kPermissionDenied for another destination; kDeadlineExceeded after it has expired, kOutOfRange
/// for one of the future. Thread safety: any number of threads.
absl::StatusOr<Envelope> OpenEnvelope(std::string bytes, const OpenOptions& options);

/// Where an envelope is going, believed or not: for whoever passes it on.
struct EnvelopeDestination {
  DestinationKind kind = DestinationKind::kEngine;
  PublicKey key = {};
};
/// Errors: kInvalidArgument.
absl::StatusOr<EnvelopeDestination> DestinationOf(std::string_view bytes);

}  // namespace waxvm

#endif  // WAXVM_ENVELOPE_H_
