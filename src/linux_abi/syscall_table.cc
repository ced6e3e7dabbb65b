// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/syscall_table.h"

namespace waxvm::linux_abi {
namespace {

constexpr std::size_t kTableSize = 512;
using Table = std::array<const SyscallEntry*, kTableSize>;

Table MakeTable() {
  Table table{};
  for (const auto family :
       {FileCalls(), DescriptorCalls(), PathCalls(), AttributeCalls(), PollCalls(), SocketCalls(),
        MessageCalls(), TimerFileCalls(), SpliceCalls(), TransferCalls(), MemoryCalls(),
        ProcessCalls(), SignalCalls(), TimeCalls(), TimerCalls(), RandomCalls(), ThreadCalls(),
        FutexCalls()})
    for (const SyscallEntry& entry : family) table[static_cast<std::size_t>(entry.number)] = &entry;
  return table;
}

}  // namespace

const SyscallEntry* FindSyscall(std::uint64_t number) {
  static const Table table = MakeTable();
  return number < table.size() ? table[number] : nullptr;
}

}  // namespace waxvm::linux_abi
