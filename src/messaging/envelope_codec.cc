// SPDX-License-Identifier: Apache-2.0
// Cap'n Proto's library throws for what a message does wrong: every exception ends in this file.
#include "src/messaging/envelope_codec.h"

#include <capnp/message.h>
#include <capnp/serialize.h>

#include <cstring>
#include <utility>

#include "envelope.capnp.h"
#include "src/base/status.h"

namespace waxvm::messaging {
namespace {

// What is on the wire changes with none of these unless the version does: docs/formats/envelope.md.
static_assert(wire::Envelope::_capnpPrivate::dataWordSize == 7);
static_assert(wire::Envelope::_capnpPrivate::pointerCount == 4);
static_assert(kMaxPayloadBytes == 1'048'576 && kMaxDependencies == 16);

// Root pointer, the struct, and its four byte strings at their largest but for the payload.
constexpr std::size_t kFixedWords = 1 + 7 + 4 + 2 * (kKeyBytes / 8) + kMaxDependencies * 4;

capnp::Data::Reader AsData(std::string_view bytes) {
  return {reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()};
}
std::string_view AsText(capnp::Data::Reader data) {
  return {reinterpret_cast<const char*>(data.begin()), data.size()};
}

absl::Status Malformed(const kj::Exception& thrown) {
  return InvalidArgument("the envelope is malformed: %s",
                         std::string_view(thrown.getDescription().cStr()));
}

void Write(const EnvelopeFields& fields, wire::Envelope::Builder to) {
  to.setType(fields.type);
  to.setSequence(fields.sequence);
  to.setFirstSequence(fields.first_sequence);
  to.setCreated(fields.created);
  to.setExpires(fields.expires);
  to.setInReplyTo(fields.in_reply_to);
  to.setDestinationKind(static_cast<std::uint8_t>(fields.kind));
  to.setFlags(static_cast<std::uint8_t>((fields.encrypted ? kEncryptedFlag : 0) |
                                        (fields.wants_errors ? kWantsErrorsFlag : 0)));
  to.setSender(AsData(fields.sender.view()));
  to.setDestination(AsData(fields.destination.view()));
  auto dependencies = to.initDependencies(static_cast<unsigned>(fields.dependencies.size() * 32));
  for (std::size_t i = 0; i < fields.dependencies.size(); ++i)
    std::memcpy(dependencies.begin() + 32 * i, fields.dependencies[i].bytes.data(), 32);
  to.setPayload(AsData(fields.payload));
}

absl::Status CopyKey(capnp::Data::Reader from, PublicKey& to, std::string_view what) {
  if (from.size() != kKeyBytes)
    return InvalidArgument("the %s of an envelope has %d bytes, not %d", what, from.size(),
                           kKeyBytes);
  std::memcpy(to.bytes.data(), from.begin(), kKeyBytes);
  return absl::OkStatus();
}

absl::StatusOr<EnvelopeFields> Read(wire::Envelope::Reader from) {
  EnvelopeFields fields;
  fields.type = from.getType();
  fields.sequence = from.getSequence();
  fields.first_sequence = from.getFirstSequence();
  fields.created = from.getCreated();
  fields.expires = from.getExpires();
  fields.in_reply_to = from.getInReplyTo();
  if (from.getDestinationKind() > 1)
    return InvalidArgument("%d is no kind of destination", from.getDestinationKind());
  fields.kind = static_cast<DestinationKind>(from.getDestinationKind());
  const std::uint8_t flags = from.getFlags();
  if ((flags & ~(kEncryptedFlag | kWantsErrorsFlag)) != 0)
    return InvalidArgument("an envelope has the flags %d, which are not known", flags);
  fields.encrypted = (flags & kEncryptedFlag) != 0;
  fields.wants_errors = (flags & kWantsErrorsFlag) != 0;
  WAXVM_RETURN_IF_ERROR(CopyKey(from.getSender(), fields.sender, "sender"));
  WAXVM_RETURN_IF_ERROR(CopyKey(from.getDestination(), fields.destination, "destination"));
  const capnp::Data::Reader dependencies = from.getDependencies();
  if (dependencies.size() % 32 != 0 || dependencies.size() > 32 * kMaxDependencies)
    return InvalidArgument("an envelope's dependencies have %d bytes", dependencies.size());
  if (dependencies.size() > 0) {
    fields.dependencies.resize(dependencies.size() / 32);
    std::memcpy(fields.dependencies.data(), dependencies.begin(), dependencies.size());
  }
  fields.payload = AsText(from.getPayload());
  return fields;
}

}  // namespace

absl::Status CheckFields(const EnvelopeFields& fields) {
  if (fields.payload.size() > kMaxPayloadBytes)
    return InvalidArgument("a payload has %d bytes, at most %d", fields.payload.size(),
                           kMaxPayloadBytes);
  if (fields.dependencies.size() > kMaxDependencies)
    return InvalidArgument("a message depends on %d others, at most %d", fields.dependencies.size(),
                           kMaxDependencies);
  if (fields.expires <= fields.created || fields.expires - fields.created > kMaxMessageLifetime)
    return InvalidArgument("a message was created at %d and expires at %d, at most %d later",
                           fields.created, fields.expires, kMaxMessageLifetime);
  const bool to_topic = fields.kind == DestinationKind::kTopic;
  // Whoever reads along knows the key of a topic: encrypted to it would be to nobody.
  if (to_topic && fields.encrypted) return InvalidArgument("a message to a topic is encrypted");
  // Errors go to one who asked one engine; of a topic, everybody who listens would answer.
  if (to_topic && fields.wants_errors)
    return InvalidArgument("a message to a topic asks for errors");
  if (to_topic ? fields.first_sequence > fields.sequence : fields.first_sequence != 0)
    return InvalidArgument("a message is number %d, and the first one is %d", fields.sequence,
                           fields.first_sequence);
  return absl::OkStatus();
}

absl::StatusOr<std::string> EncodeUnsigned(const EnvelopeFields& fields) {
  WAXVM_RETURN_IF_ERROR(CheckFields(fields));
  try {
    const std::size_t words = kFixedWords + (fields.payload.size() + 7) / 8;
    capnp::MallocMessageBuilder message(static_cast<unsigned>(words),
                                        capnp::AllocationStrategy::FIXED_SIZE);
    Write(fields, message.initRoot<wire::Envelope>());
    const auto segments = message.getSegmentsForOutput();
    if (segments.size() != 1) return Internal("an envelope takes %d segments", segments.size());
    const auto body = segments[0].asBytes();
    const std::uint32_t table[2] = {0, static_cast<std::uint32_t>(segments[0].size())};
    std::string bytes;
    bytes.reserve(kBodyAt + sizeof table + body.size() + kSignatureBytes);
    bytes.append(kEnvelopeContext);
    bytes.append(reinterpret_cast<const char*>(table), sizeof table);
    bytes.append(reinterpret_cast<const char*>(body.begin()), body.size());
    return bytes;
  } catch (const kj::Exception& thrown) {
    return Malformed(thrown);
  }
}

absl::StatusOr<EnvelopeFields> ParseUnsigned(std::string_view bytes) {
  constexpr std::size_t kWord = sizeof(capnp::word);
  if (bytes.size() <= kBodyAt || bytes.size() > kMaxEnvelopeBytes || bytes.size() % kWord != 0)
    return InvalidArgument("%d bytes are no envelope", bytes.size());
  if (!bytes.starts_with(kEnvelopeContext))
    return InvalidArgument("this is no envelope, or one of another version");
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % kWord != 0)
    return Internal("an envelope lies at %p, no multiple of %d", bytes.data(), kWord);
  const std::string_view body = bytes.substr(kBodyAt);
  std::uint32_t table[2];
  std::memcpy(table, body.data(), sizeof table);
  // One segment, and nothing after it: there is no second message that nobody looks at.
  if (table[0] != 0 || table[1] != body.size() / kWord - 1)
    return InvalidArgument("the envelope is malformed: it has another size than it says");
  try {
    const kj::ArrayPtr<const capnp::word> words(
        reinterpret_cast<const capnp::word*>(body.data() + sizeof table), table[1]);
    // Each word may be read once, the root pointer twice: pointers that share what they lead to
    // would make a small message into one of any size. Nothing in it is nested.
    const capnp::ReaderOptions options = {.traversalLimitInWords = table[1] + std::uint64_t{1},
                                          .nestingLimit = 4};
    capnp::SegmentArrayMessageReader reader(kj::arrayPtr(&words, 1), options);
    WAXVM_ASSIGN_OR_RETURN(EnvelopeFields fields, Read(reader.getRoot<wire::Envelope>()));
    WAXVM_RETURN_IF_ERROR(CheckFields(fields));
    return fields;
  } catch (const kj::Exception& thrown) {
    return Malformed(thrown);
  }
}

}  // namespace waxvm::messaging
