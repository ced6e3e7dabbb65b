// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/file_locks.h"

#include <cerrno>

#include "gtest/gtest.h"

namespace waxvm::linux_abi {
namespace {

constexpr FileLocks::File kFile{1, 2};

class FileLocksTest : public ::testing::Test {
 protected:
  FileLock Lock(int owner, bool exclusive, std::uint64_t start, std::uint64_t end) const {
    // Owners are told apart by address alone.
    return {.owner = reinterpret_cast<const OpenFile*>(&owners_[owner]),
            .exclusive = exclusive,
            .start = start,
            .end = end};
  }
  std::int64_t Set(const FileLock& lock, bool unlock = false) {
    return locks_.Set(kFile, /*whole_file=*/false, lock, unlock);
  }

  MemoryAccount account_{1 << 20};
  FileLocks locks_{account_};
  char owners_[4] = {};
};

TEST_F(FileLocksTest, SharedAndExclusive) {
  EXPECT_EQ(Set(Lock(0, false, 0, 10)), 0);
  EXPECT_EQ(Set(Lock(1, false, 5, 15)), 0);
  EXPECT_EQ(Set(Lock(2, true, 9, 10)), -EAGAIN);
  EXPECT_EQ(Set(Lock(2, true, 15, 20)), 0);
  EXPECT_EQ(Set(Lock(0, true, 0, 5)), 0) << "its own lock becomes exclusive";
  EXPECT_TRUE(locks_.Conflict(kFile, false, Lock(1, false, 4, 5)));
  EXPECT_FALSE(locks_.Conflict(kFile, false, Lock(1, false, 5, 6)));
  EXPECT_FALSE(locks_.Conflict(kFile, true, Lock(1, true, 0, 100))) << "flock is apart";
}

TEST_F(FileLocksTest, UnlockingSplits) {
  EXPECT_EQ(Set(Lock(0, true, 0, 100)), 0);
  EXPECT_EQ(Set(Lock(0, true, 40, 60), /*unlock=*/true), 0);
  EXPECT_EQ(Set(Lock(1, true, 40, 60)), 0);
  EXPECT_EQ(Set(Lock(1, true, 39, 40)), -EAGAIN);
  EXPECT_EQ(Set(Lock(1, true, 60, 61)), -EAGAIN);
  locks_.Release(kFile, Lock(0, true, 0, 0).owner);
  EXPECT_EQ(Set(Lock(1, true, 0, 40)), 0);
  EXPECT_GT(account_.used_bytes(), 0u);
  locks_.Release(kFile, Lock(1, true, 0, 0).owner);
  EXPECT_TRUE(locks_.empty());
  EXPECT_EQ(account_.used_bytes(), 0u);
}

TEST_F(FileLocksTest, TheNumberIsBounded) {
  std::int64_t result = 0;
  std::uint64_t at = 0;
  for (; result == 0 && at < 10'000; at += 2) result = Set(Lock(0, true, at, at + 1));
  EXPECT_EQ(result, -ENOLCK);
  EXPECT_LT(at, 9000u);
}

}  // namespace
}  // namespace waxvm::linux_abi
