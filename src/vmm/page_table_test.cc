// SPDX-License-Identifier: Apache-2.0
#include "src/vmm/page_table.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "src/vmm/machine_for_test.h"

namespace waxvm::vmm {
namespace {

using PageTableTest = MachineTest;

TEST_F(PageTableTest, RightsAreThoseAskedFor) {
  ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadOnly));
  EXPECT_EQ(Load(kData), 0u);
  EXPECT_FALSE(CanStore(kData));
  // jmp *%rdi into a page without the right to execute.
  const Exit exit = Run(Code().SetRdi(kData).Bytes({0xff, 0xe7}));
  EXPECT_EQ(exit.vector, kPageFault);
  EXPECT_EQ(exit.error_code & 16, 16u) << "an instruction fetch";
}

// The guest writes first, so that every cache between it and the page table is filled.
TEST_F(PageTableTest, TakenRightsAreGoneAtOnce) {
  ASSERT_TRUE(pages().Populate(kData, 4 * kPageBytes, kReadWrite));
  for (int round = 0; round < 20; ++round) {
    ASSERT_TRUE(CanStore(kData + kPageBytes, 9));
    pages().Protect(kData + kPageBytes, kPageBytes, kReadOnly);
    ASSERT_FALSE(CanStore(kData + kPageBytes)) << "round " << round;
    ASSERT_EQ(Load(kData + kPageBytes), 9u);
    pages().Protect(kData + kPageBytes, kPageBytes, {});
    ASSERT_FALSE(Load(kData + kPageBytes)) << "round " << round;
    pages().Protect(kData + kPageBytes, kPageBytes, kReadWrite);
    ASSERT_EQ(Load(kData + kPageBytes), 9u) << "contents were kept";
  }
}

// The same while a guest runs on: no Start in between that would load everything anew.
TEST_F(PageTableTest, TakenRightsAreGoneWhenTheSystemCallReturns) {
  ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadWrite));
  const Exit first =
      Run(Code().SetRdi(kData).SetRsi(3).Store().SetEax(601).SystemCall().Store().Done());
  ASSERT_EQ(first.kind, Exit::Kind::kSystemCall);
  pages().Protect(kData, kPageBytes, kReadOnly);
  machine_->SetSystemCallResult(0);
  const Exit second = machine_->Run();
  EXPECT_EQ(second.kind, Exit::Kind::kException) << second.detail;
  EXPECT_EQ(second.vector, kPageFault);
  EXPECT_EQ(second.address, kData);
  EXPECT_EQ(machine_->registers().general.rax, 0u) << "the result survived the flush";
  // And from a fault: give it back, then take another page away before it returns.
  pages().Protect(kData, kPageBytes, kReadWrite);
  ASSERT_TRUE(IsDone(machine_->Run()));
}

TEST_F(PageTableTest, UnmappedPageIsGoneAndComesBackZeroed) {
  ASSERT_TRUE(pages().Populate(kData, 2 * kPageBytes, kReadWrite));
  for (int round = 0; round < 20; ++round) {
    ASSERT_TRUE(CanStore(kData, 0x1234));
    pages().Unmap(kData, kPageBytes);
    ASSERT_FALSE(Load(kData));
    ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadWrite));
    ASSERT_EQ(Load(kData), 0u);
  }
}

TEST_F(PageTableTest, LargePageCanBeSplit) {
  constexpr GuestVirtual kMiddle = kData + kLargePageBytes + 7 * kPageBytes;
  ASSERT_TRUE(pages().Populate(kData, 2 * kLargePageBytes, kReadWrite));
  ASSERT_TRUE(CanStore(kMiddle, 1));
  ASSERT_TRUE(CanStore(kMiddle + kPageBytes, 2));
  ASSERT_TRUE(CanStore(kData, 3));
  pages().Protect(kMiddle, kPageBytes, kReadOnly);
  EXPECT_FALSE(CanStore(kMiddle));
  EXPECT_EQ(Load(kMiddle), 1u);
  EXPECT_TRUE(CanStore(kMiddle + kPageBytes, 4));
  EXPECT_TRUE(CanStore(kMiddle - kPageBytes, 5));
  pages().Unmap(kMiddle + kPageBytes, kPageBytes);
  EXPECT_FALSE(Load(kMiddle + kPageBytes));
  EXPECT_EQ(Load(kMiddle - kPageBytes), 5u);
  EXPECT_EQ(Load(kData), 3u);
}

TEST_F(PageTableTest, MovedPagesKeepTheirContents) {
  constexpr GuestVirtual kTarget = kData + 64 * kLargePageBytes + kPageBytes;
  ASSERT_TRUE(pages().Populate(kData, kLargePageBytes + kPageBytes, kReadWrite));
  ASSERT_TRUE(CanStore(kData, 11));
  ASSERT_TRUE(CanStore(kData + kLargePageBytes, 22));
  ASSERT_TRUE(pages().Move(kData, kTarget, kLargePageBytes + kPageBytes));
  EXPECT_FALSE(Load(kData));
  EXPECT_FALSE(Load(kData + kLargePageBytes));
  EXPECT_EQ(Load(kTarget), 11u);
  EXPECT_EQ(Load(kTarget + kLargePageBytes), 22u);
}

// What a guest could reach with munmap, mprotect and mremap of addresses it was not given.
TEST_F(PageTableTest, SystemPagesAreChangedByNobody) {
  const auto frame = machine_->memory().AllocateFrame();
  ASSERT_TRUE(frame);
  const std::uint64_t value = 0x5eed;
  std::memcpy(machine_->memory().At(*frame), &value, sizeof value);
  ASSERT_TRUE(pages().MapSystemPage(kData, *frame, /*user=*/true, /*write=*/false));
  EXPECT_FALSE(pages().MapSystemPage(kData, *frame, true, true)) << "it is there already";
  ASSERT_EQ(Load(kData), value);
  pages().Unmap(kData, kPageBytes);
  pages().Protect(kData, kPageBytes, kReadWrite);
  pages().Protect(kData, kPageBytes, {});
  ASSERT_TRUE(pages().Move(kData, kData + 64 * kPageBytes, kPageBytes));
  ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadWrite));
  pages().ReclaimUntouched();
  EXPECT_EQ(Load(kData), value);
  EXPECT_FALSE(CanStore(kData));
  EXPECT_FALSE(Load(kData + 64 * kPageBytes));
  EXPECT_EQ(pages().CopyTo(kData, std::as_bytes(std::span(&value, 1))), 0u);
}

// Whatever takes rights away leaves a flush pending, and nothing else does: a missing one would
// only be seen on the kind of KVM that this host does not have.
TEST_F(PageTableTest, EveryReductionGoesThroughRevoke) {
  constexpr GuestVirtual kFar = kData + 64 * kLargePageBytes;
  const auto flushes = [&](auto&& change) {
    pages().TakeFlushPending();
    change();
    return pages().TakeFlushPending();
  };
  EXPECT_FALSE(flushes([&] { ASSERT_TRUE(pages().Populate(kData, 8 * kPageBytes, kReadOnly)); }));
  EXPECT_FALSE(flushes([&] { pages().Protect(kData, kPageBytes, kReadWrite); }));
  EXPECT_FALSE(flushes([&] { pages().Protect(kData, kPageBytes, kAll); }));
  EXPECT_TRUE(flushes([&] { pages().Protect(kData, kPageBytes, kReadWrite); })) << "execute";
  EXPECT_TRUE(flushes([&] { pages().Protect(kData, kPageBytes, kReadOnly); })) << "write";
  EXPECT_TRUE(flushes([&] { pages().Protect(kData, kPageBytes, {}); })) << "all";
  EXPECT_FALSE(flushes([&] { pages().Protect(kData, kPageBytes, kReadWrite); }));
  EXPECT_FALSE(flushes([&] { ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadOnly)); }))
      << "what is present stays as it is";
  EXPECT_TRUE(CanStore(kData));
  EXPECT_TRUE(flushes([&] { ASSERT_TRUE(pages().Move(kData, kFar, kPageBytes)); }));
  EXPECT_TRUE(flushes([&] { pages().Unmap(kFar, kPageBytes); }));
  EXPECT_FALSE(flushes([&] { pages().Unmap(kFar, kPageBytes); })) << "nothing is there";
  EXPECT_TRUE(flushes([&] { EXPECT_GT(pages().ReclaimUntouched(), 0u); }));
  constexpr GuestVirtual kLarge = kFar + 64 * kLargePageBytes;
  ASSERT_TRUE(pages().Populate(kLarge, kLargePageBytes, kReadWrite));
  ASSERT_TRUE(CanStore(kLarge));
  EXPECT_TRUE(flushes([&] { pages().Protect(kLarge, kPageBytes, kAll); })) << "a split";
}

TEST_F(PageTableTest, SharedFrameIsSeenWhereverItIsMapped) {
  constexpr GuestVirtual kOther = kData + 512 * kPageBytes;
  const auto frame = machine_->memory().AllocateFrame();
  ASSERT_TRUE(frame);
  ASSERT_TRUE(pages().MapShared(kData, *frame, kReadWrite));
  ASSERT_TRUE(pages().MapShared(kOther, *frame, kReadOnly));
  EXPECT_TRUE(CanStore(kData, 77));
  EXPECT_EQ(Load(kOther), 77u);
  EXPECT_FALSE(CanStore(kOther));
  ASSERT_TRUE(pages().MapShared(kData, *frame, kReadOnly));
  EXPECT_FALSE(CanStore(kData)) << "the right was taken back";
  ASSERT_TRUE(pages().MapShared(kOther, *frame, kReadWrite));
  EXPECT_TRUE(CanStore(kOther, 78));
  const std::uint64_t used = account_->used_bytes();
  pages().Unmap(kData, kPageBytes);
  EXPECT_EQ(account_->used_bytes(), used) << "the frame is still somebody's";
  EXPECT_FALSE(Load(kData));
  EXPECT_EQ(Load(kOther), 78u);
  ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadWrite));
  EXPECT_FALSE(pages().MapShared(kData, *frame, kReadOnly)) << "a page of its own is there";
}

// A target whose table of small pages is there already.
TEST_F(PageTableTest, LargePageMovesOverAnEmptyTable) {
  constexpr GuestVirtual kTarget = kData + 64 * kLargePageBytes;
  ASSERT_TRUE(pages().Populate(kTarget, kPageBytes, kReadWrite));
  pages().Unmap(kTarget, kPageBytes);
  ASSERT_TRUE(pages().Populate(kData, kLargePageBytes, kReadWrite));
  ASSERT_TRUE(CanStore(kData + 5 * kPageBytes, 55));
  ASSERT_TRUE(pages().Move(kData, kTarget, kLargePageBytes));
  EXPECT_EQ(Load(kTarget + 5 * kPageBytes), 55u);
  EXPECT_FALSE(Load(kData));
}

TEST_F(PageTableTest, MemoryIsBoundedAndOnlyPaidForWhenTouched) {
  const std::uint64_t before = machine_->memory().ResidentBytes();
  ASSERT_TRUE(pages().Populate(kData + kPageBytes, 1 << 20, kReadWrite));
  EXPECT_LT(machine_->memory().ResidentBytes() - before, 8 * kPageBytes) << "tables only";
  EXPECT_FALSE(pages().Populate(kData + (1 << 21), 2 * kMemoryBytes, kReadWrite));
  EXPECT_LE(account_->used_bytes(), kMemoryBytes);
  pages().Unmap(kData, 4 * kMemoryBytes);
  EXPECT_TRUE(pages().Populate(kData, kMemoryBytes / 2, kReadWrite)) << "frames were given back";
}

TEST_F(PageTableTest, OnlyUntouchedPagesAreReclaimed) {
  constexpr GuestVirtual kLarge = kData + 16 * kLargePageBytes;
  ASSERT_TRUE(pages().Populate(kData, 64 * kPageBytes, kReadWrite));
  ASSERT_TRUE(pages().Populate(kLarge, 2 * kLargePageBytes, kReadWrite));
  ASSERT_TRUE(CanStore(kData + 5 * kPageBytes, 42));
  ASSERT_TRUE(CanStore(kLarge, 43));
  const std::uint64_t before = account_->used_bytes();
  const std::uint64_t gained = pages().ReclaimUntouched();
  EXPECT_GE(gained, 63 * kPageBytes + kLargePageBytes);
  EXPECT_EQ(before - account_->used_bytes(), gained);
  EXPECT_EQ(Load(kData + 5 * kPageBytes), 42u);
  EXPECT_EQ(Load(kLarge), 43u);
  EXPECT_FALSE(Load(kData)) << "absent again";
  ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadWrite));
  EXPECT_EQ(Load(kData), 0u);
}

// What is read again where it is touched again would not be what the program left there.
TEST_F(PageTableTest, PagesOfZeroesAreReclaimedUnlessTheyWereFilled) {
  constexpr GuestVirtual kFile = kData + 2 * kPageBytes;
  ASSERT_TRUE(pages().Populate(kData, 4 * kPageBytes, kReadWrite));
  ASSERT_TRUE(CanStore(kData, 0)) << "touched, and zero";
  const auto zeroes = [](std::span<std::byte> piece, std::uint64_t) {
    std::ranges::fill(piece, std::byte{0});
    return static_cast<std::int64_t>(piece.size());
  };
  EXPECT_EQ(pages().Fill(kFile, 2 * kPageBytes, zeroes), std::int64_t{2 * kPageBytes});
  pages().Protect(kFile, kPageBytes, kReadOnly);
  pages().ReclaimUntouched();
  EXPECT_FALSE(pages().IsPresent(kData));
  EXPECT_TRUE(pages().IsPresent(kFile)) << "whatever its rights";
  EXPECT_TRUE(pages().IsPresent(kFile + kPageBytes));
}

TEST_F(PageTableTest, CopiesStopAtTheFirstAbsentPage) {
  ASSERT_TRUE(pages().Populate(kData, kPageBytes, kReadOnly));
  std::vector<std::byte> bytes(2 * kPageBytes, std::byte{7});
  EXPECT_EQ(pages().CopyTo(kData + 100, bytes), kPageBytes - 100);
  EXPECT_EQ(pages().CopyFrom(kData + kPageBytes, bytes), 0u);
  EXPECT_EQ(pages().CopyFrom(0x1000, bytes), 0u) << "the machine's own pages";
  EXPECT_EQ(pages().CopyFrom(0x2000, bytes), 0u) << "the machine's own pages";
}

}  // namespace
}  // namespace waxvm::vmm
