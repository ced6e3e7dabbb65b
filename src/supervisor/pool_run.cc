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
  WAXVM_ASSIGN_OR_RETURN(Turn turn, TakeTurn(request.limits.wall_time, request.stop));
  if (turn.wall_time == request.limits.wall_time)
    return RunIn(*turn.shelf, std::move(turn.session), request);
  absl::Cleanup lost = [&] { Abandon(*turn.shelf, std::move(turn.session)); };
  RunRequest rest = request;
  rest.limits.wall_time = turn.wall_time;
  std::move(lost).Cancel();
  return RunIn(*turn.shelf, std::move(turn.session), rest);
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
