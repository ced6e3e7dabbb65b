// SPDX-License-Identifier: Apache-2.0
// From a name to where it can be reached.
#ifndef WAXVM_RESOLVER_H_
#define WAXVM_RESOLVER_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/directory.h"
#include "waxvm/petnames.h"

namespace waxvm {

/// What a name means.
struct Resolution {
  std::string name = {};              ///< in lower case
  PublicKey key = {};                 ///< whose it is
  AdvertType type = AdvertType::kVm;  ///< what that is: vm, host or topic
  Address address = {};               ///< of a topic: its multicast group
  std::vector<AdvertisedService> services = {};
  std::vector<PublicKey> mailboxes = {};
  std::optional<PublicKey> host = {};  ///< where a vm runs; of a host: itself
  /// How to reach the host, the heaviest first; empty where its advert is not known.
  std::vector<AdvertisedTransport> transports = {};
  std::optional<PublicKey> tunnel_key = {};  ///< of the host
  std::optional<TopicBody> topic = {};
  std::uint32_t ttl = 0;      ///< seconds that it may be kept; the least of all adverts on the way
  std::uint64_t expires = 0;  ///< when it is wrong; the first of them

  bool operator==(const Resolution&) const = default;
};

/// What is known of a name.
struct NameState {
  absl::StatusOr<std::shared_ptr<const Resolution>> meaning;  ///< as of Resolver::Resolve
  /// Whether there is such a name: somebody is called so here, or a key is, or the key behind it
  /// gave it. Of whoever it is nothing need be known, and names below it may exist.
  bool exists = false;
  std::uint64_t until = 0;  ///< seconds since 1970 until which that is kept
};

struct ResolverOptions {
  /// Where adverts come from that the directory lacks, or has for longer than their ttl: their
  /// bytes, which are checked like any others. Without it, and where it fails, the resolver works
  /// from what the directory has until that expires.
  std::function<absl::StatusOr<std::string>(const AdvertSlot& slot)> fetch = nullptr;
  /// Seconds since 1970. Default: the host's clock.
  std::function<std::uint64_t()> clock = nullptr;
  /// Names that are kept, and as many that do not exist.
  std::size_t max_cached = 10'000;
  /// Seconds for which a name that does not exist is believed not to.
  std::uint32_t negative_ttl = 10;
};

/// Names are labels with dots between them, at most 8. The last one is a petname, or a key in its
/// 52 digits of base32. Each label before it is one that the key behind it gave: in `sensor.alice`
/// the key of alice signed who `sensor` is.
///
/// What was found is kept for the least ttl on the way, and never past the first expiry; a change
/// of directory or petnames is seen a second later at the latest. Thread safety: any number of
/// threads.
class Resolver {
 public:
  /// Directory and petnames must outlive it.
  static std::unique_ptr<Resolver> Create(Directory* directory, const Petnames* petnames,
                                          const ResolverOptions& options = {});
  virtual ~Resolver() = default;

  /// Errors: kInvalidArgument for what is no name; kNotFound with the label that nobody knows;
  /// kDeadlineExceeded, kAborted and kPermissionDenied as of Directory::Get.
  /// Blocks: on the directory, and on `fetch`, where it is not kept.
  virtual absl::StatusOr<std::shared_ptr<const Resolution>> Resolve(std::string_view name) = 0;

  /// The same with what else is known of the name. With `kept_alone` it never blocks, and is empty
  /// for what is not kept.
  virtual std::optional<NameState> Look(std::string_view name, bool kept_alone) = 0;

  /// Waits until `name` means something else than `known` (null: nothing), and returns that, or the
  /// error that is now its meaning. Looks ten times a second, on the calling thread.
  /// Errors: kCancelled after a stop, kDeadlineExceeded after `limit` without a change.
  virtual absl::StatusOr<std::shared_ptr<const Resolution>> WaitForChange(
      std::string_view name, const std::shared_ptr<const Resolution>& known,
      std::chrono::milliseconds limit, std::stop_token stop = {}) = 0;
};

}  // namespace waxvm

#endif  // WAXVM_RESOLVER_H_
