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
#include "src/linux_abi/host.h"
#include "src/linux_abi/loader.h"
#include "src/linux_abi/signals.h"
#include "src/linux_abi/syscall_table.h"
#include "src/linux_abi/wait.h"
#include "waxvm/access.h"
#include "waxvm/provider.h"

namespace waxvm::linux_abi {

class FdTable;
class FileSystem;

/// Why the process is over.
using Ending = std::variant<Exited, Fault, LimitReached>;

/// A single-threaded Linux process seen from its kernel. Holds everything the guest can change
/// through system calls; knows nothing of virtual machines.
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
  ~Process();

  EntryState entry() const { return entry_; }

  /// Serves one system call. Empty: the process is over (ending()), or waits for a host call
  /// (pending_host_call()); otherwise the value for rax.
  std::optional<std::int64_t> Dispatch(std::uint64_t number, const SyscallArguments& arguments);

  const std::optional<Ending>& ending() const { return ending_; }
  void End(Ending ending);

  /// The host call that waits for an answer, and its answer. CompleteHostCall returns the value
  /// for rax.
  const std::optional<HostCallRequest>& pending_host_call() const { return pending_host_call_; }
  std::int64_t CompleteHostCall(const absl::StatusOr<std::string>& reply);
  void BeginHostCall(HostCallRequest request, MemoryCharge charge, std::uint64_t call_address);

  // For the system-call families.
  AddressSpace& memory() { return memory_; }
  MemoryAccount& account() { return account_; }
  Host& host() { return host_; }
  AccessGate& gate() { return *spec_.gate; }
  const InstanceSpec& spec() const { return spec_; }
  SignalState& signals() { return signals_; }
  FdTable& files() { return *files_; }
  FileSystem& file_system() { return *file_system_; }

  /// Puts the calling thread to sleep: kAsleep, to be handed up; 0 when the timeout is over; or
  /// `wait.interrupted` after a signal.
  std::int64_t Sleep(Wait wait);
  /// Zero when a call starts, kept while it is made again after a sleep.
  std::uint64_t& call_progress() { return call_progress_; }
  /// The signal mask until this call is over and its signals were delivered.
  void SetTemporarySignalMask(std::uint64_t) {}
  /// SIGPIPE for the calling thread.
  void RaisePipeSignal();

  static constexpr std::int32_t kPid =
      2;  ///< what getpid says: not 1, which programs treat specially

 private:
  Process(const InstanceSpec& spec, PageMapper& mapper, Host& host, MemoryAccount& account);

  const InstanceSpec& spec_;
  Host& host_;
  MemoryAccount& account_;
  AddressSpace memory_;
  std::unique_ptr<FileSystem> file_system_;
  std::unique_ptr<FdTable> files_;
  EntryState entry_;
  std::optional<Ending> ending_;
  std::optional<HostCallRequest> pending_host_call_;
  MemoryCharge host_call_charge_;
  std::uint64_t host_call_address_ = 0;
  SignalState signals_;
  std::uint64_t call_progress_ = 0;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_PROCESS_H_
