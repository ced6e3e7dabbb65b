// SPDX-License-Identifier: Apache-2.0
// Mappings of files: what is read when, and how shared ones agree with the file.
#include <cerrno>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "src/linux_abi/address_space.h"
#include "src/linux_abi/testing/fake_machine.h"
#include "src/linux_abi/testing/fake_source.h"

namespace waxvm::linux_abi {
namespace {

using Kind = AddressSpace::Kind;
using FaultResult = AddressSpace::FaultResult;

constexpr std::uint64_t kLimit = std::uint64_t{64} << 20;
constexpr PageRights kRead{.read = true};
constexpr PageRights kReadWrite{.read = true, .write = true};
constexpr std::uint64_t kPage = kPageBytes;
constexpr std::uint64_t kAt = 0x10000000;
constexpr std::size_t kMegabyte = 1 << 20;

class FileMappingsTest : public testing::Test {
 protected:
  std::int64_t Map(std::uint64_t address, std::uint64_t bytes, PageRights rights,
                   std::uint64_t offset = 0, bool shared = false) {
    return space_.Map(address, bytes,
                      {.rights = rights,
                       .kind = Kind::kFile,
                       .fixed = true,
                       .source = source_,
                       .offset = offset,
                       .shared = shared});
  }
  int ByteAt(std::uint64_t address) {
    std::byte byte;
    return space_.Read(address, {&byte, 1}) ? static_cast<int>(byte) : -1;
  }
  bool Store(std::uint64_t address, int value) {
    const auto byte = static_cast<std::byte>(value);
    return space_.Write(address, {&byte, 1});
  }
  /// What the guest itself does: a fault if the page table has not the right, then the store.
  FaultResult GuestStore(std::uint64_t address, int value) {
    const auto rights = pages_.RightsAt(address);
    if (!rights || !rights->write) {
      const FaultResult result = space_.HandleFault(address, /*write=*/true, false);
      if (result != FaultResult::kHandled) return result;
    }
    EXPECT_TRUE(pages_.RightsAt(address)->write);
    const auto byte = static_cast<std::byte>(value);
    pages_.CopyTo(address, {&byte, 1});
    return FaultResult::kHandled;
  }

  MemoryAccount account_{kLimit};
  FakePages pages_{account_};
  AddressSpace space_{pages_, account_};
  std::shared_ptr<FakeSource> source_ = std::make_shared<FakeSource>(kMegabyte);
};

TEST_F(FileMappingsTest, OnlyWhatIsTouchedIsRead) {
  ASSERT_EQ(Map(kAt, kMegabyte, kRead), kAt);
  EXPECT_EQ(source_->bytes_read, 0u);
  EXPECT_EQ(space_.HandleFault(kAt + 100 * kPage, false, false), FaultResult::kHandled);
  EXPECT_EQ(ByteAt(kAt + 100 * kPage), 101);
  EXPECT_LE(source_->bytes_read, kMegabyte / 2);
  EXPECT_EQ(ByteAt(kAt), 1) << "by the host";
}

TEST_F(FileMappingsTest, OffsetsStayRightWhenAreasSplitAndMerge) {
  ASSERT_EQ(Map(kAt, 64 * kPage, kRead, 8 * kPage), kAt);
  ASSERT_EQ(space_.Protect(kAt + 10 * kPage, kPage, kReadWrite), 0);
  ASSERT_EQ(space_.Unmap(kAt + 20 * kPage, kPage), 0);
  EXPECT_EQ(ByteAt(kAt + 9 * kPage), 18);
  EXPECT_EQ(ByteAt(kAt + 10 * kPage), 19);
  EXPECT_EQ(ByteAt(kAt + 21 * kPage), 30);
  EXPECT_EQ(ByteAt(kAt + 20 * kPage), -1);
  ASSERT_EQ(space_.Protect(kAt + 10 * kPage, kPage, kRead), 0);
  ASSERT_EQ(Map(kAt + 20 * kPage, kPage, kRead, 28 * kPage), kAt + 20 * kPage);
  EXPECT_EQ(
      space_.Describe(),
      "10000000-10040000 r--p 00008000 08:01 42                                 /lib/fake.so\n")
      << "one mapping again";
  ASSERT_EQ(Map(kAt + 20 * kPage, kPage, kRead, 29 * kPage), kAt + 20 * kPage);
  EXPECT_EQ(ByteAt(kAt + 20 * kPage), 30) << "another offset does not merge";
  const std::int64_t moved =
      space_.Remap(kAt + 30 * kPage, 2 * kPage, 40 * kPage, true, std::nullopt);
  ASSERT_GT(moved, 0);
  EXPECT_EQ(ByteAt(static_cast<std::uint64_t>(moved) + 39 * kPage), 78);
}

TEST_F(FileMappingsTest, PrivatePagesAreCopiesUntilDropped) {
  ASSERT_EQ(Map(kAt, kMegabyte, kReadWrite), kAt);
  ASSERT_TRUE(Store(kAt, 0x77));
  EXPECT_EQ(ByteAt(kAt), 0x77);
  EXPECT_EQ(static_cast<int>(source_->bytes[0]), 1) << "the file is as it was";
  ASSERT_EQ(space_.HandleFault(kAt + 31 * kPage, true, false), FaultResult::kHandled);
  EXPECT_EQ(ByteAt(kAt), 0x77) << "a neighbour's fault reads nothing over it";
  EXPECT_EQ(space_.Discard(kAt, kPage), 0);
  EXPECT_EQ(ByteAt(kAt), 1);
  EXPECT_EQ(space_.Discard(kAt, kPage, /*anonymous_only=*/true), -EINVAL);
}

TEST_F(FileMappingsTest, PagesBehindTheFileAreToldApart) {
  source_->bytes.resize(3 * kPage + 100);
  ASSERT_EQ(Map(kAt, 64 * kPage, kReadWrite), kAt);
  EXPECT_EQ(ByteAt(kAt + 3 * kPage + 99), 4);
  EXPECT_EQ(ByteAt(kAt + 3 * kPage + 100), 0) << "the rest of the last page";
  EXPECT_EQ(space_.HandleFault(kAt + 4 * kPage, false, false), FaultResult::kBeyondFile);
  EXPECT_EQ(ByteAt(kAt + 4 * kPage), -1);
  EXPECT_FALSE(space_.out_of_memory());
  ASSERT_EQ(Map(kAt, kPage, kRead, 1024 * kPage), kAt);
  EXPECT_EQ(space_.HandleFault(kAt, false, false), FaultResult::kBeyondFile);
  source_->bytes.resize(5 * kPage);
  EXPECT_EQ(ByteAt(kAt + 4 * kPage), 0) << "the file has grown";
}

TEST_F(FileMappingsTest, PageThatCannotBeReadIsNotThere) {
  ASSERT_EQ(Map(kAt, kMegabyte, kRead), kAt);
  source_->error = EIO;
  EXPECT_EQ(space_.HandleFault(kAt, false, false), FaultResult::kBeyondFile);
  EXPECT_EQ(pages_.page_count(), 0u);
  source_->error = 0;
  EXPECT_EQ(ByteAt(kAt), 1);
}

TEST_F(FileMappingsTest, MemoryThatRunsOutLeavesNoUnreadPage) {
  MemoryAccount account(std::uint64_t{1} << 20);
  FakePages pages(account);
  AddressSpace space(pages, account);
  auto source = std::make_shared<FakeSource>(4 * kMegabyte);
  ASSERT_EQ(space.Map(kAt, 4 * kMegabyte,
                      {.rights = kRead, .kind = Kind::kFile, .fixed = true, .source = source}),
            kAt);
  std::uint64_t page = 0;
  while (space.HandleFault(kAt + page * kPage, false, false) == FaultResult::kHandled) {
    std::byte byte;
    ASSERT_EQ(pages.CopyFrom(kAt + page * kPage, {&byte, 1}), 1u);
    ASSERT_EQ(byte, static_cast<std::byte>(page + 1));
    ++page;
  }
  EXPECT_TRUE(space.out_of_memory());
  EXPECT_GT(page, 200u);
}

TEST_F(FileMappingsTest, SharedMappingsOfAFileAgree) {
  constexpr std::uint64_t kOther = kAt + (std::uint64_t{1} << 30);
  ASSERT_EQ(Map(kAt, 4 * kPage, kReadWrite, 0, true), kAt);
  ASSERT_EQ(Map(kOther, 2 * kPage, kReadWrite, kPage, true), kOther);
  EXPECT_EQ(ByteAt(kOther), 2);
  EXPECT_EQ(GuestStore(kAt + kPage, 0x11), FaultResult::kHandled);
  EXPECT_EQ(ByteAt(kOther), 0x11);
  ASSERT_TRUE(Store(kOther, 0x22)) << "by a system call";
  EXPECT_EQ(ByteAt(kAt + kPage), 0x22);
  EXPECT_EQ(static_cast<int>(source_->bytes[kPage]), 2) << "not yet written back";
  EXPECT_EQ(space_.SyncFile(), 0);
  EXPECT_EQ(static_cast<int>(source_->bytes[kPage]), 0x22);
  EXPECT_EQ(source_->bytes_written, kPage) << "the one page that was changed";
}

TEST_F(FileMappingsTest, SharedPageIsWrittenBackAfterEveryChange) {
  ASSERT_EQ(Map(kAt, kPage, kReadWrite, 0, true), kAt);
  for (int value = 1; value < 10; ++value) {
    ASSERT_EQ(GuestStore(kAt, value), FaultResult::kHandled);
    ASSERT_EQ(space_.SyncFile(source_->identity()), 0);
    EXPECT_FALSE(pages_.RightsAt(kAt)->write) << "the next store has to be noticed";
    EXPECT_EQ(static_cast<int>(source_->bytes[0]), value);
  }
  EXPECT_EQ(space_.SyncFile(), 0);
  EXPECT_EQ(source_->bytes_written, 9 * kPage);
}

TEST_F(FileMappingsTest, SharedChangesReachTheFileWhenTheMappingEnds) {
  ASSERT_EQ(Map(kAt, 2 * kPage, kReadWrite, 0, true), kAt);
  ASSERT_EQ(GuestStore(kAt, 0x33), FaultResult::kHandled);
  ASSERT_EQ(GuestStore(kAt + kPage, 0x44), FaultResult::kHandled);
  ASSERT_EQ(space_.Unmap(kAt, kPage), 0);
  ASSERT_EQ(space_.Unmap(kAt + kPage, kPage), 0);
  EXPECT_EQ(static_cast<int>(source_->bytes[0]), 0x33);
  EXPECT_EQ(static_cast<int>(source_->bytes[kPage]), 0x44);
  EXPECT_EQ(pages_.shared_frame_count(), 0u);
  EXPECT_FALSE(space_.has_shared_files());
  ASSERT_EQ(Map(kAt, kPage, kReadWrite, 0, true), kAt);
  ASSERT_EQ(GuestStore(kAt, 0x55), FaultResult::kHandled);
  space_.Close();
  EXPECT_EQ(static_cast<int>(source_->bytes[0]), 0x55);
}

TEST_F(FileMappingsTest, SharedMappingFollowsTheFile) {
  ASSERT_EQ(Map(kAt, 4 * kPage, kReadWrite, 0, true), kAt);
  EXPECT_EQ(ByteAt(kAt + kPage), 2);
  source_->bytes[kPage] = std::byte{0x66};
  space_.RefreshFile(source_->identity(), kPage, kPage + 1);
  EXPECT_EQ(ByteAt(kAt + kPage), 0x66);
  source_->bytes.resize(kPage);
  space_.RefreshFile(source_->identity(), kPage, kPage);
  EXPECT_EQ(space_.HandleFault(kAt + kPage, false, false), FaultResult::kBeyondFile);
  EXPECT_EQ(ByteAt(kAt), 1);
}

TEST_F(FileMappingsTest, SharedMappingNeverMakesTheFileLonger) {
  source_->bytes.resize(100);
  ASSERT_EQ(Map(kAt, kPage, kReadWrite, 0, true), kAt);
  ASSERT_TRUE(Store(kAt + 50, 0x77));
  ASSERT_TRUE(Store(kAt + 200, 0x78));
  EXPECT_EQ(space_.SyncFile(), 0);
  EXPECT_EQ(source_->bytes.size(), 100u);
  EXPECT_EQ(static_cast<int>(source_->bytes[50]), 0x77);
}

TEST_F(FileMappingsTest, WhatCannotBeWrittenBackStaysDirty) {
  ASSERT_EQ(Map(kAt, kPage, kReadWrite, 0, true), kAt);
  ASSERT_EQ(GuestStore(kAt, 0x12), FaultResult::kHandled);
  source_->error = ENOSPC;
  EXPECT_EQ(space_.SyncFile(), -ENOSPC);
  source_->error = 0;
  EXPECT_EQ(space_.SyncFile(), 0);
  EXPECT_EQ(static_cast<int>(source_->bytes[0]), 0x12);
}

TEST_F(FileMappingsTest, SharedMappingOfAReadOnlyDescriptorStaysReadOnly) {
  ASSERT_EQ(space_.Map(kAt, kPage,
                       {.rights = kRead,
                        .kind = Kind::kFile,
                        .fixed = true,
                        .source = source_,
                        .shared = true,
                        .may_write = false}),
            kAt);
  EXPECT_EQ(space_.Protect(kAt, kPage, kReadWrite), -EACCES);
  EXPECT_FALSE(Store(kAt, 1));
}

TEST_F(FileMappingsTest, SharedMappingCanBeMovedAndDoubled) {
  ASSERT_EQ(Map(kAt, 2 * kPage, kReadWrite, 0, true), kAt);
  ASSERT_EQ(GuestStore(kAt + kPage, 0x21), FaultResult::kHandled);
  const std::int64_t moved = space_.Remap(kAt, 2 * kPage, 3 * kPage, true, kAt + 64 * kPage);
  ASSERT_EQ(moved, kAt + 64 * kPage);
  EXPECT_EQ(ByteAt(kAt + 65 * kPage), 0x21);
  EXPECT_EQ(ByteAt(kAt + 66 * kPage), 3);
  const std::int64_t second = space_.Remap(kAt + 64 * kPage, 0, 2 * kPage, true, std::nullopt);
  ASSERT_GT(second, 0);
  EXPECT_EQ(ByteAt(static_cast<std::uint64_t>(second) + kPage), 0x21);
  ASSERT_TRUE(Store(static_cast<std::uint64_t>(second) + kPage, 0x31));
  EXPECT_EQ(ByteAt(kAt + 65 * kPage), 0x31);
}

TEST_F(FileMappingsTest, DescribesWhatIsMappedAsLinuxDoes) {
  ASSERT_EQ(Map(kAt, kPage, kReadWrite, 2 * kPage, true), kAt);
  space_.SetHeapStart(kAt + 16 * kPage);
  space_.MoveHeapEnd(kAt + 17 * kPage);
  ASSERT_GT(space_.Map(kStackTop - kStackBytes, kStackBytes, kReadWrite, Kind::kStack, true), 0);
  space_.AddSystemRange(kStackTop + kPage, kStackTop + 2 * kPage, {.read = true, .execute = true},
                        "[vdso]");
  EXPECT_EQ(
      space_.Describe(),
      "10000000-10001000 rw-s 00002000 08:01 42                                 /lib/fake.so\n"
      "10010000-10011000 rw-p 00000000 00:00 0                                  [heap]\n"
      "7fffff7f0000-7fffffff0000 rw-p 00000000 00:00 0                          [stack]\n"
      "7fffffff1000-7fffffff2000 r-xp 00000000 00:00 0                          [vdso]\n");
}

}  // namespace
}  // namespace waxvm::linux_abi
