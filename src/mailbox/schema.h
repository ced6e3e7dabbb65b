// SPDX-License-Identifier: Apache-2.0
// The file's format: docs/formats/mailbox.md.
#ifndef WAXVM_SRC_MAILBOX_SCHEMA_H_
#define WAXVM_SRC_MAILBOX_SCHEMA_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "src/base/crc32c.h"

namespace waxvm::mailbox {

// "wxmb".
inline constexpr std::int32_t kApplicationId = 0x77786d62;
inline constexpr std::int32_t kVersion = 1;

/// Whoever changes this changes the version. Numbers of mailboxes and groups are never given twice.
inline constexpr std::string_view kSchema =
    "CREATE TABLE store(one INTEGER PRIMARY KEY, secret BLOB NOT NULL, last_queue INTEGER NOT "
    "NULL, "
    "last_group INTEGER NOT NULL, crc INTEGER NOT NULL);"
    "CREATE TABLE queues(number INTEGER PRIMARY KEY, name BLOB NOT NULL, next INTEGER NOT NULL, "
    "flags INTEGER NOT NULL, max_deliveries INTEGER NOT NULL, first_back_off INTEGER NOT NULL, "
    "max_back_off INTEGER NOT NULL, time_to_live INTEGER NOT NULL, max_messages INTEGER NOT NULL, "
    "max_bytes INTEGER NOT NULL, max_dead_letters INTEGER NOT NULL, last_dead INTEGER NOT NULL, "
    "crc INTEGER NOT NULL);"
    "CREATE TABLE groups(number INTEGER PRIMARY KEY, queue INTEGER NOT NULL, name BLOB NOT NULL, "
    "floor INTEGER NOT NULL, crc INTEGER NOT NULL);"
    "CREATE TABLE messages(id INTEGER PRIMARY KEY, appended INTEGER NOT NULL, expires INTEGER, "
    "sender BLOB NOT NULL, ordering BLOB NOT NULL, format INTEGER, payload BLOB NOT NULL, "
    "crc INTEGER NOT NULL);"
    "CREATE INDEX messages_by_expiry ON messages(expires) WHERE expires IS NOT NULL;"
    "CREATE TABLE deliveries(grp INTEGER NOT NULL, sequence INTEGER NOT NULL, "
    "state INTEGER NOT NULL, deliveries INTEGER NOT NULL, until INTEGER NOT NULL, "
    "crc INTEGER NOT NULL, PRIMARY KEY(grp, sequence)) WITHOUT ROWID;"
    "CREATE TABLE keys(batch INTEGER PRIMARY KEY, until INTEGER NOT NULL, entries BLOB NOT NULL, "
    "crc INTEGER NOT NULL);"
    "CREATE TABLE dead(id INTEGER PRIMARY KEY, grp BLOB NOT NULL, reason BLOB NOT NULL, "
    "died INTEGER NOT NULL, deliveries INTEGER NOT NULL, sequence INTEGER NOT NULL, "
    "appended INTEGER NOT NULL, sender BLOB NOT NULL, ordering BLOB NOT NULL, format INTEGER, "
    "payload BLOB NOT NULL, crc INTEGER NOT NULL);";

// deliveries.state
inline constexpr std::int64_t kRowLeased = 0;
inline constexpr std::int64_t kRowWaiting = 1;  ///< was rejected
inline constexpr std::int64_t kRowDone = 2;     ///< of a topic, above the group's floor

// queues.flags
inline constexpr std::int64_t kFlagTopic = 1;
inline constexpr std::int64_t kFlagStrict = 2;

/// In place of NULL, for a checksum: no time and no format is this.
inline constexpr std::int64_t kNone = -1;

/// The CRC-32C of a row's columns in their order, each number as 8 bytes, little-endian, each blob
/// with its size as such a number in front; NULL as kNone. SQLite itself does not notice a changed
/// byte.
class RowChecksum {
 public:
  RowChecksum& Add(std::int64_t number) {
    crc_ = Crc32c(std::as_bytes(std::span(&number, 1)), crc_);
    return *this;
  }
  RowChecksum& Add(std::string_view bytes) {
    Add(static_cast<std::int64_t>(bytes.size()));
    crc_ = Crc32c(std::as_bytes(std::span(bytes.data(), bytes.size())), crc_);
    return *this;
  }
  std::int64_t value() const { return crc_; }

 private:
  std::uint32_t crc_ = 0;
};

}  // namespace waxvm::mailbox

#endif  // WAXVM_SRC_MAILBOX_SCHEMA_H_
