// SPDX-License-Identifier: Apache-2.0
// The embedded store without its thread: operations on the file and on what is known about it, at
// times that the caller gives.
#ifndef WAXVM_SRC_MAILBOX_ENGINE_H_
#define WAXVM_SRC_MAILBOX_ENGINE_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "src/mailbox/key_window.h"
#include "src/mailbox/receipt.h"
#include "src/mailbox/state.h"
#include "src/sqlite/sqlite.h"
#include "waxvm/mailbox.h"
#include "waxvm/mailbox_file.h"

namespace waxvm::mailbox {

struct Statements {
  sqlite::Statement begin, commit, rollback;
  sqlite::Statement put_store, put_queue, drop_queue, put_group, drop_group;
  sqlite::Statement insert, get, next, sizes, drop, drop_range, set_expiry, expired, first_expiry;
  sqlite::Statement put_delivery, drop_delivery, drop_deliveries_to, drop_deliveries;
  sqlite::Statement put_keys, drop_keys;
  sqlite::Statement put_dead, dead_letters, drop_dead, drop_dead_range;

  absl::Status Prepare(sqlite::Connection& connection);
};

/// Operations between Begin and Commit are one transaction. Each returns OK and says what became of
/// it in `result`; where it returns an error the store itself failed: nothing since Begin happened
/// then, and Recover is called.
/// Thread safety: none.
class Engine {
 public:
  static absl::StatusOr<std::unique_ptr<Engine>> Open(const std::string& path,
                                                      const MailboxFileOptions& options);

  /// Ends leases, back-offs, messages and keys that are over at `now`, microseconds since 1970.
  absl::Status Begin(std::int64_t now);
  absl::Status Commit();
  /// Undoes what happened since Begin: what is in the file is read anew.
  absl::Status Recover();

  absl::Status Create(const std::string& name, const MailboxOptions& options, absl::Status& result);
  absl::Status Remove(const std::string& name, absl::Status& result);
  absl::Status Subscribe(const std::string& topic, const std::string& group, bool from_start,
                         absl::Status& result);
  absl::Status Unsubscribe(const std::string& topic, const std::string& group,
                           absl::Status& result);

  absl::Status Append(const MailboxMessage& message, absl::StatusOr<Appended>& result);
  absl::Status Receive(const ReceiveOptions& options,
                       absl::StatusOr<std::vector<Delivery>>& result);
  absl::Status Settle(const Settlement& settlement, absl::Status& result);
  /// Refuses all of it before anything of it happened.
  absl::Status Exchange(const std::vector<std::string>& receipts,
                        const std::vector<MailboxMessage>& messages,
                        absl::StatusOr<std::vector<Appended>>& result);

  absl::Status DeadLetters(const std::string& mailbox, std::size_t max,
                           absl::StatusOr<std::vector<DeadLetter>>& result);
  absl::Status Requeue(const std::string& mailbox, std::uint64_t id,
                       absl::StatusOr<Appended>& result);
  absl::Status RemoveDead(const std::string& mailbox, std::uint64_t id, absl::Status& result);

  absl::StatusOr<MailboxInfo> Info(const std::string& mailbox) const;
  std::vector<std::string> List() const;
  MailboxFileStats Stats() const;

  /// The mailboxes, with their groups, that may have something to hand out since this was asked.
  using Place = std::pair<std::string, std::string>;
  std::set<Place> TakeWoken();
  /// When something will be over; the last time there is: never.
  std::int64_t NextDue() const;

 private:
  /// What an exchange will take that comes before its next message.
  struct Planned {
    std::map<const Queue*, Usage> queues;
    std::map<std::string, std::pair<Usage, std::size_t>> senders;  ///< and keys
    Usage all;
    std::size_t keys = 0;
  };
  /// A message as its row has it; the bytes are good until the statement is reset.
  struct Row {
    std::int64_t id = 0;
    std::int64_t appended = 0;
    std::optional<std::int64_t> expires;
    std::string_view sender, ordering, payload;
    std::optional<std::uint16_t> format;
    bool good = false;  ///< its checksum is right

    std::uint64_t bytes() const;
  };
  using Timer = std::tuple<std::int64_t, Group*, std::uint64_t>;

  Engine(sqlite::Connection connection, const MailboxFileOptions& options);

  // engine_load.cc
  absl::Status Load();
  absl::Status LoadStore();
  absl::Status LoadQueues();
  absl::Status LoadGroups();
  absl::Status LoadMessages();
  absl::Status LoadDeliveries();
  absl::Status LoadDelivery(sqlite::Statement& row, Group& group);
  absl::Status FindFloor(Group& group);
  absl::Status LoadKeys();
  absl::Status LoadDead();

  // engine.cc
  absl::Status Write();  ///< before whatever changes the file
  absl::Status WriteStore();
  absl::Status WriteQueue(const Queue& queue);
  absl::Status WriteGroup(const Group& group);
  void ClampTimes();
  absl::Status CloseKeys();
  absl::Status ForgetKeys();
  Sender* FindSender(const std::string& name);  ///< null where he has nothing here
  Sender& SenderOf(std::string_view name);
  void LetGo(Sender& sender);
  static Row Read(const sqlite::Statement& statement);
  Queue* Find(const std::string& name);
  void Wake(const Queue& queue, const Group& group) { woken_.emplace(queue.name, group.name); }

  // engine_append.cc
  absl::Status Refusal(const Queue& queue, const MailboxMessage& message, const Planned* planned);
  void Plan(const Queue& queue, const MailboxMessage& message, Planned& planned) const;
  absl::Status Insert(Queue& queue, const MailboxMessage& message, const TableKey& key,
                      Appended& appended);

  // engine_receive.cc
  absl::Status HandOut(Group& group, const ReceiveOptions& options, std::vector<Delivery>& out,
                       absl::Status& damage);
  /// The next message to hand out: its statement stands on the row. Null where there is none.
  absl::Status Pick(Group& group, sqlite::Statement*& found, Row& row);
  absl::Status PickNew(Group& group, std::uint64_t below, sqlite::Statement*& found, Row& row);
  bool Park(Group& group, const Row& row);
  absl::Status Lease(Group& group, const Row& row, std::chrono::milliseconds lease,
                     Delivery& delivery);
  absl::Status SkipGap(Group& group, std::uint64_t first, std::uint64_t last);

  // engine_settle.cc
  /// What a receipt is about, where it may still be settled.
  struct Held {
    Group* group = nullptr;
    std::uint64_t sequence = 0;
    Tracked* tracked = nullptr;
  };
  absl::StatusOr<Held> Open(const std::string& receipt);
  absl::Status Reject(const Held& held, const Settlement& settlement);
  absl::Status Bury(Group& group, std::uint64_t sequence, std::string_view reason);
  absl::Status DropOldestDead(Queue& queue);
  /// It is done with for this group.
  absl::Status Finish(Group& group, std::uint64_t sequence);
  void Untrack(Group& group, std::map<std::uint64_t, Tracked>::iterator at);
  absl::Status MarkDone(Group& group, std::uint64_t first, std::uint64_t last);
  absl::Status Trim(Queue& queue);
  absl::Status DropMessages(Queue& queue, std::uint64_t first, std::uint64_t last);
  absl::Status PutDelivery(const Group& group, std::uint64_t sequence, std::int64_t state,
                           std::uint32_t deliveries, std::int64_t until);
  void MakeReady(Group& group, std::uint64_t sequence, Tracked& tracked);
  void SetTimer(Group& group, std::uint64_t sequence, Tracked& tracked, std::int64_t until);
  void StopTimer(Group& group, std::uint64_t sequence, const Tracked& tracked);
  absl::Status EndTimers();
  absl::Status EndMessages();
  absl::Status Expire(Queue& queue, const Row& row);
  absl::Status ExtendExpiry(const Row& row, std::int64_t until);

  const MailboxFileOptions options_;
  sqlite::Connection connection_;
  Statements sql_;
  ReceiptSecret secret_{};
  std::int64_t now_ = 0;
  bool writing_ = false;
  bool loaded_ = false;  ///< since the last Begin

  std::uint32_t last_queue_ = 0;
  std::uint32_t last_group_ = 0;
  std::int64_t last_batch_ = 0;
  std::int64_t first_expiry_ = std::numeric_limits<std::int64_t>::max();
  std::unordered_map<std::string, std::unique_ptr<Queue>> queues_;
  std::unordered_map<std::uint32_t, Queue*> queue_numbers_;
  std::unordered_map<std::uint32_t, Group*> groups_;
  /// Of any bytes: in order, where names that were chosen to collide do not.
  std::map<std::string, std::unique_ptr<Sender>, std::less<>> senders_;
  Usage all_;
  KeyWindow keys_;
  std::set<Timer> timers_;
  std::set<Place> woken_;
  std::set<Queue*> appended_;        ///< whose groups are to be woken
  Sender* last_sender_ = nullptr;    ///< who was asked for last; may be null
  std::set<Queue*> changed_queues_;  ///< to be written at the commit
  std::set<Group*> changed_groups_;
  MailboxFileStats stats_;
};

}  // namespace waxvm::mailbox

#endif  // WAXVM_SRC_MAILBOX_ENGINE_H_
