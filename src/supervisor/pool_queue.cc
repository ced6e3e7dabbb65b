// SPDX-License-Identifier: Apache-2.0
// Whose turn it is to have one of the instances of a pool.
#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "src/base/status.h"
#include "src/supervisor/pool_state.h"

namespace waxvm {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// A host that has no memory or descriptors left is not asked again for every call.
constexpr milliseconds kFirstRetry{10};
constexpr int kMaxDoublings = 7;  // to 1.28 s

nanoseconds RetryAfter(int failures) {
  return kFirstRetry * (1 << std::min(failures - 1, kMaxDoublings));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Session>> Pool::State::Acquire(
    bool nested, std::optional<Clock::time_point> deadline, const std::stop_token& stop) {
  Waiter waiter;
  std::optional<Grant> grant;
  {
    const MutexLock lock(mutex_);
    if (closing_) return absl::CancelledError("the pool is being closed");
    if (ready_.empty()) WAXVM_RETURN_IF_ERROR(WhyNotNow());
    if (queue_.empty()) grant = TryTake();
    if (!grant) {
      if (nested)
        return absl::ResourceExhaustedError(absl::StrFormat(
            "all %d instances of the pool are in use, and a call from a host function that a call "
            "of the pool runs does not wait for one",
            options_.max_instances));
      if (queue_.size() >= options_.queue_limit)
        return absl::ResourceExhaustedError(
            absl::StrFormat("all %d instances of the pool are in use, and %d calls wait for one "
                            "already (queue_limit)",
                            options_.max_instances, queue_.size()));
      queue_.push_back(&waiter);
      waiting_ = queue_.size();
      ServeQueue();
    }
  }
  if (!grant) {
    WAXVM_ASSIGN_OR_RETURN(grant, Wait(waiter, deadline, stop));
  }
  return Redeem(*std::move(grant));
}

absl::StatusOr<Pool::State::Grant> Pool::State::Wait(Waiter& waiter,
                                                     std::optional<Clock::time_point> deadline,
                                                     const std::stop_token& stop) {
  // Outside the lock, which it takes.
  const std::stop_callback cancel(stop, [this, &waiter] {
    const MutexLock lock(mutex_);
    waiter.cancelled = true;
    waiter.changed.NotifyAll();
  });
  const MutexLock lock(mutex_);
  while (!waiter.decided()) {
    if (!deadline) {
      waiter.changed.Wait(mutex_);
    } else if (!waiter.changed.WaitUntil(mutex_, *deadline)) {
      break;
    }
  }
  // Who has got it uses it, whatever else has happened: Session looks at token and limit again.
  if (waiter.grant) return *std::move(waiter.grant);
  std::erase(queue_, &waiter);
  waiting_ = queue_.size();
  if (!waiter.refusal.ok()) return waiter.refusal;
  if (waiter.cancelled)
    return absl::CancelledError("the call was cancelled while it waited for an instance");
  return absl::DeadlineExceededError(absl::StrFormat(
      "the wall time limit of the call passed while all %d instances of the pool were in use",
      options_.max_instances));
}

absl::StatusOr<std::unique_ptr<Session>> Pool::State::Redeem(Grant grant) {
  if (grant.ready != nullptr) return std::move(grant.ready);
  grant.old.reset();
  {
    const MutexLock lock(mutex_);
    if (absl::Status status = WhyNotNow(); !status.ok()) {
      --alive_;
      ServeQueue();
      return status;
    }
  }
  absl::Cleanup place = [this] {
    const MutexLock lock(mutex_);
    --alive_;
    ServeQueue();
  };
  absl::StatusOr<std::unique_ptr<Session>> clone = snapshot_.Clone();
  std::move(place).Cancel();
  const MutexLock lock(mutex_);
  if (!clone.ok()) return GiveUp(clone.status());
  ++created_;
  failures_ = 0;
  return clone;
}

std::optional<Pool::State::Grant> Pool::State::TryTake() {
  Grant grant;
  if (!ready_.empty()) {
    grant.ready = std::move(ready_.back());
    ready_.pop_back();
    WakeKeeper();
    return grant;
  }
  if (alive_ < options_.max_instances) {
    ++alive_;
    return grant;
  }
  if (!retired_.empty()) {
    grant.old = std::move(retired_.back());
    retired_.pop_back();
    return grant;
  }
  grant.old = TakeFromAnyShelf();
  if (grant.old == nullptr) return std::nullopt;
  return grant;
}

std::unique_ptr<Session> Pool::State::TakeFromAnyShelf() {
  TakeFromGoneThreads();
  if (!retired_.empty()) {
    std::unique_ptr<Session> session = std::move(retired_.back());
    retired_.pop_back();
    return session;
  }
  // In turn, so that no thread loses its clone more often than another.
  for (std::size_t i = 0; i < shelves_.size(); ++i) {
    PoolShelf& shelf = *shelves_[next_shelf_++ % shelves_.size()];
    const MutexLock lock(shelf.mutex);
    if (std::unique_ptr<Session> session = shelf.TakeNewest()) return session;
  }
  return nullptr;
}

void Pool::State::ServeQueue() {
  while (!queue_.empty()) {
    std::optional<Grant> grant = TryTake();
    if (!grant) break;
    Waiter& first = *queue_.front();
    queue_.pop_front();
    first.grant = std::move(grant);
    first.changed.NotifyAll();
  }
  waiting_ = queue_.size();
}

void Pool::State::Retire(std::unique_ptr<Session> session, bool lost) {
  const MutexLock lock(mutex_);
  retired_.push_back(std::move(session));
  if (lost) ++replaced_;
  ServeQueue();
  if (!retired_.empty()) WakeKeeper();
}

absl::Status Pool::State::WhyNotNow() const {
  if (failures_ == 0 || Clock::now() >= retry_at_) return absl::OkStatus();
  return failure_;
}

absl::Status Pool::State::GiveUp(const absl::Status& cause) {
  --alive_;
  const Clock::time_point now = Clock::now();
  // Those who tried at the same time count once.
  if (failures_ == 0 || now >= retry_at_) {
    ++failures_;
    retry_at_ = now + RetryAfter(failures_);
  }
  failure_ = absl::UnavailableError(
      absl::StrFormat("the pool cannot make an instance (%d failures in a row): %s", failures_,
                      ToStd(cause.message())));
  // What they wait for would have to be made.
  for (Waiter* waiter : queue_) {
    waiter->refusal = failure_;
    waiter->changed.NotifyAll();
  }
  queue_.clear();
  waiting_ = 0;
  return failure_;
}

}  // namespace waxvm
