// SPDX-License-Identifier: Apache-2.0
// What a snapshot keeps of threads, of who waits on which futex, and of timers.
#include <algorithm>
#include <utility>

#include "src/base/status.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/process_image.h"
#include "src/linux_abi/thread.h"
#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {
namespace {

using std::chrono::nanoseconds;

// Deadlines are kept as what was left of them, since a clone's clock is another one.
std::optional<std::int64_t> LeftOf(std::optional<nanoseconds> deadline, nanoseconds now) {
  if (!deadline) return std::nullopt;
  return (*deadline - now).count();
}

// Far enough away for anybody, and clear of what overflows.
constexpr nanoseconds kFar = std::chrono::hours(24 * 365 * 100);

std::optional<nanoseconds> DeadlineIn(std::optional<std::int64_t> left, nanoseconds now) {
  if (!left) return std::nullopt;
  return now + std::clamp(nanoseconds(*left), -kFar, kFar);
}

}  // namespace

absl::StatusOr<ThreadsImage> Scheduler::TakeImage(KeepFile keep_file) const {
  ThreadsImage image{.live = live_->id, .next_id = next_id_};
  const nanoseconds now = process_.host().Now();
  for (const auto& thread : threads_) {
    ThreadImage& kept = image.threads.emplace_back();
    kept.settings = *thread;
    kept.id = thread->id;
    kept.saved_mask = thread->saved_mask;
    kept.pending = thread->pending.All();
    if (thread.get() == live_) continue;
    kept.registers = thread->registers;
    kept.extended = std::make_shared<const ExtendedState>(*thread->extended);
    kept.unsettled = thread->unsettled;
    const PendingCall& call = thread->call;
    // Of a call that is over, what a restart of it needs.
    kept.call = CallImage{.number = call.number,
                          .arguments = call.arguments,
                          .progress = call.progress,
                          .left = LeftOf(call.deadline, now),
                          .woken = call.woken};
    for (std::size_t i = 0; i < call.used_count; ++i) {
      CallImage::Used used{.number = call.used[i].number};
      if (call.used[i].file != nullptr) {
        WAXVM_ASSIGN_OR_RETURN(used.file, keep_file(call.used[i].file));
      }
      kept.call->used.push_back(used);
    }
  }
  for (const Thread* thread : runnable_) image.runnable.push_back(thread->id);
  for (const Thread* thread : sleepers_) image.sleepers.push_back(thread->id);
  image.waiters = process_.futexes().TakeImage();
  return image;
}

bool Scheduler::LoadImage(const ThreadsImage& image,
                          std::span<const std::shared_ptr<OpenFile>> files) {
  const nanoseconds now = process_.host().Now();
  threads_.clear();
  runnable_.clear();
  sleepers_.clear();
  for (const ThreadImage& kept : image.threads) {
    auto thread = std::make_unique<Thread>(kept.id);
    static_cast<ThreadSettings&>(*thread) = kept.settings;
    thread->saved_mask = kept.saved_mask;
    for (const siginfo_t& info : kept.pending)
      if (!thread->pending.Add(info, process_.account())) return false;
    if (!threads_.empty() && !thread->charge.Resize(process_.account(), kThreadBytes)) return false;
    if (kept.id != image.live) {
      thread->registers = kept.registers;
      thread->extended = std::make_unique<ExtendedState>(*kept.extended);
      thread->unsettled = kept.unsettled;
    }
    if (kept.call) {
      PendingCall& call = thread->call;
      call.number = kept.call->number;
      call.arguments = kept.call->arguments;
      call.progress = kept.call->progress;
      call.deadline = DeadlineIn(kept.call->left, now);
      call.woken = kept.call->woken;
      for (const CallImage::Used& used : kept.call->used)
        call.used[call.used_count++] = {.number = used.number,
                                        .file = used.file == kNoIndex ? nullptr : files[used.file]};
    }
    threads_.push_back(std::move(thread));
  }
  live_ = current_ = Find(image.live);
  for (const std::int32_t id : image.runnable) runnable_.push_back(Find(id));
  for (const std::int32_t id : image.sleepers) {
    Thread* thread = Find(id);
    thread->asleep = true;
    // What it waits for is found out by its handler, which is called once more.
    thread->call.again = true;
    sleepers_.push_back(thread);
  }
  next_id_ = image.next_id;
  for (const FutexWaiter& waiter : image.waiters)
    process_.futexes().Add(waiter.address, *Find(waiter.thread), waiter.bitset, waiter.inherits);
  return true;
}

void Scheduler::ForgetPast(const ProcessImage& image) {
  slice_end_.reset();
  in_vain_ = false;
  // Whoever sleeps looks again, and whatever was due still is.
  changed_ = image.threads.threads.size() > 1 || image.keeps_time || !image.pending.empty() ||
             !image.threads.threads.front().pending.empty();
}

std::vector<FutexWaiter> FutexTable::TakeImage() const {
  std::vector<FutexWaiter> image;
  for (const auto& [address, queue] : waiters_)
    for (const Waiter& waiter : queue)
      image.push_back({.address = address,
                       .thread = waiter.thread->id,
                       .bitset = waiter.bitset,
                       .inherits = waiter.inherits});
  return image;
}

TimersImage Timers::TakeImage() const {
  const auto keep = [this](const Timer& timer) {
    return TimerImage{.id = timer.id,
                      .cpu_clock = timer.clock == Clock::kCpu,
                      .guest_clock = timer.guest_clock,
                      .signal = timer.notification.signal,
                      .thread = timer.notification.thread,
                      .value = timer.notification.value,
                      .code = timer.code,
                      .left = LeftOf(timer.end, Now(timer.clock)),
                      .interval = timer.interval.count(),
                      .set_to = timer.set_to.count(),
                      .overrun = timer.overrun,
                      .last_overrun = timer.last_overrun};
  };
  TimersImage image;
  for (const auto& [id, timer] : timers_) image.created.push_back(keep(timer));
  for (std::size_t i = 0; i < intervals_.size(); ++i) image.intervals[i] = keep(intervals_[i]);
  return image;
}

void Timers::LoadImage(const TimersImage& image) {
  const auto restore = [this](const TimerImage& kept) {
    Timer timer;
    timer.id = kept.id;
    timer.clock = kept.cpu_clock ? Clock::kCpu : Clock::kMonotonic;
    timer.guest_clock = kept.guest_clock;
    timer.notification = {.signal = kept.signal, .thread = kept.thread, .value = kept.value};
    timer.code = kept.code;
    timer.end = DeadlineIn(kept.left, Now(timer.clock));
    timer.interval = nanoseconds(kept.interval);
    timer.set_to = nanoseconds(kept.set_to);
    timer.overrun = kept.overrun;
    timer.last_overrun = kept.last_overrun;
    return timer;
  };
  timers_.clear();
  for (const TimerImage& kept : image.created) timers_.emplace(kept.id, restore(kept));
  for (std::size_t i = 0; i < intervals_.size(); ++i) intervals_[i] = restore(image.intervals[i]);
}

}  // namespace waxvm::linux_abi
