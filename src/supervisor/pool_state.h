// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_SUPERVISOR_POOL_STATE_H_
#define WAXVM_SRC_SUPERVISOR_POOL_STATE_H_

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/fork_guard.h"
#include "src/base/mutex.h"
#include "src/supervisor/pool_shelf.h"
#include "waxvm/pool.h"

namespace waxvm {

/// Every clone that is alive is in one place: on the shelf of the thread that used it, where that
/// thread takes it with two uncontended locks and nothing else; in `ready_`, not used by anybody
/// yet; in a call; being made; or in `retired_` until it has been destroyed. `alive_` counts them
/// all. What is neither on the own shelf nor ready costs a caller the making of a clone, and where
/// the pool is full a turn in the queue and the destruction of somebody else's.
///
/// Locks: `mutex_`, then that of a shelf. Clones are made and destroyed under neither.
class Pool::State {
 public:
  using Clock = std::chrono::steady_clock;
  /// Beyond it a time is for ever; points in time do not overflow.
  static constexpr std::chrono::nanoseconds kForEver = std::chrono::hours(24 * 365);

  State(Snapshot snapshot, const PoolOptions& options);
  ~State();

  /// Makes the first clones and starts the thread that makes the others.
  absl::Status Start();

  absl::StatusOr<std::string> Call(std::string_view function, std::string_view arguments,
                                   const CallOptions& options);
  absl::StatusOr<RunResult> Run(const RunRequest& request);
  /// True in a forked child, which has neither the keeper nor any lock that is in order.
  bool InChild() const { return fork_guard_.InChild(); }
  void Trim();
  PoolStats stats() const;
  absl::StatusOr<PoolMemory> MeasureMemory() const;

 private:
  using Sessions = std::vector<std::unique_ptr<Session>>;

  /// The right to one instance: a clone, or else the place for one, once `old` is destroyed.
  struct Grant {
    std::unique_ptr<Session> ready;
    std::unique_ptr<Session> old;
  };
  /// A call in the queue, on the stack of its thread.
  struct Waiter {
    std::optional<Grant> grant;
    absl::Status refusal;
    bool cancelled = false;
    CondVar changed;
    bool decided() const { return grant || !refusal.ok() || cancelled; }
  };

  // pool.cc: one call.
  PoolShelf& ShelfOfThisThread();
  /// An instance for a call or a run of this thread, and what is left of its wall time. Finish,
  /// PutBack or Abandon end it.
  struct Turn {
    PoolShelf* shelf;
    std::unique_ptr<Session> session;
    std::optional<std::chrono::nanoseconds> wall_time;
  };
  absl::StatusOr<Turn> TakeTurn(std::optional<std::chrono::nanoseconds> wall_time,
                                const std::stop_token& stop);
  absl::StatusOr<std::string> CallIn(PoolShelf& shelf, std::unique_ptr<Session> session,
                                     std::string_view function, std::string_view arguments,
                                     const CallOptions& options);
  absl::StatusOr<RunResult> RunIn(PoolShelf& shelf, std::unique_ptr<Session> session,
                                  const RunRequest& request);
  /// After a call or a run. Not `usable`: the instance is replaced.
  void Finish(PoolShelf& shelf, std::unique_ptr<Session> session, bool usable);
  void PutBack(PoolShelf& shelf, std::unique_ptr<Session> session, bool called);
  void Leave(PoolShelf& shelf);
  /// Ends a call as if its instance had been lost: an exception came out of it (std::bad_alloc; the
  /// library has none of its own).
  void Abandon(PoolShelf& shelf, std::unique_ptr<Session> session);

  // pool_queue.cc: whose turn it is.
  absl::StatusOr<std::unique_ptr<Session>> Acquire(bool nested,
                                                   std::optional<Clock::time_point> deadline,
                                                   const std::stop_token& stop);
  absl::StatusOr<Grant> Wait(Waiter& waiter, std::optional<Clock::time_point> deadline,
                             const std::stop_token& stop);
  absl::StatusOr<std::unique_ptr<Session>> Redeem(Grant grant);
  std::optional<Grant> TryTake() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::unique_ptr<Session> TakeFromAnyShelf() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// Gives those in front of the queue what there is.
  void ServeQueue() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// `session` will not be used again; its place is free once it is destroyed.
  void Retire(std::unique_ptr<Session> session, bool lost);
  absl::Status WhyNotNow() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// A clone could not be made, though there was a place for it.
  absl::Status GiveUp(const absl::Status& cause) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // pool_keeper.cc: what is done in the background.
  static void* KeeperMain(void* state);
  void Keep();
  void WakeKeeper() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeFromGoneThreads() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeUnused(Clock::time_point now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool WantsClone(Clock::time_point now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Destroy(Sessions sessions);
  void MakeReady();

  const Snapshot snapshot_;
  const PoolOptions options_;
  const ForkGuard fork_guard_;

  mutable Mutex mutex_;
  std::atomic<std::size_t> waiting_ = 0;  ///< queue_.size(), for those without the lock
  std::deque<Waiter*> queue_ ABSL_GUARDED_BY(mutex_);
  Sessions ready_ ABSL_GUARDED_BY(mutex_);
  Sessions retired_ ABSL_GUARDED_BY(mutex_);
  std::size_t alive_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::shared_ptr<PoolShelf>> shelves_ ABSL_GUARDED_BY(mutex_);
  std::size_t next_shelf_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;

  absl::Status failure_ ABSL_GUARDED_BY(mutex_);  ///< why the last clone could not be made
  int failures_ ABSL_GUARDED_BY(mutex_) = 0;      ///< in a row
  Clock::time_point retry_at_ ABSL_GUARDED_BY(mutex_);

  std::uint64_t created_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t replaced_ ABSL_GUARDED_BY(mutex_) = 0;
  /// Of threads that have ended.
  std::uint64_t past_calls_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t past_resets_ ABSL_GUARDED_BY(mutex_) = 0;

  std::optional<pthread_t> keeper_;
  CondVar keeper_wakes_;
  bool keeper_has_work_ ABSL_GUARDED_BY(mutex_) = false;
  Clock::time_point next_look_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace waxvm

#endif  // WAXVM_SRC_SUPERVISOR_POOL_STATE_H_
