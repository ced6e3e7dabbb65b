// SPDX-License-Identifier: Apache-2.0
// Who an instance is, for C callers.
#include "waxvm_c_identity.h"

#include <limits>

#include "support.h"
#include "waxvm/directory.h"
#include "waxvm/key_store.h"

using waxvm::c::CopyIn;
using waxvm::c::Guard;

static_assert(WAXVM_ADVERT_WITHDRAW == static_cast<int>(waxvm::AdvertEnd::kWithdraw));
static_assert(WAXVM_ADVERT_REVOKE == static_cast<int>(waxvm::AdvertEnd::kRevoke));
static_assert(WAXVM_ADVERT_LEAVE == static_cast<int>(waxvm::AdvertEnd::kLeave));

namespace {

// The layout that callers were compiled against; a structure only ever grows at its end.
constexpr std::size_t kFirstSize = 48;
static_assert(sizeof(waxvm_identity_options) == kFirstSize);

absl::Status Fill(const waxvm_identity_options& from, waxvm::IdentityOptions& to) {
  if (from.reserved != 0) return absl::InvalidArgumentError("options.reserved is not 0");
  if (from.advert_end < WAXVM_ADVERT_WITHDRAW || from.advert_end > WAXVM_ADVERT_LEAVE)
    return absl::InvalidArgumentError("options.advert_end is none of WAXVM_ADVERT_…");
  if (from.lifetime_seconds > std::numeric_limits<std::uint32_t>::max())
    return absl::InvalidArgumentError("options.lifetime_seconds is more than a year");
  to.at_end = static_cast<waxvm::AdvertEnd>(from.advert_end);
  to.grant_signing = from.grant_signing != 0;
  to.grant_private_key = from.grant_private_key != 0;
  if (from.lifetime_seconds != 0)
    to.lifetime = std::chrono::seconds(static_cast<std::int64_t>(from.lifetime_seconds));
  if (from.host_key_path != nullptr) {
    auto key = waxvm::LoadKeyFile(from.host_key_path);
    if (!key.ok()) return key.status();
    to.host = std::make_shared<waxvm::SigningKey>(*std::move(key));
    to.keeper = waxvm::AdvertKeeper::Create();
  }
  if (from.directory_path != nullptr) {
    auto directory = waxvm::OpenDirectory(from.directory_path);
    if (!directory.ok()) return directory.status();
    to.directory = *std::move(directory);
  }
  return absl::OkStatus();
}

}  // namespace

extern "C" {

waxvm_status waxvm_identity_open(const waxvm_identity_options* options, waxvm_identity** identity,
                                 waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(identity);
    *identity = nullptr;
    const auto copied =
        CopyIn("options", options, waxvm_identity_options WAXVM_IDENTITY_OPTIONS_INIT, kFirstSize);
    if (!copied.ok()) return copied.status();
    auto made = std::make_unique<waxvm_identity>();
    if (absl::Status status = Fill(*copied, made->options); !status.ok()) return status;
    *identity = made.release();
    return absl::OkStatus();
  });
}

waxvm_status waxvm_identity_add_service(waxvm_identity* identity, const char* name,
                                        uint8_t protocol, uint16_t port, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(identity);
    WAXVM_C_REQUIRE(name);
    identity->options.services.push_back({.name = name, .protocol = protocol, .port = port});
    return absl::OkStatus();
  });
}

waxvm_status waxvm_identity_renew(waxvm_identity* identity, uint64_t* next_seconds,
                                  waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(identity);
    if (next_seconds != nullptr) *next_seconds = 3600;
    if (identity->options.keeper == nullptr) return absl::OkStatus();
    const auto next = identity->options.keeper->Renew();
    if (next_seconds != nullptr)
      *next_seconds = next.ok() ? static_cast<std::uint64_t>(next->count()) : 1;
    return next.status();
  });
}

void waxvm_identity_close(waxvm_identity* identity) { delete identity; }

const char* waxvm_result_address(const waxvm_result* result) {
  return result != nullptr && result->result.report.identity ? result->address.c_str() : nullptr;
}

const char* waxvm_result_public_key(const waxvm_result* result) {
  return result != nullptr && result->result.report.identity ? result->public_key.c_str() : nullptr;
}

}  // extern "C"
