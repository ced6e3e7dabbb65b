// SPDX-License-Identifier: Apache-2.0
// One run of a whole program in a pool.
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "src/base/status.h"
#include "src/supervisor/pool_state.h"

namespace waxvm {

absl::StatusOr<RunResult> Pool::State::Run(const RunRequest& request) {
  if (!snapshot_.is_of_start())
    return absl::FailedPreconditionError(
        "the pool answers calls: its snapshot is not one of Snapshot::OfStart");
  PoolShelf& shelf = ShelfOfThisThread();
  std::unique_ptr<Session> session;
  bool nested = false;
  {
    const MutexLock lock(shelf.mutex);
    nested = shelf.busy++ > 0;
    session = shelf.TakeNewest();
    if (session != nullptr) ++shelf.in_use;
  }
  if (session != nullptr) return RunIn(shelf, std::move(session), request);

  // The limit bounds waiting and running together. One of 0 or less is for Session to refuse.
  const auto limit = request.limits.wall_time;
  std::optional<Clock::time_point> deadline;
  if (limit && limit->count() > 0) deadline = Clock::now() + std::min(*limit, kForEver);
  absl::Cleanup leave = [&] { Leave(shelf); };
  absl::StatusOr<std::unique_ptr<Session>> acquired = Acquire(nested, deadline, request.stop);
  if (!acquired.ok()) return std::move(acquired).status();
  std::move(leave).Cancel();
  {
    const MutexLock lock(shelf.mutex);
    ++shelf.in_use;
  }
  if (!deadline) return RunIn(shelf, *std::move(acquired), request);
  RunRequest rest = request;
  rest.limits.wall_time = *deadline - Clock::now();
  if (rest.limits.wall_time->count() > 0) return RunIn(shelf, *std::move(acquired), rest);
  PutBack(shelf, *std::move(acquired), /*called=*/false);
  return absl::DeadlineExceededError(
      "the wall time limit of the run passed while an instance was made for it");
}

absl::StatusOr<RunResult> Pool::State::RunIn(PoolShelf& shelf, std::unique_ptr<Session> session,
                                             const RunRequest& request) {
  absl::Cleanup lost = [&] { Abandon(shelf, std::move(session)); };
  absl::StatusOr<RunResult> result = session->Run(request);
  const bool usable = session->health().ok();
  std::move(lost).Cancel();
  Finish(shelf, std::move(session), usable);
  return result;
}

}  // namespace waxvm
