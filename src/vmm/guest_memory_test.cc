// SPDX-License-Identifier: Apache-2.0
// What a guest gives back goes back to the host.
#include "src/vmm/guest_memory.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <optional>

#include "src/vmm/machine_for_test.h"

namespace waxvm::vmm {
namespace {

/// The flags of the host's page at an address; empty where they are not shown to this process.
/// Spec: Linux Documentation/admin-guide/mm/pagemap.rst.
std::optional<std::uint64_t> PageFlags(const std::byte* at) {
  const UniqueFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  const UniqueFd all(::open("/proc/kpageflags", O_RDONLY | O_CLOEXEC));
  std::uint64_t entry = 0, flags = 0;
  const auto page = reinterpret_cast<std::uintptr_t>(at) / kPageBytes;
  if (!pagemap || !all ||
      ::pread(pagemap.get(), &entry, sizeof entry, static_cast<off_t>(page * sizeof entry)) !=
          sizeof entry)
    return std::nullopt;
  const std::uint64_t frame = entry & ((std::uint64_t{1} << 55) - 1);
  if (frame == 0 || ::pread(all.get(), &flags, sizeof flags,
                            static_cast<off_t>(frame * sizeof flags)) != sizeof flags)
    return std::nullopt;
  return flags;
}

bool IsHuge(std::uint64_t flags) { return ((flags >> 22) & 1) != 0; }

class GivenBack : public MachineTest {
 protected:
  /// A frame of 2 MiB that the host backs with one huge page; skips where it does not.
  void SetUp() override {
    MachineTest::SetUp();
    if (IsSkipped()) return;
    const auto frame = machine_->memory().AllocateLargeFrame();
    ASSERT_TRUE(frame);
    frame_ = *frame;
    std::memset(machine_->memory().At(frame_), 1, kLargePageBytes);
    const auto flags = PageFlags(machine_->memory().At(frame_));
    if (!flags) GTEST_SKIP() << "/proc/kpageflags is not shown to this process";
    if (!IsHuge(*flags)) GTEST_SKIP() << "this host had no huge page at hand";
  }
  bool RestIsHuge(GuestPhysical at) { return IsHuge(PageFlags(machine_->memory().At(at)).value()); }

  GuestPhysical frame_ = 0;
};

TEST_F(GivenBack, ThePartOfAHugePageThatIsFreed) {
  GuestMemory& memory = machine_->memory();
  const std::uint64_t before = memory.ResidentBytes();
  memory.FreeFrames(frame_ + kLargePageBytes / 2, 100);
  EXPECT_FALSE(RestIsHuge(frame_)) << "the host would keep the freed part with the rest";
  EXPECT_EQ(before - memory.ResidentBytes(), 100 * kPageBytes);
  EXPECT_EQ(*memory.At(frame_), std::byte{1}) << "what was not freed stays";
  EXPECT_EQ(*memory.At(frame_ + kLargePageBytes / 2 + 100 * kPageBytes), std::byte{1});
  EXPECT_EQ(*memory.At(frame_ + kLargePageBytes / 2), std::byte{0});
}

TEST_F(GivenBack, NotForALittle) {
  machine_->memory().FreeFrames(frame_ + kPageBytes, 4);
  EXPECT_TRUE(RestIsHuge(frame_)) << "splitting it would cost more than it gives";
}

TEST_F(GivenBack, AllOfIt) {
  GuestMemory& memory = machine_->memory();
  const std::uint64_t before = memory.ResidentBytes();
  memory.FreeLargeFrame(frame_);
  EXPECT_EQ(before - memory.ResidentBytes(), kLargePageBytes);
}

}  // namespace
}  // namespace waxvm::vmm
