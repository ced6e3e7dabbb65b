// SPDX-License-Identifier: Apache-2.0
// Receipts: which delivery is settled, and that the store itself said so.
#ifndef WAXVM_SRC_MAILBOX_RECEIPT_H_
#define WAXVM_SRC_MAILBOX_RECEIPT_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace waxvm::mailbox {

/// Of a store; in its file.
using ReceiptSecret = std::array<unsigned char, 16>;

struct Receipt {
  std::uint32_t group = 0;  ///< its number, which no other group ever has
  std::uint64_t sequence = 0;
  std::uint32_t deliveries = 0;

  bool operator==(const Receipt&) const = default;
};

/// 64 hexadecimal digits: the fields and a keyed hash of them (SipHash-2-4, 128 bits), so that a
/// client cannot settle what others hold.
std::string EncodeReceipt(const Receipt& receipt, const ReceiptSecret& secret);
/// Errors: kPermissionDenied.
absl::StatusOr<Receipt> DecodeReceipt(std::string_view text, const ReceiptSecret& secret);

}  // namespace waxvm::mailbox

#endif  // WAXVM_SRC_MAILBOX_RECEIPT_H_
