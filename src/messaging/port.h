// SPDX-License-Identifier: Apache-2.0
// What others reach of an engine; outlives it as long as somebody holds it.
#ifndef WAXVM_SRC_MESSAGING_PORT_H_
#define WAXVM_SRC_MESSAGING_PORT_H_

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>

#include "src/base/mutex.h"
#include "src/base/unique_fd.h"
#include "src/messaging/inbox.h"
#include "src/messaging/remote_queue.h"
#include "waxvm/key.h"

namespace waxvm::messaging {

struct Port {
  Port(const PublicKey& its_key, std::size_t inbox_messages, std::size_t remote_messages,
       std::size_t remote_bytes)
      : key(its_key), inbox(inbox_messages), remote(remote_messages, remote_bytes) {}

  /// Makes the descriptor readable. Only where the inbox said so: it exists then.
  void Wake() {
    const std::uint64_t one = 1;
    (void)!write(wake.get(), &one, sizeof one);  // fails only where it is readable anyway
  }

  /// For senders that wait for room: until there may be some, or a moment has passed.
  void WaitForRoom(std::chrono::steady_clock::time_point deadline) {
    const auto moment = std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
    MutexLock lock(mutex);
    waiting.fetch_add(1);
    (void)room.WaitUntil(mutex, moment < deadline ? moment : deadline);
    waiting.fetch_sub(1);
  }
  void TellRoom() {
    if (waiting.load(std::memory_order_relaxed) == 0) return;
    MutexLock lock(mutex);
    room.NotifyAll();
  }

  const PublicKey key;
  Inbox inbox;
  RemoteQueue remote;
  /// Made before the inbox is armed for the first time.
  UniqueFd wake;
  std::atomic<int> waiting = 0;
  Mutex mutex;
  CondVar room;
};

}  // namespace waxvm::messaging

#endif  // WAXVM_SRC_MESSAGING_PORT_H_
