// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_MESSAGING_REMOTE_QUEUE_H_
#define WAXVM_SRC_MESSAGING_REMOTE_QUEUE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <string>

#include "src/base/mutex.h"
#include "waxvm/address.h"

namespace waxvm::messaging {

/// Envelopes that wait to be opened, a line for each source, served in turn. When it is full the
/// longest line loses its last one. Thread safety: any number of threads.
class RemoteQueue {
 public:
  struct Item {
    std::string envelope;
    Address source;
  };

  RemoteQueue(std::size_t max_messages, std::size_t max_bytes)
      : max_messages_(max_messages), max_bytes_(max_bytes) {}

  /// False where it was this one that there was no room for.
  bool Push(std::string envelope, const Address& source);
  std::optional<Item> Pop();
  /// Sequentially consistent, as Inbox::Arm.
  std::size_t size() const { return size_.load(); }
  std::uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  struct Line {
    std::deque<std::string> envelopes = {};
    std::size_t bytes = 0;
    std::list<Address>::iterator place = {};
    // Each message takes memory besides its bytes.
    std::size_t cost() const { return bytes + envelopes.size() * 1'024; }
  };
  using Lines = std::map<Address, Line>;

  /// Takes one out of a line, the last one or the first.
  std::string Take(Lines::iterator line, bool last) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::size_t max_messages_;
  const std::size_t max_bytes_;
  std::atomic<std::size_t> size_ = 0;
  std::atomic<std::uint64_t> dropped_ = 0;
  Mutex mutex_;
  Lines lines_ ABSL_GUARDED_BY(mutex_);
  std::list<Address> turn_ ABSL_GUARDED_BY(mutex_);
  std::size_t messages_ ABSL_GUARDED_BY(mutex_) = 0;
  std::size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace waxvm::messaging

#endif  // WAXVM_SRC_MESSAGING_REMOTE_QUEUE_H_
