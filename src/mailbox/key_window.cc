// SPDX-License-Identifier: Apache-2.0
#include "src/mailbox/key_window.h"

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

/// Senders are of any bytes: the size keeps one's key from being another's.
std::string TableKey(std::uint32_t queue, std::string_view sender, std::string_view key) {
  std::string all;
  all.reserve(5 + sender.size() + key.size());
  PutNumber(all, queue, 4);
  PutNumber(all, sender.size(), 1);
  return all.append(sender).append(key);
}

absl::Status ParseEntries(std::string_view bytes, std::vector<KeyEntry>& entries) {
  for (Reader reader(bytes); !reader.AtEnd();) {
    std::uint64_t queue = 0;
    KeyEntry entry;
    if (!reader.Number(4, queue) || !reader.Number(8, entry.sequence) ||
        !reader.Word(entry.sender) || !reader.Word(entry.key))
      return absl::DataLossError("a row of idempotency keys ends too early");
    entry.queue = static_cast<std::uint32_t>(queue);
    entries.push_back(std::move(entry));
  }
  return absl::OkStatus();
}

std::optional<std::uint64_t> KeyWindow::Find(const std::string& table_key) const {
  const auto found = table_.find(table_key);
  if (found == table_.end()) return std::nullopt;
  return found->second;
}

void KeyWindow::Add(std::string table_key, Sender& sender, std::uint64_t sequence) {
  const auto [at, is_new] = table_.emplace(std::move(table_key), sequence);
  if (!is_new) return;  // of a file that is not the store's work
  open_.keys.push_back(&at->first);
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
  for (const std::string* const key : batches_.front().keys) table_.erase(table_.find(*key));
  batches_.pop_front();
}

}  // namespace waxvm::mailbox
