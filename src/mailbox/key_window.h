// SPDX-License-Identifier: Apache-2.0
// The idempotency keys that are remembered: in memory a table, on disk one row for the keys of each
// commit, so that a key costs no B-tree page of its own.
#ifndef WAXVM_SRC_MAILBOX_KEY_WINDOW_H_
#define WAXVM_SRC_MAILBOX_KEY_WINDOW_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "src/mailbox/receipt.h"
#include "src/mailbox/state.h"

namespace waxvm::mailbox {

struct KeyEntry {
  std::uint32_t queue = 0;
  std::string sender = {};
  std::string key = {};
  std::uint64_t sequence = 0;
};

/// An entry: queue (4 bytes), sequence (8), big-endian; sender and key with their sizes (1) in
/// front.
void AppendEntry(std::string& to, std::uint32_t queue, std::uint64_t sequence,
                 std::string_view sender, std::string_view key);
/// Errors: kDataLoss.
absl::Status ParseEntries(std::string_view bytes, std::vector<KeyEntry>& entries);

/// A mailbox, sender and key in the table below: SipHash-2-4, 128 bits, under a secret. Keys come
/// from anybody: who does not know the secret can neither fill one bucket of the table nor make a
/// key that is taken for another one's.
struct TableKey {
  std::array<std::uint64_t, 2> words{};
  bool operator==(const TableKey&) const = default;
};
TableKey MakeTableKey(const ReceiptSecret& secret, std::uint32_t queue, std::string_view sender,
                      std::string_view key);

class KeyWindow {
 public:
  std::optional<std::uint64_t> Find(const TableKey& key) const;
  /// Adds to the batch that is being gathered, whose entry is added to `gathered`. The sender is
  /// there as long as the key is.
  void Add(const TableKey& key, Sender& sender, std::uint64_t sequence);
  /// The entries gathered since, one after another; empty where there are none.
  std::string& gathered() { return gathered_; }
  /// They were written as row `batch`, to be kept until `until`.
  void Close(std::int64_t batch, std::int64_t until);

  struct Batch {
    std::int64_t row = 0;
    std::int64_t until = 0;
    std::vector<TableKey> keys = {};
    std::vector<Sender*> senders = {};  ///< of each
  };
  /// The oldest batch, where it is over at `now`.
  const Batch* Over(std::int64_t now) const;
  void DropOldest();
  /// No batch is kept for longer than until `until`.
  void Clamp(std::int64_t until);
  std::size_t size() const { return table_.size(); }

 private:
  struct Hash {
    std::size_t operator()(const TableKey& key) const { return key.words[0]; }
  };
  std::unordered_map<TableKey, std::uint64_t, Hash> table_;
  std::deque<Batch> batches_;
  Batch open_;
  std::string gathered_;
};

}  // namespace waxvm::mailbox

#endif  // WAXVM_SRC_MAILBOX_KEY_WINDOW_H_
