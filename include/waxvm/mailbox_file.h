// SPDX-License-Identifier: Apache-2.0
// The mailbox store in a file of this host.
#ifndef WAXVM_MAILBOX_FILE_H_
#define WAXVM_MAILBOX_FILE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "waxvm/mailbox.h"

namespace waxvm {

/// Whoever floods meets a limit of his own before he meets one that is everybody's.
struct MailboxFileOptions {
  std::size_t max_payload_bytes = 256 << 10;  ///< at most 960 KiB
  std::uint64_t max_messages = 10'000'000;    ///< in all mailboxes
  std::uint64_t max_bytes = 4ull << 30;
  /// Of one sender, in all mailboxes; those without a name are one sender.
  std::uint64_t max_messages_per_sender = 5'000'000;
  std::uint64_t max_bytes_per_sender = 2ull << 30;
  std::size_t max_mailboxes = 100'000;
  std::size_t max_groups = 1'000;      ///< of one topic
  std::size_t max_leased = 10'000;     ///< of one group: leased, or waiting to be delivered again
  std::size_t max_receivers = 10'000;  ///< that wait
  /// For how long an idempotency key is remembered, always: keys beyond the limits are refused with
  /// their messages. A key takes about 100 bytes of memory.
  std::chrono::milliseconds key_window{120'000};
  std::size_t max_keys = 1'000'000;
  std::size_t max_keys_per_sender = 500'000;
  /// Operations that wait for the disk. Units: messages and settlements, bytes of payload.
  std::size_t max_pending = 100'000;
  std::size_t max_pending_bytes = 64 << 20;
  /// Operations of one commit at most. While one commit runs, the next one gathers; a commit also
  /// waits for so long for more, 1 ms at most.
  std::size_t max_batch = 4'096;
  std::chrono::microseconds gather{0};
  /// Microseconds since 1970. Default: the host's clock. Leases end by it.
  std::function<std::int64_t()> clock = nullptr;
};

struct MailboxFileStats {
  std::uint64_t mailboxes = 0;
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0;
  std::uint64_t senders = 0;  ///< with messages or keys
  std::uint64_t keys = 0;
  /// Since it was opened:
  std::uint64_t commits = 0;
  std::uint64_t expired = 0;       ///< messages that nobody took in time
  std::uint64_t dead_dropped = 0;  ///< dead letters given up for newer ones
};

/// A MailboxStore in one file of SQLite, with a thread of its own that writes: it gathers what
/// others hand over into commits (`synchronous=FULL`), answers after them, and ends with the store.
class MailboxFile : public MailboxStore {
 public:
  /// Opens a file, made with mode 0600 where it is missing, and reads all of it: every message is
  /// checked. One process has it open at a time.
  /// Errors: kUnavailable where another one has it open; kDataLoss for one that is damaged;
  /// kFailedPrecondition for one of another kind or version; those of the disk.
  static absl::StatusOr<std::unique_ptr<MailboxFile>> Open(const std::string& path,
                                                           const MailboxFileOptions& options = {});
  /// Finishes what was handed over; receivers that wait get kCancelled.
  ~MailboxFile() override = default;

  virtual MailboxFileStats Stats() = 0;
};

}  // namespace waxvm

#endif  // WAXVM_MAILBOX_FILE_H_
