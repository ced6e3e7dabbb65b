// SPDX-License-Identifier: Apache-2.0
#include "src/sqlite/sqlite.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "src/base/status.h"
#include "src/base/unique_fd.h"

namespace waxvm::sqlite {
namespace {

constexpr int kBusyMilliseconds = 10'000;

/// What the last write of a file failed with; 0 where that is not known.
int LastErrno(sqlite3_file* file) {
  int error = 0;
  if (file == nullptr || file->pMethods == nullptr ||
      file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &error) != SQLITE_OK)
    return 0;
  return error;
}

/// A quota, or a limit of a file's size, is an error like any other to SQLite: the errno of it, or
/// 0. Statements do not leave it where sqlite3_system_errno looks.
int FullErrno(sqlite3* connection, int code) {
  if (code != SQLITE_IOERR_WRITE || connection == nullptr) return 0;
  for (const int which : {SQLITE_FCNTL_JOURNAL_POINTER, SQLITE_FCNTL_FILE_POINTER}) {
    sqlite3_file* file = nullptr;
    if (sqlite3_file_control(connection, "main", which, &file) != SQLITE_OK) continue;
    const int error = LastErrno(file);
    if (error == ENOSPC || error == EFBIG || error == EDQUOT) return error;
  }
  return 0;
}

absl::Status ToStatus(sqlite3* connection, int code) {
  const std::string text = absl::StrFormat(
      "SQLite: %s", connection == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(connection));
  if (const int error = FullErrno(connection, code); error != 0)
    return absl::ResourceExhaustedError(std::string(ErrnoStatus(error, text).message()));
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::UnavailableError(text);
    case SQLITE_FULL:
    case SQLITE_NOMEM:
    case SQLITE_TOOBIG:
      return absl::ResourceExhaustedError(text);
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_READONLY:
      return absl::PermissionDeniedError(text);
    case SQLITE_CANTOPEN:
      return absl::NotFoundError(text);
    case SQLITE_CORRUPT:
      return absl::DataLossError(text);
    case SQLITE_NOTADB:
      return absl::FailedPreconditionError(text);
    default:
      return absl::InternalError(text);
  }
}

/// A lock of its own file: closing any descriptor of the database's would release SQLite's locks.
absl::StatusOr<UniqueFd> LockBeside(const std::string& path) {
  const std::string beside = path + ".lock";
  UniqueFd file(open(beside.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return ErrnoStatus(errno, beside);
  if (flock(file.get(), LOCK_EX | LOCK_NB) == 0) return file;
  if (errno != EWOULDBLOCK) return ErrnoStatus(errno, beside);
  return Unavailable("%s is in use: another process, or another part of this one, has it open",
                     path);
}

}  // namespace

void Statement::Finalize::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
void Connection::Close::operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }

Statement& Statement::Bind(int at, std::string_view bytes) {
  // A null pointer would bind NULL, which is something else than no bytes.
  sqlite3_bind_blob64(statement_.get(), at, bytes.empty() ? "" : bytes.data(), bytes.size(),
                      SQLITE_STATIC);
  return *this;
}

Statement& Statement::Bind(int at, std::int64_t number) {
  sqlite3_bind_int64(statement_.get(), at, number);
  return *this;
}

Statement& Statement::BindNull(int at) {
  sqlite3_bind_null(statement_.get(), at);
  return *this;
}

absl::StatusOr<bool> Statement::Step() {
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return ToStatus(sqlite3_db_handle(statement_.get()), code);
}

absl::Status Statement::Run() {
  const auto row = Step();
  Reset();
  return row.status();
}

void Statement::Reset() { sqlite3_reset(statement_.get()); }

std::string_view Statement::Bytes(int column) const {
  const void* const bytes = sqlite3_column_blob(statement_.get(), column);
  const int size = sqlite3_column_bytes(statement_.get(), column);
  return {static_cast<const char*>(bytes), static_cast<std::size_t>(size)};
}

std::int64_t Statement::Number(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

bool Statement::IsNull(int column) const {
  return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
}

absl::StatusOr<Connection> Connection::Open(const std::string& path,
                                            const ConnectionOptions& options) {
  UniqueFd lock;
  if (options.exclusive) {
    WAXVM_ASSIGN_OR_RETURN(lock, LockBeside(path));
  }
  {
    // SQLite gives the files beside it the mode that this one has.
    const UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file) return ErrnoStatus(errno, path);
    struct stat status = {};
    if (fstat(file.get(), &status) != 0) return ErrnoStatus(errno, path);
    if (!S_ISREG(status.st_mode)) return InvalidArgument("%s is no regular file", path);
  }
  sqlite3* opened = nullptr;
  const int code = sqlite3_open_v2(
      path.c_str(), &opened,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE,
      nullptr);
  Connection connection(opened);
  connection.lock_ = std::move(lock);
  if (code != SQLITE_OK) return Annotate(ToStatus(opened, code), path);
  const absl::Status status = connection.SetUp(options);
  if (!status.ok()) return Annotate(status, path);
  return connection;
}

absl::Status Connection::SetUp(const ConnectionOptions& options) {
  sqlite3* const connection = connection_.get();
  sqlite3_busy_timeout(connection, kBusyMilliseconds);
  // The file may have been put there by somebody else: its schema runs nothing.
  sqlite3_db_config(connection, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(connection, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(connection, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
  sqlite3_limit(connection, SQLITE_LIMIT_LENGTH, 1 << 20);
  WAXVM_RETURN_IF_ERROR(Execute("PRAGMA cell_size_check=ON; PRAGMA cache_size=-16384"));
  // A file that only one has open needs no index of its log in shared memory.
  if (options.exclusive) WAXVM_RETURN_IF_ERROR(Execute("PRAGMA locking_mode=EXCLUSIVE"));
  // Before anything is written: a file of somebody else stays as it is.
  WAXVM_RETURN_IF_ERROR(Inspect(options).status());
  {
    WAXVM_ASSIGN_OR_RETURN(Statement mode, Prepare("PRAGMA journal_mode=WAL"));
    WAXVM_RETURN_IF_ERROR(mode.Step().status());
    if (mode.Bytes(0) != "wal") return FailedPrecondition("SQLite has no write-ahead log here");
  }
  WAXVM_RETURN_IF_ERROR(
      Execute(options.full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL"));
  // Locked, so that of two who open a new file one makes the tables.
  WAXVM_RETURN_IF_ERROR(Execute("BEGIN IMMEDIATE"));
  WAXVM_ASSIGN_OR_RETURN(const State state, Inspect(options));
  if (state != State::kCurrent)
    WAXVM_RETURN_IF_ERROR(Execute(absl::StrFormat(
        "PRAGMA application_id=%d; PRAGMA user_version=%d; %s", options.application_id,
        options.version, state == State::kNew ? options.schema : options.upgrade)));
  return Execute("COMMIT");
}

absl::StatusOr<Connection::State> Connection::Inspect(const ConnectionOptions& options) {
  WAXVM_ASSIGN_OR_RETURN(Statement found, Prepare("SELECT application_id, user_version, "
                                                  "(SELECT count(*) FROM sqlite_schema) FROM "
                                                  "pragma_application_id, pragma_user_version"));
  WAXVM_RETURN_IF_ERROR(found.Step().status());
  const std::int64_t kind = found.Number(0);
  const std::int64_t version = found.Number(1);
  if (kind == 0 && version == 0 && found.Number(2) == 0) return State::kNew;
  if (kind == options.application_id && version == options.version) return State::kCurrent;
  if (kind == options.application_id && version == options.version - 1 && !options.upgrade.empty())
    return State::kBefore;
  return FailedPrecondition("the file is of kind %d and version %d, not %d and %d", kind, version,
                            options.application_id, options.version);
}

absl::StatusOr<Statement> Connection::Prepare(std::string_view sql) {
  sqlite3_stmt* prepared = nullptr;
  const int code = sqlite3_prepare_v3(connection_.get(), sql.data(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &prepared, nullptr);
  if (code != SQLITE_OK) return ToStatus(connection_.get(), code);
  Statement statement;
  statement.statement_.reset(prepared);
  return statement;
}

absl::Status Connection::Execute(const std::string& sql) {
  const int code = sqlite3_exec(connection_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : ToStatus(connection_.get(), code);
}

int Connection::changes() const { return sqlite3_changes(connection_.get()); }

}  // namespace waxvm::sqlite
