// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/address_space.h"

#include <cerrno>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "src/linux_abi/testing/fake_machine.h"

namespace waxvm::linux_abi {
namespace {

using Kind = AddressSpace::Kind;
using FaultResult = AddressSpace::FaultResult;

constexpr std::uint64_t kLimit = std::uint64_t{16} << 20;
constexpr PageRights kNone{};
constexpr PageRights kRead{.read = true};
constexpr PageRights kReadWrite{.read = true, .write = true};
constexpr PageRights kReadExecute{.read = true, .execute = true};
constexpr std::uint64_t kPage = kPageBytes;
constexpr std::uint64_t kAt = 0x10000000;
constexpr std::uint64_t kHugeLength = ~std::uint64_t{0};

class AddressSpaceTest : public testing::Test {
 protected:
  std::int64_t MapFixed(std::uint64_t address, std::uint64_t bytes, PageRights rights) {
    return space_.Map(address, bytes, rights, Kind::kAnonymous, /*fixed=*/true);
  }
  bool CanRead(std::uint64_t address) {
    std::byte byte;
    return space_.Read(address, {&byte, 1});
  }
  bool CanWrite(std::uint64_t address) {
    const std::byte byte{0x5a};
    return space_.Write(address, {&byte, 1});
  }
  int ByteAt(std::uint64_t address) {
    std::byte byte;
    return space_.Read(address, {&byte, 1}) ? static_cast<int>(byte) : -1;
  }

  MemoryAccount account_{kLimit};
  FakePages pages_{account_};
  AddressSpace space_{pages_, account_};
};

TEST_F(AddressSpaceTest, MapsWhereAskedOrWhereFree) {
  EXPECT_EQ(MapFixed(kAt, kPage, kReadWrite), kAt);
  const std::int64_t first = space_.Map(0, 3 * kPage, kReadWrite, Kind::kAnonymous, false);
  const std::int64_t second = space_.Map(0, kPage, kReadWrite, Kind::kAnonymous, false);
  EXPECT_GT(first, 0);
  EXPECT_EQ(second + static_cast<std::int64_t>(kPage), first) << "top-down, without gaps";
  const std::uint64_t hint = kAt + 16 * kPage;
  EXPECT_EQ(space_.Map(hint, kPage, kRead, Kind::kAnonymous, false), hint);
  EXPECT_NE(space_.Map(hint, kPage, kRead, Kind::kAnonymous, false), hint) << "taken";
}

TEST_F(AddressSpaceTest, RefusesAbsurdRanges) {
  EXPECT_EQ(MapFixed(kAt, 0, kRead), -EINVAL);
  EXPECT_EQ(MapFixed(kAt + 1, kPage, kRead), -EINVAL);
  EXPECT_EQ(MapFixed(kAt, kHugeLength, kRead), -ENOMEM);
  EXPECT_EQ(MapFixed(kUserEnd - kPage, 2 * kPage, kRead), -ENOMEM);
  EXPECT_EQ(MapFixed(0, kPage, kRead), -EPERM);
  EXPECT_EQ(MapFixed(kUserStart - kPage, kPage, kRead), -EPERM) << "the machine's own pages";
  EXPECT_EQ(MapFixed(~std::uint64_t{0} - kPage + 1, kPage, kRead), -ENOMEM);
  EXPECT_EQ(MapFixed(kStackTop, kPage, kRead), -ENOMEM) << "the machine's own pages";
  EXPECT_EQ(space_.Unmap(kStackTop, kPage), -EINVAL);
  EXPECT_EQ(space_.Unmap(kStackTop - kPage, 2 * kPage), -EINVAL);
  EXPECT_EQ(space_.Protect(kStackTop, kPage, kReadWrite), -ENOMEM);
  EXPECT_EQ(space_.Remap(kAt, kPage, kPage, true, kStackTop), -EFAULT) << "nothing is there";
  EXPECT_EQ(space_.Discard(kStackTop, kPage), -EINVAL);
  EXPECT_EQ(space_.Map(kStackTop, kPage, kRead, Kind::kAnonymous, false), kMapTop - kPage)
      << "a hint that cannot be followed";
  EXPECT_EQ(space_.Map(0, kUserEnd, kNone, Kind::kAnonymous, false), -ENOMEM);
  EXPECT_EQ(space_.Unmap(kAt, kHugeLength), -EINVAL);
  EXPECT_EQ(space_.Unmap(0, kPage), -EINVAL) << "the machine's own pages";
  EXPECT_EQ(space_.Unmap(kAt, 0), -EINVAL);
  EXPECT_EQ(space_.Protect(kAt, kHugeLength, kRead), -ENOMEM);
  EXPECT_EQ(space_.Protect(0x1000, kPage, kReadWrite), -ENOMEM);
  EXPECT_EQ(space_.Discard(kAt, kHugeLength), -EINVAL);
  EXPECT_EQ(space_.Remap(kAt, kPage, kHugeLength, true, std::nullopt), -EINVAL);
  EXPECT_EQ(space_.Remap(kAt, 0, kPage, true, std::nullopt), -EFAULT) << "nothing is there";
  MapFixed(kAt, kPage, kRead);
  EXPECT_EQ(space_.Remap(kAt, 0, kPage, true, std::nullopt), -EINVAL) << "private memory";
}

TEST_F(AddressSpaceTest, ReservationsCostNothing) {
  const std::uint64_t tens_of_gigabytes = std::uint64_t{64} << 30;
  const std::int64_t address =
      space_.Map(0, tens_of_gigabytes, kNone, Kind::kAnonymous, /*fixed=*/false);
  ASSERT_GT(address, 0);
  EXPECT_EQ(pages_.page_count(), 0u);
  EXPECT_EQ(space_.Protect(static_cast<std::uint64_t>(address) + (1 << 30), kPage, kReadWrite), 0);
  EXPECT_TRUE(CanWrite(static_cast<std::uint64_t>(address) + (1 << 30)));
  EXPECT_FALSE(CanWrite(static_cast<std::uint64_t>(address)));
  EXPECT_EQ(space_.Unmap(static_cast<std::uint64_t>(address), tens_of_gigabytes), 0);
  EXPECT_EQ(pages_.page_count(), 0u);
}

TEST_F(AddressSpaceTest, CopiesCheckWhatTheGuestMayDo) {
  MapFixed(kAt, kPage, kReadWrite);
  MapFixed(kAt + kPage, kPage, kRead);
  MapFixed(kAt + 2 * kPage, kPage, kNone);
  EXPECT_TRUE(CanWrite(kAt + kPage - 1));
  EXPECT_TRUE(CanRead(kAt + kPage));
  EXPECT_FALSE(CanWrite(kAt + kPage));
  EXPECT_FALSE(CanRead(kAt + 2 * kPage));
  EXPECT_FALSE(CanRead(kAt - 1));
  std::vector<std::byte> across(kPage + 1);
  EXPECT_FALSE(space_.Write(kAt, across)) << "nothing of it is written";
  EXPECT_TRUE(space_.Read(kAt, across));
  EXPECT_FALSE(space_.Read(kAt + 1, std::span(across.data(), 2 * kPage))) << "runs into PROT_NONE";
  EXPECT_FALSE(space_.Read(~std::uint64_t{0} - 3, std::span(across.data(), 8))) << "wraps";
  EXPECT_FALSE(CanRead(0x1000)) << "the machine's own pages";
  EXPECT_FALSE(CanRead(kUserEnd));
}

TEST_F(AddressSpaceTest, FixedMappingReplacesAndZeroes) {
  MapFixed(kAt, 3 * kPage, kReadWrite);
  ASSERT_TRUE(CanWrite(kAt + kPage));
  EXPECT_EQ(space_.Map(kAt + kPage, kPage, kReadWrite, Kind::kAnonymous, true, /*no_replace=*/true),
            -EEXIST);
  EXPECT_EQ(ByteAt(kAt + kPage), 0x5a);
  EXPECT_EQ(MapFixed(kAt + kPage, kPage, kReadWrite), kAt + kPage);
  EXPECT_EQ(ByteAt(kAt + kPage), 0);
}

TEST_F(AddressSpaceTest, ProtectStopsAtAGap) {
  MapFixed(kAt, kPage, kReadWrite);
  MapFixed(kAt + 2 * kPage, kPage, kReadWrite);
  EXPECT_EQ(space_.Protect(kAt, 3 * kPage, kRead), -ENOMEM);
  EXPECT_FALSE(CanWrite(kAt)) << "what came before the gap was changed";
  EXPECT_TRUE(CanWrite(kAt + 2 * kPage));
  EXPECT_EQ(space_.Protect(kAt, kPage, kReadExecute), 0);
  EXPECT_FALSE(CanWrite(kAt));
}

TEST_F(AddressSpaceTest, FaultsAreAnsweredWithinTheRights) {
  MapFixed(kAt, 1 << 20, kReadWrite);  // large enough not to be made present at once
  EXPECT_EQ(pages_.page_count(), 0u);
  EXPECT_EQ(space_.HandleFault(kAt + 5, /*write=*/true, /*execute=*/false), FaultResult::kHandled);
  EXPECT_TRUE(pages_.IsPresent(kAt));
  EXPECT_EQ(space_.HandleFault(kAt + 5, false, /*execute=*/true), FaultResult::kWrongRights);
  EXPECT_EQ(space_.HandleFault(kAt - 5, false, false), FaultResult::kNotMapped);
  MapFixed(kAt, kPage, kRead);
  EXPECT_EQ(space_.HandleFault(kAt, true, false), FaultResult::kWrongRights);
  EXPECT_EQ(space_.HandleFault(~std::uint64_t{0}, true, false), FaultResult::kNotMapped);
}

TEST_F(AddressSpaceTest, GuardBelowTheStackIsTold) {
  ASSERT_GT(space_.Map(kStackTop - kStackBytes, kStackBytes, kReadWrite, Kind::kStack, true), 0);
  EXPECT_EQ(space_.HandleFault(kStackTop - kStackBytes - 8, true, false), FaultResult::kStackGuard);
  EXPECT_EQ(space_.HandleFault(kStackTop - kStackBytes - kStackGuardBytes - 8, true, false),
            FaultResult::kNotMapped);
  EXPECT_EQ(space_.HandleFault(kStackTop - kStackBytes, true, false), FaultResult::kHandled);
}

TEST_F(AddressSpaceTest, EndsAtTheMemoryLimit) {
  MapFixed(kAt, 4 * kLimit, kReadWrite);
  std::uint64_t touched = 0;
  FaultResult result = FaultResult::kHandled;
  while (result == FaultResult::kHandled && touched < 4 * kLimit) {
    result = space_.HandleFault(kAt + touched, true, false);
    touched += kPage;
  }
  EXPECT_EQ(result, FaultResult::kOutOfMemory);
  EXPECT_TRUE(space_.out_of_memory());
  EXPECT_GE(touched, kLimit * 9 / 10) << "what was handed out untouched stays small";
  EXPECT_LE(account_.used_bytes(), kLimit);
}

TEST_F(AddressSpaceTest, SparseTouchingIsNotChargedForItsNeighbours) {
  MapFixed(kAt, std::uint64_t{1} << 30, kReadWrite);
  int touched = 0;
  while (touched < 1024 && space_.HandleFault(kAt + static_cast<std::uint64_t>(touched) * (1 << 20),
                                              true, false) == FaultResult::kHandled)
    ++touched;
  EXPECT_GT(touched, 64) << "of " << kLimit / kPage << " pages";
}

TEST_F(AddressSpaceTest, HeapGrowsAndShrinks) {
  space_.SetHeapStart(kAt);
  EXPECT_EQ(space_.MoveHeapEnd(0), kAt);
  EXPECT_EQ(space_.MoveHeapEnd(kAt + 100), kAt + 100);
  EXPECT_TRUE(CanWrite(kAt + 99));
  EXPECT_EQ(space_.MoveHeapEnd(kAt + 5 * kPage), kAt + 5 * kPage);
  EXPECT_EQ(ByteAt(kAt + 99), 0x5a);
  EXPECT_EQ(space_.MoveHeapEnd(kAt), kAt);
  EXPECT_FALSE(CanRead(kAt));
  EXPECT_EQ(space_.MoveHeapEnd(kUserEnd), kAt) << "refused: too far";
  MapFixed(kAt + 2 * kPage, kPage, kRead);
  EXPECT_EQ(space_.MoveHeapEnd(kAt + 4 * kPage), kAt) << "refused: something is there";
}

TEST_F(AddressSpaceTest, RemapGrowsMovesAndShrinks) {
  MapFixed(kAt, 2 * kPage, kReadWrite);
  ASSERT_TRUE(CanWrite(kAt + kPage));
  EXPECT_EQ(space_.Remap(kAt, 2 * kPage, 4 * kPage, false, std::nullopt), kAt);
  EXPECT_TRUE(CanWrite(kAt + 3 * kPage));
  MapFixed(kAt + 4 * kPage, kPage, kRead);
  EXPECT_EQ(space_.Remap(kAt, 4 * kPage, 8 * kPage, false, std::nullopt), -ENOMEM);
  const std::int64_t moved = space_.Remap(kAt, 4 * kPage, 8 * kPage, true, std::nullopt);
  ASSERT_GT(moved, 0);
  EXPECT_EQ(ByteAt(static_cast<std::uint64_t>(moved) + kPage), 0x5a);
  EXPECT_FALSE(CanRead(kAt));
  const std::uint64_t target = kAt + (std::uint64_t{1} << 30);
  EXPECT_EQ(space_.Remap(static_cast<std::uint64_t>(moved), 8 * kPage, 2 * kPage, true, target),
            target);
  EXPECT_EQ(ByteAt(target + kPage), 0x5a);
  EXPECT_FALSE(CanRead(target + 2 * kPage));
  EXPECT_EQ(space_.Remap(target, kPage, kPage, true, target), -EINVAL) << "onto itself";
  EXPECT_EQ(space_.Remap(target, 64 * kPage, kPage, true, std::nullopt), -EFAULT);
}

TEST_F(AddressSpaceTest, DiscardReadsAsZeroAgain) {
  MapFixed(kAt, 2 * kPage, kReadWrite);
  ASSERT_TRUE(CanWrite(kAt));
  EXPECT_EQ(space_.Discard(kAt, kPage), 0);
  EXPECT_EQ(ByteAt(kAt), 0);
  EXPECT_EQ(space_.Discard(kAt, 3 * kPage), -ENOMEM) << "not all mapped";
}

TEST_F(AddressSpaceTest, HugeReservationsNeedOnlyAddressSpace) {
  constexpr std::uint64_t kTerabytes = std::uint64_t{16} << 40;
  EXPECT_EQ(space_.Map(0, kTerabytes, kReadWrite, Kind::kAnonymous, false), -ENOMEM);
  const std::int64_t shadow = space_.Map(0, kTerabytes, {.rights = kReadWrite, .no_reserve = true});
  ASSERT_GT(shadow, 0);
  EXPECT_EQ(pages_.page_count(), 0u);
  EXPECT_TRUE(CanWrite(static_cast<std::uint64_t>(shadow) + kTerabytes / 2));
  EXPECT_LT(pages_.page_count(), 64u);
}

TEST_F(AddressSpaceTest, LowMappingsLieBelowTwoGigabytes) {
  const std::int64_t low = space_.Map(0, kPage, {.rights = kRead, .low = true});
  EXPECT_GT(low, 0);
  EXPECT_LT(low, std::int64_t{1} << 31);
  EXPECT_EQ(space_.Map(0, std::uint64_t{2} << 30, {.rights = kNone, .low = true}), -ENOMEM);
}

TEST_F(AddressSpaceTest, RemapCanLeaveTheOldMappingEmpty) {
  MapFixed(kAt, 2 * kPage, kReadWrite);
  ASSERT_TRUE(CanWrite(kAt + kPage));
  const std::int64_t moved =
      space_.Remap(kAt, 2 * kPage, 2 * kPage, true, std::nullopt, /*keep_old=*/true);
  ASSERT_GT(moved, 0);
  EXPECT_EQ(ByteAt(static_cast<std::uint64_t>(moved) + kPage), 0x5a);
  EXPECT_EQ(ByteAt(kAt + kPage), 0);
}

TEST_F(AddressSpaceTest, StackGrowsDownToWhereItIsTouched) {
  constexpr std::uint64_t kStart = kAt + kStackBytes;
  ASSERT_GT(space_.Map(kStart, 2 * kPage, kReadWrite, Kind::kStack, true), 0);
  EXPECT_EQ(space_.HandleFault(kStart - 1, true, false), FaultResult::kHandled);
  EXPECT_EQ(space_.Describe().substr(0, 17), "107ff000-10802000");
  EXPECT_TRUE(CanWrite(kStart - 100 * kPage)) << "touched on the guest's behalf";
  EXPECT_EQ(space_.CheckMapped(kStart - 100 * kPage, 102 * kPage), 0);
  EXPECT_EQ(space_.MakeResident(kStart - 101 * kPage, kPage, true), -ENOMEM) << "not touched";
  constexpr std::uint64_t kLowest = kStart + 2 * kPage - kStackBytes;
  EXPECT_EQ(space_.HandleFault(kLowest, false, false), FaultResult::kHandled);
  EXPECT_EQ(space_.HandleFault(kLowest - 1, false, false), FaultResult::kStackGuard);
  EXPECT_FALSE(CanRead(kLowest - 1));
  EXPECT_EQ(space_.mapped_bytes(), kStackBytes);
  EXPECT_EQ(space_.Protect(kLowest, kPage, kRead), 0);
  EXPECT_EQ(space_.HandleFault(kLowest - 1, true, false), FaultResult::kWrongRights)
      << "it grows, but cannot be written";
}

TEST_F(AddressSpaceTest, StackStopsShortOfWhatIsBelowIt) {
  constexpr std::uint64_t kStart = kAt + kStackBytes;
  constexpr std::uint64_t kBelow = kStart - 300 * kPage;
  constexpr std::uint64_t kLowest = kBelow + kPage + kStackGuardBytes;
  ASSERT_GT(space_.Map(kStart, kPage, kReadWrite, Kind::kStack, true), 0);
  ASSERT_EQ(MapFixed(kBelow, kPage, kRead), kBelow);
  EXPECT_EQ(space_.HandleFault(kLowest, true, false), FaultResult::kHandled);
  EXPECT_EQ(space_.HandleFault(kLowest - 1, true, false), FaultResult::kStackGuard);
  EXPECT_FALSE(CanWrite(kLowest - 1));
  ASSERT_EQ(space_.Protect(kBelow, kPage, kNone), 0);
  EXPECT_EQ(space_.HandleFault(kBelow + kPage, true, false), FaultResult::kHandled)
      << "what nobody may touch is a guard";
}

TEST_F(AddressSpaceTest, NothingIsPutIntoTheRoomOfAStack) {
  const std::int64_t stack = space_.Map(0, kPage, kReadWrite, Kind::kStack, false);
  ASSERT_GT(stack, 0);
  const std::int64_t next = space_.Map(0, kPage, kReadWrite, Kind::kAnonymous, false);
  EXPECT_EQ(next, stack - static_cast<std::int64_t>(kStackGuardBytes + kPage));
  ASSERT_GT(space_.Map(kAt, kPage, kReadWrite, Kind::kStack, true), 0);
  EXPECT_NE(space_.Map(kAt - kPage, kPage, kRead, Kind::kAnonymous, false), kAt - kPage);
  constexpr std::uint64_t kBehindTheRoom = kAt - kStackGuardBytes - kPage;
  EXPECT_EQ(space_.Map(kBehindTheRoom, kPage, kRead, Kind::kAnonymous, false), kBehindTheRoom);
  EXPECT_EQ(MapFixed(kAt - kPage, kPage, kRead), kAt - kPage) << "who insists gets it";
}

TEST_F(AddressSpaceTest, StackCanBeProtectedDownToItsStart) {
  ASSERT_GT(space_.Map(kStackTop - kStackBytes, kStackBytes, kReadWrite, Kind::kStack, true), 0);
  EXPECT_EQ(space_.Protect(kStackTop - kPage, kPage, kReadExecute, /*grows_down=*/true), 0);
  EXPECT_FALSE(CanWrite(kStackTop - kStackBytes));
  MapFixed(kAt, kPage, kReadWrite);
  EXPECT_EQ(space_.Protect(kAt, kPage, kRead, /*grows_down=*/true), -EINVAL);
  EXPECT_EQ(space_.Protect(kAt + kPage, kPage, kRead, /*grows_down=*/true), -ENOMEM);
}

TEST_F(AddressSpaceTest, ResidencyIsMadeAndBounded) {
  MapFixed(kAt, 1 << 20, kReadWrite);
  EXPECT_FALSE(space_.IsPresent(kAt + (1 << 19)));
  EXPECT_EQ(space_.MakeResident(kAt, 1 << 20, /*write=*/true), 0);
  EXPECT_TRUE(space_.IsPresent(kAt + (1 << 19)));
  EXPECT_EQ(space_.MakeResident(kAt, 2 << 20, true), -ENOMEM) << "a gap";
  MapFixed(kAt, kPage, kRead);
  EXPECT_EQ(space_.MakeResident(kAt, kPage, true), -EINVAL);
  MapFixed(kAt, 4 * kLimit, kReadWrite);
  EXPECT_EQ(space_.MakeResident(kAt, 4 * kLimit, true), -ENOMEM);
  EXPECT_FALSE(space_.out_of_memory()) << "it is no reason to end the run";
}

// A guest that maps every other page makes the host keep an area for each.
TEST_F(AddressSpaceTest, NumberOfAreasIsBoundedAndCharged) {
  std::uint64_t count = 0;
  while (count < 1'000'000 && MapFixed(kAt + 2 * count * kPage, kPage, kNone) > 0) ++count;
  EXPECT_LE(count, 65530u);
  EXPECT_GT(account_.used_bytes(), count * 64);
  EXPECT_EQ(space_.Unmap(kAt, 2 * count * kPage), 0) << "giving back is always possible";
  EXPECT_EQ(MapFixed(kAt, kPage, kNone), kAt);
}

// A million mappings with gaps between them: neither quadratic nor more than the bound.
TEST_F(AddressSpaceTest, ManyMappingsStayCheap) {
  int made = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    // Different rights side by side cannot be merged.
    const PageRights rights = i % 2 == 0 ? kRead : kNone;
    const std::int64_t address = space_.Map(0, (1 + static_cast<std::uint64_t>(i) % 3) * kPage,
                                            {.rights = rights, .kind = Kind::kStack});
    if (address > 0) {
      ++made;
      if (i % 3 == 0) {
        EXPECT_EQ(space_.Unmap(static_cast<std::uint64_t>(address), kPage), 0);
      }
    } else {
      ASSERT_EQ(address, -ENOMEM);
    }
  }
  EXPECT_GT(made, 10'000);
  EXPECT_LE(account_.used_bytes(), kLimit);
}

TEST_F(AddressSpaceTest, RoomIsFoundAgainWhereItWasGivenBack) {
  constexpr std::int64_t kBytes = 4 * static_cast<std::int64_t>(kPage);
  std::vector<std::int64_t> at;
  for (int i = 0; i < 4; ++i) at.push_back(space_.Map(0, kBytes, kNone, Kind::kAnonymous, false));
  EXPECT_EQ(at[3], at[0] - 3 * kBytes);
  ASSERT_EQ(space_.Unmap(static_cast<std::uint64_t>(at[1]), kBytes), 0);
  EXPECT_LT(space_.Map(0, 2 * kBytes, kNone, Kind::kAnonymous, false), at[3]) << "too small a gap";
  EXPECT_EQ(space_.Map(0, kBytes, kNone, Kind::kAnonymous, false), at[1]);
}

TEST_F(AddressSpaceTest, StringsEndWhereTheyEnd) {
  MapFixed(kAt, 2 * kPage, kReadWrite);
  const std::string text(300, 'x');
  ASSERT_TRUE(space_.Write(kAt + kPage - 100, std::as_bytes(std::span(text.c_str(), 301))));
  std::string read;
  EXPECT_EQ(space_.ReadString(kAt + kPage - 100, 4096, read), 300);
  EXPECT_EQ(read, text);
  EXPECT_EQ(space_.ReadString(kAt + kPage - 100, 300, read), -ENAMETOOLONG);
  std::vector<std::byte> full(kPage, std::byte{'y'});
  ASSERT_TRUE(space_.Write(kAt + kPage, full));
  EXPECT_EQ(space_.ReadString(kAt + kPage, 8192, read), -EFAULT) << "runs off the end";
  EXPECT_EQ(space_.ReadString(~std::uint64_t{0}, 8192, read), -EFAULT);
}

}  // namespace
}  // namespace waxvm::linux_abi
