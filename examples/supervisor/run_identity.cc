// SPDX-License-Identifier: Apache-2.0
#include "run_identity.h"

#include <algorithm>
#include <utility>

#include "keys.h"
#include "waxvm/directory.h"

namespace waxvm::cli {

absl::StatusOr<std::optional<IdentityOptions>> OpenIdentity(const RunFlags& flags) {
  if (!flags.identity) return std::optional<IdentityOptions>();
  IdentityOptions options;
  options.services = flags.services;
  options.grant_signing = flags.grants_signing;
  options.grant_private_key = flags.grants_private_key;
  if (flags.revokes) options.at_end = AdvertEnd::kRevoke;
  if (!flags.host_key.empty()) {
    auto host = OpenSigner(Words(), flags.host_key);
    if (!host.ok()) return host.status();
    options.host = *std::move(host);
    options.keeper = AdvertKeeper::Create();
  }
  if (!flags.directory.empty()) {
    auto directory = OpenDirectory(flags.directory);
    if (!directory.ok()) return directory.status();
    options.directory = *std::move(directory);
  }
  return std::optional(std::move(options));
}

Renewal::Renewal(std::shared_ptr<AdvertKeeper> keeper)
    : keeper_(std::move(keeper)), thread_([this](const std::stop_token& stop) { Run(stop); }) {}

Renewal::~Renewal() = default;

void Renewal::Run(const std::stop_token& stop) {
  // An instance may start at any moment, and its advert may live for seconds.
  constexpr std::chrono::seconds kAtMost{30};
  while (!stop.stop_requested()) {
    // What failed is in the report, and is tried again.
    const auto next = keeper_->Renew();
    const std::chrono::seconds wait = std::min(next.value_or(std::chrono::seconds(1)), kAtMost);
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, stop, std::max(wait, std::chrono::seconds(1)), [] { return false; });
  }
}

}  // namespace waxvm::cli
