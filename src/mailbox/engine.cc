// SPDX-License-Identifier: Apache-2.0
#include "src/mailbox/engine.h"

#include <sodium.h>

#include <algorithm>
#include <iterator>

#include "src/base/status.h"
#include "src/identity/sodium_ready.h"
#include "src/mailbox/checks.h"
#include "src/mailbox/schema.h"

namespace waxvm::mailbox {
namespace {

constexpr std::size_t kMaxGroupsOpen = 1'000'000;

std::string_view ViewOf(const ReceiptSecret& secret) {
  return {reinterpret_cast<const char*>(secret.data()), secret.size()};
}

}  // namespace

absl::Status Statements::Prepare(sqlite::Connection& connection) {
  const std::pair<sqlite::Statement*, std::string_view> kAll[] = {
      {&begin, "BEGIN IMMEDIATE"},
      {&commit, "COMMIT"},
      {&rollback, "ROLLBACK"},
      {&put_store, "INSERT OR REPLACE INTO store VALUES(1, ?1, ?2, ?3, ?4)"},
      {&put_queue,
       "INSERT OR REPLACE INTO queues VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, "
       "?13)"},
      {&drop_queue, "DELETE FROM queues WHERE number = ?1"},
      {&put_group, "INSERT OR REPLACE INTO groups VALUES(?1, ?2, ?3, ?4, ?5)"},
      {&drop_group, "DELETE FROM groups WHERE number = ?1"},
      {&insert, "INSERT INTO messages VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"},
      {&get, "SELECT * FROM messages WHERE id = ?1"},
      {&next, "SELECT * FROM messages WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT 1"},
      {&sizes,
       "SELECT sender, length(ordering), length(payload) FROM messages WHERE id BETWEEN ?1 AND "
       "?2"},
      {&drop, "DELETE FROM messages WHERE id = ?1"},
      {&drop_range, "DELETE FROM messages WHERE id BETWEEN ?1 AND ?2"},
      {&set_expiry, "UPDATE messages SET expires = ?2, crc = ?3 WHERE id = ?1"},
      {&expired, "SELECT * FROM messages WHERE expires <= ?1 ORDER BY expires LIMIT 1"},
      {&first_expiry, "SELECT min(expires) FROM messages WHERE expires IS NOT NULL"},
      {&put_delivery, "INSERT OR REPLACE INTO deliveries VALUES(?1, ?2, ?3, ?4, ?5, ?6)"},
      {&drop_delivery, "DELETE FROM deliveries WHERE grp = ?1 AND sequence = ?2"},
      {&drop_deliveries_to, "DELETE FROM deliveries WHERE grp = ?1 AND sequence <= ?2"},
      {&drop_deliveries, "DELETE FROM deliveries WHERE grp = ?1"},
      {&put_keys, "INSERT INTO keys VALUES(?1, ?2, ?3, ?4)"},
      {&drop_keys, "DELETE FROM keys WHERE batch = ?1"},
      {&put_dead, "INSERT INTO dead VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"},
      {&dead_letters, "SELECT * FROM dead WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3"},
      {&drop_dead, "DELETE FROM dead WHERE id = ?1"},
      {&drop_dead_range, "DELETE FROM dead WHERE id BETWEEN ?1 AND ?2"}};
  for (const auto& [statement, sql] : kAll) {
    WAXVM_ASSIGN_OR_RETURN(*statement, connection.Prepare(sql));
  }
  return absl::OkStatus();
}

std::uint64_t Engine::Row::bytes() const {
  return MessageBytes({}) + sender.size() + ordering.size() + payload.size();
}

Engine::Engine(sqlite::Connection connection, const MailboxFileOptions& options)
    : options_(options), connection_(std::move(connection)) {}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Open(const std::string& path,
                                                     const MailboxFileOptions& options) {
  WAXVM_RETURN_IF_ERROR(identity::SodiumReady());
  WAXVM_ASSIGN_OR_RETURN(sqlite::Connection connection,
                         sqlite::Connection::Open(path, {.full = true,
                                                         .exclusive = true,
                                                         .application_id = kApplicationId,
                                                         .version = kVersion,
                                                         .schema = kSchema}));
  std::unique_ptr<Engine> engine(new Engine(std::move(connection), options));
  if (const absl::Status status = engine->sql_.Prepare(engine->connection_); !status.ok())
    return Annotate(status, path);
  if (const absl::Status status = engine->Load(); !status.ok()) return Annotate(status, path);
  return engine;
}

absl::Status Engine::Begin(std::int64_t now) {
  now_ = now;
  if (std::exchange(loaded_, false)) {
    ClampTimes();
    for (const auto& [name, queue] : queues_) WAXVM_RETURN_IF_ERROR(Trim(*queue));
  }
  WAXVM_RETURN_IF_ERROR(EndTimers());
  WAXVM_RETURN_IF_ERROR(EndMessages());
  return ForgetKeys();
}

/// A clock that was years ahead when the file was written holds nothing back for years.
void Engine::ClampTimes() {
  const auto last = [this](std::chrono::microseconds most) { return now_ + most.count(); };
  while (!timers_.empty() && std::get<0>(*timers_.rbegin()) > last(kMaxLease)) {
    const Timer timer = *timers_.rbegin();
    Group& group = *std::get<1>(timer);
    const std::uint64_t sequence = std::get<2>(timer);
    SetTimer(group, sequence, group.tracked[sequence], last(kMaxLease));
  }
  keys_.Clamp(last(options_.key_window));
}

absl::Status Engine::Write() {
  if (writing_) return absl::OkStatus();
  WAXVM_RETURN_IF_ERROR(sql_.begin.Run());
  writing_ = true;
  return absl::OkStatus();
}

absl::Status Engine::Commit() {
  for (Queue* const queue : changed_queues_) WAXVM_RETURN_IF_ERROR(WriteQueue(*queue));
  for (Group* const group : changed_groups_) {
    WAXVM_RETURN_IF_ERROR(WriteGroup(*group));
    WAXVM_RETURN_IF_ERROR(sql_.drop_deliveries_to.Bind(1, std::int64_t{group->number})
                              .Bind(2, static_cast<std::int64_t>(group->floor))
                              .Run());
  }
  WAXVM_RETURN_IF_ERROR(CloseKeys());
  changed_queues_.clear();
  changed_groups_.clear();
  if (!writing_) return absl::OkStatus();
  WAXVM_RETURN_IF_ERROR(sql_.commit.Run());
  writing_ = false;
  ++stats_.commits;
  return absl::OkStatus();
}

absl::Status Engine::Recover() {
  // SQLite may have rolled back by itself; then this one fails.
  (void)sql_.rollback.Run();
  writing_ = false;
  return Load();
}

absl::Status Engine::WriteStore() {
  WAXVM_RETURN_IF_ERROR(Write());
  const std::string_view secret = ViewOf(secret_);
  const std::int64_t crc = RowChecksum()
                               .Add(secret)
                               .Add(std::int64_t{last_queue_})
                               .Add(std::int64_t{last_group_})
                               .value();
  return sql_.put_store.Bind(1, secret)
      .Bind(2, std::int64_t{last_queue_})
      .Bind(3, std::int64_t{last_group_})
      .Bind(4, crc)
      .Run();
}

absl::Status Engine::WriteQueue(const Queue& queue) {
  WAXVM_RETURN_IF_ERROR(Write());
  const MailboxOptions& options = queue.options;
  const std::int64_t numbers[] = {
      static_cast<std::int64_t>(queue.next),
      (options.topic ? kFlagTopic : 0) | (options.strict ? kFlagStrict : 0),
      options.max_deliveries,
      options.first_back_off.count(),
      options.max_back_off.count(),
      options.time_to_live.count(),
      static_cast<std::int64_t>(options.max_messages),
      static_cast<std::int64_t>(options.max_bytes),
      static_cast<std::int64_t>(options.max_dead_letters),
      static_cast<std::int64_t>(queue.last_dead)};
  RowChecksum crc;
  crc.Add(std::int64_t{queue.number}).Add(queue.name);
  sql_.put_queue.Bind(1, std::int64_t{queue.number}).Bind(2, queue.name);
  int at = 3;
  for (const std::int64_t number : numbers) {
    crc.Add(number);
    sql_.put_queue.Bind(at++, number);
  }
  return sql_.put_queue.Bind(at, crc.value()).Run();
}

absl::Status Engine::WriteGroup(const Group& group) {
  WAXVM_RETURN_IF_ERROR(Write());
  const std::int64_t number = group.number;
  const std::int64_t queue = group.queue->number;
  const auto floor = static_cast<std::int64_t>(group.floor);
  return sql_.put_group.Bind(1, number)
      .Bind(2, queue)
      .Bind(3, group.name)
      .Bind(4, floor)
      .Bind(5, RowChecksum().Add(number).Add(queue).Add(group.name).Add(floor).value())
      .Run();
}

absl::Status Engine::CloseKeys() {
  const std::string& entries = keys_.gathered();
  if (entries.empty()) return absl::OkStatus();
  WAXVM_RETURN_IF_ERROR(Write());
  const std::int64_t batch = ++last_batch_;
  const std::int64_t until =
      now_ + std::chrono::duration_cast<std::chrono::microseconds>(options_.key_window).count();
  const std::int64_t crc = RowChecksum().Add(batch).Add(until).Add(entries).value();
  WAXVM_RETURN_IF_ERROR(
      sql_.put_keys.Bind(1, batch).Bind(2, until).Bind(3, entries).Bind(4, crc).Run());
  keys_.Close(batch, until);
  return absl::OkStatus();
}

absl::Status Engine::ForgetKeys() {
  for (const KeyWindow::Batch* batch; (batch = keys_.Over(now_)) != nullptr;) {
    WAXVM_RETURN_IF_ERROR(Write());
    WAXVM_RETURN_IF_ERROR(sql_.drop_keys.Bind(1, batch->row).Run());
    for (Sender* const sender : batch->senders) {
      --sender->keys;
      LetGo(*sender);
    }
    keys_.DropOldest();
  }
  return absl::OkStatus();
}

Sender* Engine::FindSender(const std::string& name) {
  if (last_sender_ != nullptr && last_sender_->name == name) return last_sender_;
  const auto found = senders_.find(name);
  if (found == senders_.end()) return nullptr;
  return last_sender_ = found->second.get();
}

Sender& Engine::SenderOf(std::string_view name) {
  if (last_sender_ != nullptr && last_sender_->name == name) return *last_sender_;
  auto found = senders_.find(name);
  if (found == senders_.end())
    found =
        senders_
            .emplace(std::string(name), std::make_unique<Sender>(Sender{.name = std::string(name)}))
            .first;
  return *(last_sender_ = found->second.get());
}

/// A sender without messages and keys takes no memory.
void Engine::LetGo(Sender& sender) {
  if (sender.usage.messages != 0 || sender.keys != 0) return;
  if (last_sender_ == &sender) last_sender_ = nullptr;
  senders_.erase(std::string(sender.name));
}

std::set<Engine::Place> Engine::TakeWoken() {
  for (Queue* const queue : std::exchange(appended_, {}))
    for (const auto& [name, group] : queue->groups) Wake(*queue, *group);
  return std::exchange(woken_, {});
}

Engine::Row Engine::Read(const sqlite::Statement& statement) {
  Row row;
  row.id = statement.Number(0);
  row.appended = statement.Number(1);
  if (!statement.IsNull(2)) row.expires = statement.Number(2);
  row.sender = statement.Bytes(3);
  row.ordering = statement.Bytes(4);
  if (!statement.IsNull(5)) row.format = static_cast<std::uint16_t>(statement.Number(5));
  row.payload = statement.Bytes(6);
  row.good = statement.Number(7) == RowChecksum()
                                        .Add(row.id)
                                        .Add(row.appended)
                                        .Add(row.expires.value_or(kNone))
                                        .Add(row.sender)
                                        .Add(row.ordering)
                                        .Add(row.format ? std::int64_t{*row.format} : kNone)
                                        .Add(row.payload)
                                        .value();
  return row;
}

Queue* Engine::Find(const std::string& name) {
  const auto found = queues_.find(name);
  return found == queues_.end() ? nullptr : found->second.get();
}

// ---- Mailboxes and groups

absl::Status Engine::Create(const std::string& name, const MailboxOptions& options,
                            absl::Status& result) {
  result = absl::OkStatus();
  if (const Queue* const queue = Find(name)) {
    if (queue->options != options)
      result = absl::AlreadyExistsError(
          absl::StrFormat("the mailbox %s exists with other options", name));
    return absl::OkStatus();
  }
  if (queues_.size() >= options_.max_mailboxes || last_queue_ >= kMaxQueueNumber) {
    result = absl::ResourceExhaustedError(
        absl::StrFormat("max_mailboxes: the store has %d, and had %d, of at most %d, and %d ever",
                        queues_.size(), last_queue_, options_.max_mailboxes, kMaxQueueNumber));
    return absl::OkStatus();
  }
  auto queue = std::make_unique<Queue>();
  queue->number = ++last_queue_;
  queue->name = name;
  queue->options = options;
  if (!options.topic) {
    auto group = std::make_unique<Group>();
    group->number = ++last_group_;
    group->queue = queue.get();
    groups_[group->number] = group.get();
    changed_groups_.insert(group.get());
    queue->groups.emplace("", std::move(group));
  }
  changed_queues_.insert(queue.get());
  queue_numbers_[queue->number] = queue.get();
  queues_.emplace(name, std::move(queue));
  return WriteStore();
}

absl::Status Engine::Remove(const std::string& name, absl::Status& result) {
  Queue* const queue = Find(name);
  result = queue == nullptr ? absl::NotFoundError(absl::StrFormat("there is no mailbox %s", name))
                            : absl::OkStatus();
  if (queue == nullptr) return absl::OkStatus();
  WAXVM_RETURN_IF_ERROR(Write());
  while (!queue->groups.empty()) {
    absl::Status gone;
    WAXVM_RETURN_IF_ERROR(Unsubscribe(name, queue->groups.begin()->first, gone));
  }
  WAXVM_RETURN_IF_ERROR(DropMessages(*queue, 0, kMaxSequence));
  WAXVM_RETURN_IF_ERROR(sql_.drop_dead_range.Bind(1, RowOf(queue->number, 0))
                            .Bind(2, RowOf(queue->number, kMaxSequence))
                            .Run());
  WAXVM_RETURN_IF_ERROR(sql_.drop_queue.Bind(1, std::int64_t{queue->number}).Run());
  changed_queues_.erase(queue);
  appended_.erase(queue);
  queue_numbers_.erase(queue->number);
  queues_.erase(name);
  return absl::OkStatus();
}

absl::Status Engine::Subscribe(const std::string& topic, const std::string& group, bool from_start,
                               absl::Status& result) {
  Queue* const queue = Find(topic);
  result = absl::OkStatus();
  if (queue == nullptr) {
    result = absl::NotFoundError(absl::StrFormat("there is no topic %s", topic));
  } else if (!queue->options.topic) {
    result = InvalidArgument("%s is a mailbox, which has no groups", topic);
  } else if (queue->groups.count(group) != 0) {
    return absl::OkStatus();
  } else if (queue->groups.size() >= options_.max_groups || groups_.size() >= kMaxGroupsOpen) {
    result = absl::ResourceExhaustedError(absl::StrFormat(
        "max_groups: the topic %s has %d, the most there may be", topic, queue->groups.size()));
  }
  if (!result.ok()) return absl::OkStatus();
  auto made = std::make_unique<Group>();
  made->number = ++last_group_;
  made->name = group;
  made->queue = queue;
  made->floor = made->cursor = from_start ? queue->low : queue->next - 1;
  WAXVM_RETURN_IF_ERROR(FindFloor(*made));
  groups_[made->number] = made.get();
  changed_groups_.insert(made.get());
  queue->groups.emplace(group, std::move(made));
  WAXVM_RETURN_IF_ERROR(WriteStore());
  return Trim(*queue);
}

absl::Status Engine::Unsubscribe(const std::string& topic, const std::string& group,
                                 absl::Status& result) {
  Queue* const queue = Find(topic);
  const bool found = queue != nullptr && queue->groups.count(group) != 0;
  result = found ? absl::OkStatus()
                 : absl::NotFoundError(absl::StrFormat("there is no group %s of %s", group, topic));
  if (!found) return absl::OkStatus();
  WAXVM_RETURN_IF_ERROR(Write());
  Group& gone = *queue->groups[group];
  for (const auto& [sequence, tracked] : gone.tracked) StopTimer(gone, sequence, tracked);
  const std::int64_t number = gone.number;
  Wake(*queue, gone);  // whoever waits there is told
  changed_groups_.erase(&gone);
  groups_.erase(gone.number);
  queue->groups.erase(group);
  WAXVM_RETURN_IF_ERROR(sql_.drop_deliveries.Bind(1, number).Run());
  WAXVM_RETURN_IF_ERROR(sql_.drop_group.Bind(1, number).Run());
  return Trim(*queue);
}

// ---- What there is

absl::StatusOr<MailboxInfo> Engine::Info(const std::string& mailbox) const {
  const auto found = queues_.find(mailbox);
  if (found == queues_.end())
    return absl::NotFoundError(absl::StrFormat("there is no mailbox %s", mailbox));
  const Queue& queue = *found->second;
  MailboxInfo info = {.name = queue.name,
                      .options = queue.options,
                      .next_sequence = queue.next,
                      .messages = queue.usage.messages,
                      .bytes = queue.usage.bytes,
                      .dead_letters = queue.dead.messages};
  for (const auto& [name, group] : queue.groups)
    info.groups.push_back(
        {.name = name, .done_up_to = group->oldest_open() - 1, .open = group->open()});
  return info;
}

std::vector<std::string> Engine::List() const {
  std::vector<std::string> names;
  names.reserve(queues_.size());
  for (const auto& [name, queue] : queues_) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

MailboxFileStats Engine::Stats() const {
  MailboxFileStats stats = stats_;
  stats.mailboxes = queues_.size();
  stats.messages = all_.messages;
  stats.bytes = all_.bytes;
  stats.senders = senders_.size();
  stats.keys = keys_.size();
  return stats;
}

std::int64_t Engine::NextDue() const {
  return timers_.empty() ? first_expiry_ : std::min(first_expiry_, std::get<0>(*timers_.begin()));
}

}  // namespace waxvm::mailbox
