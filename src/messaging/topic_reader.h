// SPDX-License-Identifier: Apache-2.0
// What one engine does with what is published: each publisher in order, nothing twice, gaps seen,
// and what a message depends on before the message.
#ifndef WAXVM_SRC_MESSAGING_TOPIC_READER_H_
#define WAXVM_SRC_MESSAGING_TOPIC_READER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "src/messaging/inbox.h"
#include "src/messaging/topic_message.h"
#include "waxvm/topic.h"

namespace waxvm::messaging {

/// Thread safety: none. While a message is handled, Add and Remove may be called, nothing else.
class TopicReader {
 public:
  struct Handed {
    const TopicMessage& message;
    bool retained;
    std::span<const MessageId> missing;
  };
  using Handle = absl::FunctionRef<void(const Handed&)>;
  /// Read where a message has to wait, only. Units: milliseconds.
  using Clock = absl::FunctionRef<std::uint64_t()>;

  /// Returns what the letters of this subscription are marked with; empty where there is one.
  std::optional<std::uint64_t> Add(const PublicKey& topic, JoinOptions options);
  /// False where there is none. What waits for it is dropped.
  bool Remove(const PublicKey& topic);
  std::vector<PublicKey> topics() const;
  std::optional<TopicStats> StatsOf(const PublicKey& topic) const;

  /// What came for a subscription, marked as a letter; kRetainedBit may be set.
  void Take(std::uint64_t mark, TopicMessageRef message, Clock clock, Handle handle);
  /// Handles what has waited long enough at `now`; returns how many messages were due.
  std::size_t Expire(std::uint64_t now, Handle handle);
  /// When Expire has something to do.
  std::optional<std::uint64_t> next_due() const;
  /// Frees what was removed; to be called while nothing is handled.
  void Tidy();

 private:
  /// Enough of an id, of which each half is as hard to find twice as the whole.
  using ShortId = std::array<std::uint8_t, 16>;
  /// Ids of messages that were handled last, of all topics. Who names an older one waits in vain.
  static constexpr std::size_t kRemembered = 1'024;
  /// Runs of missing messages of one publisher that are told from duplicates.
  static constexpr std::size_t kMaxRuns = 8;

  struct Publisher {
    std::uint64_t first = 0;  ///< of its run
    std::uint64_t next = 0;   ///< the sequence that is due
    std::size_t held = 0;
    std::size_t held_bytes = 0;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> missing = {};
    std::list<PublicKey>::iterator place = {};
  };
  using Publishers = std::map<PublicKey, Publisher>;  // not hashed: strangers choose the keys

  struct Held {
    TopicMessageRef message;
    bool retained = false;
    std::uint64_t due = 0;
    Publisher* publisher = nullptr;
    std::vector<MessageId> missing = {};
  };

  struct Subscription {
    PublicKey topic = {};
    JoinOptions options = {};
    bool removed = false;
    Publishers publishers = {};
    std::list<PublicKey> used = {};  ///< least recently first
    Publishers::iterator last = {};
    std::vector<Held> held = {};
    std::size_t held_bytes = 0;
    TopicStats stats = {};
  };

  Publisher& Follow(Subscription& subscription, const TopicMessage& message, bool& is_new,
                    Handle handle);
  void Restart(Subscription& subscription, Publisher& publisher, const EnvelopeFields& fields);
  bool IsOld(Subscription& subscription, const Publisher& publisher, std::uint64_t sequence);
  void Hold(Subscription& subscription, Held held, Clock clock, Handle handle);
  /// Handles a message that need not wait, or has waited long enough.
  void HandOver(Subscription& subscription, Held held, Handle handle);
  /// Hands over everything that what was handled last made ready.
  void Release(Handle handle);
  bool ReleaseOne(Subscription& subscription, Handle handle);
  /// Hands over the held message at `index`, and before it those of its publisher that are earlier.
  void Force(Subscription& subscription, std::size_t index, Handle handle);
  /// The first one of the publisher that has most of what there is too much of.
  void ForceLargest(Subscription& subscription, std::size_t Publisher::*what, Handle handle);
  Held TakeOut(Subscription& subscription, std::size_t index);
  void Report(Subscription& subscription, const TopicGap& gap);
  void Remember(const MessageId& id);
  std::vector<MessageId> MissingOf(const std::vector<MessageId>& dependencies) const;

  std::vector<std::unique_ptr<Subscription>> slots_;
  std::vector<std::uint32_t> generations_;
  std::size_t held_ = 0;
  std::vector<ShortId> remembered_;
  std::size_t next_remembered_ = 0;
};

}  // namespace waxvm::messaging

#endif  // WAXVM_SRC_MESSAGING_TOPIC_READER_H_
