// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "src/base/status.h"
#include "waxvm/mailbox_dedup.h"

namespace waxvm {
namespace {

constexpr std::size_t kNumberBytes = 8;

void PutNumber(std::string& to, std::uint64_t number) {
  for (int shift = 56; shift >= 0; shift -= 8) to.push_back(static_cast<char>(number >> shift));
}

std::uint64_t NumberAt(std::string_view bytes, std::size_t index) {
  std::uint64_t number = 0;
  for (const char byte : bytes.substr(index * kNumberBytes, kNumberBytes))
    number = number << 8 | static_cast<unsigned char>(byte);
  return number;
}

}  // namespace

bool MailboxDedup::Begin(const Delivery& delivery) {
  if (Contains(delivery.sequence)) return false;
  if (delivery.oldest_open > forgotten_) {
    forgotten_ = delivery.oldest_open;
    done_.erase(done_.begin(), done_.lower_bound(forgotten_));
  }
  done_.insert(delivery.sequence);
  return true;
}

bool MailboxDedup::Contains(std::uint64_t sequence) const {
  return sequence < forgotten_ || done_.count(sequence) != 0;
}

std::string MailboxDedup::ToBytes() const {
  std::string bytes;
  PutNumber(bytes, forgotten_);
  for (const std::uint64_t sequence : done_) PutNumber(bytes, sequence);
  return bytes;
}

absl::StatusOr<MailboxDedup> MailboxDedup::FromBytes(std::string_view bytes) {
  if (bytes.empty() || bytes.size() % kNumberBytes != 0)
    return InvalidArgument("%d bytes are not those of a MailboxDedup", bytes.size());
  MailboxDedup dedup;
  dedup.forgotten_ = NumberAt(bytes, 0);
  std::uint64_t last = dedup.forgotten_;
  for (std::size_t i = 1; i < bytes.size() / kNumberBytes; ++i) {
    const std::uint64_t sequence = NumberAt(bytes, i);
    if (sequence < last || (i > 1 && sequence == last))
      return InvalidArgument("the numbers of a MailboxDedup do not rise");
    dedup.done_.insert(dedup.done_.end(), sequence);
    last = sequence;
  }
  return dedup;
}

}  // namespace waxvm
