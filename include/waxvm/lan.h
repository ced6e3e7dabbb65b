// SPDX-License-Identifier: Apache-2.0
// Adverts between neighbours on one link, without anybody in between.
#ifndef WAXVM_LAN_H_
#define WAXVM_LAN_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/advert.h"
#include "waxvm/directory.h"

namespace waxvm {

struct LanOptions {
  /// The link, by the name of its interface: "eth0". There is no default: nobody announces himself
  /// without having said where.
  std::string interface_name = {};
  /// A group of link-local scope, which no router passes on.
  Address group = {{0xff, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77, 0x61, 0x78, 0x76}};
  std::uint16_t port = 7786;
  /// Seconds between two announcements of the same adverts.
  std::uint32_t announce_every = 60;
  /// Datagrams that are looked at in a second: of one neighbour, and of all together. Each costs
  /// two signatures to verify at most; the rest is dropped unseen.
  std::uint32_t per_neighbour = 20;
  std::uint32_t per_second = 200;
};

struct LanStats {
  std::uint64_t sent = 0;
  std::uint64_t accepted = 0;  ///< adverts that the directory took
  std::uint64_t refused = 0;   ///< were none, or broke one of the rules
  std::uint64_t dropped = 0;   ///< above a rate
};

/// Announces adverts on one link by multicast, and puts what others announce into a directory, by
/// the same rules as from anywhere else. One datagram is one advert, as it is.
/// No thread of its own: somebody calls Poll when `descriptor` is readable, and once a second.
/// Thread safety: one thread at a time.
class Lan {
 public:
  /// `directory` must outlive it. Errors: kNotFound for an interface that does not exist; those of
  /// the sockets.
  static absl::StatusOr<std::unique_ptr<Lan>> Open(Directory* directory, const LanOptions& options);
  virtual ~Lan() = default;

  /// What is announced from now on, in place of what was.
  virtual void Announce(std::vector<Advert> adverts) = 0;
  /// Reads what has come, sends what is due. `now` is in seconds since 1970. Never waits; reads no
  /// more than options.per_second datagrams in a row.
  virtual void Poll(std::uint64_t now) = 0;
  /// Readable when there is something to read.
  virtual int descriptor() const = 0;
  virtual LanStats stats() const = 0;
};

}  // namespace waxvm

#endif  // WAXVM_LAN_H_
