// SPDX-License-Identifier: Apache-2.0
#include "src/mailbox/key_window.h"

#include <sodium.h>

#include <algorithm>
#include <utility>

namespace waxvm::mailbox {
namespace {

void PutNumber(std::string& to, std::uint64_t number, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) to.push_back(static_cast<char>(number >> (8 * i)));
}

/// Reads from the front of bytes that may end too early.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  bool AtEnd() const { return rest_.empty(); }
  bool Number(std::size_t bytes, std::uint64_t& number) {
    std::string_view taken;
    if (!Take(bytes, taken)) return false;
    number = 0;
    for (const char byte : taken) number = number << 8 | static_cast<unsigned char>(byte);
    return true;
  }
  bool Word(std::string& word) {
    std::uint64_t size = 0;
    std::string_view taken;
    if (!Number(1, size) || !Take(size, taken)) return false;
    word = taken;
    return true;
  }

 private:
  bool Take(std::size_t bytes, std::string_view& taken) {
    if (rest_.size() < bytes) return false;
    taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return true;
  }
  std::string_view rest_;
};

}  // namespace

void AppendEntry(std::string& to, std::uint32_t queue, std::uint64_t sequence,
                 std::string_view sender, std::string_view key) {
  PutNumber(to, queue, 4);
  PutNumber(to, sequence, 8);
  PutNumber(to, sender.size(), 1);
  to.append(sender);
  PutNumber(to, key.size(), 1);
  to.append(key);
}

TableKey MakeTableKey(const ReceiptSecret& secret, std::uint32_t queue, std::string_view sender,
                      std::string_view key) {
  // The sizes keep one's key from being another's.
  std::array<unsigned char, 6 + 2 * kMaxMailboxWordBytes> bytes;
  std::size_t size = 0;
  for (int shift = 24; shift >= 0; shift -= 8)
    bytes[size++] = static_cast<unsigned char>(queue >> shift);
  for (const std::string_view word : {sender, key}) {
    bytes[size++] = static_cast<unsigned char>(word.size());
    size = static_cast<std::size_t>(std::copy_n(word.begin(), word.size(), bytes.begin() + size) -
                                    bytes.begin());
  }
  // Another secret than that of receipts, whose hashes others see.
  ReceiptSecret own = secret;
  own[0] ^= 0xff;
  TableKey made;
  crypto_shorthash_siphashx24(reinterpret_cast<unsigned char*>(made.words.data()), bytes.data(),
                              size, own.data());
  return made;
}

absl::Status ParseEntries(std::string_view bytes, std::vector<KeyEntry>& entries) {
  for (Reader reader(bytes); !reader.AtEnd();) {
    std::uint64_t queue = 0;
    KeyEntry entry;
    if (!reader.Number(4, queue) || !reader.Number(8, entry.sequence) ||
        !reader.Word(entry.sender) || !reader.Word(entry.key))
      return absl::DataLossError("a row of idempotency keys ends too early");
    if (entry.sender.size() > kMaxMailboxWordBytes || entry.key.size() > kMaxMailboxWordBytes)
      return absl::DataLossError("an idempotency key or its sender is longer than any");
    entry.queue = static_cast<std::uint32_t>(queue);
    entries.push_back(std::move(entry));
  }
  return absl::OkStatus();
}

std::optional<std::uint64_t> KeyWindow::Find(const TableKey& key) const {
  const auto found = table_.find(key);
  if (found == table_.end()) return std::nullopt;
  return found->second;
}

void KeyWindow::Add(const TableKey& key, Sender& sender, std::uint64_t sequence) {
  if (!table_.emplace(key, sequence).second) return;  // of a file that is not the store's work
  open_.keys.push_back(key);
  open_.senders.push_back(&sender);
  ++sender.keys;
}

void KeyWindow::Close(std::int64_t batch, std::int64_t until) {
  gathered_.clear();
  open_.row = batch;
  open_.until = until;
  batches_.push_back(std::exchange(open_, {}));
}

void KeyWindow::Clamp(std::int64_t until) {
  for (Batch& batch : batches_) batch.until = std::min(batch.until, until);
}

const KeyWindow::Batch* KeyWindow::Over(std::int64_t now) const {
  return batches_.empty() || batches_.front().until > now ? nullptr : &batches_.front();
}

void KeyWindow::DropOldest() {
  for (const TableKey& key : batches_.front().keys) table_.erase(key);
  batches_.pop_front();
}

}  // namespace waxvm::mailbox
