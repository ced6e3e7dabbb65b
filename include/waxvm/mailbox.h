// SPDX-License-Identifier: Apache-2.0
// Durable queues: a mailbox keeps messages for a receiver who is away, a topic keeps them for each
// of its groups of receivers.
#ifndef WAXVM_MAILBOX_H_
#define WAXVM_MAILBOX_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "waxvm/key.h"

namespace waxvm {

inline constexpr std::size_t kMaxMailboxNameBytes = 128;  ///< of mailboxes and of groups
inline constexpr std::size_t kMaxMailboxWordBytes = 64;   ///< of senders and of both keys

/// The name of the mailbox of whoever holds a key: its 52 digits of base32.
std::string MailboxOf(const PublicKey& receiver);

/// What a mailbox is; kept with it. What is 0 is not limited, but by the store.
struct MailboxOptions {
  /// Each group of receivers gets every message. Without it there is one receiver, or several that
  /// share the messages, and no groups.
  bool topic = false;
  /// A message is not handed out while an earlier one with its ordering key is leased or waits to
  /// be delivered again; those without a key are of one key. Without it, messages are handed out in
  /// their order, and one that comes back may come after later ones.
  bool strict = false;
  std::uint32_t max_deliveries = 16;                ///< after that many it is a dead letter
  std::chrono::milliseconds first_back_off{1'000};  ///< after a reject; doubles with each delivery
  std::chrono::milliseconds max_back_off{300'000};
  std::chrono::milliseconds time_to_live{0};  ///< of messages that have none of their own
  std::uint64_t max_messages = 0;
  std::uint64_t max_bytes = 0;             ///< of what MessageBytes counts
  std::uint64_t max_dead_letters = 1'000;  ///< beyond it the oldest one is given up

  bool operator==(const MailboxOptions&) const = default;
};

struct MailboxMessage {
  std::string mailbox = {};
  std::string sender = {};  ///< whose quota it takes: a public key's bytes, say; may be empty
  std::string payload = {};
  /// Of this sender and mailbox: within the store's window another message with the same key is
  /// not stored but answered as the first one was. Its payload is not compared.
  std::string idempotency_key = {};
  std::string ordering_key = {};
  std::optional<std::uint16_t> format = {};   ///< CoAP Content-Format
  std::chrono::milliseconds time_to_live{0};  ///< 0: the mailbox's
};

struct Appended {
  std::uint64_t sequence = 0;  ///< its place in the mailbox, from 1
  bool duplicate = false;      ///< it was there before

  bool operator==(const Appended&) const = default;
};

/// A message that was handed out: until the lease ends nobody else of the group gets it.
struct Delivery {
  std::uint64_t sequence = 0;
  std::string sender = {};
  std::string payload = {};
  std::string ordering_key = {};
  std::optional<std::uint16_t> format = {};
  std::int64_t appended_us = 0;  ///< microseconds since 1970
  std::int64_t leased_until_us = 0;
  std::uint32_t deliveries = 0;  ///< this one included
  /// Sequences below this one are done with and never come again: MailboxDedup forgets them.
  std::uint64_t oldest_open = 0;
  std::string receipt = {};  ///< settles exactly this delivery; nobody can make one up
};

struct ReceiveOptions {
  std::string mailbox = {};
  std::string group = {};  ///< of a topic
  std::size_t max_messages = 1;
  std::size_t max_bytes = 1 << 20;  ///< of payloads; the first message comes whatever its size
  std::chrono::milliseconds lease{30'000};
  std::chrono::milliseconds wait{0};  ///< for the first message
  std::stop_token stop = {};          ///< ends the wait; embedded store
};

/// What becomes of a delivery.
struct Settlement {
  enum class Kind {
    kAcknowledge,  ///< done: never handed out again
    kExtend,       ///< leased for `time` from now on
    kReject,       ///< handed out again after `time`; 0: after the mailbox's back-off
    kDead,         ///< a dead letter at once
  };
  Kind kind = Kind::kAcknowledge;
  std::string receipt = {};
  /// Where it is not empty, a receipt of another mailbox is refused: what was allowed for one is
  /// not allowed for all.
  std::string mailbox = {};
  std::chrono::milliseconds time{0};
  std::string reason = {};  ///< of a rejection, kept with a dead letter; at most 256 bytes
};

struct DeadLetter {
  std::uint64_t id = 0;  ///< for Requeue and RemoveDead
  std::string group = {};
  std::string reason = {};
  std::int64_t died_us = 0;
  Delivery message = {};  ///< without a receipt
};

struct MailboxInfo {
  std::string name = {};
  MailboxOptions options = {};
  std::uint64_t next_sequence = 1;
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0;
  std::uint64_t dead_letters = 0;
  struct Group {
    std::string name = {};
    std::uint64_t done_up_to = 0;  ///< sequences up to it are done with
    std::uint64_t open = 0;        ///< leased, or waiting to be delivered again
  };
  std::vector<Group> groups = {};
};

/// Keeps mailboxes. What it answered OK for is on disk. Messages are delivered at least once; each
/// effect happens once at receivers that use MailboxDedup, or Exchange.
///
/// Thread safety: any number of threads. Callbacks are called once each, by a thread of the store
/// or, before the function returns, by the calling one; they must not wait for the store.
/// Errors of all: kInvalidArgument with the bound; kNotFound for a mailbox or group that there is
/// not; kResourceExhausted naming the limit that was met; kUnavailable; kUnimplemented for what a
/// store does not offer; those of the disk, after which nothing of the operation happened.
class MailboxStore {
 public:
  using AppendDone = absl::AnyInvocable<void(std::vector<absl::StatusOr<Appended>>)>;
  using ReceiveDone = absl::AnyInvocable<void(absl::StatusOr<std::vector<Delivery>>)>;
  using SettleDone = absl::AnyInvocable<void(std::vector<absl::Status>)>;

  virtual ~MailboxStore() = default;

  /// OK where it exists with the same options. Errors: kAlreadyExists with other ones.
  virtual absl::Status Create(const std::string& name, const MailboxOptions& options) = 0;
  /// With all messages and dead letters.
  virtual absl::Status Remove(const std::string& name) = 0;
  /// A group of a topic that gets what is appended from now on, `from_start`: also what the topic
  /// still has. OK where it exists.
  virtual absl::Status Subscribe(const std::string& topic, const std::string& group,
                                 bool from_start) = 0;
  virtual absl::Status Unsubscribe(const std::string& topic, const std::string& group) = 0;

  /// A result for each message, in their order: each is stored or refused for itself.
  virtual void Append(std::vector<MailboxMessage> messages, AppendDone done) = 0;
  /// Leases messages, the lowest sequence first; none where there is none after `wait`.
  virtual void Receive(ReceiveOptions options, ReceiveDone done) = 0;
  /// A result for each. Errors: kNotFound where the message is done with; kFailedPrecondition where
  /// it was delivered again, or rejected, since; kPermissionDenied for what is no receipt.
  virtual void Settle(std::vector<Settlement> settlements, SettleDone done) = 0;
  /// Acknowledges deliveries and appends messages, all of it or, where one is refused, nothing:
  /// a receiver whose effect is messages has it exactly once.
  virtual absl::StatusOr<std::vector<Appended>> Exchange(std::vector<std::string> receipts,
                                                         std::vector<MailboxMessage> messages) = 0;

  /// The oldest first.
  virtual absl::StatusOr<std::vector<DeadLetter>> DeadLetters(const std::string& mailbox,
                                                              std::size_t max) = 0;
  /// Appends a dead letter anew, for all groups, and removes it.
  virtual absl::StatusOr<Appended> Requeue(const std::string& mailbox, std::uint64_t id) = 0;
  virtual absl::Status RemoveDead(const std::string& mailbox, std::uint64_t id) = 0;

  virtual absl::StatusOr<MailboxInfo> Info(const std::string& mailbox) = 0;
  /// In alphabetical order.
  virtual absl::StatusOr<std::vector<std::string>> List() = 0;

  /// The same as above. Block: until the answer is there.
  std::vector<absl::StatusOr<Appended>> Append(std::vector<MailboxMessage> messages);
  absl::StatusOr<Appended> AppendOne(MailboxMessage message);
  absl::StatusOr<std::vector<Delivery>> Receive(ReceiveOptions options);
  std::vector<absl::Status> Settle(std::vector<Settlement> settlements);
  absl::Status Acknowledge(const std::string& receipt);
  absl::Status Extend(const std::string& receipt, std::chrono::milliseconds lease);
  absl::Status Reject(const std::string& receipt, const std::string& reason,
                      std::chrono::milliseconds delay = {});
};

/// What a message takes of quotas: its payload and words, and 64 bytes.
std::uint64_t MessageBytes(const MailboxMessage& message);

}  // namespace waxvm

#endif  // WAXVM_MAILBOX_H_
