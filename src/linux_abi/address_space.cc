// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/address_space.h"

#include <algorithm>
#include <bit>
#include <cerrno>

#include "absl/strings/str_format.h"
#include "src/base/checked.h"

namespace waxvm::linux_abi {
namespace {

// As vm.max_map_count: stops a guest that maps every other page from filling the host's memory
// with the bookkeeping.
constexpr std::size_t kMaxAreas = 65530;
constexpr std::uint64_t kBytesPerArea = 128;
// More than this in one accessible mapping is refused, as Linux refuses obvious overcommitment.
constexpr std::uint64_t kMaxAccessibleBytes = std::uint64_t{1} << 40;
constexpr std::uint64_t kLargeBytes = std::uint64_t{2} << 20;
constexpr std::uint64_t kFirstFaultAround = std::uint64_t{64} << 10;
// Small mappings are made present at once: an entry costs nothing until it is touched, a fault
// costs an exit.
constexpr std::uint64_t kEagerBytes = std::uint64_t{256} << 10;
// No single step takes more than this share of the memory left, so that what is handed out and
// never touched stays a few percent of the limit.
constexpr std::uint64_t kShareOfFree = 64;
// A share of the limit below which taking back untouched pages is not worth a walk over all.
constexpr std::uint64_t kWorthReclaiming = 128;

bool IsPageAligned(std::uint64_t value) { return value % kPageBytes == 0; }

// End of a user range of `bytes` at `address`, rounded up to a page; empty when it leaves the
// user half.
std::optional<std::uint64_t> RangeEnd(std::uint64_t address, std::uint64_t bytes) {
  const auto end = CheckedAdd(address, bytes);
  const auto rounded = end ? PageCeil(*end) : std::nullopt;
  if (!rounded || *rounded > kUserEnd) return std::nullopt;
  return rounded;
}

}  // namespace

AddressSpace::AddressSpace(PageMapper& mapper, MemoryAccount& account)
    : mapper_(mapper), account_(account) {}

AddressSpace::Areas::iterator AddressSpace::Find(std::uint64_t address) {
  auto area = areas_.upper_bound(address);
  if (area == areas_.begin()) return areas_.end();
  --area;
  return address < area->second.end ? area : areas_.end();
}

void AddressSpace::SplitAt(std::uint64_t address) {
  const auto area = Find(address);
  if (area == areas_.end() || area->first == address) return;
  Area upper = area->second;
  area->second.end = address;
  areas_.emplace(address, upper);
}

bool AddressSpace::Allows(std::uint64_t start, std::uint64_t end, bool write) {
  for (auto area = Find(start); start < end; ++area) {
    if (area == areas_.end() || area->first > start) return false;
    const PageRights& rights = area->second.rights;
    // x86 cannot withhold reading from a page that may be written or executed.
    if (write ? !rights.write : rights.none()) return false;
    start = area->second.end;
  }
  return true;
}

bool AddressSpace::IsFree(std::uint64_t start, std::uint64_t end) {
  if (start < kUserStart || end > kUserEnd) return false;
  const auto next = areas_.lower_bound(start);
  if (next != areas_.end() && next->first < end) return false;
  return next == areas_.begin() || std::prev(next)->second.end <= start;
}

std::uint64_t AddressSpace::FindFree(std::uint64_t bytes, std::uint64_t hint) {
  if (hint != 0 && hint <= kUserEnd - bytes && IsFree(hint, hint + bytes)) return hint;
  // Large mappings are aligned so that large pages fit.
  const std::uint64_t alignment = bytes >= kLargeBytes ? kLargeBytes : kPageBytes;
  std::uint64_t top = search_top_;
  bool passed_a_gap = false;
  for (auto area = areas_.lower_bound(search_top_);; --area) {
    const std::uint64_t floor =
        area == areas_.begin() ? kUserStart : std::max(kUserStart, std::prev(area)->second.end);
    if (top >= floor && top - floor >= bytes) {
      const std::uint64_t start = (top - bytes) & ~(alignment - 1);
      if (start >= floor) {
        if (!passed_a_gap && start + bytes == top) search_top_ = start;
        return start;
      }
    }
    passed_a_gap |= top > floor;
    if (area == areas_.begin()) return 0;
    top = std::min(top, std::prev(area)->first);
  }
}

bool AddressSpace::ReserveAreas() {
  const std::size_t wanted = areas_.size() + 2;
  if (wanted > kMaxAreas) return false;
  const std::uint64_t bytes = (wanted / 64 + 1) * 64 * kBytesPerArea;
  return bytes <= area_charge_.bytes() || area_charge_.Resize(account_, bytes);
}

void AddressSpace::Insert(std::uint64_t start, const Area& area) {
  areas_.emplace(start, area);
  MergeAround(start, area.end);
}

void AddressSpace::MergeAround(std::uint64_t start, std::uint64_t end) {
  auto area = areas_.lower_bound(start);
  if (area != areas_.begin()) --area;
  while (area != areas_.end() && area->first <= end) {
    const auto next = std::next(area);
    if (next != areas_.end() && area->second.end == next->first &&
        area->second.rights == next->second.rights && area->second.kind == next->second.kind) {
      area->second.end = next->second.end;
      areas_.erase(next);
    } else {
      area = next;
    }
  }
}

void AddressSpace::Erase(std::uint64_t start, std::uint64_t end) {
  SplitAt(start);
  SplitAt(end);
  areas_.erase(areas_.lower_bound(start), areas_.lower_bound(end));
  search_top_ = std::min(kMapTop, std::max(search_top_, end));
  mapper_.Unmap(start, end - start);
}

std::int64_t AddressSpace::Map(std::uint64_t address, std::uint64_t bytes, PageRights rights,
                               Kind kind, bool fixed, bool no_replace) {
  const auto length = PageCeil(bytes);
  if (bytes == 0) return -EINVAL;
  if (!length || *length > kUserEnd || (!rights.none() && *length > kMaxAccessibleBytes))
    return -ENOMEM;
  if (!ReserveAreas()) return -ENOMEM;
  std::uint64_t start = PageFloor(address);
  if (fixed) {
    if (!IsPageAligned(address)) return -EINVAL;
    const auto end = RangeEnd(start, *length);
    if (!end) return -ENOMEM;
    if (start < kUserStart) return -EPERM;  // as below vm.mmap_min_addr
    if (no_replace && !IsFree(start, *end)) return -EEXIST;
    Erase(start, *end);
  } else {
    start = FindFree(*length, start);
    if (start == 0) return -ENOMEM;
  }
  const std::uint64_t end = start + *length;
  Insert(start, {.end = end, .rights = rights, .kind = kind});
  if ((kind == Kind::kAnonymous || kind == Kind::kImage) && !rights.none())
    PopulateEagerly(start, end, rights);
  return static_cast<std::int64_t>(start);
}

std::int64_t AddressSpace::Unmap(std::uint64_t address, std::uint64_t bytes) {
  const auto end = RangeEnd(address, bytes);
  if (!IsPageAligned(address) || bytes == 0 || !end || address < kUserStart) return -EINVAL;
  // Only a hole in the middle of an area makes one more of them.
  const auto area = Find(address);
  const bool makes_hole = area != areas_.end() && area->first < address && area->second.end > *end;
  if (makes_hole && !ReserveAreas()) return -ENOMEM;
  Erase(address, *end);
  return 0;
}

std::int64_t AddressSpace::Protect(std::uint64_t address, std::uint64_t bytes, PageRights rights) {
  if (!IsPageAligned(address)) return -EINVAL;
  if (bytes == 0) return 0;
  const auto end = RangeEnd(address, bytes);
  if (!end || !ReserveAreas()) return -ENOMEM;
  // Linux changes what comes before a gap; refusing the whole leaves fewer surprises and the
  // same errno.
  std::uint64_t at = address;
  for (auto area = Find(address); at < *end; ++area) {
    if (area == areas_.end() || area->first > at) return -ENOMEM;
    at = area->second.end;
  }
  SplitAt(address);
  SplitAt(*end);
  for (auto area = areas_.lower_bound(address); area != areas_.end() && area->first < *end; ++area)
    area->second.rights = rights;
  MergeAround(address, *end);
  mapper_.Protect(address, *end - address, rights);
  return 0;
}

std::int64_t AddressSpace::Remap(std::uint64_t address, std::uint64_t old_bytes,
                                 std::uint64_t new_bytes, bool may_move,
                                 std::optional<std::uint64_t> fixed_address) {
  const auto old_length = PageCeil(old_bytes);
  const auto new_length = PageCeil(new_bytes);
  if (!IsPageAligned(address) || !old_length || !new_length || *new_length == 0) return -EINVAL;
  const auto old_end = RangeEnd(address, *old_length);
  if (!old_end) return -EINVAL;
  const auto area = Find(address);
  // Like Linux, within one mapping only; an old length of 0 would duplicate, which private
  // memory cannot.
  if (*old_length == 0) return -EINVAL;
  if (area == areas_.end() || area->second.end < *old_end) return -EFAULT;
  if (!ReserveAreas()) return -ENOMEM;
  const Area kept = area->second;
  if (!fixed_address) {
    if (*new_length <= *old_length) {
      if (*new_length < *old_length) Erase(address + *new_length, *old_end);
      return static_cast<std::int64_t>(address);
    }
    const auto new_end = RangeEnd(address, *new_length);
    if (new_end && IsFree(*old_end, *new_end)) {
      Insert(*old_end, {.end = *new_end, .rights = kept.rights, .kind = kept.kind});
      return static_cast<std::int64_t>(address);
    }
    if (!may_move) return -ENOMEM;
  }
  std::uint64_t target = 0;
  if (fixed_address) {
    const auto end = RangeEnd(*fixed_address, *new_length);
    if (!IsPageAligned(*fixed_address) || !end || *fixed_address < kUserStart ||
        (*fixed_address < *old_end && address < *end))
      return -EINVAL;
    target = *fixed_address;
    Erase(target, *end);
  } else {
    target = FindFree(*new_length, 0);
    if (target == 0) return -ENOMEM;
  }
  const std::uint64_t moved = std::min(*old_length, *new_length);
  if (!mapper_.Move(address, target, moved)) return -ENOMEM;
  Erase(address, *old_end);
  Insert(target, {.end = target + *new_length, .rights = kept.rights, .kind = kept.kind});
  return static_cast<std::int64_t>(target);
}

std::int64_t AddressSpace::Discard(std::uint64_t address, std::uint64_t bytes) {
  const auto end = RangeEnd(address, bytes);
  if (!IsPageAligned(address) || !end) return -EINVAL;
  std::uint64_t at = address;
  for (auto area = Find(address); at < *end; ++area) {
    if (area == areas_.end() || area->first > at) return -ENOMEM;
    const std::uint64_t stop = std::min(*end, area->second.end);
    // The pages of a file would have to be read again; they are kept as they are.
    if (area->second.kind != Kind::kImage && area->second.kind != Kind::kFile)
      mapper_.Unmap(at, stop - at);
    at = stop;
  }
  return 0;
}

void AddressSpace::SetHeapStart(std::uint64_t address) { heap_start_ = heap_end_ = address; }

std::uint64_t AddressSpace::MoveHeapEnd(std::uint64_t address) {
  if (address < heap_start_ || address > kUserEnd) return heap_end_;
  const std::uint64_t old_end = *PageCeil(heap_end_);
  const std::uint64_t new_end = *PageCeil(address);
  if (new_end > old_end) {
    if (!IsFree(old_end, new_end) || new_end - heap_start_ > kMaxAccessibleBytes || !ReserveAreas())
      return heap_end_;
    const PageRights rights{.read = true, .write = true};
    Insert(old_end, {.end = new_end, .rights = rights, .kind = Kind::kHeap});
    PopulateEagerly(old_end, new_end, rights);
  } else if (new_end < old_end) {
    Erase(new_end, old_end);
  }
  heap_end_ = address;
  return heap_end_;
}

bool AddressSpace::PopulateEagerly(std::uint64_t start, std::uint64_t end, PageRights rights) {
  if (end - start > std::min(kEagerBytes, mapper_.FreeBytes() / kShareOfFree)) return true;
  return mapper_.Populate(start, end - start, rights);
}

bool AddressSpace::PopulateAround(std::uint64_t address, Areas::iterator entry) {
  Area& area = entry->second;
  // Whoever touches page after page gets twice as much every time; whoever touches here and there
  // gets the one page.
  const bool adjacent = address >= area.window_start - std::min(area.window_start, kLargeBytes) &&
                        address < area.window_end + kLargeBytes;
  if (area.window_end == 0)
    area.fault_around = kFirstFaultAround;
  else
    area.fault_around = adjacent ? std::min(2 * area.fault_around, kLargeBytes) : kPageBytes;
  const std::uint64_t share = std::bit_floor(mapper_.FreeBytes() / kShareOfFree + 1);
  const std::uint64_t window =
      std::clamp(std::min(area.fault_around, share), kPageBytes, kLargeBytes);
  const std::uint64_t start = std::max(entry->first, address & ~(window - 1));
  const std::uint64_t end = std::min(area.end, (address & ~(window - 1)) + window);
  area.window_start = start;
  area.window_end = end;
  if (mapper_.Populate(start, end - start, area.rights)) return true;
  // The window did not fit; the one page may have, or may after what nobody touched is taken back.
  // Where that is little, the limit is met: looking again and again would cost more than it gains.
  if (mapper_.Populate(PageFloor(address), kPageBytes, area.rights)) return true;
  if (mapper_.ReclaimUntouched() >= account_.limit_bytes() / kWorthReclaiming &&
      mapper_.Populate(PageFloor(address), kPageBytes, area.rights))
    return true;
  out_of_memory_ = true;
  return false;
}

AddressSpace::FaultResult AddressSpace::HandleFault(std::uint64_t address, bool write,
                                                    bool execute) {
  const auto area = Find(address);
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
  if (mapper_.IsPresent(address)) return FaultResult::kHandled;
  return PopulateAround(address, area) ? FaultResult::kHandled : FaultResult::kOutOfMemory;
}

// Copies to `to`, or from `from` where `to` is empty, making pages present on the way.
bool AddressSpace::Copy(std::uint64_t address, std::span<std::byte> to,
                        std::span<const std::byte> from) {
  const bool write = to.empty();
  const std::size_t size = write ? from.size() : to.size();
  std::size_t done = 0;
  while (done < size) {
    done += write ? mapper_.CopyTo(address + done, from.subspan(done))
                  : mapper_.CopyFrom(address + done, to.subspan(done));
    if (done == size) break;
    const auto area = Find(address + done);
    if (area == areas_.end() || !PopulateAround(address + done, area)) return false;
  }
  return true;
}

bool AddressSpace::Read(std::uint64_t address, std::span<std::byte> to) {
  if (to.empty()) return true;
  const auto end = CheckedAdd<std::uint64_t>(address, to.size());
  if (!end || *end > kUserEnd || !Allows(address, *end, /*write=*/false)) return false;
  return Copy(address, to, {});
}

bool AddressSpace::Write(std::uint64_t address, std::span<const std::byte> from) {
  if (from.empty()) return true;
  const auto end = CheckedAdd<std::uint64_t>(address, from.size());
  if (!end || *end > kUserEnd || !Allows(address, *end, /*write=*/true)) return false;
  return Copy(address, {}, from);
}

bool AddressSpace::WriteForced(std::uint64_t address, std::span<const std::byte> from) {
  return from.empty() || Copy(address, {}, from);
}

bool AddressSpace::Prefault(std::uint64_t start, std::uint64_t end) {
  const auto area = Find(start);
  if (area == areas_.end() || area->second.end < end) return false;
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

std::string AddressSpace::Describe() const {
  std::string text;
  for (const auto& [start, area] : areas_) {
    const char* name = area.kind == Kind::kHeap    ? "[heap]"
                       : area.kind == Kind::kStack ? "[stack]"
                                                   : "";
    absl::StrAppendFormat(&text, "%012x-%012x %c%c%cp 00000000 00:00 0 %s\n", start, area.end,
                          area.rights.read ? 'r' : '-', area.rights.write ? 'w' : '-',
                          area.rights.execute ? 'x' : '-', name);
  }
  return text;
}

}  // namespace waxvm::linux_abi
