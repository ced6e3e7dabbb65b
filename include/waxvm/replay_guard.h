// SPDX-License-Identifier: Apache-2.0
// Nobody hears the same message twice.
#ifndef WAXVM_REPLAY_GUARD_H_
#define WAXVM_REPLAY_GUARD_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "waxvm/address.h"
#include "waxvm/envelope.h"

namespace waxvm {

/// Where the memory of a guard outlives the process.
class ReplayStore {
 public:
  virtual ~ReplayStore() = default;
  /// What Save wrote last; empty where there is nothing yet. Errors: of the store.
  virtual absl::StatusOr<std::string> Load() = 0;
  /// Replaces all of it, or nothing. Blocks: on the store.
  virtual absl::Status Save(std::string_view state) = 0;
};

/// In a file of mode 0600, replaced as a whole.
std::unique_ptr<ReplayStore> NewFileReplayStore(const std::string& path);

struct ReplayOptions {
  /// Senders, each to one destination, that are remembered with a window of sequences; 250 bytes
  /// each. Above it the source with the most of them loses its oldest one.
  std::size_t max_windows = 10'000;
  /// Of this guard alone: of two that write to one store, each loses what the other one heard.
  /// Null: after a start, everything that was created before it is refused.
  ReplayStore* store = nullptr;
  /// Nobody has listened with this key before: nothing that is older can have been heard.
  bool first_start = false;
  /// Milliseconds between two writes to the store. After a crash everything that was created less
  /// than this after the last one is refused; after an orderly end nothing is.
  std::uint64_t save_every = 5'000;
  /// Milliseconds after a start of which nothing is known: what was created until then is refused
  /// too. An earlier process may have heard it from a sender whose clock is ahead; kMaxMessageSkew
  /// is sure, and keeps everybody from being heard for a minute.
  std::uint64_t start_margin = 0;
};

struct ReplayStats {
  std::size_t windows = 0;
  std::uint64_t accepted = 0;
  std::uint64_t replays = 0;  ///< refused: seen before, or too old to tell
  std::uint64_t evicted = 0;  ///< windows given up for others
};

/// Remembers for each sender and destination which of the last kReplayWindow sequences came.
///
/// A window is kept past the expiry of what is in it, as long as there is room. When it is given
/// up, the latest time of its messages stays, in a table of 16,384 times that senders share by a
/// secret hash: what a forgotten sender created before that is refused, never taken twice. Who
/// floods it from one source, with any number of keys, gives up windows of that source alone.
/// Thread safety: one thread at a time.
class ReplayGuard {
 public:
  static constexpr std::uint64_t kReplayWindow = 1'024;

  /// `now` as in OpenOptions. Errors: kDataLoss for a state that is none; those of the store.
  static absl::StatusOr<std::unique_ptr<ReplayGuard>> Create(std::uint64_t now,
                                                             const ReplayOptions& options = {});
  virtual ~ReplayGuard() = default;

  /// To be asked last, after the signature. `source` is who handed it over, as far as that cannot
  /// be made up: the host at the other end of a tunnel. Errors: kAlreadyExists for a replay;
  /// kAborted where it cannot be told from one; kUnavailable where the store fails;
  /// kFailedPrecondition in a forked child where there is a store, which is the parent's.
  virtual absl::Status Accept(const EnvelopeFields& fields, const Address& source,
                              std::uint64_t now) = 0;
  /// Writes to the store what an orderly end leaves; done by the destructor as well. The next
  /// message that is accepted writes it anew. Errors: of the store; kFailedPrecondition as above.
  virtual absl::Status Save() = 0;
  virtual ReplayStats stats() const = 0;
};

}  // namespace waxvm

#endif  // WAXVM_REPLAY_GUARD_H_
