// SPDX-License-Identifier: Apache-2.0
// What is asked for is checked once, before it is handed to the store's thread.
#ifndef WAXVM_SRC_MAILBOX_CHECKS_H_
#define WAXVM_SRC_MAILBOX_CHECKS_H_

#include <chrono>
#include <cstddef>
#include <string_view>

#include "absl/status/status.h"
#include "waxvm/mailbox.h"

namespace waxvm::mailbox {

/// One call may not hold up everybody else's commits.
inline constexpr std::size_t kMaxPerCall = 4'096;
inline constexpr std::chrono::hours kMaxLease{12};
inline constexpr std::chrono::hours kMaxWait{1};
inline constexpr std::chrono::hours kMaxTime{24 * 366};
inline constexpr std::size_t kMaxReasonBytes = 256;

/// 1 to 128 of letters, digits and -_.:@ : a path segment, a file's name, a word of a command line.
absl::Status CheckName(std::string_view what, std::string_view name);
absl::Status CheckOptions(const MailboxOptions& options);
absl::Status CheckMessage(const MailboxMessage& message, std::size_t max_payload_bytes);
absl::Status CheckReceive(const ReceiveOptions& options);
absl::Status CheckSettlement(const Settlement& settlement);
/// Of messages, receipts or settlements of one call.
absl::Status CheckCount(std::size_t count);

}  // namespace waxvm::mailbox

#endif  // WAXVM_SRC_MAILBOX_CHECKS_H_
