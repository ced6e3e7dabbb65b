// SPDX-License-Identifier: Apache-2.0
// What a pool does in the background, and how it begins and ends.
#include <signal.h>

#include <algorithm>
#include <utility>

#include "src/base/status.h"
#include "src/supervisor/pool_state.h"

namespace waxvm {

absl::Status Pool::State::Start() {
  for (std::size_t i = 0; i < options_.min_ready; ++i) {
    WAXVM_ASSIGN_OR_RETURN(std::unique_ptr<Session> clone, snapshot_.Clone());
    WAXVM_RETURN_IF_ERROR(clone->Prepare());
    const MutexLock lock(mutex_);
    ++alive_;
    ++created_;
    ready_.push_back(std::move(clone));
  }
  // Signals of the embedder are for threads of the embedder.
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int error = ::pthread_create(&thread, nullptr, &KeeperMain, this);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) return ErrnoStatus(error, "pthread_create");
  keeper_ = thread;
  return absl::OkStatus();
}

Pool::State::~State() {
  std::vector<std::shared_ptr<PoolShelf>> shelves;
  {
    const MutexLock lock(mutex_);
    closing_ = true;
    for (Waiter* waiter : queue_) {
      waiter->refusal = absl::CancelledError("the pool is being closed");
      waiter->changed.NotifyAll();
    }
    queue_.clear();
    waiting_ = 0;
    WakeKeeper();
    shelves = shelves_;
  }
  if (keeper_) ::pthread_join(*keeper_, nullptr);
  for (const std::shared_ptr<PoolShelf>& shelf : shelves) {
    Sessions idle;
    const MutexLock lock(shelf->mutex);
    while (shelf->busy > 0) shelf->left.Wait(shelf->mutex);
    shelf->GiveBack(shelf->idle.size(), idle);
    shelf->pool = nullptr;
  }
}

void* Pool::State::KeeperMain(void* state) {
  static_cast<State*>(state)->Keep();
  return nullptr;
}

void Pool::State::Keep() {
  for (;;) {
    Sessions old;
    {
      const MutexLock lock(mutex_);
      for (;;) {
        if (closing_) return;
        const Clock::time_point now = Clock::now();
        keeper_has_work_ = false;
        TakeFromGoneThreads();
        if (now >= next_look_) TakeUnused(now);
        old = std::exchange(retired_, {});
        if (!old.empty() || WantsClone(now)) break;
        Clock::time_point until = next_look_;
        if (failures_ > 0 && now < retry_at_) until = std::min(until, retry_at_);
        while (!keeper_has_work_ && keeper_wakes_.WaitUntil(mutex_, until)) {
        }
      }
    }
    // A clone that is ready spares somebody time; one that is gone, only memory. But a full pool
    // has room for one only when another is gone.
    MakeReady();
    Destroy(std::move(old));
  }
}

void Pool::State::WakeKeeper() {
  keeper_has_work_ = true;
  keeper_wakes_.NotifyAll();
}

void Pool::State::TakeFromGoneThreads() {
  std::erase_if(shelves_, [this](const std::shared_ptr<PoolShelf>& shelf)
                              ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
                                // The thread's own reference is never copied, so that nobody adds
                                // one to the last.
                                if (shelf.use_count() > 1) return false;
                                const MutexLock lock(shelf->mutex);
                                shelf->GiveBack(shelf->idle.size(), retired_);
                                past_calls_ += shelf->calls;
                                past_resets_ += shelf->resets;
                                return true;
                              });
}

void Pool::State::TakeUnused(Clock::time_point now) {
  for (const std::shared_ptr<PoolShelf>& shelf : shelves_) {
    const MutexLock lock(shelf->mutex);
    shelf->GiveBack(shelf->spare, retired_);
  }
  next_look_ = now + options_.idle_time;
}

bool Pool::State::WantsClone(Clock::time_point now) const {
  return ready_.size() < options_.min_ready && alive_ < options_.max_instances &&
         (failures_ == 0 || now >= retry_at_);
}

void Pool::State::Destroy(Sessions sessions) {
  for (std::unique_ptr<Session>& session : sessions) {
    session.reset();
    const MutexLock lock(mutex_);
    --alive_;
    ServeQueue();
  }
}

void Pool::State::MakeReady() {
  {
    const MutexLock lock(mutex_);
    if (!WantsClone(Clock::now())) return;
    ++alive_;
  }
  absl::StatusOr<std::unique_ptr<Session>> clone = snapshot_.Clone();
  if (clone.ok()) {
    if (absl::Status prepared = (*clone)->Prepare(); !prepared.ok()) clone = std::move(prepared);
  }
  const MutexLock lock(mutex_);
  if (!clone.ok()) {
    (void)GiveUp(clone.status());
    return;
  }
  ++created_;
  failures_ = 0;
  ready_.push_back(*std::move(clone));
  ServeQueue();
}

void Pool::State::Trim() {
  Sessions idle;
  {
    const MutexLock lock(mutex_);
    TakeFromGoneThreads();
    idle = std::exchange(retired_, {});
    for (const std::shared_ptr<PoolShelf>& shelf : shelves_) {
      const MutexLock shelf_lock(shelf->mutex);
      shelf->GiveBack(shelf->idle.size(), idle);
    }
  }
  Destroy(std::move(idle));
}

absl::StatusOr<PoolMemory> Pool::State::MeasureMemory() const {
  PoolMemory all;
  bool told = true;
  const auto add = [&](const Sessions& sessions) {
    for (const std::unique_ptr<Session>& session : sessions) {
      const std::optional<InstanceMemory> one = session->memory();
      told = told && one.has_value();
      if (!one) return;
      ++all.instances;
      all.resident_bytes += one->resident_bytes;
      all.private_bytes += one->private_bytes;
    }
  };
  // Locked all the while: no clone is used or destroyed as it is looked at.
  const MutexLock lock(mutex_);
  add(ready_);
  for (const std::shared_ptr<PoolShelf>& shelf : shelves_) {
    const MutexLock shelf_lock(shelf->mutex);
    add(shelf->idle);
  }
  if (!told)
    return absl::UnimplementedError("the provider does not tell what memory its instances take");
  all.shared_bytes = all.resident_bytes - all.private_bytes;
  return all;
}

}  // namespace waxvm
