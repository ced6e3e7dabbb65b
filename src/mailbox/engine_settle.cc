// SPDX-License-Identifier: Apache-2.0
// What becomes of deliveries: done, again, dead; and what ends by itself.
#include <algorithm>
#include <iterator>

#include "src/base/status.h"
#include "src/mailbox/engine.h"
#include "src/mailbox/schema.h"

namespace waxvm::mailbox {
namespace {

/// Messages that expire at once: the others wait for the next commit, not for all of them.
constexpr int kMaxExpiredAtOnce = 10'000;

std::int64_t Micros(std::chrono::milliseconds time) { return time.count() * 1'000; }

std::int64_t BackOff(const MailboxOptions& options, std::uint32_t deliveries) {
  const std::int64_t most = Micros(options.max_back_off);
  std::int64_t delay = std::min(Micros(options.first_back_off), most);
  for (std::uint32_t i = 1; i < deliveries && delay != 0 && delay < most; ++i)
    delay = std::min(2 * delay, most);
  return delay;
}

}  // namespace

absl::StatusOr<Engine::Held> Engine::Open(const std::string& text) {
  WAXVM_ASSIGN_OR_RETURN(const Receipt receipt, DecodeReceipt(text, secret_));
  const auto group = groups_.find(receipt.group);
  if (group == groups_.end())
    return absl::NotFoundError("the mailbox or group of this receipt was removed");
  const auto tracked = group->second->tracked.find(receipt.sequence);
  if (tracked == group->second->tracked.end())
    return absl::NotFoundError(absl::StrFormat(
        "the message %d is done with: acknowledged, dead or expired", receipt.sequence));
  if (tracked->second.deliveries != receipt.deliveries)
    return FailedPrecondition("the message %d was delivered again since, for the %d. time",
                              receipt.sequence, tracked->second.deliveries);
  if (tracked->second.rejected)
    return FailedPrecondition("this delivery of the message %d was rejected", receipt.sequence);
  return Held{.group = group->second, .sequence = receipt.sequence, .tracked = &tracked->second};
}

absl::Status Engine::Settle(const Settlement& settlement, absl::Status& result) {
  const auto held = Open(settlement.receipt);
  result = held.status();
  if (!held.ok()) return absl::OkStatus();
  Group& group = *held->group;
  if (!settlement.mailbox.empty() && settlement.mailbox != group.queue->name) {
    result = absl::PermissionDeniedError("this is no receipt of this mailbox");
    return absl::OkStatus();
  }
  WAXVM_RETURN_IF_ERROR(Write());
  switch (settlement.kind) {
    case Settlement::Kind::kAcknowledge:
      return Finish(group, held->sequence);
    case Settlement::Kind::kDead:
      return Bury(group, held->sequence,
                  settlement.reason.empty() ? "rejected" : settlement.reason);
    case Settlement::Kind::kReject:
      return Reject(*held, settlement);
    case Settlement::Kind::kExtend:
      break;
  }
  Tracked& tracked = *held->tracked;
  if (tracked.state != Tracked::State::kLeased) {
    result = FailedPrecondition("the lease of the message %d has ended", held->sequence);
    return absl::OkStatus();
  }
  SetTimer(group, held->sequence, tracked, now_ + Micros(settlement.time));
  return PutDelivery(group, held->sequence, kRowLeased, tracked.deliveries, tracked.until);
}

absl::Status Engine::Reject(const Held& held, const Settlement& settlement) {
  Tracked& tracked = *held.tracked;
  const MailboxOptions& options = held.group->queue->options;
  if (tracked.deliveries >= options.max_deliveries)
    return Bury(*held.group, held.sequence,
                absl::StrFormat("rejected in its last delivery, the %d.: %s", tracked.deliveries,
                                settlement.reason));
  held.group->ready.erase(held.sequence);  // where its lease had ended
  tracked.rejected = true;
  tracked.state = Tracked::State::kWaiting;
  const std::int64_t delay =
      settlement.time.count() != 0 ? Micros(settlement.time) : BackOff(options, tracked.deliveries);
  SetTimer(*held.group, held.sequence, tracked, now_ + delay);
  return PutDelivery(*held.group, held.sequence, kRowWaiting, tracked.deliveries, tracked.until);
}

// ---- Dead letters

absl::Status Engine::Bury(Group& group, std::uint64_t sequence, std::string_view reason) {
  WAXVM_RETURN_IF_ERROR(Write());
  Queue& queue = *group.queue;
  const std::uint32_t delivered = group.tracked[sequence].deliveries;
  if (queue.options.max_dead_letters != 0) {
    WAXVM_ASSIGN_OR_RETURN(const bool there,
                           sql_.get.Bind(1, RowOf(queue.number, sequence)).Step());
    const sqlite::Resetting resetting(sql_.get);
    if (!there) return absl::DataLossError("a message that is open is not in the file");
    const Row row = Read(sql_.get);
    const std::int64_t id = RowOf(queue.number, ++queue.last_dead);
    RowChecksum crc;
    const std::int64_t deliveries = delivered;
    const auto number = static_cast<std::int64_t>(sequence);
    crc.Add(id).Add(group.name).Add(reason).Add(now_).Add(deliveries).Add(number);
    crc.Add(row.appended).Add(row.sender).Add(row.ordering);
    crc.Add(row.format ? std::int64_t{*row.format} : kNone).Add(row.payload);
    sql_.put_dead.Bind(1, id).Bind(2, group.name).Bind(3, reason).Bind(4, now_).Bind(5, deliveries);
    sql_.put_dead.Bind(6, number).Bind(7, row.appended).Bind(8, row.sender).Bind(9, row.ordering);
    if (row.format) {
      sql_.put_dead.Bind(10, std::int64_t{*row.format});
    } else {
      sql_.put_dead.BindNull(10);
    }
    WAXVM_RETURN_IF_ERROR(sql_.put_dead.Bind(11, row.payload).Bind(12, crc.value()).Run());
    queue.dead.Add(row.bytes());
    changed_queues_.insert(&queue);
  }
  WAXVM_RETURN_IF_ERROR(Finish(group, sequence));
  // A receiver that rejects all it gets fills no disk.
  while (queue.dead.messages > queue.options.max_dead_letters ||
         (queue.options.max_bytes != 0 && queue.dead.bytes > queue.options.max_bytes)) {
    WAXVM_RETURN_IF_ERROR(DropOldestDead(queue));
    ++stats_.dead_dropped;
  }
  return absl::OkStatus();
}

absl::Status Engine::DropOldestDead(Queue& queue) {
  absl::StatusOr<std::vector<DeadLetter>> oldest = std::vector<DeadLetter>();
  WAXVM_RETURN_IF_ERROR(DeadLetters(queue.name, 1, oldest));
  if (!oldest.ok() || oldest->empty()) return absl::DataLossError("a dead letter is missing");
  absl::Status gone;
  WAXVM_RETURN_IF_ERROR(RemoveDead(queue.name, oldest->front().id, gone));
  return gone;
}

absl::Status Engine::DeadLetters(const std::string& mailbox, std::size_t max,
                                 absl::StatusOr<std::vector<DeadLetter>>& result) {
  const Queue* const queue = Find(mailbox);
  if (queue == nullptr) {
    result = absl::NotFoundError(absl::StrFormat("there is no mailbox %s", mailbox));
    return absl::OkStatus();
  }
  std::vector<DeadLetter> letters;
  sqlite::Statement& row = sql_.dead_letters;
  const sqlite::Resetting resetting(row);
  row.Bind(1, RowOf(queue->number, 0))
      .Bind(2, RowOf(queue->number, kMaxSequence))
      .Bind(3, static_cast<std::int64_t>(max));
  for (;;) {
    WAXVM_ASSIGN_OR_RETURN(const bool there, row.Step());
    if (!there) break;
    DeadLetter letter = {.id = SequenceOf(row.Number(0)),
                         .group = std::string(row.Bytes(1)),
                         .reason = std::string(row.Bytes(2)),
                         .died_us = row.Number(3)};
    letter.message = {.sequence = static_cast<std::uint64_t>(row.Number(5)),
                      .sender = std::string(row.Bytes(7)),
                      .payload = std::string(row.Bytes(10)),
                      .ordering_key = std::string(row.Bytes(8)),
                      .appended_us = row.Number(6),
                      .deliveries = static_cast<std::uint32_t>(row.Number(4))};
    if (!row.IsNull(9)) letter.message.format = static_cast<std::uint16_t>(row.Number(9));
    letters.push_back(std::move(letter));
  }
  result = std::move(letters);
  return absl::OkStatus();
}

absl::Status Engine::RemoveDead(const std::string& mailbox, std::uint64_t id,
                                absl::Status& result) {
  Queue* const queue = Find(mailbox);
  result = queue == nullptr
               ? absl::NotFoundError(absl::StrFormat("there is no mailbox %s", mailbox))
               : absl::OkStatus();
  if (queue == nullptr) return absl::OkStatus();
  std::uint64_t bytes = 0;
  {
    sqlite::Statement& row = sql_.dead_letters;
    const sqlite::Resetting resetting(row);
    const std::int64_t number = RowOf(queue->number, std::min(id, kMaxSequence));
    WAXVM_ASSIGN_OR_RETURN(const bool there,
                           row.Bind(1, number).Bind(2, number).Bind(3, std::int64_t{1}).Step());
    if (!there) {
      result = absl::NotFoundError(absl::StrFormat("%s has no dead letter %d", mailbox, id));
      return absl::OkStatus();
    }
    bytes = MessageBytes({}) + row.Bytes(7).size() + row.Bytes(8).size() + row.Bytes(10).size();
  }
  WAXVM_RETURN_IF_ERROR(Write());
  queue->dead.Take(bytes);
  return sql_.drop_dead.Bind(1, RowOf(queue->number, id)).Run();
}

absl::Status Engine::Requeue(const std::string& mailbox, std::uint64_t id,
                             absl::StatusOr<Appended>& result) {
  MailboxMessage message = {.mailbox = mailbox};
  bool found = false;
  if (const Queue* const queue = Find(mailbox)) {
    sqlite::Statement& row = sql_.dead_letters;
    const sqlite::Resetting resetting(row);
    const std::int64_t number = RowOf(queue->number, std::min(id, kMaxSequence));
    WAXVM_ASSIGN_OR_RETURN(found,
                           row.Bind(1, number).Bind(2, number).Bind(3, std::int64_t{1}).Step());
    if (found) {
      message.sender = row.Bytes(7);
      message.ordering_key = row.Bytes(8);
      message.payload = row.Bytes(10);
      if (!row.IsNull(9)) message.format = static_cast<std::uint16_t>(row.Number(9));
    }
  }
  if (!found) {
    result = absl::NotFoundError(absl::StrFormat("%s has no dead letter %d", mailbox, id));
    return absl::OkStatus();
  }
  WAXVM_RETURN_IF_ERROR(Append(message, result));
  if (!result.ok()) return absl::OkStatus();
  absl::Status gone;
  WAXVM_RETURN_IF_ERROR(RemoveDead(mailbox, id, gone));
  return gone;
}

// ---- Done

absl::Status Engine::Finish(Group& group, std::uint64_t sequence) {
  WAXVM_RETURN_IF_ERROR(Write());
  Queue& queue = *group.queue;
  const auto at = group.tracked.find(sequence);
  if (at == group.tracked.end()) return Internal("a message is finished that is not open");
  const std::uint32_t deliveries = at->second.deliveries;
  Untrack(group, at);
  if (!queue.options.topic) {
    WAXVM_RETURN_IF_ERROR(sql_.drop_delivery.Bind(1, std::int64_t{group.number})
                              .Bind(2, static_cast<std::int64_t>(sequence))
                              .Run());
    return DropMessages(queue, sequence, sequence);
  }
  if (sequence != group.floor + 1)
    WAXVM_RETURN_IF_ERROR(PutDelivery(group, sequence, kRowDone, deliveries, 0));
  WAXVM_RETURN_IF_ERROR(MarkDone(group, sequence, sequence));
  if (group.done.count() != 0) WAXVM_RETURN_IF_ERROR(FindFloor(group));
  return Trim(queue);
}

/// Forgets that a message is open, and lets go on who waited for it.
void Engine::Untrack(Group& group, std::map<std::uint64_t, Tracked>::iterator at) {
  const std::uint64_t sequence = at->first;
  StopTimer(group, sequence, at->second);
  group.ready.erase(sequence);
  const bool parked = at->second.state == Tracked::State::kParked;
  group.parked -= parked;
  const std::string ordering = std::move(at->second.ordering);
  group.tracked.erase(at);
  Wake(*group.queue, group);  // one less is leased
  if (parked || !group.queue->options.strict) return;
  const auto line = group.lines.find(ordering);
  if (line == group.lines.end() || line->second.head != sequence) return;
  while (!line->second.parked.empty()) {
    const std::uint64_t next = line->second.parked.front();
    line->second.parked.pop_front();
    const auto waiting = group.tracked.find(next);
    if (waiting == group.tracked.end()) continue;  // it expired
    line->second.head = next;
    --group.parked;
    MakeReady(group, next, waiting->second);
    return;
  }
  group.lines.erase(line);
}

absl::Status Engine::MarkDone(Group& group, std::uint64_t first, std::uint64_t last) {
  group.done.Add(first, last);
  const std::uint64_t floor = group.done.TakeAfter(group.floor);
  if (floor == group.floor) return absl::OkStatus();
  WAXVM_RETURN_IF_ERROR(Write());
  group.floor = floor;
  changed_groups_.insert(&group);
  return absl::OkStatus();
}

/// Removes what all groups of a topic are done with.
absl::Status Engine::Trim(Queue& queue) {
  if (!queue.options.topic || queue.groups.empty()) return absl::OkStatus();
  std::uint64_t floor = kMaxSequence;
  for (const auto& [name, group] : queue.groups) floor = std::min(floor, group->floor);
  if (floor <= queue.low) return absl::OkStatus();
  const std::uint64_t first = queue.low + 1;
  queue.low = floor;
  return DropMessages(queue, first, floor);
}

absl::Status Engine::DropMessages(Queue& queue, std::uint64_t first, std::uint64_t last) {
  WAXVM_RETURN_IF_ERROR(Write());
  const std::int64_t from = RowOf(queue.number, first);
  const std::int64_t to = RowOf(queue.number, last);
  {
    const sqlite::Resetting resetting(sql_.sizes);
    sql_.sizes.Bind(1, from).Bind(2, to);
    for (;;) {
      WAXVM_ASSIGN_OR_RETURN(const bool there, sql_.sizes.Step());
      if (!there) break;
      Sender& sender = SenderOf(sql_.sizes.Bytes(0));
      const std::uint64_t bytes =
          MessageBytes({}) + sender.name.size() +
          static_cast<std::uint64_t>(sql_.sizes.Number(1) + sql_.sizes.Number(2));
      sender.usage.Take(bytes);
      queue.usage.Take(bytes);
      all_.Take(bytes);
      LetGo(sender);
    }
  }
  return sql_.drop_range.Bind(1, from).Bind(2, to).Run();
}

// ---- Time

absl::Status Engine::PutDelivery(const Group& group, std::uint64_t sequence, std::int64_t state,
                                 std::uint32_t deliveries, std::int64_t until) {
  WAXVM_RETURN_IF_ERROR(Write());
  const std::int64_t numbers[] = {group.number, static_cast<std::int64_t>(sequence), state,
                                  deliveries, until};
  RowChecksum crc;
  int at = 1;
  for (const std::int64_t number : numbers) {
    crc.Add(number);
    sql_.put_delivery.Bind(at++, number);
  }
  return sql_.put_delivery.Bind(at, crc.value()).Run();
}

void Engine::MakeReady(Group& group, std::uint64_t sequence, Tracked& tracked) {
  tracked.state = Tracked::State::kReady;
  group.ready.insert(sequence);
  Wake(*group.queue, group);
}

void Engine::SetTimer(Group& group, std::uint64_t sequence, Tracked& tracked, std::int64_t until) {
  timers_.erase({tracked.until, &group, sequence});
  tracked.until = until;
  timers_.emplace(until, &group, sequence);
}

void Engine::StopTimer(Group& group, std::uint64_t sequence, const Tracked& tracked) {
  timers_.erase({tracked.until, &group, sequence});
}

absl::Status Engine::EndTimers() {
  while (!timers_.empty() && std::get<0>(*timers_.begin()) <= now_) {
    const auto [until, group, sequence] = *timers_.begin();
    timers_.erase(timers_.begin());
    const auto found = group->tracked.find(sequence);
    if (found == group->tracked.end()) return Internal("a timer is of no message");
    Tracked& tracked = found->second;
    if (tracked.state == Tracked::State::kLeased &&
        tracked.deliveries >= group->queue->options.max_deliveries) {
      WAXVM_RETURN_IF_ERROR(
          Bury(*group, sequence,
               absl::StrFormat("delivered %d times and never acknowledged", tracked.deliveries)));
    } else {
      MakeReady(*group, sequence, tracked);
    }
  }
  return absl::OkStatus();
}

absl::Status Engine::EndMessages() {
  for (int i = 0; first_expiry_ <= now_ && i < kMaxExpiredAtOnce; ++i) {
    WAXVM_RETURN_IF_ERROR(Write());
    {
      WAXVM_ASSIGN_OR_RETURN(const bool there, sql_.expired.Bind(1, now_).Step());
      const sqlite::Resetting resetting(sql_.expired);
      if (there) {
        const Row row = Read(sql_.expired);
        const auto queue = queue_numbers_.find(QueueOf(row.id));
        if (queue == queue_numbers_.end()) return absl::DataLossError("a message is of no mailbox");
        WAXVM_RETURN_IF_ERROR(Expire(*queue->second, row));
        continue;
      }
    }
    WAXVM_RETURN_IF_ERROR(sql_.first_expiry.Step().status());
    const sqlite::Resetting resetting(sql_.first_expiry);
    first_expiry_ = sql_.first_expiry.IsNull(0) ? std::numeric_limits<std::int64_t>::max()
                                                : sql_.first_expiry.Number(0);
  }
  return absl::OkStatus();
}

/// Whoever holds a message may finish with it: it expires when the last lease ends.
absl::Status Engine::Expire(Queue& queue, const Row& row) {
  const std::uint64_t sequence = SequenceOf(row.id);
  std::int64_t leased_until = 0;
  for (const auto& [name, group] : queue.groups) {
    const auto found = group->tracked.find(sequence);
    if (found != group->tracked.end() && found->second.state == Tracked::State::kLeased)
      leased_until = std::max(leased_until, found->second.until);
  }
  if (leased_until > now_) return ExtendExpiry(row, leased_until);
  for (const auto& [name, group] : queue.groups) {
    const auto found = group->tracked.find(sequence);
    if (found != group->tracked.end()) Untrack(*group, found);
    WAXVM_RETURN_IF_ERROR(sql_.drop_delivery.Bind(1, std::int64_t{group->number})
                              .Bind(2, static_cast<std::int64_t>(sequence))
                              .Run());
    if (queue.options.topic && sequence > group->floor)
      WAXVM_RETURN_IF_ERROR(MarkDone(*group, sequence, sequence));
  }
  ++stats_.expired;
  WAXVM_RETURN_IF_ERROR(DropMessages(queue, sequence, sequence));
  return Trim(queue);
}

absl::Status Engine::ExtendExpiry(const Row& row, std::int64_t until) {
  const std::int64_t crc = RowChecksum()
                               .Add(row.id)
                               .Add(row.appended)
                               .Add(until)
                               .Add(row.sender)
                               .Add(row.ordering)
                               .Add(row.format ? std::int64_t{*row.format} : kNone)
                               .Add(row.payload)
                               .value();
  return sql_.set_expiry.Bind(1, row.id).Bind(2, until).Bind(3, crc).Run();
}

}  // namespace waxvm::mailbox
