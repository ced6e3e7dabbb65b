// SPDX-License-Identifier: Apache-2.0
// The thread of the embedded store: gathers operations into commits, and answers after them.
#ifndef WAXVM_SRC_MAILBOX_WRITER_H_
#define WAXVM_SRC_MAILBOX_WRITER_H_

#include <deque>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "src/base/mutex.h"
#include "src/mailbox/engine.h"
#include "src/mailbox/operation.h"

namespace waxvm::mailbox {

/// Thread safety: any number of threads.
class Writer {
 public:
  Writer(std::unique_ptr<Engine> engine, const MailboxFileOptions& options);
  /// Does what was handed over, cancels who waits, and ends the thread.
  ~Writer();

  /// OK where it was taken: its Finish will be called. Errors: kResourceExhausted.
  absl::Status Submit(std::unique_ptr<Operation>& operation);
  absl::Status Submit(std::unique_ptr<ReceiveOperation>& operation);
  /// Somebody does not want to wait any more.
  void Wake();

 private:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Batch = std::vector<std::unique_ptr<Operation>>;
  using Receivers = std::deque<std::unique_ptr<ReceiveOperation>>;

  absl::Status Push(std::unique_ptr<Operation>& operation, bool receives);
  void Run();
  /// Waits for something to do; false at the end.
  bool Take(Batch& batch, Receivers& receivers);
  void Gather() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  TimePoint NextWake(TimePoint now) const;
  void RunBatch(Batch batch, Receivers receivers);
  absl::Status Apply(const Batch& batch, Receivers& receivers, Receivers& answered);
  absl::Status ServeWaiting(Receivers& answered);
  void EndWaits(Receivers& answered);
  std::int64_t Now() const;

  const MailboxFileOptions options_;
  const std::unique_ptr<Engine> engine_;  ///< of the thread
  /// Who waits where, in the order in which they came; of the thread.
  std::map<Engine::Place, Receivers> waiting_;
  bool serve_all_ = false;  ///< something may be there for everybody who waits; of the thread
  TimePoint paused_until_ = TimePoint::min();  ///< after a failure; of the thread
  bool broken_ = false;  ///< the file could not be read after a failure; of the thread

  Mutex mutex_;
  CondVar changed_;
  std::deque<std::unique_ptr<Operation>> queue_ ABSL_GUARDED_BY(mutex_);
  Receivers new_receivers_ ABSL_GUARDED_BY(mutex_);
  std::size_t pending_rows_ ABSL_GUARDED_BY(mutex_) = 0;
  std::size_t pending_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::size_t receivers_ ABSL_GUARDED_BY(mutex_) = 0;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;  ///< nothing is taken any more
  std::thread thread_;
};

}  // namespace waxvm::mailbox

#endif  // WAXVM_SRC_MAILBOX_WRITER_H_
