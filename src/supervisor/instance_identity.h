// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_SUPERVISOR_INSTANCE_IDENTITY_H_
#define WAXVM_SRC_SUPERVISOR_INSTANCE_IDENTITY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "src/base/mutex.h"
#include "src/capability/grant_set.h"
#include "waxvm/identity.h"

namespace waxvm {

// What the program calls; docs/formats/identity.md.
inline constexpr std::string_view kIdentityFunction = "waxvm.identity";
inline constexpr std::string_view kSignFunction = "waxvm.identity.sign";
inline constexpr std::string_view kPrivateKeyFunction = "waxvm.identity.private_key";
inline constexpr std::uint32_t kIdentityVersion = 1;

/// Adds the functions that `options` grant to those that the supervisor answers itself.
/// Errors: kInvalidArgument for options that contradict themselves.
absl::Status GrantIdentity(const IdentityOptions& options, GrantSet& grants);

/// The key of one instance, its address and its advert, from before the start to after the end.
/// Thread safety: any number of threads.
class InstanceIdentity {
 public:
  /// A new key, whose advert is in the directory. `options` were checked by GrantIdentity.
  /// Blocks: on the search for the address, the host's signer and the directory.
  /// Errors: kInvalidArgument for what no advert can say; those of signer and directory.
  static absl::StatusOr<std::shared_ptr<InstanceIdentity>> Make(const IdentityOptions& options);
  ~InstanceIdentity();
  InstanceIdentity(const InstanceIdentity&) = delete;
  InstanceIdentity& operator=(const InstanceIdentity&) = delete;

  /// The answer to a function of the program that was granted. The private key is in an answer
  /// alone, which the caller wipes.
  absl::StatusOr<std::string> Answer(std::string_view function, std::string_view request);

  /// Signs and puts the advert anew where half of its life is over; `next` is in how many seconds
  /// that will be. Where it fails it is tried again, and report() tells.
  absl::Status RenewIfDue(std::uint64_t& next);
  /// Withdraws or revokes, once. Nothing is signed after that.
  void End();

  IdentityReport report() const;
  /// Whether the program has the private key.
  bool private_key_was_read() const;

 private:
  InstanceIdentity(const IdentityOptions& options, SigningKey key);
  std::uint64_t Now() const;
  absl::Status Advertise(std::uint64_t now, std::uint64_t lifetime)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Revoke(std::uint64_t now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Put(const Advert& advert) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string Describe() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const IdentityOptions options_;
  const SigningKey key_;
  AddressClaim claim_;  ///< set by Make, then constant
  mutable Mutex mutex_;
  IdentityReport report_ ABSL_GUARDED_BY(mutex_);
  std::uint64_t renew_at_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace waxvm

#endif  // WAXVM_SRC_SUPERVISOR_INSTANCE_IDENTITY_H_
