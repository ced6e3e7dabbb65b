// SPDX-License-Identifier: Apache-2.0
// The distributed directory: adverts in the Mainline DHT. In a library of its own, waxvm_dht, which
// is built where libtorrent-rasterbar is installed.
#ifndef WAXVM_DHT_H_
#define WAXVM_DHT_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "waxvm/advert.h"

namespace waxvm {

struct DhtOptions {
  /// Adverts of one network are not found in another one: its name is in what is signed.
  std::string network = "waxvm";
  /// Where to listen; port 0: any. "[::1]:0" for tests.
  std::string listen = "0.0.0.0:6881,[::]:6881";
  /// All nodes may be on one address, and nothing is rate-limited: for tests and closed networks.
  bool lab = false;
  /// Nothing is replicated by itself: what was published is put again so often, plus up to a tenth.
  std::chrono::seconds republish_every = std::chrono::hours(1);
};

/// One node of the DHT, with threads of its own (libtorrent's), which end with it.
/// Spec: BEP 5 and BEP 44: a mutable item under the author's key, its value the advert's bytes, its
/// sequence the advert's.
/// Thread safety: any number of threads.
class Dht {
 public:
  /// Errors: kInvalidArgument for a network's name above 64 bytes; kUnavailable with libtorrent's
  /// words.
  static absl::StatusOr<std::unique_ptr<Dht>> Start(const DhtOptions& options = {});
  virtual ~Dht() = default;

  /// The port that it listens on.
  virtual std::uint16_t port() const = 0;
  /// Somebody to begin with; there is nobody by default.
  virtual void AddNode(const std::string& host, std::uint16_t port) = 0;

  /// Puts an advert where it can be found, reads it back, and keeps it to be published again. The
  /// author signs once more, for the DHT. Blocks: until others have it.
  /// Errors: kUnavailable where nobody took it; kAborted where they have another one with this or a
  /// higher sequence; kDeadlineExceeded after `limit`; those of the signer.
  virtual absl::Status Publish(const Advert& advert, const Signer& author,
                               std::chrono::milliseconds limit) = 0;

  /// Bytes that somebody answered with, to be checked as any others. The first answer counts,
  /// unless a higher sequence comes within 100 ms. Fit for ResolverOptions::fetch. Errors:
  /// kNotFound; kDeadlineExceeded after `limit`.
  virtual absl::StatusOr<std::string> Fetch(const AdvertSlot& slot,
                                            std::chrono::milliseconds limit) = 0;

  /// Puts again what is due at `now` (seconds since 1970) and has not expired; to be called now and
  /// then. Returns how many. Does not wait for the others.
  virtual std::size_t Republish(std::uint64_t now) = 0;
};

}  // namespace waxvm

#endif  // WAXVM_DHT_H_
