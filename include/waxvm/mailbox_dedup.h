// SPDX-License-Identifier: Apache-2.0
// The receiver's half of exactly-once: which deliveries took effect.
#ifndef WAXVM_MAILBOX_DEDUP_H_
#define WAXVM_MAILBOX_DEDUP_H_

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "waxvm/mailbox.h"

namespace waxvm {

/// Remembers the messages of one mailbox, or one group of a topic, that took effect. A receiver
/// keeps `ToBytes` in the same transaction as the effect: what comes again is then known, whenever
/// the receiver, the store or the host died. Its size is that of what is open at once.
///
///   if (dedup.Begin(delivery)) { apply; store effect and dedup.ToBytes() in one transaction; }
///   store.Acknowledge(delivery.receipt);
///
/// Thread safety: none.
class MailboxDedup {
 public:
  /// True where the delivery took no effect yet; it counts as having done so from now on.
  bool Begin(const Delivery& delivery);
  /// Whether it took effect.
  bool Contains(std::uint64_t sequence) const;

  std::string ToBytes() const;
  /// Errors: kInvalidArgument for what ToBytes did not write.
  static absl::StatusOr<MailboxDedup> FromBytes(std::string_view bytes);

 private:
  std::uint64_t forgotten_ = 0;  ///< all below it are done with
  std::set<std::uint64_t> done_;
};

}  // namespace waxvm

#endif  // WAXVM_MAILBOX_DEDUP_H_
