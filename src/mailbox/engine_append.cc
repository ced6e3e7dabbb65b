// SPDX-License-Identifier: Apache-2.0
// Appending: quotas, idempotency keys, exchanges.
#include <algorithm>
#include <iterator>

#include "src/base/status.h"
#include "src/mailbox/engine.h"
#include "src/mailbox/schema.h"

namespace waxvm::mailbox {
namespace {

absl::Status Met(std::string_view limit, std::string_view whose, std::uint64_t has,
                 std::uint64_t takes, std::uint64_t most) {
  return absl::ResourceExhaustedError(absl::StrFormat(
      "%s: %s has %d and would take %d, of at most %d", limit, whose, has, takes, most));
}

struct Bound {
  std::string_view messages_name, bytes_name, whose;
  std::uint64_t max_messages, max_bytes;
};

absl::Status Check(const Bound& bound, const Usage& used, const Usage& planned,
                   std::uint64_t bytes) {
  if (used.messages + planned.messages >= bound.max_messages)
    return Met(bound.messages_name, bound.whose, used.messages + planned.messages, 1,
               bound.max_messages);
  // Sums of what fits in memory or on a disk do not overflow.
  if (used.bytes + planned.bytes + bytes > bound.max_bytes)
    return Met(bound.bytes_name, bound.whose, used.bytes + planned.bytes, bytes, bound.max_bytes);
  return absl::OkStatus();
}

std::uint64_t OrNoLimit(std::uint64_t limit) {
  return limit == 0 ? std::numeric_limits<std::uint64_t>::max() : limit;
}

std::int64_t Micros(std::chrono::milliseconds time) { return time.count() * 1'000; }

}  // namespace

absl::Status Engine::Refusal(const Queue& queue, const MailboxMessage& message,
                             const Planned* planned) {
  const std::uint64_t bytes = MessageBytes(message);
  const Sender* const found = FindSender(message.sender);
  const Usage sender = found == nullptr ? Usage() : found->usage;
  const std::size_t sender_keys = found == nullptr ? 0 : found->keys;
  Usage more;
  Usage more_of_queue;
  Usage more_of_sender;
  std::size_t more_keys = 0;
  std::size_t more_keys_of_sender = 0;
  if (planned != nullptr) {
    more = planned->all;
    more_keys = planned->keys;
    if (const auto at = planned->queues.find(&queue); at != planned->queues.end())
      more_of_queue = at->second;
    if (const auto at = planned->senders.find(message.sender); at != planned->senders.end()) {
      more_of_sender = at->second.first;
      more_keys_of_sender = at->second.second;
    }
  }
  // A sender's own limits first: whoever floods is told so, the others have room left.
  WAXVM_RETURN_IF_ERROR(Check({"max_messages_per_sender", "max_bytes_per_sender", "the sender",
                               options_.max_messages_per_sender, options_.max_bytes_per_sender},
                              sender, more_of_sender, bytes));
  WAXVM_RETURN_IF_ERROR(
      Check({"max_messages", "max_bytes", "the mailbox", OrNoLimit(queue.options.max_messages),
             OrNoLimit(queue.options.max_bytes)},
            queue.usage, more_of_queue, bytes));
  WAXVM_RETURN_IF_ERROR(
      Check({"max_messages", "max_bytes", "the store", options_.max_messages, options_.max_bytes},
            all_, more, bytes));
  if (queue.next + more_of_queue.messages > kMaxSequence)
    return Met("the last sequence", "the mailbox", queue.next - 1, 1, kMaxSequence);
  if (message.idempotency_key.empty()) return absl::OkStatus();
  // A key that was forgotten early would be a message that is stored twice.
  if (sender_keys + more_keys_of_sender >= options_.max_keys_per_sender)
    return Met("max_keys_per_sender", "the sender", sender_keys + more_keys_of_sender, 1,
               options_.max_keys_per_sender);
  if (keys_.size() + more_keys >= options_.max_keys)
    return Met("max_keys", "the store", keys_.size() + more_keys, 1, options_.max_keys);
  return absl::OkStatus();
}

void Engine::Plan(const Queue& queue, const MailboxMessage& message, Planned& planned) const {
  const std::uint64_t bytes = MessageBytes(message);
  auto& sender = planned.senders[message.sender];
  sender.first.Add(bytes);
  planned.queues[&queue].Add(bytes);
  planned.all.Add(bytes);
  if (message.idempotency_key.empty()) return;
  ++sender.second;
  ++planned.keys;
}

absl::Status Engine::Append(const MailboxMessage& message, absl::StatusOr<Appended>& result) {
  Queue* const queue = Find(message.mailbox);
  if (queue == nullptr) {
    result = absl::NotFoundError(absl::StrFormat("there is no mailbox %s", message.mailbox));
    return absl::OkStatus();
  }
  TableKey key;
  if (!message.idempotency_key.empty()) {
    key = MakeTableKey(secret_, queue->number, message.sender, message.idempotency_key);
    if (const auto first = keys_.Find(key)) {
      result = Appended{.sequence = *first, .duplicate = true};
      return absl::OkStatus();
    }
  }
  if (absl::Status refusal = Refusal(*queue, message, nullptr); !refusal.ok()) {
    result = std::move(refusal);
    return absl::OkStatus();
  }
  Appended appended;
  WAXVM_RETURN_IF_ERROR(Insert(*queue, message, key, appended));
  result = appended;
  return absl::OkStatus();
}

absl::Status Engine::Insert(Queue& queue, const MailboxMessage& message, const TableKey& key,
                            Appended& appended) {
  WAXVM_RETURN_IF_ERROR(Write());
  appended = {.sequence = queue.next};
  const std::int64_t id = RowOf(queue.number, queue.next);
  const auto life =
      message.time_to_live.count() != 0 ? message.time_to_live : queue.options.time_to_live;
  std::int64_t expires = kNone;
  sql_.insert.Bind(1, id).Bind(2, now_).Bind(4, message.sender).Bind(5, message.ordering_key);
  if (life.count() != 0) {
    expires = now_ + Micros(life);
    sql_.insert.Bind(3, expires);
    first_expiry_ = std::min(first_expiry_, expires);
  } else {
    sql_.insert.BindNull(3);
  }
  if (message.format) {
    sql_.insert.Bind(6, std::int64_t{*message.format});
  } else {
    sql_.insert.BindNull(6);
  }
  const std::int64_t crc = RowChecksum()
                               .Add(id)
                               .Add(now_)
                               .Add(expires)
                               .Add(message.sender)
                               .Add(message.ordering_key)
                               .Add(message.format ? std::int64_t{*message.format} : kNone)
                               .Add(message.payload)
                               .value();
  WAXVM_RETURN_IF_ERROR(sql_.insert.Bind(7, message.payload).Bind(8, crc).Run());
  const std::uint64_t bytes = MessageBytes(message);
  Sender& sender = SenderOf(message.sender);
  sender.usage.Add(bytes);
  queue.usage.Add(bytes);
  all_.Add(bytes);
  if (!message.idempotency_key.empty()) {
    AppendEntry(keys_.gathered(), queue.number, queue.next, message.sender,
                message.idempotency_key);
    keys_.Add(key, sender, queue.next);
  }
  ++queue.next;
  if (appended_.empty() || *appended_.begin() != &queue) {
    changed_queues_.insert(&queue);
    appended_.insert(&queue);
  }
  return absl::OkStatus();
}

absl::Status Engine::Exchange(const std::vector<std::string>& receipts,
                              const std::vector<MailboxMessage>& messages,
                              absl::StatusOr<std::vector<Appended>>& result) {
  std::set<std::pair<const Group*, std::uint64_t>> held;
  for (const std::string& receipt : receipts) {
    const auto open = Open(receipt);
    if (!open.ok() || !held.emplace(open->group, open->sequence).second) {
      result = open.ok() ? InvalidArgument("a receipt is there twice") : open.status();
      return absl::OkStatus();
    }
  }
  Planned planned;
  for (const MailboxMessage& message : messages) {
    const Queue* const queue = Find(message.mailbox);
    absl::Status refusal =
        queue == nullptr
            ? absl::NotFoundError(absl::StrFormat("there is no mailbox %s", message.mailbox))
            : Refusal(*queue, message, &planned);
    if (!refusal.ok()) {
      result = std::move(refusal);
      return absl::OkStatus();
    }
    Plan(*queue, message, planned);
  }
  std::vector<Appended> all;
  for (const MailboxMessage& message : messages) {
    absl::StatusOr<Appended> appended = Appended();
    WAXVM_RETURN_IF_ERROR(Append(message, appended));
    if (!appended.ok()) return Internal("a message was refused that was not before");
    all.push_back(*appended);
  }
  for (const std::string& receipt : receipts) {
    WAXVM_ASSIGN_OR_RETURN(const Held open, Open(receipt));
    WAXVM_RETURN_IF_ERROR(Finish(*open.group, open.sequence));
  }
  result = std::move(all);
  return absl::OkStatus();
}

}  // namespace waxvm::mailbox
