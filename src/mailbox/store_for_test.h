// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_MAILBOX_STORE_FOR_TEST_H_
#define WAXVM_SRC_MAILBOX_STORE_FOR_TEST_H_

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "src/identity/temp_folder_for_test.h"
#include "waxvm/mailbox_file.h"

namespace waxvm::mailbox {

using identity::TempFolder;
using std::chrono::milliseconds;

/// Where a disk need not be waited for, if there is such a place. Not for what is about the disk.
inline std::filesystem::path MemoryFolder() {
  return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : std::filesystem::temp_directory_path();
}

/// A store in a file of its own, under a clock that stands until it is set.
class StoreTest : public testing::Test {
 protected:
  void Open(MailboxFileOptions options = {}) {
    store_.reset();
    options.clock = [this] { return now_.load(); };
    auto opened = MailboxFile::Open(path(), options);
    ASSERT_TRUE(opened.ok()) << opened.status();
    store_ = *std::move(opened);
  }
  std::string path() const { return temp_ / "m"; }
  void Pass(milliseconds time) { now_ += time.count() * 1'000; }

  absl::StatusOr<Appended> Put(const std::string& mailbox, const std::string& payload,
                               const std::string& sender = "alice", const std::string& key = "",
                               const std::string& ordering = "") {
    return store_->AppendOne(MailboxMessage{.mailbox = mailbox,
                                            .sender = sender,
                                            .payload = payload,
                                            .idempotency_key = key,
                                            .ordering_key = ordering});
  }
  /// What is handed out, at most `max`.
  std::vector<Delivery> Take(const std::string& mailbox, std::size_t max = 100,
                             const std::string& group = "",
                             milliseconds lease = milliseconds(1000)) {
    auto got =
        store_->Receive({.mailbox = mailbox, .group = group, .max_messages = max, .lease = lease});
    EXPECT_TRUE(got.ok()) << got.status();
    return got.ok() ? *std::move(got) : std::vector<Delivery>();
  }
  static std::string Payloads(const std::vector<Delivery>& deliveries) {
    std::string all;
    for (const Delivery& delivery : deliveries) all += (all.empty() ? "" : " ") + delivery.payload;
    return all;
  }

  TempFolder temp_{MemoryFolder()};
  std::atomic<std::int64_t> now_ = 1'800'000'000'000'000;
  std::unique_ptr<MailboxFile> store_;
};

}  // namespace waxvm::mailbox

#endif  // WAXVM_SRC_MAILBOX_STORE_FOR_TEST_H_
