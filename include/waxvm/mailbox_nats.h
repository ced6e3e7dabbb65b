// SPDX-License-Identifier: Apache-2.0
// Mailboxes of a fleet, on NATS JetStream. In a library of its own, waxvm_nats, which is built
// where libnats is installed.
#ifndef WAXVM_MAILBOX_NATS_H_
#define WAXVM_MAILBOX_NATS_H_

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/mailbox.h"

namespace waxvm {

struct NatsMailboxOptions {
  std::vector<std::string> servers = {"nats://127.0.0.1:4222"};
  /// In front of the names of all streams and subjects: letters, digits, - and _, at most 32.
  std::string prefix = "waxvm";
  int replicas = 3;  ///< of each mailbox; 1, 3 or 5
  /// Of every delivery: JetStream has one for each group.
  std::chrono::milliseconds lease{30'000};
  std::chrono::milliseconds key_window{120'000};  ///< of idempotency keys
  /// For an answer of a server.
  std::chrono::milliseconds timeout{5'000};
  /// Whoever has it can make up receipts. Processes that settle what others received have the same
  /// one. Empty: one of this process alone, at random.
  std::string receipt_secret = {};
};

/// A MailboxStore whose mailboxes are streams: what was answered OK is on the disks of most of its
/// replicas. Functions block the thread that calls them, and call back on it; libnats has threads
/// of its own, for the connection.
///
/// What JetStream does not offer is refused with kUnimplemented: Exchange, a time to live of a
/// message (a mailbox has one), a lease other than the store's, in Receive and in kExtend. A strict
/// mailbox hands out one message at a time, whatever the ordering keys. A topic keeps only what it
/// had a group for when it was appended. There are limits of mailboxes, of messages and bytes as
/// the server counts them, and none of senders. The server does not tell a delivery that was
/// settled or handed out again from one that is held: to settle the former is OK, without effect
/// where the message is done with. A message that is rejected for good is copied to the dead
/// letters first and ended then: after a failure between them it is there twice.
///
/// Errors: as of MailboxStore; kUnavailable with the server's words where it cannot be reached or
/// does not answer in time. An append that ends so may have happened: one with an idempotency key
/// is safe to repeat.
absl::StatusOr<std::unique_ptr<MailboxStore>> OpenNatsMailboxes(
    const NatsMailboxOptions& options = {});

}  // namespace waxvm

#endif  // WAXVM_MAILBOX_NATS_H_
