// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "src/base/mutex.h"
#include "src/base/status.h"
#include "src/naming/advert_codec.h"
#include "src/naming/author_book.h"
#include "src/naming/slot_rules.h"
#include "src/sqlite/sqlite.h"
#include "waxvm/directory.h"

namespace waxvm {
namespace {

using naming::Held;
using naming::Verdict;
using sqlite::Connection;
using sqlite::Resetting;
using sqlite::Statement;

// "wxdr".
constexpr std::int32_t kApplicationId = 0x77786472;
constexpr std::int32_t kVersion = 2;
// Whoever changes this changes the version. `slot` is naming::EncodeSlot, `stored` rises with every
// write. Reports outlive the slots that they are about.
constexpr std::string_view kSchema =
    "CREATE TABLE adverts(slot BLOB PRIMARY KEY NOT NULL, bytes BLOB NOT NULL, "
    "stored INTEGER NOT NULL, quarantined INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;"
    "CREATE TABLE equivocations(id INTEGER PRIMARY KEY, slot BLOB NOT NULL, "
    "sequence INTEGER NOT NULL, first BLOB NOT NULL, second BLOB NOT NULL);";

// Version 2 has it, and nothing else that version 1 has not: of a vm or a host, bytes 80 to 95 of
// an advert (counted from 1) are its address. SQLite keeps it right whatever program writes.
#define WAXVM_HAS_ADDRESS "substr(slot, 33, 1) IN (x'01', x'02')"
#define WAXVM_ADDRESS "substr(bytes, 80, 16)"
static_assert(naming::kBodyAt + 1 == 80 && kKeyBytes + 1 == 33);
constexpr std::string_view kIndex =
    "CREATE INDEX by_address ON adverts(" WAXVM_ADDRESS ") WHERE " WAXVM_HAS_ADDRESS ";";

struct Statements {
  Statement begin, commit, rollback, data_version, insert, find, replace, quarantine, remove,
      of_address, authors, last_stored, of_author, report, forget_reports, reports;

  absl::Status Prepare(Connection& connection) {
    const std::pair<Statement*, std::string_view> kAll[] = {
        {&begin, "BEGIN IMMEDIATE"},
        {&commit, "COMMIT"},
        {&rollback, "ROLLBACK"},
        {&data_version, "PRAGMA data_version"},
        {&insert,
         "INSERT INTO adverts(slot, bytes, stored) VALUES(?1, ?2, ?3) "
         "ON CONFLICT DO NOTHING"},
        {&find, "SELECT bytes, quarantined FROM adverts WHERE slot = ?1"},
        {&replace, "UPDATE adverts SET bytes = ?2, stored = ?3, quarantined = 0 WHERE slot = ?1"},
        {&quarantine, "UPDATE adverts SET quarantined = 1 WHERE slot = ?1"},
        {&remove, "DELETE FROM adverts WHERE slot = ?1"},
        {&of_address, "SELECT slot FROM adverts WHERE " WAXVM_ADDRESS " = ?1 AND " WAXVM_HAS_ADDRESS
                      " ORDER BY slot LIMIT 1"},
        {&authors, "SELECT substr(slot, 1, 33) FROM adverts ORDER BY stored"},
        {&last_stored, "SELECT max(stored) FROM adverts"},
        {&of_author,
         "SELECT slot FROM adverts WHERE slot >= ?1 AND slot < ?2 ORDER BY stored "
         "LIMIT ?3"},
        {&report,
         "INSERT INTO equivocations(slot, sequence, first, second) VALUES(?1, ?2, ?3, ?4)"},
        {&forget_reports,
         "DELETE FROM equivocations WHERE id <= "
         "(SELECT max(id) FROM equivocations) - ?1"},
        {&reports, "SELECT slot, sequence, first, second FROM equivocations ORDER BY id"}};
    for (const auto& [statement, sql] : kAll) {
      WAXVM_ASSIGN_OR_RETURN(*statement, connection.Prepare(sql));
    }
    return absl::OkStatus();
  }
};

std::string_view ViewOf(const std::array<std::uint8_t, 32>& hash) {
  return {reinterpret_cast<const char*>(hash.data()), hash.size()};
}

/// The first text above all slots of an author: types are below 255.
std::string AboveSlotsOf(const PublicKey& author) {
  return std::string(author.view()).append("\xff");
}

class SqliteDirectory final : public Directory {
 public:
  SqliteDirectory(Connection connection, Statements statements, const DirectoryOptions& options)
      : max_slots_(std::max<std::size_t>(options.max_adverts, 1)),
        connection_(std::move(connection)),
        sql_(std::move(statements)) {}

  absl::Status Load() {
    const MutexLock lock(mutex_);
    return Refresh();
  }

  std::vector<absl::Status> Put(std::span<const Advert> adverts) override {
    const MutexLock lock(mutex_);
    std::vector<absl::Status> results(adverts.size(), absl::OkStatus());
    const absl::Status status = Write(adverts, results);
    if (status.ok()) return results;
    // What the book counted did not happen.
    (void)sql_.rollback.Run();
    book_is_good_ = false;
    return std::vector<absl::Status>(adverts.size(), status);
  }

  absl::StatusOr<Advert> Get(const AdvertSlot& slot, std::uint64_t now) override {
    const MutexLock lock(mutex_);
    WAXVM_RETURN_IF_ERROR(Refresh());
    if (slot.type != AdvertType::kRevocation && book_.IsRevoked(slot.author))
      return naming::RevokedStatus(slot.author);
    const std::string key = naming::EncodeSlot(slot);
    const Resetting resetting(sql_.find);
    WAXVM_ASSIGN_OR_RETURN(const bool found, sql_.find.Bind(1, key).Step());
    if (!found) return absl::NotFoundError("no advert of this slot is known");
    book_.SetUsed(slot.author);
    return naming::Serve({.bytes = sql_.find.Bytes(0), .quarantined = sql_.find.Number(1) != 0},
                         now);
  }

  absl::StatusOr<Advert> FindByAddress(const Address& address, std::uint64_t now) override {
    AdvertSlot slot;
    {
      const MutexLock lock(mutex_);
      const Resetting resetting(sql_.of_address);
      WAXVM_ASSIGN_OR_RETURN(const bool found, sql_.of_address.Bind(1, address.view()).Step());
      if (!found) return absl::NotFoundError("no advert of this address is known");
      WAXVM_ASSIGN_OR_RETURN(slot, naming::DecodeSlot(sql_.of_address.Bytes(0)));
    }
    WAXVM_ASSIGN_OR_RETURN(Advert advert, Get(slot, now));
    // Another one may have come meanwhile; and the file may say what it likes.
    const Address* claimed = naming::ClaimedAddress(advert);
    if (claimed == nullptr || *claimed != address)
      return absl::NotFoundError("no advert of this address is known");
    return advert;
  }

  std::vector<Equivocation> Equivocations() override {
    const MutexLock lock(mutex_);
    std::vector<Equivocation> all;
    const Resetting resetting(sql_.reports);
    for (;;) {
      const auto row = sql_.reports.Step();
      if (!row.ok() || !*row) return all;
      const auto slot = naming::DecodeSlot(sql_.reports.Bytes(0));
      const std::string_view first = sql_.reports.Bytes(2);
      const std::string_view second = sql_.reports.Bytes(3);
      Equivocation report;
      if (!slot.ok() || first.size() != report.first.size() ||
          second.size() != report.second.size())
        continue;
      report.slot = *slot;
      report.sequence = static_cast<std::uint64_t>(sql_.reports.Number(1));
      std::copy(first.begin(), first.end(), report.first.begin());
      std::copy(second.begin(), second.end(), report.second.begin());
      all.push_back(std::move(report));
    }
  }

  std::uint64_t Version() override {
    const MutexLock lock(mutex_);
    // Where it cannot be read, everything may have changed.
    if (!Refresh().ok()) ++version_;
    return version_;
  }

  DirectoryStats Stats() override {
    const MutexLock lock(mutex_);
    (void)Refresh();
    return {.adverts = book_.slots(), .authors = book_.authors(), .evicted = evicted_};
  }

 private:
  absl::Status Write(std::span<const Advert> adverts, std::vector<absl::Status>& results)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    WAXVM_RETURN_IF_ERROR(sql_.begin.Run());
    WAXVM_RETURN_IF_ERROR(Refresh());  // nobody else writes from here on
    bool changed = false;
    for (std::size_t i = 0; i < adverts.size(); ++i) {
      WAXVM_ASSIGN_OR_RETURN(const bool did, PutOne(adverts[i], results[i]));
      changed |= did;
      while (book_.slots() > max_slots_) WAXVM_RETURN_IF_ERROR(Evict());
    }
    WAXVM_RETURN_IF_ERROR(sql_.commit.Run());
    if (changed) ++version_;
    return absl::OkStatus();
  }

  /// Whether it changed anything; what became of the advert is in `result`.
  absl::StatusOr<bool> PutOne(const Advert& advert, absl::Status& result)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const PublicKey& author = advert.fields().author;
    const bool revokes = advert.fields().type() == AdvertType::kRevocation;
    if (!revokes && book_.IsRevoked(author)) {
      result = naming::RevokedStatus(author);
      return false;
    }
    const std::string slot = naming::EncodeSlot(advert.slot());
    WAXVM_RETURN_IF_ERROR(
        sql_.insert.Bind(1, slot).Bind(2, advert.bytes()).Bind(3, ++stored_).Run());
    if (connection_.changes() == 0) return PutAgain(slot, advert, result);
    book_.Add(author);
    if (revokes) WAXVM_RETURN_IF_ERROR(Revoke(author));
    return true;
  }

  absl::StatusOr<bool> PutAgain(std::string_view slot, const Advert& advert, absl::Status& result)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::string bytes;
    Held held;
    {
      const Resetting resetting(sql_.find);
      WAXVM_ASSIGN_OR_RETURN(const bool found, sql_.find.Bind(1, slot).Step());
      if (!found) return Internal("a slot that is there is not found");
      bytes = sql_.find.Bytes(0);
      held = {.bytes = bytes, .quarantined = sql_.find.Number(1) != 0};
    }
    const Verdict verdict = naming::Judge(held, advert);
    result = naming::ToStatus(verdict, advert);
    if (verdict == Verdict::kNewer) {
      WAXVM_RETURN_IF_ERROR(
          sql_.replace.Bind(1, slot).Bind(2, advert.bytes()).Bind(3, stored_).Run());
      return true;
    }
    if (verdict != Verdict::kEquivocation) return false;
    const Equivocation report = naming::Report(held, advert);
    WAXVM_RETURN_IF_ERROR(sql_.report.Bind(1, slot)
                              .Bind(2, static_cast<std::int64_t>(report.sequence))
                              .Bind(3, ViewOf(report.first))
                              .Bind(4, ViewOf(report.second))
                              .Run());
    WAXVM_RETURN_IF_ERROR(
        sql_.forget_reports.Bind(1, static_cast<std::int64_t>(naming::kMaxEquivocations)).Run());
    WAXVM_RETURN_IF_ERROR(sql_.quarantine.Bind(1, slot).Run());
    return true;
  }

  /// The first `limit` slots of an author, oldest first.
  absl::StatusOr<std::vector<std::string>> SlotsOf(const PublicKey& author, std::size_t limit)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<std::string> slots;
    const std::string above = AboveSlotsOf(author);
    const Resetting resetting(sql_.of_author);
    sql_.of_author.Bind(1, author.view()).Bind(2, above).Bind(3, static_cast<std::int64_t>(limit));
    for (;;) {
      WAXVM_ASSIGN_OR_RETURN(const bool row, sql_.of_author.Step());
      if (!row) return slots;
      slots.emplace_back(sql_.of_author.Bytes(0));
    }
  }

  absl::Status Remove(const PublicKey& author, std::string_view slot)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    WAXVM_RETURN_IF_ERROR(sql_.remove.Bind(1, slot).Run());
    book_.Remove(author);
    return absl::OkStatus();
  }

  /// Nothing else of this author will be asked for.
  absl::Status Revoke(const PublicKey& author) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    WAXVM_ASSIGN_OR_RETURN(const auto slots, SlotsOf(author, book_.CountOf(author)));
    const std::string kept =
        naming::EncodeSlot({.author = author, .type = AdvertType::kRevocation, .label = ""});
    for (const std::string& slot : slots)
      if (slot != kept) WAXVM_RETURN_IF_ERROR(Remove(author, slot));
    book_.SetRevoked(author);
    return absl::OkStatus();
  }

  absl::Status Evict() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto author = book_.Largest(book_.revoked() > max_slots_ / 2);
    if (!author) return Internal("too many adverts, and nobody's");
    WAXVM_ASSIGN_OR_RETURN(const auto slots,
                           SlotsOf(*author, naming::EvictionBatch(book_.CountOf(*author))));
    if (slots.empty()) return absl::DataLossError("an author has fewer adverts than counted");
    for (const std::string& slot : slots) {
      WAXVM_RETURN_IF_ERROR(Remove(*author, slot));
      ++evicted_;
    }
    return absl::OkStatus();
  }

  /// Counts anew where another process has written since.
  absl::Status Refresh() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const Resetting resetting(sql_.data_version);
    WAXVM_RETURN_IF_ERROR(sql_.data_version.Step().status());
    const std::int64_t now = sql_.data_version.Number(0);
    if (book_is_good_ && now == data_version_) return absl::OkStatus();
    data_version_ = now;
    return LoadBook();
  }

  absl::Status LoadBook() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    book_is_good_ = false;
    book_.Clear();
    ++version_;
    std::vector<PublicKey> revoked;
    {
      const Resetting resetting(sql_.authors);
      for (;;) {
        WAXVM_ASSIGN_OR_RETURN(const bool row, sql_.authors.Step());
        if (!row) break;
        WAXVM_ASSIGN_OR_RETURN(const AdvertSlot slot, naming::DecodeSlot(sql_.authors.Bytes(0)));
        book_.Add(slot.author);
        if (slot.type == AdvertType::kRevocation) revoked.push_back(slot.author);
      }
    }
    for (const PublicKey& author : revoked) book_.SetRevoked(author);
    const Resetting resetting(sql_.last_stored);
    WAXVM_RETURN_IF_ERROR(sql_.last_stored.Step().status());
    stored_ = sql_.last_stored.Number(0);
    book_is_good_ = true;
    return absl::OkStatus();
  }

  const std::size_t max_slots_;
  Mutex mutex_;
  Connection connection_ ABSL_GUARDED_BY(mutex_);
  Statements sql_ ABSL_GUARDED_BY(mutex_);
  naming::AuthorBook book_ ABSL_GUARDED_BY(mutex_);
  bool book_is_good_ ABSL_GUARDED_BY(mutex_) = false;
  std::int64_t data_version_ ABSL_GUARDED_BY(mutex_) = 0;
  std::int64_t stored_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t version_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t evicted_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Directory>> OpenDirectory(const std::string& path,
                                                         const DirectoryOptions& options) {
  const std::string schema = std::string(kSchema).append(kIndex);
  WAXVM_ASSIGN_OR_RETURN(Connection connection,
                         Connection::Open(path, {.full = options.survive_power_loss,
                                                 .application_id = kApplicationId,
                                                 .version = kVersion,
                                                 .schema = schema,
                                                 .upgrade = kIndex}));
  Statements statements;
  WAXVM_RETURN_IF_ERROR(statements.Prepare(connection));
  auto directory =
      std::make_unique<SqliteDirectory>(std::move(connection), std::move(statements), options);
  WAXVM_RETURN_IF_ERROR(directory->Load());
  return directory;
}

}  // namespace waxvm
