// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_VMM_KICK_H_
#define WAXVM_SRC_VMM_KICK_H_

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "src/base/unique_fd.h"

namespace waxvm::vmm {

/// Interrupts a vCPU thread, from another thread or by a clock, without a signal handler: one
/// real-time signal stays blocked in the thread and is unblocked by KVM alone, while the guest
/// runs (KVM_SET_SIGNAL_MASK). Waiting in a system call is interrupted through an eventfd.
///
/// Thread safety: Request may be called from any thread; everything else from the vCPU thread.
class Kick {
 public:
  /// Errors: kInvalidArgument when SIGRTMIN + `signal_offset` is no real-time signal.
  static absl::StatusOr<std::unique_ptr<Kick>> Create(int signal_offset);
  ~Kick();

  using Clock = std::chrono::steady_clock;

  /// Between Enter and Leave the calling thread is the vCPU thread. The vCPU is kicked at `wall`
  /// and after `cpu` more CPU time of this thread, where given, and again every few milliseconds
  /// after that.
  absl::Status Enter(std::optional<Clock::time_point> wall,
                     std::optional<std::chrono::nanoseconds> cpu);
  void Leave();

  /// The signals that KVM_RUN must block: what the thread blocked before Enter.
  std::uint64_t run_mask() const { return run_mask_; }
  /// Takes back a kick that has been seen; call after KVM_RUN was interrupted.
  void Consume();

  /// Kicks the vCPU, now or as soon as it runs. Stays on.
  void Request();
  /// What it kicks with, for others who do.
  int signal() const { return signal_; }
  bool requested() const { return requested_.load(); }

  /// Kicks the vCPU at `when` and then every few milliseconds, on top of the rest; empty: not any
  /// more. Holds until Leave. Cheap when nothing changes.
  void InterruptAt(std::optional<Clock::time_point> when);

  /// Waits like poll(2) for `descriptors`, until `wall` of Enter at the longest. Returns the
  /// number ready, 0 after `timeout`, -EINTR after Request or at `wall`.
  int Wait(std::span<pollfd> descriptors, std::optional<std::chrono::nanoseconds> timeout);

 private:
  Kick(int signal, UniqueFd event) : signal_(signal), event_(std::move(event)) {}
  absl::Status MakeTimer(clockid_t clock, timer_t& timer);
  absl::Status StartTimer(clockid_t clock, std::chrono::nanoseconds after, timer_t& timer);

  const int signal_;
  UniqueFd event_;
  std::atomic<bool> requested_ = false;
  /// Who may be signalled, while turn_ is not kNobody: no signal may reach a thread that has left,
  /// and does not block it any more. A lock of two instructions, taken for every trip.
  enum class Turn { kNobody, kInside, kSignalling };
  std::atomic<Turn> turn_ = Turn::kNobody;
  pthread_t thread_{};
  std::uint64_t run_mask_ = 0;
  std::uint64_t outer_mask_ = 0;
  std::optional<Clock::time_point> wall_;
  std::optional<timer_t> wall_timer_;
  std::optional<timer_t> cpu_timer_;
  std::optional<timer_t> interrupt_timer_;
  std::optional<Clock::time_point> interrupt_at_;
};

}  // namespace waxvm::vmm

#endif  // WAXVM_SRC_VMM_KICK_H_
