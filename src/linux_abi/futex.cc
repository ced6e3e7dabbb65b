// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/futex.h"

#include <algorithm>
#include <iterator>

namespace waxvm::linux_abi {

void FutexTable::Add(std::uint64_t address, Thread& thread, std::uint32_t bitset, bool inherits) {
  waiters_[address].push_back({&thread, bitset, inherits});
}

bool FutexTable::MeetsLockWaiter(std::uint64_t address, std::uint32_t bitset) const {
  const auto queue = waiters_.find(address);
  if (queue == waiters_.end()) return false;
  const auto waiter = std::ranges::find_if(
      queue->second, [bitset](const Waiter& w) { return w.inherits || (w.bitset & bitset) != 0; });
  return waiter != queue->second.end() && waiter->inherits;
}

bool FutexTable::FirstInherits(std::uint64_t address) const {
  const auto queue = waiters_.find(address);
  return queue != waiters_.end() && queue->second.front().inherits;
}

bool FutexTable::Remove(const Thread& thread) {
  for (auto queue = waiters_.begin(); queue != waiters_.end(); ++queue) {
    if (queue->second.remove_if([&](const Waiter& w) { return w.thread == &thread; }) == 0)
      continue;
    if (queue->second.empty()) waiters_.erase(queue);
    return true;
  }
  return false;
}

bool FutexTable::IsWaiting(const Thread& thread) const {
  return std::ranges::any_of(waiters_, [&](const auto& queue) {
    return std::ranges::any_of(queue.second, [&](const Waiter& w) { return w.thread == &thread; });
  });
}

Thread* FutexTable::TakeFirst(std::uint64_t address, std::uint32_t bitset) {
  const auto queue = waiters_.find(address);
  if (queue == waiters_.end()) return nullptr;
  const auto waiter = std::ranges::find_if(
      queue->second, [bitset](const Waiter& w) { return (w.bitset & bitset) != 0; });
  if (waiter == queue->second.end()) return nullptr;
  Thread* thread = waiter->thread;
  queue->second.erase(waiter);
  if (queue->second.empty()) waiters_.erase(queue);
  return thread;
}

std::uint32_t FutexTable::Move(std::uint64_t from, std::uint64_t to, std::uint32_t count) {
  const auto queue = waiters_.find(from);
  if (queue == waiters_.end() || count == 0 || from == to) return 0;
  std::list<Waiter>& source = queue->second;
  const auto end = std::next(source.begin(), std::min<std::ptrdiff_t>(count, std::ssize(source)));
  const auto moved = static_cast<std::uint32_t>(std::distance(source.begin(), end));
  std::list<Waiter>& target = waiters_[to];
  target.splice(target.end(), source, source.begin(), end);
  if (source.empty()) waiters_.erase(from);
  return moved;
}

}  // namespace waxvm::linux_abi
