// SPDX-License-Identifier: Apache-2.0
#include "src/mailbox/checks.h"

#include "src/base/status.h"

namespace waxvm::mailbox {
namespace {

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.' || c == ':' || c == '@';
}

absl::Status CheckWord(std::string_view what, std::string_view word) {
  if (word.size() <= kMaxMailboxWordBytes) return absl::OkStatus();
  return InvalidArgument("%s has %d bytes, more than %d", what, word.size(), kMaxMailboxWordBytes);
}

absl::Status CheckTime(std::string_view what, std::chrono::milliseconds time,
                       std::chrono::milliseconds least, std::chrono::milliseconds most) {
  if (time >= least && time <= most) return absl::OkStatus();
  return InvalidArgument("%s of %d ms is not from %d ms to %d ms", what, time.count(),
                         least.count(), most.count());
}

}  // namespace

absl::Status CheckName(std::string_view what, std::string_view name) {
  if (name.empty() || name.size() > kMaxMailboxNameBytes)
    return InvalidArgument("the name of a %s has 1 to %d bytes, not %d", what, kMaxMailboxNameBytes,
                           name.size());
  for (const char c : name)
    if (!IsNameCharacter(c))
      return InvalidArgument("the name of a %s has a byte %#x; letters, digits and -_.:@ are good",
                             what, static_cast<unsigned char>(c));
  return absl::OkStatus();
}

absl::Status CheckOptions(const MailboxOptions& options) {
  using std::chrono::milliseconds;
  if (options.max_deliveries == 0 || options.max_deliveries > 1'000'000)
    return InvalidArgument("%d deliveries at most are not from 1 to 1000000",
                           options.max_deliveries);
  WAXVM_RETURN_IF_ERROR(
      CheckTime("a first back-off", options.first_back_off, milliseconds(0), kMaxLease));
  WAXVM_RETURN_IF_ERROR(
      CheckTime("a greatest back-off", options.max_back_off, milliseconds(0), kMaxLease));
  WAXVM_RETURN_IF_ERROR(
      CheckTime("a time to live", options.time_to_live, milliseconds(0), kMaxTime));
  // They are kept as the signed numbers of SQLite.
  constexpr std::uint64_t kMost = 1ull << 62;
  if (options.max_messages > kMost || options.max_bytes > kMost || options.max_dead_letters > kMost)
    return InvalidArgument("limits of a mailbox are at most 2^62");
  return absl::OkStatus();
}

absl::Status CheckMessage(const MailboxMessage& message, std::size_t max_payload_bytes) {
  WAXVM_RETURN_IF_ERROR(CheckName("mailbox", message.mailbox));
  WAXVM_RETURN_IF_ERROR(CheckWord("the sender", message.sender));
  WAXVM_RETURN_IF_ERROR(CheckWord("the idempotency key", message.idempotency_key));
  WAXVM_RETURN_IF_ERROR(CheckWord("the ordering key", message.ordering_key));
  if (message.payload.size() > max_payload_bytes)
    return InvalidArgument("a payload has %d bytes, more than %d", message.payload.size(),
                           max_payload_bytes);
  return CheckTime("a time to live", message.time_to_live, std::chrono::milliseconds(0), kMaxTime);
}

absl::Status CheckReceive(const ReceiveOptions& options) {
  using std::chrono::milliseconds;
  WAXVM_RETURN_IF_ERROR(CheckName("mailbox", options.mailbox));
  if (!options.group.empty()) WAXVM_RETURN_IF_ERROR(CheckName("group", options.group));
  if (options.max_messages == 0) return InvalidArgument("no message at most is nothing to receive");
  WAXVM_RETURN_IF_ERROR(CheckCount(options.max_messages));
  WAXVM_RETURN_IF_ERROR(CheckTime("a lease", options.lease, milliseconds(1), kMaxLease));
  return CheckTime("a wait", options.wait, milliseconds(0), kMaxWait);
}

absl::Status CheckSettlement(const Settlement& settlement) {
  using std::chrono::milliseconds;
  if (settlement.reason.size() > kMaxReasonBytes)
    return InvalidArgument("a reason has %d bytes, more than %d", settlement.reason.size(),
                           kMaxReasonBytes);
  if (settlement.kind == Settlement::Kind::kExtend)
    return CheckTime("a lease", settlement.time, milliseconds(1), kMaxLease);
  return CheckTime("a delay", settlement.time, milliseconds(0), kMaxLease);
}

absl::Status CheckCount(std::size_t count) {
  if (count <= kMaxPerCall) return absl::OkStatus();
  return InvalidArgument("%d at once are more than %d", count, kMaxPerCall);
}

}  // namespace waxvm::mailbox
