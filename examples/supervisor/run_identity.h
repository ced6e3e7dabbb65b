// SPDX-License-Identifier: Apache-2.0
// Who the instances of `waxvm run --identity` are.
#ifndef WAXVM_EXAMPLES_SUPERVISOR_RUN_IDENTITY_H_
#define WAXVM_EXAMPLES_SUPERVISOR_RUN_IDENTITY_H_

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

#include "absl/status/statusor.h"
#include "flags.h"
#include "waxvm/identity.h"

namespace waxvm::cli {

/// What the flags say; empty without --identity. Errors: of the key and the directory.
absl::StatusOr<std::optional<IdentityOptions>> OpenIdentity(const RunFlags& flags);

/// Keeps the adverts of what runs from expiring, for as long as it lives.
class Renewal {
 public:
  explicit Renewal(std::shared_ptr<AdvertKeeper> keeper);
  ~Renewal();
  Renewal(const Renewal&) = delete;
  Renewal& operator=(const Renewal&) = delete;

 private:
  void Run(const std::stop_token& stop);

  const std::shared_ptr<AdvertKeeper> keeper_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;
};

}  // namespace waxvm::cli

#endif  // WAXVM_EXAMPLES_SUPERVISOR_RUN_IDENTITY_H_
