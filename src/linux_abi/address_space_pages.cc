// SPDX-License-Identifier: Apache-2.0
// How pages come into being and go: faults, copies by the host, madvise, and shared files.
#include <algorithm>
#include <bit>
#include <cerrno>

#include "src/base/checked.h"
#include "src/linux_abi/address_range.h"
#include "src/linux_abi/address_space.h"

namespace waxvm::linux_abi {
namespace {

constexpr std::uint64_t kLargeBytes = std::uint64_t{2} << 20;
constexpr std::uint64_t kFirstFaultAround = std::uint64_t{64} << 10;
// A page of a file costs the host a copy even where it is not touched, about a thirtieth of what
// the exit costs that a fault is.
constexpr std::uint64_t kFirstFileFaultAround = std::uint64_t{128} << 10;
constexpr std::uint64_t kMaxFileFaultAround = std::uint64_t{512} << 10;
// Small mappings are made present at once: an entry costs nothing until it is touched, a fault
// costs an exit.
constexpr std::uint64_t kEagerBytes = std::uint64_t{256} << 10;
constexpr std::uint64_t kEagerFileBytes = std::uint64_t{64} << 10;
// No single step takes more than this share of the memory left, so that what is handed out and
// never touched stays a few percent of the limit.
constexpr std::uint64_t kShareOfFree = 64;
// A share of the limit below which taking back untouched pages is not worth a walk over all.
constexpr std::uint64_t kWorthReclaiming = 128;

}  // namespace

bool AddressSpace::PopulateEagerly(std::uint64_t start, std::uint64_t end, PageRights rights) {
  if (end - start > std::min(kEagerBytes, mapper_.FreeBytes() / kShareOfFree)) return true;
  return mapper_.Populate(start, end - start, rights);
}

void AddressSpace::FillEagerly(std::uint64_t start, std::uint64_t end) {
  const auto area = Find(start);
  const std::uint64_t most = area->second.kind == Kind::kImage ? kEagerBytes : kEagerFileBytes;
  if (end - start > std::min(most, mapper_.FreeBytes() / kShareOfFree)) return;
  const std::uint64_t file_end = std::min(end, FileEnd(*area));
  if (start < file_end) FillRange(start, file_end, area);
}

template <typename Attempt>
AddressSpace::FaultResult AddressSpace::WithReclaim(Attempt attempt) {
  FaultResult result = attempt();
  // Where little is gained, the limit is met: looking again and again would cost more than it
  // gains.
  if (result == FaultResult::kOutOfMemory &&
      mapper_.ReclaimUntouched() >= account_.limit_bytes() / kWorthReclaiming)
    result = attempt();
  if (result == FaultResult::kOutOfMemory) out_of_memory_ = true;
  return result;
}

void AddressSpace::ChooseWindow(std::uint64_t address, Areas::iterator entry) {
  Area& area = entry->second;
  const bool file = area.source != nullptr;
  const std::uint64_t first = file ? kFirstFileFaultAround : kFirstFaultAround;
  const std::uint64_t most = file ? kMaxFileFaultAround : kLargeBytes;
  // Whoever touches page after page gets twice as much every time; whoever touches here and there
  // gets the one page, or as little of a file as pays for the exit.
  const bool adjacent = address >= area.window_start - std::min(area.window_start, kLargeBytes) &&
                        address < area.window_end + kLargeBytes;
  if (area.window_end == 0)
    area.fault_around = first;
  else if (adjacent)
    area.fault_around = std::min(2 * area.fault_around, most);
  else
    area.fault_around = file ? first : kPageBytes;
  const std::uint64_t share = std::bit_floor(mapper_.FreeBytes() / kShareOfFree + 1);
  const std::uint64_t window = std::clamp(std::min(area.fault_around, share), kPageBytes, most);
  area.window_start = std::max(entry->first, address & ~(window - 1));
  area.window_end = std::min(area.end, (address & ~(window - 1)) + window);
}

AddressSpace::FaultResult AddressSpace::MakePresent(std::uint64_t address, Areas::iterator area,
                                                    bool write) {
  if (area->second.shared != nullptr) return PopulateShared(address, area, write);
  if (mapper_.IsPresent(address)) return FaultResult::kHandled;
  return area->second.source != nullptr ? PopulateFile(address, area)
                                        : PopulateAnonymous(address, area);
}

AddressSpace::FaultResult AddressSpace::PopulateAnonymous(std::uint64_t address,
                                                          Areas::iterator entry) {
  ChooseWindow(address, entry);
  const Area& area = entry->second;
  if (mapper_.Populate(area.window_start, area.window_end - area.window_start, area.rights))
    return FaultResult::kHandled;
  // The window did not fit; the one page may have, or may after what nobody touched is taken back.
  return WithReclaim([&] {
    return mapper_.Populate(PageFloor(address), kPageBytes, area.rights)
               ? FaultResult::kHandled
               : FaultResult::kOutOfMemory;
  });
}

std::uint64_t AddressSpace::FileEnd(const Areas::value_type& entry) {
  return FileEnd(entry, entry.second.source->Size());
}

std::uint64_t AddressSpace::FileEnd(const Areas::value_type& entry, std::int64_t size) {
  const auto& [start, area] = entry;
  if (size < 0) return start;
  const auto end = PageCeil(static_cast<std::uint64_t>(size));
  if (!end || *end <= area.offset) return start;
  return start + std::min(area.end - start, *end - area.offset);
}

AddressSpace::FaultResult AddressSpace::PopulateFile(std::uint64_t address, Areas::iterator entry) {
  const std::uint64_t file_end = FileEnd(*entry);
  if (address >= file_end) return FaultResult::kBeyondFile;
  ChooseWindow(address, entry);
  const Area& area = entry->second;
  const FaultResult result =
      FillRange(area.window_start, std::min(area.window_end, file_end), entry);
  if (result == FaultResult::kHandled || mapper_.IsPresent(address)) return FaultResult::kHandled;
  return WithReclaim(
      [&] { return FillRun(PageFloor(address), PageFloor(address) + kPageBytes, entry); });
}

AddressSpace::FaultResult AddressSpace::FillRange(std::uint64_t start, std::uint64_t end,
                                                  Areas::iterator area) {
  while (start < end) {
    // What is present may have been written to.
    if (mapper_.IsPresent(start)) {
      start += kPageBytes;
      continue;
    }
    std::uint64_t run_end = start + kPageBytes;
    while (run_end < end && !mapper_.IsPresent(run_end)) run_end += kPageBytes;
    const FaultResult result = FillRun(start, run_end, area);
    if (result != FaultResult::kHandled) return result;
    start = run_end;
  }
  return FaultResult::kHandled;
}

AddressSpace::FaultResult AddressSpace::FillRun(std::uint64_t start, std::uint64_t end,
                                                Areas::iterator entry) {
  const Area& area = entry->second;
  const std::uint64_t offset = area.offset + (start - entry->first);
  // What is behind the end of the file in its last page reads as zero.
  const std::int64_t filled = mapper_.Fill(start, end - start, area.rights,
                                           [&](std::span<std::byte> piece, std::uint64_t at) {
                                             return area.source->PRead(piece, offset + at);
                                           });
  if (filled >= 0) return FaultResult::kHandled;
  // Never leave a page behind that looks as if it had been read.
  mapper_.Unmap(start, end - start);
  // An I/O error is told as Linux tells it.
  return filled == -ENOMEM ? FaultResult::kOutOfMemory : FaultResult::kBeyondFile;
}

AddressSpace::FaultResult AddressSpace::MapSharedPage(std::uint64_t address, Areas::iterator entry,
                                                      bool write) {
  const Area& area = entry->second;
  const std::uint64_t at = PageFloor(address);
  ErrnoOr<SharedFile::Page*> page =
      area.shared->Get((area.offset + (at - entry->first)) / kPageBytes);
  if (!page.ok())
    return page.error().number == ENOMEM ? FaultResult::kOutOfMemory : FaultResult::kBeyondFile;
  if (write && !(*page)->dirty) area.shared->MarkDirty(**page);
  const PageRights rights = (*page)->dirty ? area.rights : WithoutWrite(area.rights);
  return mapper_.MapShared(at, (*page)->frame, rights) ? FaultResult::kHandled
                                                       : FaultResult::kOutOfMemory;
}

AddressSpace::FaultResult AddressSpace::PopulateShared(std::uint64_t address, Areas::iterator entry,
                                                       bool write) {
  const std::uint64_t file_end = FileEnd(*entry);
  if (address >= file_end) return FaultResult::kBeyondFile;
  const bool present = mapper_.IsPresent(address);
  const FaultResult result = WithReclaim([&] { return MapSharedPage(address, entry, write); });
  if (result != FaultResult::kHandled || present) return result;
  ChooseWindow(address, entry);
  const std::uint64_t end = std::min(entry->second.window_end, file_end);
  for (std::uint64_t at = entry->second.window_start; at < end; at += kPageBytes) {
    if (mapper_.IsPresent(at)) continue;
    if (MapSharedPage(at, entry, /*write=*/false) != FaultResult::kHandled) break;
  }
  return result;
}

AddressSpace::Areas::iterator AddressSpace::GrowDown(std::uint64_t address) {
  const std::uint64_t start = PageFloor(address);
  const auto stack = areas_.upper_bound(address);
  if (start < kUserStart || stack == areas_.end() || stack->second.kind != Kind::kStack ||
      stack->second.end - start > kStackBytes)
    return areas_.end();
  if (stack != areas_.begin()) {
    // Another stack below can grow away, and what nobody may touch is a guard already.
    const auto& [below_start, below] = *std::prev(stack);
    if (below.kind != Kind::kStack && !below.rights.none() && start - below.end < kStackGuardBytes)
      return areas_.end();
  }
  free_.Take(start, stack->first);
  auto moved = areas_.extract(stack);
  moved.key() = start;
  return areas_.insert(std::move(moved)).position;
}

bool AddressSpace::IsPrivateReadOnly(std::uint64_t address) {
  const auto area = Find(address);
  return area != areas_.end() && area->second.source == nullptr &&
         area->second.kind != Kind::kSharedAnonymous && !area->second.rights.write;
}

AddressSpace::FaultResult AddressSpace::HandleFault(std::uint64_t address, bool write,
                                                    bool execute) {
  auto area = Find(address);
  if (area == areas_.end()) area = GrowDown(address);
  if (area == areas_.end()) {
    const auto above = areas_.upper_bound(address);
    if (above != areas_.end() && above->second.kind == Kind::kStack &&
        above->first - address <= kStackGuardBytes)
      return FaultResult::kStackGuard;
    return FaultResult::kNotMapped;
  }
  const PageRights& rights = area->second.rights;
  if (write ? !rights.write : execute ? !rights.execute : rights.none())
    return FaultResult::kWrongRights;
  return MakePresent(address, area, write);
}

bool AddressSpace::Allows(std::uint64_t start, std::uint64_t end, bool write) {
  for (auto area = Find(start); start < end; ++area) {
    // Whoever copies touches the lowest byte first, so that a stack below its start grows here too.
    if (area == areas_.end() || area->first > start) area = GrowDown(start);
    if (area == areas_.end()) return false;
    const PageRights& rights = area->second.rights;
    // x86 cannot withhold reading from a page that may be written or executed.
    if (write ? !rights.write : rights.none()) return false;
    start = area->second.end;
  }
  return true;
}

// Copies to `to`, or from `from` where `to` is empty, making pages present on the way.
bool AddressSpace::Copy(std::uint64_t address, std::span<std::byte> to,
                        std::span<const std::byte> from) {
  const bool write = to.empty();
  const std::size_t size = write ? from.size() : to.size();
  std::size_t done = 0;
  while (done < size) {
    const std::uint64_t at = address + done;
    std::size_t piece = size - done;
    if (write && has_shared_files()) {
      // A page of a shared file has to be marked before it changes.
      const auto area = Find(at);
      if (area == areas_.end()) return false;
      piece = std::min<std::size_t>(piece, area->second.end - at);
      if (area->second.shared != nullptr) {
        if (MakePresent(at, area, /*write=*/true) != FaultResult::kHandled) return false;
        piece = std::min<std::size_t>(piece, PageFloor(at) + kPageBytes - at);
      }
    }
    const std::size_t copied = write ? mapper_.CopyTo(at, from.subspan(done, piece))
                                     : mapper_.CopyFrom(at, to.subspan(done, piece));
    done += copied;
    if (copied == piece) continue;
    const auto area = Find(address + done);
    if (area == areas_.end() || MakePresent(address + done, area, write) != FaultResult::kHandled)
      return false;
  }
  return true;
}

bool AddressSpace::Read(std::uint64_t address, std::span<std::byte> to) {
  if (to.empty()) return true;
  const auto end = CheckedAdd<std::uint64_t>(address, to.size());
  if (!end || *end > kUserEnd) return false;
  // The usual case with one look: within one area, all of it present.
  if (const auto area = Find(address); area != areas_.end() && *end <= area->second.end &&
                                       !area->second.rights.none() &&
                                       mapper_.CopyFrom(address, to) == to.size())
    return true;
  if (!Allows(address, *end, /*write=*/false)) return false;
  return Copy(address, to, {});
}

bool AddressSpace::Write(std::uint64_t address, std::span<const std::byte> from) {
  if (from.empty()) return true;
  const auto end = CheckedAdd<std::uint64_t>(address, from.size());
  if (!end || *end > kUserEnd) return false;
  if (const auto area = Find(address);
      area != areas_.end() && *end <= area->second.end && area->second.rights.write &&
      area->second.shared == nullptr && mapper_.CopyTo(address, from) == from.size())
    return true;
  if (!Allows(address, *end, /*write=*/true)) return false;
  return Copy(address, {}, from);
}

bool AddressSpace::WriteForced(std::uint64_t address, std::span<const std::byte> from) {
  return from.empty() || Copy(address, {}, from);
}

bool AddressSpace::Prefault(std::uint64_t start, std::uint64_t end) {
  const auto area = Find(start);
  if (area == areas_.end() || area->second.end < end || area->second.source != nullptr)
    return false;
  return mapper_.Populate(PageFloor(start), end - PageFloor(start), area->second.rights);
}

std::int64_t AddressSpace::ReadString(std::uint64_t address, std::size_t max_bytes,
                                      std::string& string) {
  string.clear();
  std::byte chunk[256];
  while (string.size() < max_bytes) {
    // Never past the end of a page: the next one need not be mapped.
    const std::uint64_t at = address + string.size();
    const std::size_t wanted = std::min({sizeof chunk, max_bytes - string.size(),
                                         static_cast<std::size_t>(kPageBytes - at % kPageBytes)});
    if (!Read(at, {chunk, wanted})) return -EFAULT;
    const auto zero = std::find(chunk, chunk + wanted, std::byte{0});
    string.append(reinterpret_cast<const char*>(chunk), static_cast<std::size_t>(zero - chunk));
    if (zero != chunk + wanted) return static_cast<std::int64_t>(string.size());
  }
  return -ENAMETOOLONG;
}

template <typename Visit>
std::int64_t AddressSpace::ForEachPart(std::uint64_t start, std::uint64_t end, Visit visit) {
  bool gap = false;
  std::uint64_t at = start;
  auto area = areas_.upper_bound(start);
  if (area != areas_.begin() && std::prev(area)->second.end > start) --area;
  for (; area != areas_.end() && area->first < end; ++area) {
    gap |= area->first > at;
    at = std::max(at, area->first);
    const std::uint64_t stop = std::min(end, area->second.end);
    if (const std::int64_t error = visit(at, stop, area); error < 0) return error;
    at = stop;
  }
  return gap || at < end ? -ENOMEM : 0;
}

std::int64_t AddressSpace::Discard(std::uint64_t address, std::uint64_t bytes,
                                   bool anonymous_only) {
  const auto end = RangeEnd(address, bytes);
  if (!IsPageAligned(address) || !end) return -EINVAL;
  return ForEachPart(address, *end,
                     [&](std::uint64_t start, std::uint64_t stop, Areas::iterator area) {
                       if (anonymous_only && area->second.source != nullptr)
                         return std::int64_t{-EINVAL};
                       if (area->second.kind == Kind::kSharedAnonymous) return std::int64_t{0};
                       mapper_.Unmap(start, stop - start);
                       return std::int64_t{0};
                     });
}

std::int64_t AddressSpace::MakeResident(std::uint64_t address, std::uint64_t bytes, bool write) {
  const auto end = RangeEnd(address, bytes);
  if (!IsPageAligned(address) || !end) return -EINVAL;
  // What certainly does not fit must not end the run, and must not be tried page by page.
  if (*end - address > mapper_.FreeBytes() / 2) return -ENOMEM;
  return ForEachPart(address, *end,
                     [&](std::uint64_t start, std::uint64_t stop, Areas::iterator area) {
                       const PageRights& rights = area->second.rights;
                       if (write ? !rights.write : rights.none()) return std::int64_t{-EINVAL};
                       for (std::uint64_t at = start; at < stop; at += kPageBytes) {
                         const FaultResult result = MakePresent(at, area, write);
                         if (result == FaultResult::kBeyondFile) return std::int64_t{-EFAULT};
                         if (result != FaultResult::kHandled) return std::int64_t{-ENOMEM};
                       }
                       return std::int64_t{0};
                     });
}

std::int64_t AddressSpace::CheckMapped(std::uint64_t address, std::uint64_t bytes) {
  const auto end = RangeEnd(address, bytes);
  if (!end) return -ENOMEM;
  return ForEachPart(PageFloor(address), *end,
                     [](std::uint64_t, std::uint64_t, Areas::iterator) { return std::int64_t{0}; });
}

}  // namespace waxvm::linux_abi
