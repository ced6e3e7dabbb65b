// SPDX-License-Identifier: Apache-2.0
// Reading a file: every row is checked, and what is counted is counted.
#include <sodium.h>

#include <algorithm>
#include <iterator>

#include "src/base/status.h"
#include "src/mailbox/checks.h"
#include "src/mailbox/engine.h"
#include "src/mailbox/schema.h"

namespace waxvm::mailbox {
namespace {

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(absl::StrFormat("the file is damaged: %s", what));
}

/// The checksum of the first `count` columns, all of them numbers but those in `blobs`.
std::int64_t ChecksumOf(const sqlite::Statement& row, int count, std::uint32_t blobs) {
  RowChecksum crc;
  for (int i = 0; i < count; ++i) {
    if ((blobs >> i & 1) != 0) {
      crc.Add(row.Bytes(i));
    } else {
      crc.Add(row.IsNull(i) ? kNone : row.Number(i));
    }
  }
  return crc.value();
}

constexpr std::uint32_t Column(int at) { return 1u << at; }

/// Calls `each` for every row of a table whose last column, after `columns` others, is their
/// checksum.
template <typename Each>
absl::Status ForEach(sqlite::Connection& connection, std::string_view table, int columns,
                     std::uint32_t blobs, Each each) {
  WAXVM_ASSIGN_OR_RETURN(sqlite::Statement row,
                         connection.Prepare(absl::StrFormat("SELECT * FROM %s", table)));
  for (;;) {
    WAXVM_ASSIGN_OR_RETURN(const bool there, row.Step());
    if (!there) return absl::OkStatus();
    if (ChecksumOf(row, columns, blobs) != row.Number(columns))
      return Damaged(absl::StrFormat("a row of %s does not have its checksum", table));
    WAXVM_RETURN_IF_ERROR(each(row));
  }
}

}  // namespace

absl::Status Engine::Load() {
  queues_.clear();
  queue_numbers_.clear();
  groups_.clear();
  senders_.clear();
  all_ = {};
  keys_ = {};
  timers_.clear();
  woken_.clear();
  appended_.clear();
  last_sender_ = nullptr;
  changed_queues_.clear();
  changed_groups_.clear();
  last_batch_ = 0;
  loaded_ = true;
  first_expiry_ = std::numeric_limits<std::int64_t>::max();
  WAXVM_RETURN_IF_ERROR(LoadStore());
  WAXVM_RETURN_IF_ERROR(LoadQueues());
  WAXVM_RETURN_IF_ERROR(LoadMessages());
  WAXVM_RETURN_IF_ERROR(LoadGroups());
  WAXVM_RETURN_IF_ERROR(LoadDeliveries());
  for (const auto& [number, group] : groups_) WAXVM_RETURN_IF_ERROR(FindFloor(*group));
  WAXVM_RETURN_IF_ERROR(LoadKeys());
  return LoadDead();
}

absl::Status Engine::LoadStore() {
  WAXVM_ASSIGN_OR_RETURN(
      sqlite::Statement row,
      connection_.Prepare("SELECT secret, last_queue, last_group, crc FROM store"));
  WAXVM_ASSIGN_OR_RETURN(const bool found, row.Step());
  if (found) {
    if (ChecksumOf(row, 3, Column(0)) != row.Number(3) || row.Bytes(0).size() != secret_.size())
      return Damaged("a row of store does not have its checksum");
    std::copy_n(row.Bytes(0).begin(), secret_.size(), secret_.begin());
    last_queue_ = static_cast<std::uint32_t>(row.Number(1));
    last_group_ = static_cast<std::uint32_t>(row.Number(2));
    return absl::OkStatus();
  }
  row.Reset();
  randombytes_buf(secret_.data(), secret_.size());
  last_queue_ = last_group_ = 0;
  WAXVM_RETURN_IF_ERROR(WriteStore());
  return Commit();
}

absl::Status Engine::LoadQueues() {
  return ForEach(connection_, "queues", 12, Column(1), [&](const sqlite::Statement& row) {
    auto queue = std::make_unique<Queue>();
    const std::int64_t number = row.Number(0);
    queue->number = static_cast<std::uint32_t>(number);
    queue->name = row.Bytes(1);
    queue->next = static_cast<std::uint64_t>(row.Number(2));
    queue->low = queue->next - 1;
    queue->options = {.topic = (row.Number(3) & kFlagTopic) != 0,
                      .strict = (row.Number(3) & kFlagStrict) != 0,
                      .max_deliveries = static_cast<std::uint32_t>(row.Number(4)),
                      .first_back_off = std::chrono::milliseconds(row.Number(5)),
                      .max_back_off = std::chrono::milliseconds(row.Number(6)),
                      .time_to_live = std::chrono::milliseconds(row.Number(7)),
                      .max_messages = static_cast<std::uint64_t>(row.Number(8)),
                      .max_bytes = static_cast<std::uint64_t>(row.Number(9)),
                      .max_dead_letters = static_cast<std::uint64_t>(row.Number(10))};
    queue->last_dead = static_cast<std::uint64_t>(row.Number(11));
    // Right checksums do not make it the work of this store.
    if (number < 1 || number > last_queue_ || queue->next < 1 || queue->next > kMaxSequence + 1 ||
        !CheckName("mailbox", queue->name).ok() || !CheckOptions(queue->options).ok() ||
        queues_.count(queue->name) != 0)
      return Damaged("a mailbox is none that could have been made");
    queue_numbers_[queue->number] = queue.get();
    std::string name = queue->name;
    queues_.emplace(std::move(name), std::move(queue));
    return absl::OkStatus();
  });
}

absl::Status Engine::LoadMessages() {
  WAXVM_ASSIGN_OR_RETURN(sqlite::Statement all,
                         connection_.Prepare("SELECT * FROM messages ORDER BY id"));
  Queue* queue = nullptr;
  Sender* sender = nullptr;
  for (;;) {
    WAXVM_ASSIGN_OR_RETURN(const bool there, all.Step());
    if (!there) return absl::OkStatus();
    const Row row = Read(all);
    if (!row.good) return Damaged("a message does not have its checksum");
    if (queue == nullptr || queue->number != QueueOf(row.id)) {
      const auto found = queue_numbers_.find(QueueOf(row.id));
      if (found == queue_numbers_.end()) return Damaged("a message is of no mailbox");
      queue = found->second;
      queue->low = SequenceOf(row.id) - 1;
    }
    if (SequenceOf(row.id) < 1 || SequenceOf(row.id) >= queue->next)
      return Damaged("a message is not of its mailbox's sequences");
    if (sender == nullptr || sender->name != row.sender) sender = &SenderOf(row.sender);
    const std::uint64_t bytes = row.bytes();
    sender->usage.Add(bytes);
    queue->usage.Add(bytes);
    all_.Add(bytes);
    if (row.expires) first_expiry_ = std::min(first_expiry_, *row.expires);
  }
}

absl::Status Engine::LoadGroups() {
  WAXVM_RETURN_IF_ERROR(
      ForEach(connection_, "groups", 4, Column(2), [&](const sqlite::Statement& row) {
        const auto queue = queue_numbers_.find(static_cast<std::uint32_t>(row.Number(1)));
        auto group = std::make_unique<Group>();
        group->number = static_cast<std::uint32_t>(row.Number(0));
        group->name = row.Bytes(2);
        group->floor = static_cast<std::uint64_t>(row.Number(3));
        if (row.Number(0) < 1 || row.Number(0) > last_group_ || queue == queue_numbers_.end() ||
            group->floor >= queue->second->next ||
            queue->second->options.topic == group->name.empty() ||
            (!group->name.empty() && !CheckName("group", group->name).ok()))
          return Damaged("a group is none that could have been made");
        group->queue = queue->second;
        group->cursor = queue->second->options.topic ? group->floor : queue->second->low;
        groups_[group->number] = group.get();
        std::string name = group->name;
        if (!queue->second->groups.emplace(std::move(name), std::move(group)).second)
          return Damaged("a group is there twice");
        return absl::OkStatus();
      }));
  for (const auto& [name, queue] : queues_)
    if (!queue->options.topic && queue->groups.empty())
      return Damaged("a mailbox has nobody to receive");
  return absl::OkStatus();
}

absl::Status Engine::LoadDeliveries() {
  return ForEach(connection_, "deliveries", 5, 0, [&](sqlite::Statement& row) {
    const auto group = groups_.find(static_cast<std::uint32_t>(row.Number(0)));
    if (group == groups_.end()) return Damaged("a delivery is of no group");
    return LoadDelivery(row, *group->second);
  });
}

absl::Status Engine::LoadDelivery(sqlite::Statement& row, Group& group) {
  const auto sequence = static_cast<std::uint64_t>(row.Number(1));
  const std::int64_t state = row.Number(2);
  const bool topic = group.queue->options.topic;
  if (sequence <= group.floor || sequence >= group.queue->next || state < kRowLeased ||
      state > kRowDone || (state == kRowDone && !topic) || row.Number(3) < 1 ||
      row.Number(3) > std::numeric_limits<std::uint32_t>::max())
    return Damaged("a delivery is none that could have been made");
  if (state == kRowDone) {
    group.done.Add(sequence, sequence);
    return absl::OkStatus();
  }
  WAXVM_ASSIGN_OR_RETURN(const bool there,
                         sql_.get.Bind(1, RowOf(group.queue->number, sequence)).Step());
  const sqlite::Resetting resetting(sql_.get);
  if (!there) return Damaged("what was delivered is not there");
  Tracked& tracked = group.tracked[sequence];
  tracked.rejected = state == kRowWaiting;
  tracked.state = tracked.rejected ? Tracked::State::kWaiting : Tracked::State::kLeased;
  tracked.deliveries = static_cast<std::uint32_t>(row.Number(3));
  if (group.queue->options.strict) {
    tracked.ordering = sql_.get.Bytes(4);
    group.lines.try_emplace(tracked.ordering, Line{.head = sequence});
  }
  SetTimer(group, sequence, tracked, row.Number(4));
  return absl::OkStatus();
}

/// What is missing before the first message that is there is done with, and so may be what follows.
absl::Status Engine::FindFloor(Group& group) {
  const Queue& queue = *group.queue;
  while (queue.options.topic && group.floor + 1 < queue.next) {
    sql_.next.Bind(1, RowOf(queue.number, group.floor))
        .Bind(2, RowOf(queue.number, queue.next - 1));
    WAXVM_ASSIGN_OR_RETURN(const bool there, sql_.next.Step());
    const sqlite::Resetting resetting(sql_.next);
    const std::uint64_t first = there ? SequenceOf(sql_.next.Number(0)) : queue.next;
    const std::uint64_t floor = group.done.TakeAfter(first - 1);
    if (floor == group.floor) break;
    group.floor = floor;
    changed_groups_.insert(&group);
  }
  if (queue.options.topic) group.cursor = std::max(group.cursor, group.floor);
  return absl::OkStatus();
}

absl::Status Engine::LoadKeys() {
  return ForEach(connection_, "keys", 3, Column(2), [&](const sqlite::Statement& row) {
    std::vector<KeyEntry> entries;
    WAXVM_RETURN_IF_ERROR(ParseEntries(row.Bytes(2), entries));
    for (const KeyEntry& entry : entries) {
      keys_.Add(MakeTableKey(secret_, entry.queue, entry.sender, entry.key), SenderOf(entry.sender),
                entry.sequence);
    }
    last_batch_ = row.Number(0);
    keys_.Close(last_batch_, row.Number(1));
    return absl::OkStatus();
  });
}

absl::Status Engine::LoadDead() {
  constexpr std::uint32_t kBlobs = Column(1) | Column(2) | Column(7) | Column(8) | Column(10);
  return ForEach(connection_, "dead", 11, kBlobs, [&](const sqlite::Statement& row) {
    const auto queue = queue_numbers_.find(QueueOf(row.Number(0)));
    if (queue == queue_numbers_.end() || SequenceOf(row.Number(0)) > queue->second->last_dead)
      return Damaged("a dead letter is of no mailbox");
    queue->second->dead.Add(MessageBytes({}) + row.Bytes(7).size() + row.Bytes(8).size() +
                            row.Bytes(10).size());
    return absl::OkStatus();
  });
}

}  // namespace waxvm::mailbox
