// SPDX-License-Identifier: Apache-2.0
#include "src/naming/slot_rules.h"

#include <sodium.h>

#include <algorithm>

#include "src/base/status.h"
#include "src/identity/text.h"
#include "src/naming/advert_codec.h"

namespace waxvm::naming {
namespace {

std::uint64_t SequenceOf(std::string_view bytes) {
  std::uint64_t number = 0;
  for (const char c : bytes.substr(kSequenceAt, 8))
    number = number << 8 | static_cast<unsigned char>(c);
  return number;
}

}  // namespace

Verdict Judge(const Held& held, const Advert& advert) {
  const std::uint64_t last = SequenceOf(held.bytes);
  if (advert.fields().sequence > last) return Verdict::kNewer;
  if (advert.fields().sequence < last) return Verdict::kOlder;
  if (held.quarantined) return Verdict::kQuarantined;
  return advert.bytes() == held.bytes ? Verdict::kKnown : Verdict::kEquivocation;
}

absl::Status ToStatus(Verdict verdict, const Advert& advert) {
  const std::uint64_t sequence = advert.fields().sequence;
  switch (verdict) {
    case Verdict::kNewer:
    case Verdict::kKnown:
      return absl::OkStatus();
    case Verdict::kOlder:
      return FailedPrecondition("sequence %d of this slot is older than the last one", sequence);
    case Verdict::kQuarantined:
    case Verdict::kEquivocation:
      return absl::AbortedError(absl::StrFormat(
          "the author signed two adverts with sequence %d: both are quarantined", sequence));
  }
  return Internal("no such verdict");
}

absl::Status RevokedStatus(const PublicKey& author) {
  return absl::PermissionDeniedError(absl::StrFormat("the key %s was revoked", author.ToBase32()));
}

Equivocation Report(const Held& held, const Advert& advert) {
  Equivocation report = {
      .slot = advert.slot(), .sequence = advert.fields().sequence, .second = advert.hash()};
  crypto_hash_sha256(report.first.data(), identity::Raw(held.bytes), held.bytes.size());
  return report;
}

absl::StatusOr<Advert> Serve(const Held& held, std::uint64_t now) {
  if (held.quarantined)
    return absl::AbortedError("the author signed two adverts with one sequence");
  WAXVM_ASSIGN_OR_RETURN(Advert advert, Advert::FromTrusted(held.bytes));
  if (advert.fields().expires <= now)
    return absl::DeadlineExceededError(
        absl::StrFormat("the advert expired at %d", advert.fields().expires));
  return advert;
}

std::string EncodeSlot(const AdvertSlot& slot) {
  std::string bytes(slot.author.view());
  bytes.push_back(static_cast<char>(slot.type));
  return bytes.append(slot.label);
}

absl::StatusOr<AdvertSlot> DecodeSlot(std::string_view bytes) {
  if (bytes.size() <= kKeyBytes) return absl::DataLossError("a slot is cut short");
  AdvertSlot slot;
  std::copy_n(bytes.begin(), kKeyBytes, slot.author.bytes.begin());
  slot.type = static_cast<AdvertType>(bytes[kKeyBytes]);
  slot.label = bytes.substr(kKeyBytes + 1);
  return slot;
}

const Address* ClaimedAddress(const Advert& advert) {
  if (const auto* vm = advert.As<VmBody>()) return &vm->claim.address;
  if (const auto* host = advert.As<HostBody>()) return &host->claim.address;
  return nullptr;
}

std::size_t EvictionBatch(std::size_t slots_of_author) {
  return std::max<std::size_t>(slots_of_author / 16, 1);
}

}  // namespace waxvm::naming

namespace waxvm {

absl::StatusOr<Advert> Accept(Directory& directory, std::string_view bytes, std::uint64_t now) {
  WAXVM_ASSIGN_OR_RETURN(Advert advert, Advert::Check(bytes, now));
  WAXVM_RETURN_IF_ERROR(directory.Put(std::span(&advert, 1)).front());
  return advert;
}

}  // namespace waxvm
