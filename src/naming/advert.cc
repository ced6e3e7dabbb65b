// SPDX-License-Identifier: Apache-2.0
#include "waxvm/advert.h"

#include <sodium.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

#include "src/base/status.h"
#include "src/identity/text.h"
#include "src/naming/advert_codec.h"

namespace waxvm {
namespace {

using identity::Raw;

/// Signed bytes and signature of something that may be an advert.
struct Split {
  std::string_view unsigned_bytes;
  Signature signature;
};

absl::StatusOr<Split> SplitSignature(std::string_view bytes) {
  // The bound comes first: nobody makes us hash megabytes.
  if (bytes.size() > kMaxAdvertBytes || bytes.size() < naming::kBodyAt + kSignatureBytes)
    return InvalidArgument("an advert has %d to %d bytes, not %d",
                           naming::kBodyAt + kSignatureBytes, kMaxAdvertBytes, bytes.size());
  Split split;
  split.unsigned_bytes = bytes.substr(0, bytes.size() - kSignatureBytes);
  std::memcpy(split.signature.bytes.data(), bytes.data() + split.unsigned_bytes.size(),
              kSignatureBytes);
  return split;
}

const AddressClaim* ClaimOf(const AdvertFields& fields) {
  if (const auto* vm = std::get_if<VmBody>(&fields.body)) return &vm->claim;
  if (const auto* host = std::get_if<HostBody>(&fields.body)) return &host->claim;
  return nullptr;
}

absl::Status CheckSignatures(const AdvertFields& fields, const Split& split) {
  if (!Verify(fields.author, split.unsigned_bytes, split.signature))
    return absl::UnauthenticatedError("the author's signature does not hold");
  const auto* vm = std::get_if<VmBody>(&fields.body);
  if (vm != nullptr &&
      !Verify(vm->host, naming::HostedBytes(split.unsigned_bytes), vm->host_signature))
    return absl::UnauthenticatedError("the host's signature does not hold");
  return absl::OkStatus();
}

absl::Status CheckAddress(const AdvertFields& fields) {
  const AddressClaim* claim = ClaimOf(fields);
  if (claim == nullptr) return absl::OkStatus();
  if (cga::SecCodeOf(claim->address) < cga::kSha256)
    return absl::PermissionDeniedError("the address was made with SHA-1");
  const absl::Status status =
      cga::Verify(claim->address, fields.author, claim->modifier, claim->collision_count);
  if (!status.ok()) return absl::PermissionDeniedError(status.message());
  const auto* host = std::get_if<HostBody>(&fields.body);
  if (host == nullptr) return absl::OkStatus();
  // With a point of small order everybody would know what a tunnel agrees on.
  static constexpr std::array<std::uint8_t, kKeyBytes> kScalar = {8};
  std::array<std::uint8_t, kKeyBytes> shared;
  if (crypto_scalarmult(shared.data(), kScalar.data(), host->tunnel_key.bytes.data()) != 0)
    return absl::PermissionDeniedError("the tunnel's key is one of small order");
  return absl::OkStatus();
}

absl::Status CheckTime(const AdvertFields& fields, std::uint64_t now) {
  if (fields.created > now && fields.created - now > kMaxClockSkew)
    return absl::OutOfRangeError(
        absl::StrFormat("the advert was created at %d, and it is %d: one of the clocks is wrong",
                        fields.created, now));
  if (fields.expires <= now)
    return absl::DeadlineExceededError(
        absl::StrFormat("the advert expired at %d, and it is %d", fields.expires, now));
  return absl::OkStatus();
}

}  // namespace

std::string_view AdvertTypeName(AdvertType type) {
  switch (type) {
    case AdvertType::kVm:
      return "vm";
    case AdvertType::kHost:
      return "host";
    case AdvertType::kTopic:
      return "topic";
    case AdvertType::kRevocation:
      return "revocation";
    case AdvertType::kName:
      return "name";
  }
  return "unknown";
}

absl::StatusOr<AdvertFields> ParseAdvert(std::string_view bytes) {
  WAXVM_ASSIGN_OR_RETURN(const Split split, SplitSignature(bytes));
  return naming::ParseUnsigned(split.unsigned_bytes);
}

absl::StatusOr<Advert> Advert::FromTrusted(std::string_view bytes) {
  WAXVM_ASSIGN_OR_RETURN(AdvertFields fields, ParseAdvert(bytes));
  return Advert(
      std::make_shared<const Rep>(Rep{.fields = std::move(fields), .bytes = std::string(bytes)}));
}

absl::StatusOr<Advert> Advert::Check(std::string_view bytes, std::uint64_t now) {
  WAXVM_ASSIGN_OR_RETURN(const Split split, SplitSignature(bytes));
  WAXVM_ASSIGN_OR_RETURN(AdvertFields fields, naming::ParseUnsigned(split.unsigned_bytes));
  WAXVM_RETURN_IF_ERROR(CheckSignatures(fields, split));
  WAXVM_RETURN_IF_ERROR(CheckAddress(fields));
  WAXVM_RETURN_IF_ERROR(CheckTime(fields, now));
  return Advert(
      std::make_shared<const Rep>(Rep{.fields = std::move(fields), .bytes = std::string(bytes)}));
}

absl::StatusOr<Advert> Advert::Make(AdvertFields fields, const Signer& author, const Signer* host) {
  fields.author = author.public_key();
  auto* vm = std::get_if<VmBody>(&fields.body);
  if (vm != nullptr && host == nullptr)
    return InvalidArgument("an instance needs the signature of its host");
  if (vm != nullptr) vm->host = host->public_key();
  WAXVM_ASSIGN_OR_RETURN(std::string bytes, naming::EncodeUnsigned(fields));
  // Read back before anybody signs: what comes out must be what went in.
  WAXVM_ASSIGN_OR_RETURN(const AdvertFields read, naming::ParseUnsigned(bytes));
  if (read != fields) return InvalidArgument("there is no advert with these fields");
  WAXVM_RETURN_IF_ERROR(CheckAddress(fields));
  if (vm != nullptr) {
    WAXVM_ASSIGN_OR_RETURN(vm->host_signature, host->Sign(naming::HostedBytes(bytes)));
    bytes.replace(bytes.size() - kSignatureBytes, kSignatureBytes, vm->host_signature.view());
  }
  WAXVM_ASSIGN_OR_RETURN(const Signature signature, author.Sign(bytes));
  bytes.append(signature.view());
  return Advert(
      std::make_shared<const Rep>(Rep{.fields = std::move(fields), .bytes = std::move(bytes)}));
}

AdvertSlot Advert::slot() const {
  const auto* name = As<NameBody>();
  return {.author = fields().author,
          .type = fields().type(),
          .label = name == nullptr ? std::string() : name->label};
}

std::array<std::uint8_t, 32> Advert::hash() const {
  std::array<std::uint8_t, 32> digest;
  crypto_hash_sha256(digest.data(), Raw(bytes()), bytes().size());
  return digest;
}

std::vector<absl::StatusOr<Advert>> CheckAdverts(std::span<const std::string_view> adverts,
                                                 std::uint64_t now, unsigned threads) {
  // A few at a time: one is 40 µs or more, a place in the queue is far below one.
  constexpr std::size_t kTaken = 8;
  constexpr unsigned kMaxThreads = 256;
  std::vector<absl::StatusOr<Advert>> results(adverts.size(), absl::UnknownError("not checked"));
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t at; (at = next.fetch_add(kTaken)) < adverts.size();)
      for (std::size_t i = at; i < std::min(at + kTaken, adverts.size()); ++i)
        results[i] = Advert::Check(adverts[i], now);
  };
  if (threads == 0) threads = std::thread::hardware_concurrency();
  const std::size_t useful = std::min<std::size_t>(std::clamp(threads, 1u, kMaxThreads),
                                                   (adverts.size() + kTaken - 1) / kTaken);
  std::vector<std::jthread> helpers;
  try {
    for (std::size_t i = 1; i < useful; ++i) helpers.emplace_back(work);
  } catch (const std::system_error&) {
    // The host has no more threads: it takes longer, with the same results.
  }
  work();
  helpers.clear();
  return results;
}

}  // namespace waxvm
