// SPDX-License-Identifier: Apache-2.0
#include "src/mailbox/receipt.h"

#include <sodium.h>

#include <algorithm>

namespace waxvm::mailbox {
namespace {

constexpr std::size_t kFieldBytes = 16;
constexpr std::size_t kBytes = kFieldBytes + crypto_shorthash_siphashx24_BYTES;
static_assert(crypto_shorthash_siphashx24_KEYBYTES == sizeof(ReceiptSecret));

using Bytes = std::array<unsigned char, kBytes>;

void Put(unsigned char* to, std::uint64_t number, int bytes) {
  for (int i = 0; i < bytes; ++i)
    to[i] = static_cast<unsigned char>(number >> (8 * (bytes - 1 - i)));
}

std::uint64_t Get(const unsigned char* from, int bytes) {
  std::uint64_t number = 0;
  for (int i = 0; i < bytes; ++i) number = number << 8 | from[i];
  return number;
}

Bytes ToBytes(const Receipt& receipt, const ReceiptSecret& secret) {
  Bytes bytes;
  Put(bytes.data(), receipt.group, 4);
  Put(bytes.data() + 4, receipt.sequence, 8);
  Put(bytes.data() + 12, receipt.deliveries, 4);
  crypto_shorthash_siphashx24(bytes.data() + kFieldBytes, bytes.data(), kFieldBytes, secret.data());
  return bytes;
}

}  // namespace

std::string EncodeReceipt(const Receipt& receipt, const ReceiptSecret& secret) {
  const Bytes bytes = ToBytes(receipt, secret);
  std::array<char, 2 * kBytes + 1> text;
  sodium_bin2hex(text.data(), text.size(), bytes.data(), bytes.size());
  return text.data();
}

absl::StatusOr<Receipt> DecodeReceipt(std::string_view text, const ReceiptSecret& secret) {
  Bytes bytes;
  std::size_t size = 0;
  if (text.size() == 2 * kBytes &&
      sodium_hex2bin(bytes.data(), bytes.size(), text.data(), text.size(), nullptr, &size,
                     nullptr) == 0 &&
      size == kBytes) {
    const Receipt receipt = {.group = static_cast<std::uint32_t>(Get(bytes.data(), 4)),
                             .sequence = Get(bytes.data() + 4, 8),
                             .deliveries = static_cast<std::uint32_t>(Get(bytes.data() + 12, 4))};
    const Bytes good = ToBytes(receipt, secret);
    if (sodium_memcmp(good.data(), bytes.data(), kBytes) == 0) return receipt;
  }
  return absl::PermissionDeniedError("this is no receipt of this store");
}

}  // namespace waxvm::mailbox
