// SPDX-License-Identifier: Apache-2.0
#include "src/vmm/kick.h"

#include <sched.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "src/base/status.h"

namespace waxvm::vmm {
namespace {

using std::chrono::nanoseconds;

// A kick that arrives just before the deadline it stands for is repeated soon.
constexpr nanoseconds kRepeat = std::chrono::milliseconds(5);

timespec ToTimespec(nanoseconds time) {
  return {.tv_sec = static_cast<time_t>(time.count() / 1'000'000'000),
          .tv_nsec = static_cast<long>(time.count() % 1'000'000'000)};
}

// The kernel's signal set is 64 bits; the C library's own way there takes longer.
constexpr std::uint64_t Bit(int signal) { return std::uint64_t{1} << (signal - 1); }

int SetMask(int how, const std::uint64_t* set, std::uint64_t* old) {
  return static_cast<int>(::syscall(SYS_rt_sigprocmask, how, set, old, sizeof *set));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kick>> Kick::Create(int signal_offset) {
  const int signal = SIGRTMIN + signal_offset;
  if (signal_offset < 0 || signal > SIGRTMAX)
    return InvalidArgument("kick_signal_offset is %d; 0 to %d are real-time signals", signal_offset,
                           SIGRTMAX - SIGRTMIN);
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return ErrnoStatus(errno, "eventfd");
  return std::unique_ptr<Kick>(new Kick(signal, std::move(event)));
}

Kick::~Kick() = default;

absl::Status Kick::MakeTimer(clockid_t clock, timer_t& timer) {
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = signal_;
  event._sigev_un._tid = static_cast<pid_t>(::syscall(SYS_gettid));
  return ::timer_create(clock, &event, &timer) == 0 ? absl::OkStatus()
                                                    : ErrnoStatus(errno, "timer_create");
}

absl::Status Kick::StartTimer(clockid_t clock, nanoseconds after, timer_t& timer) {
  WAXVM_RETURN_IF_ERROR(MakeTimer(clock, timer));
  itimerspec when{};
  when.it_value = ToTimespec(std::max(after, nanoseconds(1)));
  when.it_interval = ToTimespec(kRepeat);
  if (::timer_settime(timer, 0, &when, nullptr) != 0) {
    const absl::Status status = ErrnoStatus(errno, "timer_settime");
    ::timer_delete(timer);
    return status;
  }
  return absl::OkStatus();
}

absl::Status Kick::Enter(std::optional<Clock::time_point> wall, std::optional<nanoseconds> cpu) {
  const std::uint64_t mine = Bit(signal_);
  if (SetMask(SIG_BLOCK, &mine, &outer_mask_) != 0) return ErrnoStatus(errno, "sigprocmask");
  run_mask_ = outer_mask_ & ~mine;
  thread_ = ::pthread_self();
  turn_.store(Turn::kInside);
  wall_ = wall;
  timer_t timer;
  if (wall) {
    absl::Status status = StartTimer(CLOCK_MONOTONIC, *wall - Clock::now(), timer);
    if (!status.ok()) return Leave(), status;
    wall_timer_ = timer;
  }
  if (cpu) {
    absl::Status status = StartTimer(CLOCK_THREAD_CPUTIME_ID, *cpu, timer);
    if (!status.ok()) return Leave(), status;
    cpu_timer_ = timer;
  }
  return absl::OkStatus();
}

void Kick::Leave() {
  const bool had_timer = wall_timer_ || cpu_timer_ || interrupt_timer_;
  for (std::optional<timer_t>* timer : {&wall_timer_, &cpu_timer_, &interrupt_timer_}) {
    if (*timer) ::timer_delete(**timer);
    timer->reset();
  }
  interrupt_at_.reset();
  // Whoever signals is about to be done.
  for (Turn inside = Turn::kInside;
       !turn_.compare_exchange_strong(inside, Turn::kNobody) && inside == Turn::kSignalling;
       inside = Turn::kInside)
    ::sched_yield();
  // Nobody else sends the signal, and nobody can any more.
  if (had_timer || requested()) Consume();
  // A thread that blocks it anyway is spared the call.
  if ((outer_mask_ & Bit(signal_)) == 0) SetMask(SIG_SETMASK, &outer_mask_, nullptr);
}

void Kick::Consume() {
  sigset_t mine;
  sigemptyset(&mine);
  sigaddset(&mine, signal_);
  const timespec now{};
  while (::sigtimedwait(&mine, nullptr, &now) == signal_) {
  }
}

void Kick::Request() {
  requested_.store(true);
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof one);
  Turn inside = Turn::kInside;
  // Somebody else who signals does it for this request, too.
  if (!turn_.compare_exchange_strong(inside, Turn::kSignalling)) return;
  ::pthread_kill(thread_, signal_);
  turn_.store(Turn::kInside);
}

void Kick::InterruptAt(std::optional<Clock::time_point> when) {
  if (when == interrupt_at_) return;
  if (!interrupt_timer_) {
    timer_t timer;
    // Without a timer threads do not take turns, but every one still gives way when it waits.
    if (!MakeTimer(CLOCK_MONOTONIC, timer).ok()) return;
    interrupt_timer_ = timer;
  }
  interrupt_at_ = when;
  itimerspec setting{};
  if (when) {
    setting.it_value = ToTimespec(std::max(nanoseconds(when->time_since_epoch()), nanoseconds(1)));
    setting.it_interval = ToTimespec(kRepeat);
  }
  ::timer_settime(*interrupt_timer_, TIMER_ABSTIME, &setting, nullptr);
}

int Kick::Wait(std::span<pollfd> descriptors, std::optional<nanoseconds> timeout) {
  std::vector<pollfd> all(descriptors.begin(), descriptors.end());
  all.push_back({.fd = event_.get(), .events = POLLIN, .revents = 0});
  const std::optional<Clock::time_point> end =
      timeout ? std::optional(Clock::now() +
                              std::min(*timeout, nanoseconds(std::chrono::hours(24 * 365))))
              : std::nullopt;
  for (;;) {
    std::optional<Clock::time_point> until = end;
    if (wall_ && (!until || *wall_ < *until)) until = wall_;
    timespec left{};
    if (until) left = ToTimespec(std::max(nanoseconds(0), nanoseconds(*until - Clock::now())));
    const int ready = ::ppoll(all.data(), all.size(), until ? &left : nullptr, nullptr);
    if (requested() || (wall_ && Clock::now() >= *wall_)) return -EINTR;
    if (ready < 0 && errno != EINTR) return -errno;
    if (ready > 0) {
      std::copy_n(all.begin(), descriptors.size(), descriptors.begin());
      return ready;
    }
    if (end && Clock::now() >= *end) return 0;
  }
}

}  // namespace waxvm::vmm
