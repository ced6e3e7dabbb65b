// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_SCHEDULER_H_
#define WAXVM_SRC_LINUX_ABI_SCHEDULER_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "src/linux_abi/errno_or.h"
#include "src/linux_abi/thread.h"
#include "waxvm/limits.h"

namespace waxvm::linux_abi {

struct ProcessImage;
struct ThreadsImage;

/// How many threads a program may have at once.
inline std::uint64_t MaxThreads(const Limits& limits) { return limits.processes.value_or(256); }

/// The threads of a process and the one vCPU they share: round robin, in slices. A thread that
/// cannot go on sleeps: its system call is tried again when what it waits for may have happened,
/// so no handler ever holds the vCPU, and a thread is nothing but data.
///
/// Two threads matter at any moment: the live one, whose registers the vCPU holds, and the current
/// one, for which a handler runs (a sleeping thread's call is retried without making it live).
/// Thread safety: none; used by the instance's thread.
class Scheduler {
 public:
  /// How long a thread runs while others could. A switch costs two to three exits' worth, so this
  /// keeps its share under two percent.
  static constexpr std::chrono::milliseconds kSlice{5};

  explicit Scheduler(Process& process);
  ~Scheduler();

  Thread& current() { return *current_; }
  const std::vector<std::unique_ptr<Thread>>& threads() const { return threads_; }
  Thread* Find(std::int32_t id);

  /// The threads while the live one is in a host call. `keep_file` gives the index of an open file
  /// that a sleeping thread uses. Errors: those of `keep_file`.
  using KeepFile = absl::FunctionRef<absl::StatusOr<std::uint32_t>(std::shared_ptr<OpenFile>)>;
  absl::StatusOr<ThreadsImage> TakeImage(KeepFile keep_file) const;
  /// Replaces all threads by those of an image that was checked. False when memory is refused.
  bool LoadImage(const ThreadsImage& image, std::span<const std::shared_ptr<OpenFile>> files);

  /// A new thread, able to run, with `registers` and the current one's vector registers.
  /// Errors: EAGAIN (the limit `processes`, recorded), ENOMEM.
  ErrnoOr<Thread*> Create(const CpuRegisters& registers);
  /// Takes the current thread away, which must be the live one.
  void RemoveCurrent();

  // For handlers: what Process says of them.
  std::int64_t Sleep(Wait wait);
  /// Lets a sleeping thread try again.
  void WakeUp(Thread& thread);
  /// The current thread has run long enough.
  void Yield() { slice_end_ = std::chrono::nanoseconds(0); }
  /// A signal may have to be delivered, or the current thread changed.
  void NoteChange() { changed_ = true; }

  /// Serves a call of the live thread. Its result where nothing else happened; empty where the
  /// process is over or waits for a host call, or the vCPU has been given other registers.
  std::optional<std::int64_t> Serve(std::uint64_t number, const SyscallArguments& arguments);

  /// Looks at clocks, files and signals and lets whoever is next run: after an interruption or a
  /// fault of the live thread. Waits on the host while nobody can run.
  void Reschedule();

  /// Before the vCPU runs again after a time in which nobody looked: threads take turns and timers
  /// run out as before.
  void Rearm();
  /// What is left of turns that were taken is forgotten, for threads that are those of `image`.
  void ForgetPast(const ProcessImage& image);

  /// CPU time of a thread.
  std::chrono::nanoseconds CpuTime(const Thread& thread) const;

 private:
  /// Calls the current thread's handler. Adds its result to the thread unless it sleeps on.
  void Try(Thread& thread);
  /// Retries the calls of sleeping threads that have a reason to.
  void TryDue(std::chrono::nanoseconds now);
  Wake ReasonToWake(const Thread& thread, std::chrono::nanoseconds now) const;
  /// Waits on the host until a sleeper may have a reason. False when the run is being ended.
  bool Idle(std::chrono::nanoseconds now);
  /// When the guest has to be interrupted for somebody else's sake.
  void ArmInterrupt(std::chrono::nanoseconds now);
  std::optional<std::chrono::nanoseconds> NextEvent() const;
  /// True where somebody sleeps for a file that only the host knows to be ready.
  bool WatchesHost() const;
  /// Makes `thread` live, with its signals delivered and its result in place.
  void Enter(Thread& thread, std::chrono::nanoseconds now);
  void SaveLive();
  /// Runs handlers of pending signals; true when `registers` were changed for one.
  bool DeliverSignals(Thread& thread, CpuRegisters& registers, bool& loaded);
  void AbortRestartableSequence(Thread& thread, CpuRegisters& registers);
  bool over() const;

  Process& process_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::deque<Thread*> runnable_;   ///< but for the live one
  std::vector<Thread*> sleepers_;  ///< in the order they went to sleep
  Thread* live_ = nullptr;
  Thread* current_ = nullptr;
  std::optional<std::chrono::nanoseconds> slice_end_;  ///< while others could run
  std::chrono::nanoseconds live_from_{0};              ///< when live_ became so
  std::chrono::nanoseconds live_since_{0};  ///< CPU time of the machine when live_ became so
  std::int32_t next_id_;
  bool changed_ = false;
  bool in_vain_ = false;  ///< the last wait on the host gave nobody a reason
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_SCHEDULER_H_
