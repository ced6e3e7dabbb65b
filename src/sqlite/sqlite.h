// SPDX-License-Identifier: Apache-2.0
// A thin layer over SQLite: a connection, prepared statements, statuses.
#ifndef WAXVM_SRC_SQLITE_SQLITE_H_
#define WAXVM_SRC_SQLITE_SQLITE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "src/base/unique_fd.h"

struct sqlite3;
struct sqlite3_stmt;

namespace waxvm::sqlite {

/// One prepared statement. Values that are bound must stay as they are until Reset.
/// Thread safety: none, as everything of one connection.
class Statement {
 public:
  Statement() = default;

  Statement& Bind(int at, std::string_view bytes);  ///< a blob; `at` counts from 1
  Statement& Bind(int at, std::int64_t number);
  Statement& BindNull(int at);

  /// True where there is a row to read.
  absl::StatusOr<bool> Step();
  /// Runs it to its end, for its effect, and resets it.
  absl::Status Run();
  void Reset();

  /// Columns of the row, counted from 0; bytes are good until the next Step or Reset.
  std::string_view Bytes(int column) const;
  std::int64_t Number(int column) const;
  bool IsNull(int column) const;

 private:
  friend class Connection;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

/// Resets a statement at the end of a scope: nothing stays locked.
class Resetting {
 public:
  explicit Resetting(Statement& statement) : statement_(statement) {}
  Resetting(const Resetting&) = delete;
  Resetting& operator=(const Resetting&) = delete;
  ~Resetting() { statement_.Reset(); }

 private:
  Statement& statement_;
};

struct ConnectionOptions {
  /// PRAGMA synchronous=FULL in place of NORMAL.
  bool full = false;
  /// Nobody else may have the file open: a lock on `<path>.lock`, which stays there, is held as
  /// long as the connection. It is gone with the process, however that ends.
  bool exclusive = false;
  std::int32_t application_id = 0;  ///< what kind of file it is; one of another kind is refused
  std::int32_t version = 0;         ///< of the schema
  std::string_view schema = "";     ///< made where the file is new
  /// What makes a file of the version before this one of this version; empty: it is refused.
  std::string_view upgrade = "";
};

class Connection {
 public:
  /// Opens a file, made with mode 0600 where it is missing, in WAL mode.
  /// Errors: kFailedPrecondition for a file of another kind or version; kDataLoss for one that is
  /// damaged where it was looked at; kUnavailable where another one has it exclusively; those of
  /// the disk, kResourceExhausted where it is full.
  static absl::StatusOr<Connection> Open(const std::string& path, const ConnectionOptions& options);

  absl::StatusOr<Statement> Prepare(std::string_view sql);
  absl::Status Execute(const std::string& sql);
  /// Rows that the last statement changed.
  int changes() const;

 private:
  struct Close {
    void operator()(sqlite3* connection) const;
  };
  explicit Connection(sqlite3* connection) : connection_(connection) {}
  absl::Status SetUp(const ConnectionOptions& options);
  enum class State { kNew, kBefore, kCurrent };
  /// What the file is. Errors: kFailedPrecondition for another kind or version.
  absl::StatusOr<State> Inspect(const ConnectionOptions& options);
  UniqueFd lock_;  ///< released after the connection is closed
  std::unique_ptr<sqlite3, Close> connection_;
};

}  // namespace waxvm::sqlite

#endif  // WAXVM_SRC_SQLITE_SQLITE_H_
