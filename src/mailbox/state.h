// SPDX-License-Identifier: Apache-2.0
// What the store keeps in memory about what is in its file: counts, and of each group the messages
// that were handed out or passed over. A message that nobody was handed yet takes no memory.
#ifndef WAXVM_SRC_MAILBOX_STATE_H_
#define WAXVM_SRC_MAILBOX_STATE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "waxvm/mailbox.h"

namespace waxvm::mailbox {

/// A row's number is that of its mailbox and, below it, its sequence: one B-tree has the messages
/// of each mailbox together and in their order.
inline constexpr int kSequenceBits = 40;
inline constexpr std::uint64_t kMaxSequence = (std::uint64_t{1} << kSequenceBits) - 1;
inline constexpr std::uint64_t kMaxQueueNumber = (std::uint64_t{1} << 23) - 1;

inline std::int64_t RowOf(std::uint32_t queue, std::uint64_t sequence) {
  return static_cast<std::int64_t>(std::uint64_t{queue} << kSequenceBits | sequence);
}
inline std::uint64_t SequenceOf(std::int64_t row) {
  return static_cast<std::uint64_t>(row) & kMaxSequence;
}
inline std::uint32_t QueueOf(std::int64_t row) {
  return static_cast<std::uint32_t>(static_cast<std::uint64_t>(row) >> kSequenceBits);
}

struct Usage {
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0;

  void Add(std::uint64_t size) {
    ++messages;
    bytes += size;
  }
  void Take(std::uint64_t size) {
    --messages;
    bytes -= size;
  }
};

struct Sender {
  std::string name = {};
  Usage usage = {};
  std::size_t keys = 0;
};

/// Whole numbers as ranges without gaps.
class Ranges {
 public:
  void Add(std::uint64_t first, std::uint64_t last);
  bool Contains(std::uint64_t number) const;
  /// If the first range begins right after `floor`: removes it and returns its last number;
  /// otherwise `floor`.
  std::uint64_t TakeAfter(std::uint64_t floor);
  std::size_t count() const { return ranges_.size(); }

 private:
  std::map<std::uint64_t, std::uint64_t> ranges_;  ///< first to last
};

/// A message that is not done with, of those that a group has got to.
struct Tracked {
  enum class State : std::uint8_t {
    kLeased,   ///< until `until`
    kWaiting,  ///< until `until`, after a rejection
    kReady,    ///< to be handed out, again or, where an earlier one was in its way, at last
    kParked,   ///< an earlier one with its ordering key is not done with
  };
  State state = State::kReady;
  bool rejected = false;  ///< the last delivery ended so
  std::uint32_t deliveries = 0;
  std::int64_t until = 0;
  std::string ordering = {};  ///< of strict mailboxes
};

/// The messages of one ordering key in a strict mailbox: one that is on its way, and others.
struct Line {
  std::uint64_t head = 0;
  std::deque<std::uint64_t> parked = {};  ///< some may be gone
};

struct Queue;

struct Group {
  std::uint32_t number = 0;
  std::string name = {};
  Queue* queue = nullptr;
  std::uint64_t floor = 0;   ///< of a topic: all up to it are done with
  std::uint64_t cursor = 0;  ///< all up to it are done with or tracked
  Ranges done = {};          ///< of a topic, above `floor`
  std::map<std::uint64_t, Tracked> tracked = {};
  std::set<std::uint64_t> ready = {};
  std::map<std::string, Line, std::less<>> lines = {};  ///< by ordering key, which is of any bytes
  std::size_t parked = 0;

  /// All below it are done with.
  std::uint64_t oldest_open() const;
  /// Leased, or to be handed out again.
  std::size_t open() const { return tracked.size() - parked; }
};

struct Queue {
  std::uint32_t number = 0;
  std::string name = {};
  MailboxOptions options = {};
  std::uint64_t next = 1;
  std::uint64_t low = 0;  ///< of a topic: all up to it were removed for being done with
  Usage usage = {};
  Usage dead = {};
  std::uint64_t last_dead = 0;
  std::map<std::string, std::unique_ptr<Group>> groups = {};  ///< of a mailbox: one, ""
};

}  // namespace waxvm::mailbox

#endif  // WAXVM_SRC_MAILBOX_STATE_H_
