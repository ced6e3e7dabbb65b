// SPDX-License-Identifier: Apache-2.0
#include "src/vmm/private_pages.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "src/base/checked.h"
#include "src/base/status.h"

namespace waxvm::vmm {
namespace {

// struct pm_scan_arg and struct page_region of <linux/fs.h>, which is too old on many systems.
struct PageRegion {
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t categories;
};
struct ScanArguments {
  std::uint64_t size;
  std::uint64_t flags;
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t walk_end;
  std::uint64_t regions;
  std::uint64_t region_count;
  std::uint64_t max_pages;
  std::uint64_t category_inverted;
  std::uint64_t category_mask;
  std::uint64_t category_anyof_mask;
  std::uint64_t return_mask;
};
static_assert(sizeof(ScanArguments) == 96);
constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArguments);
constexpr std::uint64_t kIsFile = 1 << 2;
constexpr std::uint64_t kIsPresent = 1 << 3;
constexpr std::uint64_t kIsSwapped = 1 << 4;

std::uint64_t AddressOf(std::span<std::byte> memory) {
  return reinterpret_cast<std::uintptr_t>(memory.data());
}

}  // namespace

absl::StatusOr<PrivatePages> PrivatePages::Open() {
  UniqueFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap) return ErrnoStatus(errno, "/proc/self/pagemap");
  ScanArguments nothing{};
  nothing.size = sizeof nothing;
  nothing.return_mask = kIsPresent;
  const bool can_scan = ::ioctl(pagemap.get(), kPagemapScan, &nothing) >= 0;
  return PrivatePages(std::move(pagemap), can_scan);
}

absl::Status PrivatePages::ForEachRun(std::span<std::byte> memory, Visit visit) const {
  if (fork_guard_.InChild())
    return FailedPrecondition("a snapshot of before a fork cannot be used in the child process");
  return can_scan_ ? Scan(memory, visit) : Read(memory, visit);
}

absl::Status PrivatePages::Scan(std::span<std::byte> memory, Visit visit) const {
  const std::uint64_t base = AddressOf(memory);
  std::array<PageRegion, 64> regions;
  ScanArguments scan{};
  scan.size = sizeof scan;
  scan.start = base;
  scan.end = base + memory.size();
  scan.regions = reinterpret_cast<std::uintptr_t>(regions.data());
  scan.region_count = regions.size();
  // Not of a file, and there at all.
  scan.category_inverted = kIsFile;
  scan.category_mask = kIsFile;
  scan.category_anyof_mask = kIsPresent | kIsSwapped;
  scan.return_mask = kIsPresent;
  while (scan.start < scan.end) {
    const int count = ::ioctl(pagemap_.get(), kPagemapScan, &scan);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus(errno, "PAGEMAP_SCAN");
    for (const PageRegion& region : std::span(regions).first(static_cast<std::size_t>(count)))
      visit(region.start - base, region.end - region.start);
    if (scan.walk_end <= scan.start) return Internal("PAGEMAP_SCAN makes no progress");
    scan.start = scan.walk_end;
  }
  return absl::OkStatus();
}

absl::Status PrivatePages::Read(std::span<std::byte> memory, Visit visit) const {
  constexpr std::uint64_t kPresentOrSwapped = std::uint64_t{3} << 62;
  constexpr std::uint64_t kFileOrShared = std::uint64_t{1} << 61;
  constexpr std::uint64_t kSwapped = std::uint64_t{1} << 62;
  std::array<std::uint64_t, 1024> entries;
  const std::uint64_t first = AddressOf(memory) / kPageBytes;
  const std::uint64_t pages = memory.size() / kPageBytes;
  std::uint64_t run = 0;  // pages of the run that ends at `done`
  for (std::uint64_t done = 0; done < pages;) {
    const std::size_t wanted = std::min<std::uint64_t>(entries.size(), pages - done);
    const ssize_t got = ::pread(pagemap_.get(), entries.data(), wanted * sizeof entries[0],
                                static_cast<off_t>((first + done) * sizeof entries[0]));
    if (got < static_cast<ssize_t>(sizeof entries[0]))
      return Internal("/proc/self/pagemap cannot be read");
    for (std::size_t i = 0; i < static_cast<std::size_t>(got) / sizeof entries[0]; ++i, ++done) {
      const std::uint64_t entry = entries[i];
      if ((entry & kPresentOrSwapped) != 0 &&
          ((entry & kFileOrShared) == 0 || (entry & kSwapped) != 0)) {
        ++run;
        continue;
      }
      if (run != 0) visit((done - run) * kPageBytes, run * kPageBytes);
      run = 0;
    }
  }
  if (run != 0) visit((pages - run) * kPageBytes, run * kPageBytes);
  return absl::OkStatus();
}

absl::StatusOr<MemoryUse> PrivatePages::Count(std::span<std::byte> memory) const {
  constexpr std::uint64_t kPresentOrSwapped = std::uint64_t{3} << 62;
  MemoryUse use;
  WAXVM_RETURN_IF_ERROR(
      ForEachRun(memory, [&](std::uint64_t, std::uint64_t bytes) { use.private_bytes += bytes; }));
  std::array<std::uint64_t, 1024> entries;
  const std::uint64_t first = AddressOf(memory) / kPageBytes;
  const std::uint64_t pages = memory.size() / kPageBytes;
  for (std::uint64_t done = 0; done < pages;) {
    const std::size_t wanted = std::min<std::uint64_t>(entries.size(), pages - done);
    const ssize_t got = ::pread(pagemap_.get(), entries.data(), wanted * sizeof entries[0],
                                static_cast<off_t>((first + done) * sizeof entries[0]));
    if (got < static_cast<ssize_t>(sizeof entries[0]))
      return Internal("/proc/self/pagemap cannot be read");
    const std::size_t count = static_cast<std::size_t>(got) / sizeof entries[0];
    use.resident_bytes +=
        kPageBytes * static_cast<std::uint64_t>(std::count_if(
                         entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(count),
                         [](std::uint64_t entry) { return (entry & kPresentOrSwapped) != 0; }));
    done += count;
  }
  return use;
}

}  // namespace waxvm::vmm
