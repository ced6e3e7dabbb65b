// SPDX-License-Identifier: Apache-2.0
// Handing out: which message is next, and its lease.
#include <algorithm>
#include <iterator>

#include "src/base/status.h"
#include "src/mailbox/engine.h"
#include "src/mailbox/schema.h"

namespace waxvm::mailbox {
namespace {

/// Messages of strict mailboxes that were passed over because of one before them: of a mailbox that
/// somebody filled with one ordering key not all are in memory.
constexpr std::size_t kMaxParked = 65'536;
/// Of a topic: messages done with behind one that is not, as ranges.
constexpr std::size_t kMaxDoneRanges = 65'536;

std::int64_t Micros(std::chrono::milliseconds time) { return time.count() * 1'000; }

}  // namespace

absl::Status Engine::Receive(const ReceiveOptions& options,
                             absl::StatusOr<std::vector<Delivery>>& result) {
  Queue* const queue = Find(options.mailbox);
  const auto found =
      queue == nullptr ? decltype(queue->groups.end())() : queue->groups.find(options.group);
  if (queue == nullptr) {
    result = absl::NotFoundError(absl::StrFormat("there is no mailbox %s", options.mailbox));
  } else if (found == queue->groups.end()) {
    result = queue->options.topic
                 ? absl::NotFoundError(absl::StrFormat("there is no group '%s' of the topic %s",
                                                       options.group, options.mailbox))
                 : InvalidArgument("%s is a mailbox, which has no groups", options.mailbox);
  } else {
    // Whoever takes and never acknowledges fills no memory.
    Group& group = *found->second;
    if (group.open() >= options_.max_leased && group.ready.empty()) {
      result = absl::ResourceExhaustedError(absl::StrFormat(
          "max_leased: %d messages are leased or wait to be handed out again, of at most %d",
          group.open(), options_.max_leased));
      return absl::OkStatus();
    }
    std::vector<Delivery> out;
    absl::Status damage;
    WAXVM_RETURN_IF_ERROR(HandOut(group, options, out, damage));
    // What it found to be missing may have been the last that was in the way.
    if (changed_groups_.count(&group) != 0) WAXVM_RETURN_IF_ERROR(Trim(*queue));
    if (damage.ok() || !out.empty()) {
      result = std::move(out);
    } else {
      result = std::move(damage);
    }
  }
  return absl::OkStatus();
}

absl::Status Engine::HandOut(Group& group, const ReceiveOptions& options,
                             std::vector<Delivery>& out, absl::Status& damage) {
  std::size_t bytes = 0;
  while (out.size() < options.max_messages) {
    sqlite::Statement* statement = nullptr;
    Row row;
    WAXVM_RETURN_IF_ERROR(Pick(group, statement, row));
    if (statement == nullptr) break;
    const sqlite::Resetting resetting(*statement);
    if (!row.good) {
      damage = absl::DataLossError(absl::StrFormat("the message %d of %s has changed on the disk",
                                                   SequenceOf(row.id), group.queue->name));
      break;
    }
    if (!out.empty() && bytes + row.payload.size() > options.max_bytes) break;
    bytes += row.payload.size();
    Delivery delivery;
    WAXVM_RETURN_IF_ERROR(Lease(group, row, options.lease, delivery));
    out.push_back(std::move(delivery));
  }
  // As it is after all of them.
  for (Delivery& delivery : out) delivery.oldest_open = group.oldest_open();
  return absl::OkStatus();
}

absl::Status Engine::Pick(Group& group, sqlite::Statement*& found, Row& row) {
  const std::uint64_t again = group.ready.empty() ? kMaxSequence : *group.ready.begin();
  if (again > group.cursor) {
    WAXVM_RETURN_IF_ERROR(PickNew(group, again, found, row));
    if (found != nullptr) return absl::OkStatus();
  }
  if (group.ready.empty()) return absl::OkStatus();
  const std::int64_t id = RowOf(group.queue->number, again);
  WAXVM_ASSIGN_OR_RETURN(const bool there, sql_.get.Bind(1, id).Step());
  if (!there) return absl::DataLossError("a message that is open is not in the file");
  row = Read(sql_.get);
  found = &sql_.get;
  return absl::OkStatus();
}

/// Looks from the cursor on, for what lies below a sequence. What is passed over is accounted for;
/// the cursor stays before what is found, until that is leased.
absl::Status Engine::PickNew(Group& group, std::uint64_t below, sqlite::Statement*& found,
                             Row& row) {
  Queue& queue = *group.queue;
  while (group.cursor + 1 < std::min(below, queue.next)) {
    if (group.open() >= options_.max_leased || group.parked >= kMaxParked ||
        group.done.count() >= kMaxDoneRanges)
      return absl::OkStatus();
    const std::uint64_t last = std::min(below, queue.next) - 1;
    sql_.next.Bind(1, RowOf(queue.number, group.cursor)).Bind(2, RowOf(queue.number, last));
    WAXVM_ASSIGN_OR_RETURN(const bool there, sql_.next.Step());
    row = there ? Read(sql_.next) : Row();
    const std::uint64_t sequence = there ? SequenceOf(row.id) : last + 1;
    if (sequence > group.cursor + 1)
      WAXVM_RETURN_IF_ERROR(SkipGap(group, group.cursor + 1, sequence - 1));
    group.cursor = sequence - 1;
    if (!there) {
      sql_.next.Reset();
      return absl::OkStatus();
    }
    const bool known = group.tracked.count(sequence) != 0 || group.done.Contains(sequence) ||
                       (queue.options.topic && sequence <= group.floor);
    if (!known && !(queue.options.strict && Park(group, row))) {
      found = &sql_.next;
      return absl::OkStatus();
    }
    sql_.next.Reset();
    group.cursor = sequence;
  }
  return absl::OkStatus();
}

/// There is nothing any more between two messages of a topic.
absl::Status Engine::SkipGap(Group& group, std::uint64_t first, std::uint64_t last) {
  if (!group.queue->options.topic || last <= group.floor) return absl::OkStatus();
  return MarkDone(group, std::max(first, group.floor + 1), last);
}

/// Whether an earlier message is in the way; then it is remembered for later.
bool Engine::Park(Group& group, const Row& row) {
  const auto line = group.lines.find(row.ordering);
  if (line == group.lines.end()) return false;
  const std::uint64_t sequence = SequenceOf(row.id);
  line->second.parked.push_back(sequence);
  group.tracked[sequence] = {.state = Tracked::State::kParked, .ordering = line->first};
  ++group.parked;
  return true;
}

absl::Status Engine::Lease(Group& group, const Row& row, std::chrono::milliseconds lease,
                           Delivery& delivery) {
  const std::uint64_t sequence = SequenceOf(row.id);
  group.cursor = std::max(group.cursor, sequence);
  group.ready.erase(sequence);
  Tracked& tracked = group.tracked[sequence];
  if (group.queue->options.strict) {
    tracked.ordering = row.ordering;
    group.lines.try_emplace(tracked.ordering, Line{.head = sequence});
  }
  ++tracked.deliveries;
  tracked.rejected = false;
  tracked.state = Tracked::State::kLeased;
  SetTimer(group, sequence, tracked, now_ + Micros(lease));
  delivery = {.sequence = sequence,
              .sender = std::string(row.sender),
              .payload = std::string(row.payload),
              .ordering_key = std::string(row.ordering),
              .format = row.format,
              .appended_us = row.appended,
              .leased_until_us = tracked.until,
              .deliveries = tracked.deliveries,
              .receipt = EncodeReceipt(
                  {.group = group.number, .sequence = sequence, .deliveries = tracked.deliveries},
                  secret_)};
  return PutDelivery(group, sequence, kRowLeased, tracked.deliveries, tracked.until);
}

}  // namespace waxvm::mailbox
