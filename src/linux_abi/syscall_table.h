// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_SYSCALL_TABLE_H_
#define WAXVM_SRC_LINUX_ABI_SYSCALL_TABLE_H_

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace waxvm::linux_abi {

class Process;

using SyscallArguments = std::array<std::uint64_t, 6>;

/// Serves one call for process.thread(). Returns its result, or a negated errno, as in the kernel
/// ABI; or kAsleep, as Process::Sleep says.
using SyscallHandler = std::int64_t (*)(Process& process, const SyscallArguments& arguments);

enum class Support { kFull, kPartial };

struct SyscallEntry {
  int number;
  std::string_view name;
  SyscallHandler handler;
  Support support = Support::kFull;
  /// For a partial call: what is missing. Goes into docs/linux-abi.md.
  std::string_view missing = "";
};

/// One family a file: each <family>_calls.cc defines its function, and nothing else leaves it.
std::span<const SyscallEntry> FileCalls();        // file_calls.cc: open files and their bytes
std::span<const SyscallEntry> DescriptorCalls();  // descriptor_calls.cc: the table of open files
std::span<const SyscallEntry> PathCalls();        // path_calls.cc: names
std::span<const SyscallEntry> AttributeCalls();  // attribute_calls.cc: what files say of themselves
std::span<const SyscallEntry> PollCalls();       // poll_calls.cc: waiting
std::span<const SyscallEntry> SocketCalls();     // socket_calls.cc: sockets and their names
std::span<const SyscallEntry> MessageCalls();    // message_calls.cc: what goes through sockets
std::span<const SyscallEntry> TimerFileCalls();  // timer_file_calls.cc: timerfd
std::span<const SyscallEntry> TransferCalls();   // transfer_calls.cc: sendfile, copy_file_range
std::span<const SyscallEntry> SpliceCalls();     // splice_calls.cc: between files and pipes
std::span<const SyscallEntry> MemoryCalls();     // memory_calls.cc
std::span<const SyscallEntry> ProcessCalls();    // process_calls.cc
std::span<const SyscallEntry> SignalCalls();     // signal_calls.cc
std::span<const SyscallEntry> TimeCalls();       // time_calls.cc
std::span<const SyscallEntry> TimerCalls();      // timer_calls.cc: timers that send signals
std::span<const SyscallEntry> RandomCalls();     // random_calls.cc
std::span<const SyscallEntry> ThreadCalls();     // thread_calls.cc
std::span<const SyscallEntry> FutexCalls();      // futex_calls.cc

/// The entry for a number, or null: the call is answered with ENOSYS and named in the report.
const SyscallEntry* FindSyscall(std::uint64_t number);

/// The name of any x86-64 Linux call, offered or not; "" for a number that is none.
std::string_view SyscallName(std::uint64_t number);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_SYSCALL_TABLE_H_
