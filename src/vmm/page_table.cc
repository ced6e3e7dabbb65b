// SPDX-License-Identifier: Apache-2.0
#include "src/vmm/page_table.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "src/base/status.h"
#include "src/vmm/page_bits.h"

namespace waxvm::vmm {

using namespace page_bits;

namespace {

std::uint64_t FlagsOf(PageAccess access) {
  std::uint64_t flags = kUser | kAccessed | kDirty;
  if (!access.none()) flags |= kPresent;  // x86 cannot withhold reading from what it lets through
  if (access.write) flags |= kWritable;
  if (!access.execute) flags |= kNoExecute;
  return flags;
}

bool Reduces(std::uint64_t before, std::uint64_t after) {
  if ((before & kPresent) == 0) return false;
  return (after & kPresent) == 0 || (before & kWritable & ~after) != 0 ||
         (after & kNoExecute & ~before) != 0;
}

}  // namespace

// Every change of a leaf that is in use, and every frame given back. Whatever reduces rights is
// collected here, and at its end the hypervisor and the CPU are made to forget what they cached.
// Adjacent frames are dropped with one call.
class PageTable::Revoke {
 public:
  explicit Revoke(PageTable& table) : table_(table) {}
  Revoke(const Revoke&) = delete;
  Revoke& operator=(const Revoke&) = delete;
  ~Revoke() {
    DropRun();
    FreeRun();
  }

  /// Replaces a leaf of `bytes`. Its frame stays with whoever owns it.
  void Change(std::uint64_t& leaf, std::uint64_t after, std::uint64_t bytes) {
    const std::uint64_t before = std::exchange(leaf, after);
    if (Reduces(before, after)) Drop(before & kFrameMask, bytes);
  }

  /// Makes a leaf of the guest's absent and frees the frame if the leaf owns it.
  void Remove(std::uint64_t& leaf, std::uint64_t bytes) {
    if ((leaf & kOwned) == 0) return Change(leaf, 0, bytes);
    const GuestPhysical frame = std::exchange(leaf, 0) & kFrameMask;
    table_.flush_pending_ = true;  // freeing a frame drops what the hypervisor cached of it
    if (bytes == kLargePageBytes) {
      table_.memory_->FreeLargeFrame(frame);
      return;
    }
    if (free_count_ == 0 || frame != free_first_ + free_count_ * kPageBytes) {
      FreeRun();
      free_first_ = frame;
    }
    ++free_count_;
  }

  /// A large page became a table of small ones: a hypervisor that shadows page tables must forget
  /// the large entry.
  void Reshape(GuestPhysical frame) { Drop(frame, kLargePageBytes); }

 private:
  void Drop(GuestPhysical frame, std::uint64_t bytes) {
    if (frame != drop_end_) {
      DropRun();
      drop_start_ = frame;
    }
    drop_end_ = frame + bytes;
  }
  void DropRun() {
    if (drop_start_ == drop_end_) return;
    table_.memory_->DropMappings(drop_start_, drop_end_ - drop_start_);
    table_.flush_pending_ = true;
    drop_start_ = drop_end_ = 0;
  }
  void FreeRun() {
    if (free_count_ != 0) table_.memory_->FreeFrames(free_first_, free_count_);
    free_count_ = 0;
  }

  PageTable& table_;
  GuestPhysical drop_start_ = 0;
  GuestPhysical drop_end_ = 0;
  GuestPhysical free_first_ = 0;
  std::uint64_t free_count_ = 0;
};

absl::StatusOr<PageTable> PageTable::Create(GuestMemory& memory) {
  const auto root = memory.AllocateFrame();
  if (!root) return absl::ResourceExhaustedError("no memory for page tables");
  return PageTable(memory, *root, {*root});
}

void PageTable::NoteTable(GuestPhysical frame) {
  tables_.insert(std::ranges::upper_bound(tables_, frame), frame);
}

void PageTable::Restored(std::span<const GuestPhysical> tables, bool changed) {
  if (tables_.size() != tables.size()) {
    tables_.assign(tables.begin(), tables.end());
    known_tables_ = {};
  }
  if (!changed) return;
  // Rights may have been taken away anywhere; memory that came after the image is gone already.
  memory_->DropMappings(0, memory_->image_end());
  flush_pending_ = true;
}

std::uint64_t* PageTable::Table(GuestPhysical address) const {
  return reinterpret_cast<std::uint64_t*>(memory_->At(address & kFrameMask));
}

std::uint64_t* PageTable::MakeSlot(GuestVirtual address, int level) {
  std::uint64_t* table = Table(root_);
  for (int at = kLevels; at > level; --at) {
    std::uint64_t& entry = table[IndexOf(address, at)];
    if (entry == 0) {
      const auto frame = memory_->AllocateFrame();
      if (!frame) return nullptr;
      NoteTable(*frame);
      entry = *frame | kTableFlags;
    } else if ((entry & kLarge) != 0) {
      return nullptr;
    }
    table = Table(entry);
  }
  return &table[IndexOf(address, level)];
}

std::uint64_t* PageTable::FindLeaf(GuestVirtual address, std::uint64_t& bytes) const {
  std::uint64_t* table = Table(root_);
  for (int level = kLevels;; --level) {
    std::uint64_t& entry = table[IndexOf(address, level)];
    bytes = BytesOf(level);
    if (entry == 0) return nullptr;
    if (level == 1 || (entry & kLarge) != 0) return &entry;
    table = Table(entry);
  }
}

bool PageTable::Split(std::uint64_t* large) {
  const auto frame = memory_->AllocateUnchargedFrame();
  if (!frame) return false;
  NoteTable(*frame);
  std::uint64_t* table = Table(*frame);
  const std::uint64_t flags = *large & ~(kFrameMask | kLarge);
  const GuestPhysical first = *large & kFrameMask;
  for (std::uint64_t i = 0; i < 512; ++i) table[i] = (first + i * kPageBytes) | flags;
  *large = *frame | kTableFlags;
  Revoke(*this).Reshape(first);
  return true;
}

// Calls visit(address, entry, bytes) for every leaf of the guest's inside the range. Large pages
// that stick out of it are split first. The machine's own pages are passed over.
template <typename Visit>
void PageTable::ForEachLeaf(GuestVirtual address, std::uint64_t bytes, Visit visit) {
  const GuestVirtual end = address + bytes;
  while (address < end) {
    std::uint64_t step = 0;
    std::uint64_t* leaf = FindLeaf(address, step);
    const GuestVirtual start = address & ~(step - 1);
    if (leaf != nullptr && (*leaf & kOwnership) == 0) leaf = nullptr;
    if (leaf != nullptr && (start < address || end - start < step)) {
      if (!Split(leaf)) return;
      continue;
    }
    if (leaf != nullptr) visit(address, *leaf, step);
    address = start + step;
  }
}

bool PageTable::Populate(GuestVirtual address, std::uint64_t bytes, PageAccess access) {
  const GuestVirtual end = address + bytes;
  const std::uint64_t flags = FlagsOf(access) | kOwned;
  while (address < end) {
    std::uint64_t step = 0;
    if (FindLeaf(address, step) != nullptr) {
      address = (address & ~(step - 1)) + step;
      continue;
    }
    if (step >= kLargePageBytes && address % kLargePageBytes == 0 &&
        end - address >= kLargePageBytes) {
      std::uint64_t* slot = MakeSlot(address, 2);
      const auto frame =
          slot != nullptr ? memory_->AllocateLargeFrame() : std::optional<GuestPhysical>();
      if (frame) {
        *slot = *frame | flags | kLarge;
        address += kLargePageBytes;
        continue;
      }
    }
    std::uint64_t* slot = MakeSlot(address, 1);
    if (slot == nullptr) return false;
    const auto frame = memory_->AllocateFrame();
    if (!frame) return false;
    *slot = *frame | flags;
    address += kPageBytes;
  }
  return true;
}

bool PageTable::MapSystemPage(GuestVirtual address, GuestPhysical frame, bool user, bool write) {
  std::uint64_t* slot = MakeSlot(address, 1);
  if (slot == nullptr || *slot != 0) return false;
  *slot = frame | kPresent | kAccessed | kDirty | (user ? kUser : 0) | (write ? kWritable : 0);
  return true;
}

std::byte* PageTable::SystemPage(GuestVirtual address) const {
  std::uint64_t bytes = 0;
  const std::uint64_t* leaf = FindLeaf(address, bytes);
  if (leaf == nullptr || bytes != kPageBytes || (*leaf & kOwnership) != 0) return nullptr;
  return memory_->At(*leaf & kFrameMask);
}

bool PageTable::MapShared(GuestVirtual address, GuestPhysical frame, PageAccess access) {
  std::uint64_t* slot = MakeSlot(address, 1);
  if (slot == nullptr) return false;
  if (*slot != 0 && ((*slot & kShared) == 0 || (*slot & kFrameMask) != frame)) return false;
  Revoke(*this).Change(*slot, frame | kShared | FlagsOf(access), kPageBytes);
  return true;
}

void PageTable::Protect(GuestVirtual address, std::uint64_t bytes, PageAccess access) {
  const std::uint64_t flags = FlagsOf(access);
  Revoke revoke(*this);
  ForEachLeaf(address, bytes, [&](GuestVirtual, std::uint64_t& entry, std::uint64_t size) {
    revoke.Change(entry, (entry & (kFrameMask | kLarge | kOwnership | kFilled)) | flags, size);
  });
}

void PageTable::Unmap(GuestVirtual address, std::uint64_t bytes) {
  Revoke revoke(*this);
  ForEachLeaf(address, bytes, [&](GuestVirtual, std::uint64_t& entry, std::uint64_t size) {
    revoke.Remove(entry, size);
  });
}

std::uint64_t PageTable::ReclaimUntouched() {
  const std::vector<bool> resident = memory_->ResidentFrames();
  const auto is_zero = [&](GuestPhysical frame) {
    return (frame / kPageBytes < resident.size() && !resident[frame / kPageBytes]) ||
           memory_->IsZero(frame);
  };
  std::uint64_t gained = 0;
  Revoke revoke(*this);
  ForEachLeaf(0, kUserHalfBytes, [&](GuestVirtual, std::uint64_t& entry, std::uint64_t size) {
    // A shared frame is not this entry's to give, and a file's page would be read again.
    if ((entry & kOwned) == 0 || (entry & kFilled) != 0) return;
    const GuestPhysical first = entry & kFrameMask;
    for (std::uint64_t offset = 0; offset < size; offset += kPageBytes)
      if (!is_zero(first + offset)) return;
    revoke.Remove(entry, size);
    gained += size;
  });
  return gained;
}

// Makes the tables for one leaf of the range that Move moves. A large page stays one only where
// the target has no table of small pages yet.
bool PageTable::PrepareTarget(std::uint64_t& leaf, GuestVirtual target, std::uint64_t bytes) {
  if (bytes == kLargePageBytes && target % kLargePageBytes == 0) {
    const std::uint64_t* slot = MakeSlot(target, 2);
    if (slot == nullptr) return false;
    if (*slot == 0) return true;
  }
  if (bytes == kLargePageBytes && !Split(&leaf)) return false;
  return MakeSlot(target, 1) != nullptr && MakeSlot(target + bytes - kPageBytes, 1) != nullptr;
}

bool PageTable::Move(GuestVirtual from, GuestVirtual to, std::uint64_t bytes) {
  // Make the tables of the destination first, so that running out of memory changes nothing.
  bool room = true;
  ForEachLeaf(from, bytes, [&](GuestVirtual at, std::uint64_t& entry, std::uint64_t size) {
    room = room && PrepareTarget(entry, to + (at - from), size);
  });
  if (!room) return false;
  Revoke revoke(*this);
  ForEachLeaf(from, bytes, [&](GuestVirtual at, std::uint64_t& entry, std::uint64_t size) {
    std::uint64_t* slot = MakeSlot(to + (at - from), size == kLargePageBytes ? 2 : 1);
    if (slot == nullptr || *slot != 0) return;  // cannot be: made above, and the target is absent
    *slot = entry;
    revoke.Change(entry, 0, size);
  });
  return true;
}

bool PageTable::IsPresent(GuestVirtual address) const {
  std::uint64_t bytes = 0;
  return FindLeaf(address, bytes) != nullptr;
}

// Host memory behind `address` as far as it is contiguous, up to `wanted` bytes; empty at an
// absent page.
std::span<std::byte> PageTable::HostRun(GuestVirtual address, std::uint64_t wanted) const {
  std::span<std::byte> run;
  while (run.size() < wanted) {
    std::uint64_t size = 0;
    const std::uint64_t* leaf = FindLeaf(address + run.size(), size);
    if (leaf == nullptr || (*leaf & kOwnership) == 0) break;
    const std::uint64_t offset = (address + run.size()) & (size - 1);
    std::byte* host = memory_->At(*leaf & kFrameMask) + offset;
    if (!run.empty() && host != run.data() + run.size()) break;
    run = {run.empty() ? host : run.data(), run.size() + (size - offset)};
  }
  return run.first(std::min<std::uint64_t>(run.size(), wanted));
}

// The common case, with one look: all of it in one page.
std::byte* PageTable::HostIn(GuestVirtual address, std::size_t bytes) const {
  if (bytes > kPageBytes - (address & (kPageBytes - 1))) return nullptr;
  const GuestVirtual region = address / kLargePageBytes;
  KnownTable& known = known_tables_[region % known_tables_.size()];
  std::uint64_t size = kPageBytes;
  const std::uint64_t* leaf = nullptr;
  if (known.region == region) {
    leaf = known.table + IndexOf(address, 1);
  } else {
    leaf = FindLeaf(address, size);
    if (leaf != nullptr && size == kPageBytes) known = {region, leaf - IndexOf(address, 1)};
  }
  if (leaf == nullptr || (*leaf & kOwnership) == 0) return nullptr;
  return memory_->At(*leaf & kFrameMask) + (address & (size - 1));
}

std::size_t PageTable::CopyFrom(GuestVirtual address, std::span<std::byte> to) const {
  if (const std::byte* from = HostIn(address, to.size()); from != nullptr) {
    std::memcpy(to.data(), from, to.size());
    return to.size();
  }
  std::size_t done = 0;
  while (done < to.size()) {
    const std::span<std::byte> run = HostRun(address + done, to.size() - done);
    if (run.empty()) break;
    std::memcpy(to.data() + done, run.data(), run.size());
    done += run.size();
  }
  return done;
}

std::int64_t PageTable::Fill(GuestVirtual address, std::uint64_t bytes, Reader read) {
  ForEachLeaf(address, bytes,
              [](GuestVirtual, std::uint64_t& entry, std::uint64_t) { entry |= kFilled; });
  std::uint64_t done = 0;
  std::span<std::byte> run;
  while (done < bytes) {
    if (run.empty()) {
      run = HostRun(address + done, bytes - done);
      if (run.empty()) break;
      memory_->Touch(run);
    }
    const std::int64_t got = read(run, done);
    if (got < 0) return got;
    if (got == 0) break;
    done += static_cast<std::uint64_t>(got);
    run = run.subspan(static_cast<std::size_t>(got));
  }
  return static_cast<std::int64_t>(done);
}

std::size_t PageTable::CopyTo(GuestVirtual address, std::span<const std::byte> from) {
  if (std::byte* to = HostIn(address, from.size()); to != nullptr) {
    std::memcpy(to, from.data(), from.size());
    return from.size();
  }
  std::size_t done = 0;
  while (done < from.size()) {
    const std::span<std::byte> run = HostRun(address + done, from.size() - done);
    if (run.empty()) break;
    std::memcpy(run.data(), from.data() + done, run.size());
    done += run.size();
  }
  return done;
}

}  // namespace waxvm::vmm
