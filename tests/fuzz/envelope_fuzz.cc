// SPDX-License-Identifier: Apache-2.0
// Any bytes at all as an envelope, signed by whoever wrote them or not; as what a replay guard
// left; and as the error of a message. What can be read is written, and is then the same.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "src/messaging/envelope_codec.h"
#include "waxvm/envelope.h"
#include "waxvm/replay_guard.h"

namespace waxvm {
namespace {

constexpr std::uint64_t kNow = 1'800'000'000'000;

void Require(bool condition) {
  if (!condition) __builtin_trap();
}

const SigningKey& Key(char number) {
  static const SigningKey one = *SigningKey::FromSeed(std::string(kKeyBytes, 1));
  static const SigningKey two = *SigningKey::FromSeed(std::string(kKeyBytes, 2));
  return number == 1 ? one : two;
}

const ExchangeKey& Exchange() {
  static const ExchangeKey key = *ExchangeKey::Of(Key(2));
  return key;
}

OpenOptions ForSecond() {
  return {.now = kNow, .destination = Key(2).public_key(), .exchange_key = &Exchange()};
}

void CheckFields(const EnvelopeFields& fields, std::string_view bytes) {
  Require(fields.payload.size() <= bytes.size() && fields.payload.size() <= kMaxPayloadBytes);
  Require(fields.dependencies.size() <= kMaxDependencies);
  Require(fields.expires > fields.created);
  const auto written = messaging::EncodeUnsigned(fields);
  Require(written.ok());
  const auto again = messaging::ParseUnsigned(*written);
  Require(again.ok() && again->payload == fields.payload && again->id() == fields.id());
  Require(again->dependencies == fields.dependencies && again->type == fields.type);
  // Nothing grows by being read.
  Require(written->size() <= bytes.size() + 128);
}

/// As it came: only what somebody signed is taken.
void CheckOpen(const std::string& bytes) {
  const auto destination = DestinationOf(bytes);
  const auto opened = OpenEnvelope(bytes, ForSecond());
  if (!opened.ok()) return;
  Require(destination.ok() && destination->key == Key(2).public_key());
  Require(opened->fields().expires > kNow);
  CheckFields(opened->fields(), opened->bytes());
}

/// As the signed part of a sender who writes what he likes.
void CheckSigned(std::string bytes) {
  bytes.insert(0, messaging::kEnvelopeContext);
  const auto fields = messaging::ParseUnsigned(bytes);
  if (!fields.ok()) return Require(absl::IsInvalidArgument(fields.status()));
  CheckFields(*fields, bytes);
  bytes.append(Key(1).Sign(bytes)->view());
  const auto opened = OpenEnvelope(bytes, ForSecond());
  Require(!opened.ok() || opened->fields().sender == Key(1).public_key());
}

class Store final : public ReplayStore {
 public:
  explicit Store(std::string state) : state_(std::move(state)) {}
  absl::StatusOr<std::string> Load() override { return state_; }
  absl::Status Save(std::string_view state) override {
    state_ = std::string(state);
    return absl::OkStatus();
  }

 private:
  std::string state_;
};

void CheckState(const std::string& bytes) {
  Store store(bytes);
  {
    const auto guard = ReplayGuard::Create(kNow, {.store = &store});
    if (!guard.ok()) return Require(absl::IsDataLoss(guard.status()));
    const EnvelopeFields fields = {.sequence = 1, .created = UINT64_MAX / 2};
    if ((*guard)->Accept(fields, Address(), kNow).ok())
      Require(absl::IsAlreadyExists((*guard)->Accept(fields, Address(), kNow)));
  }
  Require(ReplayGuard::Create(kNow, {.store = &store}).ok());
}

}  // namespace
}  // namespace waxvm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  waxvm::CheckOpen(bytes);
  waxvm::CheckSigned(bytes);
  waxvm::CheckState(bytes);
  (void)waxvm::MessageError::Decode(bytes);
  return 0;
}
