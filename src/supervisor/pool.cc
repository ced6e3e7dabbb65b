// SPDX-License-Identifier: Apache-2.0
// One call in a pool: the way that costs next to nothing, and the way of a thread without a clone.
#include "waxvm/pool.h"

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "src/base/status.h"
#include "src/supervisor/pool_state.h"

namespace waxvm {
namespace {

absl::Status UsedInChild() {
  return absl::FailedPreconditionError(
      "the pool was made before a fork: the child process cannot use it");
}

PoolOptions Bounded(PoolOptions options, std::chrono::nanoseconds for_ever) {
  options.idle_time = std::min(options.idle_time, for_ever);
  return options;
}

}  // namespace

Pool::State::State(Snapshot snapshot, const PoolOptions& options)
    : snapshot_(std::move(snapshot)),
      options_(Bounded(options, kForEver)),
      next_look_(Clock::now() + options_.idle_time) {}

// Which shelf is this thread's is the thread's to know: it is looked up without a lock, and its
// entry goes when the thread goes. An identity, not a state that pools would share.
PoolShelf& Pool::State::ShelfOfThisThread() {
  thread_local std::vector<std::shared_ptr<PoolShelf>> shelves;
  for (const std::shared_ptr<PoolShelf>& shelf : shelves)
    if (shelf->pool.load(std::memory_order_relaxed) == this) return *shelf;
  std::erase_if(shelves, [](const auto& shelf) { return shelf->pool.load() == nullptr; });
  shelves.push_back(std::make_shared<PoolShelf>(this));
  const MutexLock lock(mutex_);
  shelves_.push_back(shelves.back());
  // Where threads come, others may have gone.
  WakeKeeper();
  return *shelves.back();
}

absl::StatusOr<Pool::State::Turn> Pool::State::TakeTurn(
    std::optional<std::chrono::nanoseconds> wall_time, const std::stop_token& stop) {
  PoolShelf& shelf = ShelfOfThisThread();
  Turn turn{.shelf = &shelf, .session = nullptr, .wall_time = wall_time};
  bool nested = false;
  {
    const MutexLock lock(shelf.mutex);
    nested = shelf.busy++ > 0;
    turn.session = shelf.TakeNewest();
    if (turn.session != nullptr) ++shelf.in_use;
  }
  if (turn.session != nullptr) return turn;

  // A limit of 0 or less is for Session to refuse.
  std::optional<Clock::time_point> deadline;
  if (wall_time && wall_time->count() > 0) deadline = Clock::now() + std::min(*wall_time, kForEver);
  absl::Cleanup leave = [&] { Leave(shelf); };
  WAXVM_ASSIGN_OR_RETURN(turn.session, Acquire(nested, deadline, stop));
  std::move(leave).Cancel();
  {
    const MutexLock lock(shelf.mutex);
    ++shelf.in_use;
  }
  if (!deadline) return turn;
  turn.wall_time = *deadline - Clock::now();
  if (turn.wall_time->count() > 0) return turn;
  PutBack(shelf, std::move(turn.session), /*called=*/false);
  return absl::DeadlineExceededError("the wall time limit passed while an instance was made");
}

absl::StatusOr<std::string> Pool::State::Call(std::string_view function, std::string_view arguments,
                                              const CallOptions& options) {
  if (snapshot_.is_of_start())
    return absl::FailedPreconditionError(
        "the pool runs a program: its snapshot is one of Snapshot::OfStart");
  WAXVM_ASSIGN_OR_RETURN(Turn turn, TakeTurn(options.limits.wall_time, options.stop));
  if (turn.wall_time == options.limits.wall_time)
    return CallIn(*turn.shelf, std::move(turn.session), function, arguments, options);
  CallOptions rest = options;
  rest.limits.wall_time = turn.wall_time;
  return CallIn(*turn.shelf, std::move(turn.session), function, arguments, rest);
}

// The clone is put back here, before the caller has its result. Another thread cannot do it: a
// virtual CPU that changes threads costs a grace period of the whole kernel before Linux 6.13, two
// wake-ups cost more than a reset, and until it had come round the next call would have to make a
// clone. Doing it as the next call begins would cost that call the same time and leave what this
// one dealt with in memory meanwhile. Making clones and destroying them, which costs ten to a
// hundred times as much, is the keeper's.
absl::StatusOr<std::string> Pool::State::CallIn(PoolShelf& shelf, std::unique_ptr<Session> session,
                                                std::string_view function,
                                                std::string_view arguments,
                                                const CallOptions& options) {
  absl::Cleanup lost = [&] { Abandon(shelf, std::move(session)); };
  absl::StatusOr<std::string> result = session->Call(function, arguments, options);
  bool usable = result.ok() || session->health().ok();
  if (usable && options_.fresh_state) usable = session->Reset().ok();
  if (usable && !options_.fresh_state) {
    // Collected, and nobody can ask for it.
    session->TakeOutput();
    session->TakeErrorOutput();
  }
  std::move(lost).Cancel();
  Finish(shelf, std::move(session), usable);
  return result;
}

void Pool::State::Finish(PoolShelf& shelf, std::unique_ptr<Session> session, bool usable) {
  if (usable) {
    PutBack(shelf, std::move(session), /*called=*/true);
    return;
  }
  absl::Cleanup lost = [&] { Abandon(shelf, std::move(session)); };
  Retire(std::move(session), true);
  std::move(lost).Cancel();
  {
    const MutexLock lock(shelf.mutex);
    ++shelf.calls;
    --shelf.in_use;
  }
  Leave(shelf);
}

void Pool::State::PutBack(PoolShelf& shelf, std::unique_ptr<Session> session, bool called) {
  absl::Cleanup lost = [&] { Abandon(shelf, std::move(session)); };
  const auto count = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(shelf.mutex) {
    --shelf.in_use;
    if (called) ++shelf.calls;
    if (called && options_.fresh_state) ++shelf.resets;
  };
  {
    const MutexLock lock(shelf.mutex);
    // Who begins to wait announces it first and looks at the shelves then. Under this lock either
    // it is seen here, or the clone is seen there.
    if (waiting_.load() == 0) {
      shelf.idle.push_back(std::move(session));
      std::move(lost).Cancel();
      count();
      if (--shelf.busy == 0) shelf.left.NotifyAll();
      return;
    }
  }
  Retire(std::move(session), false);
  std::move(lost).Cancel();
  {
    const MutexLock lock(shelf.mutex);
    count();
  }
  Leave(shelf);
}

void Pool::State::Abandon(PoolShelf& shelf, std::unique_ptr<Session> session) {
  session.reset();
  {
    const MutexLock lock(mutex_);
    --alive_;
    ++replaced_;
    ServeQueue();
    WakeKeeper();
  }
  {
    const MutexLock lock(shelf.mutex);
    --shelf.in_use;
  }
  Leave(shelf);
}

// The last thing of a call: the pool may be gone afterwards.
void Pool::State::Leave(PoolShelf& shelf) {
  const MutexLock lock(shelf.mutex);
  if (--shelf.busy == 0) shelf.left.NotifyAll();
}

PoolStats Pool::State::stats() const {
  const MutexLock lock(mutex_);
  PoolStats stats{.instances = alive_,
                  .ready = ready_.size(),
                  .waiting = queue_.size(),
                  .calls = past_calls_,
                  .created = created_,
                  .resets = past_resets_,
                  .replaced = replaced_};
  for (const std::shared_ptr<PoolShelf>& shelf : shelves_) {
    const MutexLock shelf_lock(shelf->mutex);
    stats.kept += shelf->idle.size();
    stats.in_use += shelf->in_use;
    stats.calls += shelf->calls;
    stats.resets += shelf->resets;
  }
  return stats;
}

absl::StatusOr<std::unique_ptr<Pool>> Pool::Create(Snapshot snapshot, const PoolOptions& options) {
  if (options.max_instances == 0)
    return InvalidArgument("a pool with max_instances 0 could serve no call");
  if (options.min_ready > options.max_instances)
    return InvalidArgument("min_ready is %d, at most max_instances, which is %d", options.min_ready,
                           options.max_instances);
  if (options.idle_time.count() <= 0)
    return InvalidArgument("idle_time is %d ns; it must be more than 0", options.idle_time.count());
  if (snapshot.is_of_start() && !options.fresh_state)
    return InvalidArgument("every run of a program has a fresh state; fresh_state cannot be off");
  auto state = std::make_unique<State>(std::move(snapshot), options);
  WAXVM_RETURN_IF_ERROR(state->Start());
  return std::unique_ptr<Pool>(new Pool(std::move(state)));
}

Pool::Pool(std::unique_ptr<State> state) : state_(std::move(state)) {}

Pool::~Pool() {
  // In a forked child everything but memory is the parent's.
  if (state_->InChild()) static_cast<void>(state_.release());
}

absl::StatusOr<std::string> Pool::Call(std::string_view function, std::string_view arguments,
                                       const CallOptions& options) {
  if (state_->InChild()) return UsedInChild();
  return state_->Call(function, arguments, options);
}

absl::StatusOr<RunResult> Pool::Run(const RunRequest& request) {
  if (state_->InChild()) return UsedInChild();
  return state_->Run(request);
}

void Pool::Trim() {
  if (!state_->InChild()) state_->Trim();
}

PoolStats Pool::stats() const { return state_->InChild() ? PoolStats() : state_->stats(); }

absl::StatusOr<PoolMemory> Pool::MeasureMemory() const {
  if (state_->InChild()) return UsedInChild();
  return state_->MeasureMemory();
}

}  // namespace waxvm
