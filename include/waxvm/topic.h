// SPDX-License-Identifier: Apache-2.0
// A topic is a subject with a key: who may publish to it says its advert, and everybody who joined
// it hears the same messages in the same order from each publisher.
#ifndef WAXVM_TOPIC_H_
#define WAXVM_TOPIC_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "waxvm/key.h"
#include "waxvm/message.h"

namespace waxvm {

struct PublishOptions {
  std::uint64_t lifetime = 60'000;  ///< milliseconds, on the way to other processes
  /// What is to be read before it; at most kMaxDependencies. Readers know the last 1,024 messages
  /// that they handled, on all topics together.
  std::vector<MessageId> dependencies = {};
};

struct Published {
  std::uint64_t sequence = 0;
  MessageId id = {};          ///< how others name it as a dependency
  std::size_t delivered = 0;  ///< engines of this process that have it in their inbox now
  std::size_t dropped = 0;    ///< whose inbox was full: they will see the gap
};

/// Messages of one publisher that did not come, or not in time.
struct TopicGap {
  PublicKey topic = {};
  PublicKey publisher = {};
  std::uint64_t first_missing = 0;
  std::uint64_t last_missing = 0;
  /// The publisher started anew since: how many there were before these is not known.
  bool restarted = false;
};

struct JoinOptions {
  /// The last message that was published before comes first.
  bool retained = true;
  /// Milliseconds that a message waits for those it depends on, and for earlier ones of its
  /// publisher; 0: it does not. Then it is handled, and what did not come is a gap, or is in
  /// MessageInfo::missing.
  std::uint32_t hold = 1'000;
  /// Messages that wait, and the bytes of their payloads. Above either the publisher with most of
  /// it waits no longer for its first one: one that names what never was keeps nobody else back.
  std::size_t max_held = 64;
  std::size_t max_held_bytes = std::size_t{4} << 20;
  /// Publishers whose sequences are followed, of a topic that is open to everybody.
  std::size_t max_publishers = 256;
  /// Called from Poll for each run of missing messages, before the one that comes after it.
  absl::AnyInvocable<void(const TopicGap&)> on_gap = nullptr;
};

/// What one engine saw of one topic.
struct TopicStats {
  std::uint64_t handled = 0;
  std::uint64_t duplicates = 0;  ///< were handled before
  std::uint64_t late = 0;        ///< came after they were reported missing, and were dropped
  std::uint64_t gaps = 0;        ///< runs of missing messages
  std::uint64_t missing = 0;     ///< messages in them
  std::uint64_t incomplete = 0;  ///< handled without something they depend on
  std::size_t held = 0;          ///< wait now
};

}  // namespace waxvm

#endif  // WAXVM_TOPIC_H_
