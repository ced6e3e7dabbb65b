// SPDX-License-Identifier: Apache-2.0
// Many callers, one program, a state of its own for every call, or every run.
#ifndef WAXVM_POOL_H_
#define WAXVM_POOL_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "waxvm/session.h"

namespace waxvm {

struct PoolOptions {
  /// Clones that wait for a thread that has none yet, made in the background.
  std::size_t min_ready = 1;
  /// Clones alive at any time, whoever has them. A thread that calls keeps one for its next call,
  /// and another thread cannot use it: where more threads call than this, most calls wait and pay
  /// for a new clone.
  std::size_t max_instances = 64;
  /// Calls that wait for one of them; further ones are refused.
  std::size_t queue_limit = 1024;
  /// A clone that is not used for that long, or up to twice as long, is given back.
  std::chrono::nanoseconds idle_time = std::chrono::seconds(10);
  /// Each call finds the program as the snapshot has it. Where this is false it finds what earlier
  /// calls from its thread have left behind: faster, for a program and callers that trust one
  /// another.
  bool fresh_state = true;
};

/// What a pool has and has done.
struct PoolStats {
  std::size_t instances = 0;  ///< alive; those being made and destroyed too
  std::size_t ready = 0;      ///< for any thread
  std::size_t kept = 0;       ///< idle, each for the thread that used it last
  std::size_t in_use = 0;     ///< in a call
  std::size_t waiting = 0;    ///< calls in the queue
  std::uint64_t calls = 0;    ///< that reached an instance
  std::uint64_t created = 0;
  std::uint64_t resets = 0;
  std::uint64_t replaced = 0;  ///< lost in a call, or could not be put back
};

/// Memory of the clones of a pool that were idle when it was measured.
struct PoolMemory {
  std::size_t instances = 0;         ///< that were measured
  std::uint64_t resident_bytes = 0;  ///< shared pages count once for every clone that maps them
  std::uint64_t shared_bytes = 0;    ///< of these, with the snapshot
  std::uint64_t private_bytes = 0;   ///< of these, a clone's own
};

/// Warm clones of one snapshot. The clone that serves a call runs on the calling thread, as do the
/// host functions it calls: nothing is handed to another thread. It is put back to the snapshot
/// before Call returns, so that nothing of a call stays behind, and clones are made in the
/// background. The grants of the session that the snapshot is of, host functions and sources of
/// randomness among them, and its output writer are used from all of these threads at once; output
/// without a writer is lost.
///
/// Thread safety: everything but the destructor may be called from any thread at once. Not from
/// the destructors of thread-local objects. In a forked child process as a session.
class Pool {
 public:
  /// A pool with `options.min_ready` clones in it. Errors: kInvalidArgument for options that
  /// contradict themselves, and for runs without fresh_state; what kept a clone from being made.
  static absl::StatusOr<std::unique_ptr<Pool>> Create(Snapshot snapshot,
                                                      const PoolOptions& options = {});
  /// Blocks: until the calls that run have ended. Those that wait get kCancelled. No thread and no
  /// descriptor is left.
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// As Session::Call, in a clone of its own. Blocks: where all instances are in use, until it is
  /// this call's turn, first come, first served; the wall time limit of `options` bounds waiting
  /// and calling together. Errors: as Session::Call; after one that poisons, the pool replaces the
  /// instance. Also, before the program was called:
  /// kResourceExhausted: the queue is full; or no instance is free for a call from a host function
  ///   that a call of this pool runs, which never waits for itself;
  /// kDeadlineExceeded, kCancelled: its turn did not come in time, or it was stopped before;
  /// kUnavailable: clones cannot be made now (the message says why); tried again, ever less often.
  absl::StatusOr<std::string> Call(std::string_view function, std::string_view arguments,
                                   const CallOptions& options = {});

  /// As Session::Run, in a clone of its own of a snapshot that Snapshot::OfStart took; it is put
  /// back before Run returns. Blocks: as Call. Errors: as Session::Run, and those of Call; after a
  /// run that ended otherwise than by exiting, the pool replaces the instance.
  absl::StatusOr<RunResult> Run(const RunRequest& request = {});

  /// Gives back every idle clone but those that are ready for any thread, now.
  void Trim();

  PoolStats stats() const;

  /// Looks at the page tables of every idle clone; calls that want one of them, or a new one, wait
  /// so long. Errors: kUnimplemented where the provider does not tell.
  absl::StatusOr<PoolMemory> MeasureMemory() const;

 private:
  class State;
  explicit Pool(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace waxvm

#endif  // WAXVM_POOL_H_
