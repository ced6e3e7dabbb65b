// SPDX-License-Identifier: Apache-2.0
// One guest process: what its system calls act on.
#ifndef WAXVM_SRC_LINUX_ABI_PROCESS_H_
#define WAXVM_SRC_LINUX_ABI_PROCESS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "src/base/memory_account.h"
#include "src/linux_abi/address_space.h"
#include "src/linux_abi/futex.h"
#include "src/linux_abi/host.h"
#include "src/linux_abi/loader.h"
#include "src/linux_abi/scheduler.h"
#include "src/linux_abi/signals.h"
#include "src/linux_abi/syscall_table.h"
#include "src/linux_abi/timers.h"
#include "src/linux_abi/wait.h"
#include "waxvm/access.h"
#include "waxvm/provider.h"

namespace waxvm::linux_abi {

class FdTable;
class FileSystem;
struct ProcessImage;
struct StartImage;

/// Why the process is over.
using Ending = std::variant<Exited, Fault, LimitReached>;

/// A Linux process seen from its kernel. Holds everything the guest can change through system
/// calls; knows nothing of virtual machines.
/// Thread safety: none; used by the instance's thread.
class Process {
 public:
  /// `spec`, `mapper`, `host` and `account` outlive the process. Loads the image, builds the
  /// stack with arguments, environment and auxiliary vector.
  /// Errors: kInvalidArgument (a dynamic executable, arguments that do not fit),
  /// kResourceExhausted (the image does not fit into the memory limit).
  static absl::StatusOr<std::unique_ptr<Process>> Create(const InstanceSpec& spec,
                                                         PageMapper& mapper, Host& host,
                                                         MemoryAccount& account,
                                                         const CpuFeatures& features);
  /// A process that is where `image` was taken, in a machine that is there as well: the same host
  /// call is pending. Errors: kResourceExhausted, kFailedPrecondition for what is not there any
  /// more.
  static absl::StatusOr<std::unique_ptr<Process>> CreateFrom(const ProcessImage& image,
                                                             const InstanceSpec& spec,
                                                             PageMapper& mapper, Host& host,
                                                             MemoryAccount& account);
  /// A process before its first instruction, in a machine that is there as well, with the arguments
  /// and the environment of `spec` on its stack. Errors: as Create.
  static absl::StatusOr<std::unique_ptr<Process>> CreateAtStart(const StartImage& image,
                                                                const InstanceSpec& spec,
                                                                PageMapper& mapper, Host& host,
                                                                MemoryAccount& account,
                                                                const CpuFeatures& features);
  ~Process();

  /// A process that was created for_runs and has not run. Errors: kFailedPrecondition with the name
  /// of a mapping that cannot be kept.
  absl::StatusOr<StartImage> TakeStartImage() const;

  /// The process while a host call is pending. Errors: kFailedPrecondition when none is, or with
  /// the name of what cannot be kept.
  absl::StatusOr<ProcessImage> TakeImage();
  /// True when something of what an image holds may have changed since CreateFrom or
  /// RestoreHostCall; then the process has to be made anew.
  bool changed() const { return changed_; }
  /// Something of that kind has changed without a call of the live thread.
  void NoteChange() { changed_ = true; }
  /// What the pending host call holds is given back; only RestoreHostCall may follow.
  void ReleaseHostCall() { host_call_charge_.Reset(); }
  /// For a process that did not change: the host call of the image is pending again.
  void RestoreHostCall(const ProcessImage& image);

  const EntryState& entry() const { return entry_; }

  /// Serves a system call of the thread that the vCPU holds. The value for its rax; or empty, where
  /// the process is over (ending()), waits for a host call (pending_host_call()), or has given the
  /// vCPU other registers, with which the guest goes on.
  std::optional<std::int64_t> Dispatch(std::uint64_t number, const SyscallArguments& arguments);

  /// The guest was interrupted: whoever is next runs.
  void Tick() { scheduler_.Reschedule(); }

  /// An instruction of the running thread has caused a signal. With a handler for it the guest goes
  /// on there; otherwise the process ends with `fault`.
  void Raise(const siginfo_t& info, const TrapState& trap, Fault fault);

  const std::optional<Ending>& ending() const { return ending_; }
  void End(Ending ending);
  /// Ends it as a signal without a handler does.
  void EndBySignal(int signal);

  /// The host call that waits for an answer, and its answer. CompleteHostCall returns the value
  /// for rax.
  bool pending_host_call() const { return pending_host_call_; }
  /// Once for each.
  HostCallRequest TakeHostCall() { return std::move(host_call_); }
  std::int64_t CompleteHostCall(const absl::StatusOr<std::string>& reply);
  void BeginHostCall(HostCallRequest request, MemoryCharge charge, std::uint64_t call_address);

  // For the system-call families.

  /// Puts the calling thread to sleep; a handler returns what this returns unless it is 0. kAsleep:
  /// the handler is called again later. 0: the timeout is over. Otherwise wait.interrupted: a
  /// signal came.
  std::int64_t Sleep(Wait wait) { return scheduler_.Sleep(std::move(wait)); }
  /// Zero when a call starts, and kept over its retries.
  std::uint64_t& call_progress() { return thread().call.progress; }
  /// Blocks other signals until the call is over and what it let through was delivered.
  void SetTemporarySignalMask(SignalSet mask);
  /// What writing to a pipe without readers does to the thread.
  void RaisePipeSignal();

  /// Other answers that no guest sees: the registers were replaced and have no result to take; the
  /// calling thread is gone.
  static constexpr std::int64_t kReplaced = kAsleep + 1;
  static constexpr std::int64_t kThreadGone = kAsleep + 2;
  /// Calls a handler for the current thread and settles what it did to memory and limits.
  std::int64_t Call(std::uint64_t number, const SyscallArguments& arguments);

  /// The calling thread.
  Thread& thread() { return scheduler_.current(); }
  Scheduler& scheduler() { return scheduler_; }
  FutexTable& futexes() { return futexes_; }
  Timers& timers() { return timers_; }
  AddressSpace& memory() { return memory_; }
  MemoryAccount& account() { return account_; }
  Host& host() { return host_; }
  AccessGate& gate() { return *spec_.gate; }
  const InstanceSpec& spec() const { return spec_; }
  SignalState& signals() { return signals_; }
  FdTable& files() { return *files_; }
  FileSystem& file_system() { return *file_system_; }

  static constexpr std::int32_t kPid =
      2;  ///< what getpid says: not 1, which programs treat specially

 private:
  Process(const InstanceSpec& spec, PageMapper& mapper, Host& host, MemoryAccount& account);
  static absl::StatusOr<std::unique_ptr<Process>> CreateEmpty(const InstanceSpec& spec,
                                                              PageMapper& mapper, Host& host,
                                                              MemoryAccount& account);

  const InstanceSpec& spec_;
  Host& host_;
  MemoryAccount& account_;
  AddressSpace memory_;
  std::unique_ptr<FileSystem> file_system_;
  std::unique_ptr<FdTable> files_;
  EntryState entry_;
  std::optional<Ending> ending_;
  bool pending_host_call_ = false;
  HostCallRequest host_call_;
  MemoryCharge host_call_charge_;
  std::uint64_t host_call_address_ = 0;
  bool changed_ = false;
  SignalState signals_;
  FutexTable futexes_;
  Timers timers_;
  Scheduler scheduler_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_PROCESS_H_
