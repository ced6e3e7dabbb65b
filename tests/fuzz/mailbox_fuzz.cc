// SPDX-License-Identifier: Apache-2.0
// What mailboxes read from others: receipts, rows of idempotency keys, a receiver's own memory.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "src/mailbox/key_window.h"
#include "src/mailbox/receipt.h"
#include "waxvm/mailbox_dedup.h"

namespace {

using namespace waxvm::mailbox;

void Require(bool holds) {
  if (!holds) std::abort();
}

/// The secret is known here: what decodes is what was encoded.
void Receipts(std::string_view text) {
  const ReceiptSecret secret = {1, 2, 3};
  const auto receipt = DecodeReceipt(text, secret);
  if (!receipt.ok()) return;
  const auto again = DecodeReceipt(EncodeReceipt(*receipt, secret), secret);
  Require(again.ok() && *again == *receipt);
}

void Keys(std::string_view bytes) {
  std::vector<KeyEntry> entries;
  const bool good = ParseEntries(bytes, entries).ok();
  std::string written;
  for (const KeyEntry& entry : entries) {
    AppendEntry(written, entry.queue, entry.sequence, entry.sender, entry.key);
    MakeTableKey({}, entry.queue, entry.sender, entry.key);
  }
  Require(good ? written == bytes : bytes.starts_with(written));
}

void Dedup(std::string_view bytes) {
  auto dedup = waxvm::MailboxDedup::FromBytes(bytes);
  if (!dedup.ok()) return;
  Require(dedup->ToBytes() == bytes);
  const waxvm::Delivery delivery = {.sequence = ~std::uint64_t{0}, .oldest_open = 7};
  const bool begun = dedup->Begin(delivery);
  Require(!dedup->Begin(delivery));
  Require(begun || dedup->Contains(delivery.sequence));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (bytes.empty()) return 0;
  const std::string_view rest = bytes.substr(1);
  switch (bytes[0] % 3) {
    case 0:
      Receipts(rest);
      break;
    case 1:
      Keys(rest);
      break;
    default:
      Dedup(rest);
      break;
  }
  return 0;
}
