// SPDX-License-Identifier: Apache-2.0
// What does a mailbox cost above the rows of SQLite that it consists of?
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "src/identity/temp_folder_for_test.h"
#include "waxvm/mailbox_file.h"

namespace waxvm {
namespace {

using identity::TempFolder;

constexpr int kBatch = 100;
constexpr int kRowsOfAFile = 100'000;
constexpr std::size_t kPayloadBytes = 256;
constexpr int kMillion = 1'000'000;
constexpr std::size_t kMillionPayloadBytes = 128;
constexpr int kSenders = 16;

/// What an iteration does is timed by the wall: threads that wait for the disk use no CPU time, and
/// what is prepared is not counted.
template <typename Work>
void Time(benchmark::State& state, Work work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  state.SetIterationTime(took.count());
}

/// SQLite with the same payloads under rising numbers, under the settings of the store.
class Bare {
 public:
  explicit Bare(const std::string& path) {
    sqlite3_open(path.c_str(), &db_);
    Execute("PRAGMA locking_mode=EXCLUSIVE");
    Execute("PRAGMA journal_mode=WAL");
    Execute("PRAGMA synchronous=FULL");
    Execute("PRAGMA cache_size=-16384");
    Execute("CREATE TABLE IF NOT EXISTS messages(id INTEGER PRIMARY KEY, payload BLOB NOT NULL)");
    Prepare("INSERT INTO messages VALUES(?1, ?2)", &insert_);
    Prepare("BEGIN IMMEDIATE", &begin_);
    Prepare("COMMIT", &commit_);
  }
  Bare(const Bare&) = delete;
  Bare& operator=(const Bare&) = delete;
  ~Bare() {
    for (sqlite3_stmt* statement : {insert_, begin_, commit_}) sqlite3_finalize(statement);
    sqlite3_close(db_);
  }

  bool Insert(const std::string& payload, std::int64_t from, int rows) {
    Run(begin_);
    for (std::int64_t i = from; i < from + rows; ++i) {
      sqlite3_bind_int64(insert_, 1, i + 1);
      sqlite3_bind_blob64(insert_, 2, payload.data(), payload.size(), SQLITE_STATIC);
      if (!Run(insert_)) return false;
    }
    return Run(commit_);
  }

 private:
  void Execute(const char* sql) { sqlite3_exec(db_, sql, nullptr, nullptr, nullptr); }
  void Prepare(const char* sql, sqlite3_stmt** to) {
    sqlite3_prepare_v3(db_, sql, -1, SQLITE_PREPARE_PERSISTENT, to, nullptr);
  }
  static bool Run(sqlite3_stmt* statement) {
    const bool done = sqlite3_step(statement) == SQLITE_DONE;
    sqlite3_reset(statement);
    return done;
  }
  sqlite3* db_ = nullptr;
  sqlite3_stmt* insert_ = nullptr;
  sqlite3_stmt* begin_ = nullptr;
  sqlite3_stmt* commit_ = nullptr;
};

/// One iteration is one durable commit of 100 rows; a new file after every 100,000.
void BareAppend(benchmark::State& state, int batch) {
  TempFolder temp;
  const std::string payload(kPayloadBytes, 'p');
  int files = 0;
  int at = kRowsOfAFile;
  std::unique_ptr<Bare> bare;
  for (auto _ : state) {
    if (at + batch > kRowsOfAFile) {
      bare = std::make_unique<Bare>(temp / std::to_string(++files));
      at = 0;
    }
    Time(state, [&] {
      if (!bare->Insert(payload, at, batch)) state.SkipWithError("not inserted");
    });
    at += batch;
  }
}
void BareAppend100(benchmark::State& state) { BareAppend(state, kBatch); }
void BareAppend1(benchmark::State& state) { BareAppend(state, 1); }
BENCHMARK(BareAppend100)->Name("Sqlite/append_batch_of_100")->UseManualTime();
BENCHMARK(BareAppend1)->Name("Sqlite/append_1")->UseManualTime();

/// The same through the store: its own thread, quotas, checksums, senders of 32 bytes, waiting for
/// the answer; `keys`: each message has an idempotency key.
void MailboxAppend(benchmark::State& state, int batch, bool keys) {
  TempFolder temp;
  int files = 0;
  int at = kRowsOfAFile;
  int key = 0;
  std::unique_ptr<MailboxFile> store;
  for (auto _ : state) {
    if (at + batch > kRowsOfAFile) {
      store.reset();
      store = *MailboxFile::Open(temp / std::to_string(++files));
      if (!store->Create("a", {}).ok()) state.SkipWithError("not created");
      at = 0;
    }
    std::vector<MailboxMessage> messages(
        batch, {.mailbox = "a",
                .sender = std::string(32, static_cast<char>('a' + at / batch % kSenders)),
                .payload = std::string(kPayloadBytes, 'p')});
    if (keys)
      for (MailboxMessage& message : messages) message.idempotency_key = std::to_string(++key);
    Time(state, [&] {
      for (const auto& result : store->Append(std::move(messages)))
        if (!result.ok()) state.SkipWithError("not appended");
    });
    at += batch;
  }
}
void MailboxAppend100(benchmark::State& state) { MailboxAppend(state, kBatch, false); }
void MailboxAppendKeys100(benchmark::State& state) { MailboxAppend(state, kBatch, true); }
void MailboxAppend1(benchmark::State& state) { MailboxAppend(state, 1, false); }
BENCHMARK(MailboxAppend100)->Name("Mailbox/append_batch_of_100")->UseManualTime();
BENCHMARK(MailboxAppendKeys100)->Name("Mailbox/append_batch_of_100_with_keys")->UseManualTime();
BENCHMARK(MailboxAppend1)->Name("Mailbox/append_1")->UseManualTime();

/// 64 messages of 64 clients that each wait for their own answer: one iteration is all of them.
void MailboxClients(benchmark::State& state) {
  constexpr int kClients = 64;
  TempFolder temp;
  auto store = *MailboxFile::Open(temp / "m");
  if (!store->Create("a", {}).ok()) state.SkipWithError("not created");
  std::mutex mutex;
  std::condition_variable all_done;
  for (auto _ : state) {
    Time(state, [&] {
      int left = kClients;
      for (int i = 0; i < kClients; ++i) {
        std::vector<MailboxMessage> one(1, {.mailbox = "a",
                                            .sender = std::string(32, static_cast<char>(i)),
                                            .payload = std::string(kPayloadBytes, 'p')});
        store->Append(std::move(one), [&](auto results) {
          const std::lock_guard lock(mutex);
          if (!results[0].ok()) state.SkipWithError("not appended");
          if (--left == 0) all_done.notify_one();
        });
      }
      std::unique_lock lock(mutex);
      all_done.wait(lock, [&] { return left == 0; });
    });
  }
}
BENCHMARK(MailboxClients)->Name("Mailbox/append_64_clients")->UseManualTime();

/// 100 messages through: appended, handed out, acknowledged, in three commits.
void MailboxThrough(benchmark::State& state) {
  TempFolder temp;
  auto store = *MailboxFile::Open(temp / "m");
  if (!store->Create("a", {}).ok()) state.SkipWithError("not created");
  for (auto _ : state) {
    Time(state, [&] {
      std::vector<MailboxMessage> messages(
          kBatch, {.mailbox = "a", .sender = "s", .payload = std::string(kPayloadBytes, 'p')});
      for (const auto& result : store->Append(std::move(messages)))
        if (!result.ok()) state.SkipWithError("not appended");
      const auto got = store->Receive({.mailbox = "a", .max_messages = kBatch});
      if (!got.ok() || got->size() != kBatch) state.SkipWithError("not received");
      std::vector<Settlement> done;
      for (const Delivery& delivery : *got) done.push_back({.receipt = delivery.receipt});
      for (const absl::Status& status : store->Settle(std::move(done)))
        if (!status.ok()) state.SkipWithError("not acknowledged");
    });
  }
}
BENCHMARK(MailboxThrough)->Name("Mailbox/append_receive_acknowledge_100")->UseManualTime();

// ---- A million messages

/// Made once: four mailboxes, sixteen senders, and nothing left in the log.
const std::string& Million() {
  static const TempFolder temp;
  static const std::string path = [] {
    const std::string file = temp / "million";
    {
      auto store = *MailboxFile::Open(file);
      for (const char* name : {"a", "b", "c", "d"})
        if (!store->Create(name, {}).ok()) return std::string();
      for (int at = 0; at < kMillion; at += 4'000) {
        std::vector<MailboxMessage> messages(4'000);
        for (int i = 0; i < 4'000; ++i)
          messages[i] = {.mailbox = std::string(1, static_cast<char>('a' + at / 4'000 % 4)),
                         .sender = std::string(32, static_cast<char>('a' + i % kSenders)),
                         .payload = std::string(kMillionPayloadBytes, 'p')};
        for (const auto& result : store->Append(std::move(messages)))
          if (!result.ok()) return std::string();
      }
    }
    sqlite3* db = nullptr;
    sqlite3_open(file.c_str(), &db);
    sqlite3_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)", nullptr, nullptr, nullptr);
    sqlite3_close(db);
    return file;
  }();
  return path;
}

/// Until the store can hand out: every row is read, checked and counted.
void MailboxRecover(benchmark::State& state) {
  const std::string& path = Million();
  for (auto _ : state) {
    absl::StatusOr<std::unique_ptr<MailboxFile>> store;
    Time(state, [&] { store = MailboxFile::Open(path); });
    if (!store.ok() || (*store)->Stats().messages != kMillion) state.SkipWithError("not opened");
  }
}
BENCHMARK(MailboxRecover)->Name("Mailbox/recover_million")->UseManualTime()->Iterations(1);

/// A program that reads all rows of the table, and each byte of them once.
void BareScan(benchmark::State& state) {
  const std::string& path = Million();
  for (auto _ : state) {
    Time(state, [&] {
      sqlite3* db = nullptr;
      sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READONLY, nullptr);
      sqlite3_exec(db, "PRAGMA cache_size=-16384", nullptr, nullptr, nullptr);
      sqlite3_stmt* all = nullptr;
      sqlite3_prepare_v2(db, "SELECT * FROM messages", -1, &all, nullptr);
      std::int64_t rows = 0;
      unsigned sum = 0;
      for (; sqlite3_step(all) == SQLITE_ROW; ++rows)
        for (int column = 0; column < 8; ++column) {
          if (column != 3 && column != 4 && column != 6) {
            sum += static_cast<unsigned>(sqlite3_column_int64(all, column));
            continue;
          }
          const auto* const bytes =
              static_cast<const unsigned char*>(sqlite3_column_blob(all, column));
          const int size = sqlite3_column_bytes(all, column);
          for (int i = 0; i < size; ++i) sum += bytes[i];
        }
      benchmark::DoNotOptimize(sum);
      sqlite3_finalize(all);
      sqlite3_close(db);
      if (rows != kMillion) state.SkipWithError("not all were read");
    });
  }
}
BENCHMARK(BareScan)->Name("Sqlite/scan_million")->UseManualTime()->Iterations(1);

/// The bytes of the file alone, nothing made of them.
void ReadFile(benchmark::State& state) {
  const std::string& path = Million();
  std::vector<char> buffer(1 << 20);
  for (auto _ : state) {
    Time(state, [&] {
      const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
      std::int64_t total = 0;
      for (ssize_t got; (got = read(file, buffer.data(), buffer.size())) > 0;) total += got;
      close(file);
      state.counters["MiB"] = static_cast<double>(total >> 20);
    });
  }
}
BENCHMARK(ReadFile)->Name("File/read_million")->UseManualTime()->Iterations(1);

}  // namespace
}  // namespace waxvm

BENCHMARK_MAIN();
