// SPDX-License-Identifier: Apache-2.0
// Which ranges are mapped, and how: mmap, munmap, mprotect, mremap and brk.
#include "src/linux_abi/address_space.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "src/base/checked.h"
#include "src/linux_abi/address_range.h"

namespace waxvm::linux_abi {
namespace {

// As vm.max_map_count: stops a guest that maps every other page from filling the host's memory
// with the bookkeeping.
constexpr std::size_t kMaxAreas = 65530;
constexpr std::uint64_t kBytesPerArea = 384;  // with its share of the free ranges
// More than this in one accessible mapping is refused, as Linux refuses obvious overcommitment.
constexpr std::uint64_t kMaxAccessibleBytes = std::uint64_t{1} << 40;
constexpr std::uint64_t kLargeBytes = std::uint64_t{2} << 20;
// Where MAP_32BIT puts things.
constexpr std::uint64_t kLowStart = 0x40000000;
constexpr std::uint64_t kLowEnd = 0x80000000;
// Stops a guest that maps and closes one file after another from using up the host's descriptors.
constexpr std::size_t kMaxSources = 1000;
constexpr std::uint64_t kBytesPerSource = 4096;

}  // namespace

AddressSpace::AddressSpace(PageMapper& mapper, MemoryAccount& account)
    : mapper_(mapper), account_(account) {}

AddressSpace::~AddressSpace() = default;

AddressSpace::Area AddressSpace::Area::Continued(std::uint64_t start, std::uint64_t at,
                                                 std::uint64_t new_end) const {
  Area continued = *this;
  continued.end = new_end;
  if (source != nullptr) continued.offset = offset + (at - start);
  continued.fault_around = continued.window_start = continued.window_end = 0;
  return continued;
}

AddressSpace::Areas::iterator AddressSpace::Find(std::uint64_t address) {
  auto area = areas_.upper_bound(address);
  if (area == areas_.begin()) return areas_.end();
  --area;
  return address < area->second.end ? area : areas_.end();
}

void AddressSpace::SplitAt(std::uint64_t address) {
  const auto area = Find(address);
  if (area == areas_.end() || area->first == address) return;
  Area upper = area->second.Continued(area->first, address, area->second.end);
  area->second.end = address;
  areas_.emplace_hint(std::next(area), address, std::move(upper));
}

bool AddressSpace::IsFree(std::uint64_t start, std::uint64_t end) {
  if (start < kUserStart || end > kStackTop) return false;
  const auto next = areas_.lower_bound(start);
  if (next != areas_.end() && next->first < end) return false;
  return next == areas_.begin() || std::prev(next)->second.end <= start;
}

bool AddressSpace::CrowdsStack(std::uint64_t end) const {
  const auto above = areas_.lower_bound(end);
  return above != areas_.end() && above->second.kind == Kind::kStack &&
         above->first - end < kStackGuardBytes;
}

std::uint64_t AddressSpace::FindRoom(std::uint64_t bytes, std::uint64_t hint, bool low) {
  if (hint != 0 && hint <= kStackTop - bytes && IsFree(hint, hint + bytes) &&
      !CrowdsStack(hint + bytes) && (!low || hint + bytes <= kLowEnd))
    return hint;
  const auto find = [&](std::uint64_t wanted) -> std::uint64_t {
    if (low) return free_.FindWithin(wanted, kLowStart, kLowEnd).value_or(0);
    // Large mappings are aligned so that large pages fit.
    if (bytes >= kLargeBytes)
      if (const auto start = free_.FindHighest(wanted, kLargeBytes)) return *start;
    return free_.FindHighest(wanted, kPageBytes).value_or(0);
  };
  const std::uint64_t start = find(bytes);
  return start != 0 && CrowdsStack(start + bytes) ? find(bytes + kStackGuardBytes) : start;
}

bool AddressSpace::ReserveAreas() {
  const std::size_t wanted = areas_.size() + 2;
  if (wanted > kMaxAreas) return false;
  const std::uint64_t bytes = (wanted / 64 + 1) * 64 * kBytesPerArea;
  return bytes <= area_charge_.bytes() || area_charge_.Resize(account_, bytes);
}

void AddressSpace::Insert(std::uint64_t start, Area area) {
  const std::uint64_t end = area.end;
  free_.Take(start, end);
  areas_.emplace(start, std::move(area));
  MergeAround(start, end);
}

bool AddressSpace::CanMerge(const Areas::value_type& lower, const Areas::value_type& upper) {
  const Area& a = lower.second;
  const Area& b = upper.second;
  return a.end == upper.first && a.rights == b.rights && a.kind == b.kind && a.source == b.source &&
         a.shared == b.shared && a.may_write == b.may_write &&
         (a.source == nullptr || a.offset + (a.end - lower.first) == b.offset);
}

void AddressSpace::MergeAround(std::uint64_t start, std::uint64_t end) {
  auto area = areas_.lower_bound(start);
  if (area != areas_.begin()) --area;
  while (area != areas_.end() && area->first <= end) {
    const auto next = std::next(area);
    if (next != areas_.end() && CanMerge(*area, *next)) {
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
  bool was_shared = false;
  const auto first = areas_.lower_bound(start);
  const auto last = areas_.lower_bound(end);
  for (auto area = first; area != last; ++area) {
    free_.Give(area->first, area->second.end);
    was_shared |= area->second.shared != nullptr;
  }
  if (first == last) return;
  areas_.erase(first, last);
  mapper_.Unmap(start, end - start);
  if (was_shared) DropUnmappedFiles();
}

std::int64_t AddressSpace::Place(std::uint64_t address, std::uint64_t length,
                                 const MapRequest& request) {
  if (!request.fixed && !request.no_replace) {
    const std::uint64_t start = FindRoom(length, PageFloor(address), request.low);
    return start == 0 ? -ENOMEM : static_cast<std::int64_t>(start);
  }
  if (!IsPageAligned(address)) return -EINVAL;
  const auto end = RangeEnd(address, length);
  if (!end) return -ENOMEM;
  if (address < kUserStart) return -EPERM;  // as below vm.mmap_min_addr
  if (request.no_replace && !IsFree(address, *end)) return -EEXIST;
  Erase(address, *end);
  return static_cast<std::int64_t>(address);
}

std::int64_t AddressSpace::Map(std::uint64_t address, std::uint64_t bytes,
                               const MapRequest& request) {
  const auto length = PageCeil(bytes);
  if (bytes == 0) return -EINVAL;
  const PageRights& rights = request.rights;
  if (!length || *length > kStackTop ||
      (!rights.none() && !request.no_reserve && *length > kMaxAccessibleBytes))
    return -ENOMEM;
  if (!ReserveAreas()) return -ENOMEM;
  std::shared_ptr<SharedFile> shared;
  if (request.shared) {
    ErrnoOr<std::shared_ptr<SharedFile>> file = ShareFile(request);
    if (!file.ok()) return file.result();
    shared = *std::move(file);
  }
  const std::int64_t placed = Place(address, *length, request);
  if (placed < 0) {
    shared.reset();
    DropUnmappedFiles();
    return placed;
  }
  const auto start = static_cast<std::uint64_t>(placed);
  const std::uint64_t end = start + *length;
  Insert(start, {.end = end,
                 .rights = rights,
                 .kind = request.kind,
                 .may_write = request.may_write,
                 .source = request.source,
                 .offset = request.offset,
                 .shared = std::move(shared)});
  if (rights.none() || request.shared) return placed;
  if (request.source != nullptr)
    FillEagerly(start, end);
  else if (request.kind == Kind::kAnonymous || request.kind == Kind::kSharedAnonymous ||
           request.kind == Kind::kImage)
    PopulateEagerly(start, end, rights);
  return placed;
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

std::int64_t AddressSpace::Protect(std::uint64_t address, std::uint64_t bytes, PageRights rights,
                                   bool grows_down) {
  if (!IsPageAligned(address)) return -EINVAL;
  if (bytes == 0) return 0;
  const auto end = RangeEnd(address, bytes);
  if (!end || !ReserveAreas()) return -ENOMEM;
  if (grows_down) {
    const auto stack = Find(address);
    if (stack == areas_.end()) return -ENOMEM;
    if (stack->second.kind != Kind::kStack) return -EINVAL;
    address = stack->first;
  }
  SplitAt(address);
  SplitAt(*end);
  // Like Linux, what comes before a gap is changed.
  std::int64_t result = 0;
  std::uint64_t at = address;
  for (auto entry = Find(address); at < *end; ++entry) {
    if (entry == areas_.end() || entry->first > at) {
      result = -ENOMEM;
      break;
    }
    Area& area = entry->second;
    if (rights.write && !area.may_write) {
      result = -EACCES;
      break;
    }
    if (area.rights != rights)
      mapper_.Protect(at, area.end - at, area.shared != nullptr ? WithoutWrite(rights) : rights);
    area.rights = rights;
    at = area.end;
  }
  MergeAround(address, *end);
  return result;
}

std::int64_t AddressSpace::Remap(std::uint64_t address, std::uint64_t old_bytes,
                                 std::uint64_t new_bytes, bool may_move,
                                 std::optional<std::uint64_t> fixed_address, bool keep_old) {
  const auto old_length = PageCeil(old_bytes);
  const auto new_length = PageCeil(new_bytes);
  if (!IsPageAligned(address) || !old_length || !new_length || *new_length == 0) return -EINVAL;
  const auto old_end = RangeEnd(address, *old_length);
  if (!old_end) return -EINVAL;
  const auto area = Find(address);
  if (area == areas_.end()) return -EFAULT;
  // An old length of 0 asks for a second mapping of the same pages, which private ones cannot have.
  if (*old_length == 0 && (area->second.shared == nullptr || !may_move)) return -EINVAL;
  // Like Linux, within one mapping only.
  if (area->second.end < *old_end) return -EFAULT;
  if (!ReserveAreas()) return -ENOMEM;
  const Area kept = area->second;
  const std::uint64_t area_start = area->first;
  if (!fixed_address && !keep_old && *old_length != 0) {
    if (*new_length <= *old_length) {
      if (*new_length < *old_length) Erase(address + *new_length, *old_end);
      return static_cast<std::int64_t>(address);
    }
    const auto new_end = RangeEnd(address, *new_length);
    if (new_end && kept.end == *old_end && IsFree(*old_end, *new_end)) {
      Insert(*old_end, kept.Continued(area_start, *old_end, *new_end));
      return static_cast<std::int64_t>(address);
    }
    if (!may_move) return -ENOMEM;
  }
  return Relocate(area_start, kept,
                  {.old_start = address,
                   .old_end = *old_end,
                   .new_bytes = *new_length,
                   .target = fixed_address,
                   .keep_old = keep_old || *old_length == 0});
}

std::int64_t AddressSpace::Relocate(std::uint64_t area_start, const Area& area,
                                    const Relocation& to) {
  std::uint64_t target = 0;
  if (to.target) {
    const auto end = RangeEnd(*to.target, to.new_bytes);
    if (!IsPageAligned(*to.target) || !end || *to.target < kUserStart ||
        (*to.target < to.old_end && to.old_start < *end))
      return -EINVAL;
    target = *to.target;
    Erase(target, *end);
  } else {
    target = FindRoom(to.new_bytes, 0, /*low=*/false);
    if (target == 0) return -ENOMEM;
  }
  const std::uint64_t moved = std::min(to.old_end - to.old_start, to.new_bytes);
  if (moved != 0 && !mapper_.Move(to.old_start, target, moved)) return -ENOMEM;
  if (!to.keep_old) Erase(to.old_start, to.old_end);
  Insert(target, area.Continued(area_start, to.old_start, target + to.new_bytes));
  return static_cast<std::int64_t>(target);
}

void AddressSpace::SetHeapStart(std::uint64_t address) { heap_start_ = heap_end_ = address; }

std::uint64_t AddressSpace::MoveHeapEnd(std::uint64_t address) {
  if (address < heap_start_ || address > kMapTop) return heap_end_;
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

ErrnoOr<std::shared_ptr<MappedSource>> AddressSpace::SourceOf(std::shared_ptr<OpenFile> file) {
  struct stat status {};
  if (const std::int64_t error = file->Stat(status); error < 0) return ToErrno(error);
  if (!S_ISREG(status.st_mode)) return Errno{ENODEV};
  const FileIdentity identity{.device = status.st_dev, .inode = status.st_ino};
  const std::pair key(identity, file->writable());
  if (const auto known = sources_.find(key); known != sources_.end())
    if (std::shared_ptr<MappedSource> source = known->second.lock()) return source;
  if (sources_.size() >= kMaxSources)
    std::erase_if(sources_, [](const auto& entry) { return entry.second.expired(); });
  if (sources_.size() >= kMaxSources) return Errno{ENFILE};
  if (!source_charge_.Resize(account_, (sources_.size() + 1) * kBytesPerSource))
    return Errno{ENOMEM};
  std::string path = file->GuestPath();
  std::shared_ptr<MappedSource> source =
      std::make_shared<FileSource>(std::move(file), identity, std::move(path));
  sources_.insert_or_assign(key, source);
  return source;
}

bool AddressSpace::ChargeSources() {
  return source_charge_.Resize(account_, sources_.size() * kBytesPerSource);
}

void AddressSpace::Close() {
  SyncFile();
  // The machine takes back its own frames at once; only those of files go one by one.
  for (const auto& [start, area] : areas_)
    if (area.shared != nullptr) mapper_.Unmap(start, area.end - start);
  areas_.clear();
  shared_files_.clear();
  sources_.clear();
}

}  // namespace waxvm::linux_abi
