// SPDX-License-Identifier: Apache-2.0
#include "src/mailbox/writer.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "src/base/deadline.h"
#include "src/base/status.h"
#include "src/mailbox/checks.h"

namespace waxvm::mailbox {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kMaxGather{1};
/// With somebody waiting: so soon a clock that was set is noticed.
constexpr std::chrono::seconds kMaxSleep{1};
/// After a failure, what is due by itself is not tried again for so long: the file is read anew
/// each time, and a disk that is full is not less so at once.
constexpr std::chrono::milliseconds kPause{250};
/// What waits to be settled may be more than other things: it makes room.
constexpr std::size_t kSettleShare = 2;

absl::Status Closed() { return absl::CancelledError("the mailbox store is closed"); }

}  // namespace

Writer::Writer(std::unique_ptr<Engine> engine, const MailboxFileOptions& options)
    : options_(options), engine_(std::move(engine)), thread_([this] { Run(); }) {}

Writer::~Writer() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.NotifyAll();
  thread_.join();
}

absl::Status Writer::Submit(std::unique_ptr<Operation>& operation) {
  const std::size_t share = operation->settles() ? kSettleShare : 1;
  {
    const MutexLock lock(mutex_);
    if (closed_) return Closed();
    if (pending_rows_ + operation->rows > share * options_.max_pending)
      return absl::ResourceExhaustedError(
          absl::StrFormat("max_pending: %d operations wait for the disk, of at most %d",
                          pending_rows_, share * options_.max_pending));
    if (pending_bytes_ + operation->bytes > share * options_.max_pending_bytes)
      return absl::ResourceExhaustedError(
          absl::StrFormat("max_pending_bytes: %d bytes wait for the disk, of at most %d",
                          pending_bytes_, share * options_.max_pending_bytes));
    pending_rows_ += operation->rows;
    pending_bytes_ += operation->bytes;
    queue_.push_back(std::move(operation));
  }
  changed_.NotifyAll();
  return absl::OkStatus();
}

absl::Status Writer::Submit(std::unique_ptr<ReceiveOperation>& operation) {
  {
    const MutexLock lock(mutex_);
    if (closed_) return Closed();
    if (receivers_ >= options_.max_receivers)
      return absl::ResourceExhaustedError(
          absl::StrFormat("max_receivers: %d wait, the most there may be", receivers_));
    ++receivers_;
    new_receivers_.push_back(std::move(operation));
  }
  changed_.NotifyAll();
  return absl::OkStatus();
}

void Writer::Wake() {
  {
    const MutexLock lock(mutex_);
    woken_ = true;
  }
  changed_.NotifyAll();
}

std::int64_t Writer::Now() const {
  if (options_.clock) return options_.clock();
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void Writer::Run() {
  for (;;) {
    Batch batch;
    Receivers receivers;
    if (!Take(batch, receivers)) break;
    RunBatch(std::move(batch), std::move(receivers));
  }
  for (auto& [place, all] : waiting_)
    for (auto& receiver : all) receiver->Finish(Closed());
  waiting_.clear();  // here, where those who request a stop still find the mutex
}

bool Writer::Take(Batch& batch, Receivers& receivers) {
  const MutexLock lock(mutex_);
  for (;;) {
    if (!queue_.empty() || !new_receivers_.empty() || woken_) break;
    if (stopping_) {
      closed_ = true;  // who is told so may hand over more, which nobody would do any more
      return false;
    }
    if (waiting_.empty()) {
      changed_.Wait(mutex_);
    } else if (!changed_.WaitUntil(mutex_, NextWake(SteadyClock::now()))) {
      break;
    }
  }
  if (options_.gather.count() > 0) Gather();
  woken_ = false;
  const std::size_t most = std::clamp<std::size_t>(options_.max_batch, 1, kMaxPerCall);
  for (std::size_t rows = 0;
       !queue_.empty() && (batch.empty() || rows + queue_.front()->rows <= most);) {
    Operation& operation = *queue_.front();
    rows += operation.rows;
    pending_rows_ -= operation.rows;
    pending_bytes_ -= operation.bytes;
    batch.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  for (std::size_t rows = 0; !new_receivers_.empty() && rows < most;) {
    rows += new_receivers_.front()->rows;
    receivers.push_back(std::move(new_receivers_.front()));
    new_receivers_.pop_front();
  }
  return true;
}

/// More may come that can share the commit.
void Writer::Gather() {
  const auto until =
      SteadyClock::now() + std::min<std::chrono::microseconds>(options_.gather, kMaxGather);
  while (!stopping_ && pending_rows_ < options_.max_batch && changed_.WaitUntil(mutex_, until)) {
  }
}

Writer::TimePoint Writer::NextWake(TimePoint now) const {
  TimePoint wake = now + kMaxSleep;
  const std::int64_t due = engine_->NextDue();
  if (due != std::numeric_limits<std::int64_t>::max()) {
    const std::int64_t left = due - Now();
    wake = std::min(
        wake, now + std::clamp<std::chrono::microseconds>(std::chrono::microseconds(left),
                                                          std::chrono::microseconds(0), kMaxSleep));
  }
  for (const auto& [place, all] : waiting_)
    for (const auto& receiver : all) wake = std::min(wake, receiver->deadline());
  return std::max(wake, paused_until_);
}

void Writer::RunBatch(Batch batch, Receivers receivers) {
  Receivers answered;
  absl::Status failure = Apply(batch, receivers, answered);
  if (!failure.ok()) {
    broken_ = !engine_->Recover().ok();
    serve_all_ = true;  // whoever was to be woken by it waits on
    paused_until_ = SteadyClock::now() + kPause;
    EndWaits(answered);  // but not for longer than he wanted to
    // What makes room is not refused because something large did not fit.
    Batch settling;
    const auto others = std::stable_partition(
        batch.begin(), batch.end(), [](const auto& operation) { return !operation->settles(); });
    if (others != batch.begin() && others != batch.end() && !broken_) {
      std::move(others, batch.end(), std::back_inserter(settling));
      batch.erase(others, batch.end());
    }
    for (auto& operation : batch) operation->Finish(failure);
    for (auto& receiver : answered) receiver->Finish(failure);
    {
      const MutexLock lock(mutex_);
      receivers_ -= answered.size();
    }
    if (!settling.empty()) RunBatch(std::move(settling), std::move(receivers));
    return;
  }
  {
    const MutexLock lock(mutex_);
    receivers_ -= answered.size();
  }
  for (auto& operation : batch) operation->Finish(absl::OkStatus());
  for (auto& receiver : answered)
    receiver->Finish(receiver->stopped() ? absl::CancelledError("the wait was stopped")
                                         : absl::OkStatus());
}

/// One commit. `receivers` that have to wait are put where they wait; those who need not are in
/// `answered`, and so are, after a failure, all whose answer did not happen.
absl::Status Writer::Apply(const Batch& batch, Receivers& receivers, Receivers& answered) {
  const auto take_all = [&](const absl::Status& failure) {
    std::move(receivers.begin(), receivers.end(), std::back_inserter(answered));
    receivers.clear();
    return failure;
  };
  if (broken_) {
    if (absl::Status status = engine_->Recover(); !status.ok()) return take_all(status);
    broken_ = false;
  }
  if (absl::Status status = engine_->Begin(Now()); !status.ok()) return take_all(status);
  for (const auto& operation : batch)
    if (absl::Status status = operation->Apply(*engine_); !status.ok()) return take_all(status);
  // Those who came first are served first.
  if (absl::Status status = ServeWaiting(answered); !status.ok()) return take_all(status);
  const TimePoint now = SteadyClock::now();
  while (!receivers.empty()) {
    std::unique_ptr<ReceiveOperation> receiver = std::move(receivers.front());
    receivers.pop_front();
    // One who has given up is handed nothing.
    const absl::Status status = receiver->stopped() ? absl::OkStatus() : receiver->Apply(*engine_);
    const bool waits = status.ok() && !receiver->stopped() && receiver->waits(now);
    Receivers& to = waits ? waiting_[receiver->place()] : answered;
    to.push_back(std::move(receiver));
    if (!status.ok()) return take_all(status);
  }
  EndWaits(answered);
  return engine_->Commit();
}

absl::Status Writer::ServeWaiting(Receivers& answered) {
  std::set<Engine::Place> places = engine_->TakeWoken();
  if (std::exchange(serve_all_, false))
    for (const auto& [place, all] : waiting_) places.insert(place);
  for (const Engine::Place& place : places) {
    const auto found = waiting_.find(place);
    if (found == waiting_.end()) continue;
    Receivers& all = found->second;
    while (!all.empty()) {
      if (!all.front()->stopped()) {
        const absl::Status status = all.front()->Apply(*engine_);
        if (status.ok() && all.front()->waits(TimePoint::min())) break;
        if (!status.ok()) return status;
      }
      answered.push_back(std::move(all.front()));
      all.pop_front();
    }
    if (all.empty()) waiting_.erase(found);
  }
  return absl::OkStatus();
}

/// Whoever waited for long enough gets what he has: nothing.
void Writer::EndWaits(Receivers& answered) {
  const TimePoint now = SteadyClock::now();
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    Receivers& all = at->second;
    for (auto receiver = all.begin(); receiver != all.end();) {
      if ((*receiver)->waits(now)) {
        ++receiver;
        continue;
      }
      answered.push_back(std::move(*receiver));
      receiver = all.erase(receiver);
    }
    at = all.empty() ? waiting_.erase(at) : std::next(at);
  }
}

}  // namespace waxvm::mailbox
