// SPDX-License-Identifier: Apache-2.0
// A bounded queue that many threads put messages into and one takes them out of. After Vyukov's
// bounded queue: each cell says whose turn it is.
#ifndef WAXVM_SRC_MESSAGING_INBOX_H_
#define WAXVM_SRC_MESSAGING_INBOX_H_

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "src/messaging/topic_message.h"
#include "waxvm/key.h"
#include "waxvm/message.h"

namespace waxvm::messaging {

/// What few messages have.
struct Extras {
  std::uint64_t expires = 0;  ///< 0: never
  std::uint64_t in_reply_to = 0;
  bool wants_errors = false;
};

/// In the sequence of a topic's letter: it was published before the engine joined.
inline constexpr std::uint64_t kRetainedBit = std::uint64_t{1} << 63;

/// One message: an object to this engine, or a reference to one that was published.
struct Letter {
  const Message::Operations* operations = nullptr;  ///< null: `topic_message`
  std::uint64_t sequence = 0;                       ///< of a topic's: which subscription
  union {
    Extras* extras;                     ///< owned; null: none
    const TopicMessage* topic_message;  ///< one reference is owned
  };
  PublicKey sender;

  Letter() : extras(nullptr) {}
};

/// Thread safety: Push and IsClosed any number of threads, the rest one.
class Inbox {
 public:
  enum class Result { kOk, kFull, kClosed };

  /// `capacity` is rounded up to a power of two.
  explicit Inbox(std::size_t capacity)
      : mask_(std::bit_ceil(capacity < 2 ? std::size_t{2} : capacity) - 1),
        cells_(new Cell[mask_ + 1]) {
    for (std::size_t i = 0; i <= mask_; ++i) cells_[i].turn.store(i, std::memory_order_relaxed);
  }
  ~Inbox() {
    Letter letter;
    while (void* storage = Front(letter)) {
      Discard(letter, storage);
      PopFront();
    }
  }
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;

  /// Takes the object out of `message`, and `letter.extras`; where it is not kOk, neither.
  /// `wake` is true where the reader sleeps and is to be woken, by whoever gets true.
  Result Push(const Letter& letter, Message* message, bool& wake) {
    if (closed_.load(std::memory_order_relaxed)) return Result::kClosed;
    std::size_t at = tail_.load(std::memory_order_relaxed);
    for (;;) {
      Cell& cell = cells_[at & mask_];
      const auto ahead =
          static_cast<std::ptrdiff_t>(cell.turn.load(std::memory_order_acquire) - at);
      if (ahead < 0) return Result::kFull;
      if (ahead > 0) {
        at = tail_.load(std::memory_order_relaxed);
        continue;
      }
      // Sequentially consistent with armed_, here and in Arm: either the reader sees that the tail
      // has moved, or we see that it sleeps.
      if (!tail_.compare_exchange_weak(at, at + 1, std::memory_order_seq_cst,
                                       std::memory_order_relaxed))
        continue;
      cell.letter = letter;
      if (message != nullptr) {
        cell.letter.operations = message->operations();
        Message::Relocate(message->operations(), message->storage(), cell.storage);
        message->Release();
      }
      cell.turn.store(at + 1, std::memory_order_release);
      wake = ShouldWake();
      return Result::kOk;
    }
  }

  /// The first message, with where its object lies; null where there is none.
  void* Front(Letter& letter) {
    Cell& cell = cells_[head_ & mask_];
    if (cell.turn.load(std::memory_order_acquire) != head_ + 1) return nullptr;
    letter = cell.letter;
    return cell.storage;
  }
  /// Its object was destroyed, or moved elsewhere.
  void PopFront() {
    cells_[head_ & mask_].turn.store(head_ + mask_ + 1, std::memory_order_release);
    ++head_;
  }

  /// What was never handled.
  static void Discard(const Letter& letter, void* storage) {
    if (letter.operations == nullptr) return letter.topic_message->Unref();
    delete letter.extras;
    if (letter.operations->destroy != nullptr) letter.operations->destroy(storage);
  }

  /// Before the reader sleeps; false where there is something, or will be in a moment.
  bool Arm() {
    armed_.store(true, std::memory_order_seq_cst);
    return tail_.load(std::memory_order_seq_cst) == head_;
  }
  void Disarm() { armed_.store(false, std::memory_order_relaxed); }
  /// For whoever has made something to do; true for one of all.
  bool ShouldWake() { return armed_.load(std::memory_order_seq_cst) && armed_.exchange(false); }

  void Close() { closed_.store(true, std::memory_order_relaxed); }
  bool IsClosed() const { return closed_.load(std::memory_order_relaxed); }

 private:
  struct alignas(64) Cell {
    std::atomic<std::size_t> turn;
    Letter letter;
    alignas(16) unsigned char storage[Message::kInlineBytes];
  };
  // What a published message needs is one line.
  static_assert(sizeof(Cell) == 128);

  const std::size_t mask_;
  const std::unique_ptr<Cell[]> cells_;
  std::atomic<bool> closed_ = false;
  std::atomic<bool> armed_ = false;
  alignas(64) std::atomic<std::size_t> tail_ = 0;
  alignas(64) std::size_t head_ = 0;
};

}  // namespace waxvm::messaging

#endif  // WAXVM_SRC_MESSAGING_INBOX_H_
