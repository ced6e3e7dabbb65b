// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_VMM_PAGE_TABLE_H_
#define WAXVM_SRC_VMM_PAGE_TABLE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "src/vmm/guest_memory.h"

namespace waxvm::vmm {

/// A guest-virtual address.
using GuestVirtual = std::uint64_t;

/// What ring 3 may do with a page. Nothing at all keeps the contents out of reach.
struct PageAccess {
  bool read = false;
  bool write = false;
  bool execute = false;
  bool none() const { return !read && !write && !execute; }
};

/// The page tables of one address space, built and changed by the host alone, in frames that no
/// guest address maps. Ranges are page-aligned, in the user half, and do not wrap.
///
/// Giving more rights takes effect by itself on both kinds of KVM. Taking rights away does not:
/// every leaf in use is changed by Revoke alone, which makes both kinds forget what was taken.
/// Leaves of the machine's own (MapSystemPage) are changed by nobody once they are there.
/// Thread safety: none; the vCPU must not be running.
/// Spec: AMD64 Architecture Programmer's Manual volume 2, chapter 5.
class PageTable {
 public:
  static absl::StatusOr<PageTable> Create(GuestMemory& memory);

  /// The tables that `memory`, made from an image, has already.
  PageTable(GuestMemory& memory, GuestPhysical root, std::vector<GuestPhysical> tables)
      : memory_(&memory), root_(root), tables_(std::move(tables)) {}

  GuestPhysical root() const { return root_; }
  /// The frames of all tables, in order.
  std::span<const GuestPhysical> tables() const { return tables_; }
  /// The tables' contents were put back to an image in which they were these. `changed`: they had
  /// not been as they are now; what the hypervisor made of them is forgotten.
  void Restored(std::span<const GuestPhysical> tables, bool changed);

  /// Makes every absent page of the range present and zeroed. False when memory ran out; the
  /// pages done so far stay.
  bool Populate(GuestVirtual address, std::uint64_t bytes, PageAccess access);
  /// Maps one frame of the VMM's own at `address`, for ring 0 or, if `user`, for everybody. False
  /// when memory ran out or something is there. No other method changes or copies such a page.
  bool MapSystemPage(GuestVirtual address, GuestPhysical frame, bool user, bool write);
  /// What MapSystemPage has mapped there; null: nothing.
  std::byte* SystemPage(GuestVirtual address) const;
  /// Maps a frame that may be mapped elsewhere, too, and that no method here frees. What is there
  /// already can only be the same frame, whose rights become `access`. False when memory ran out.
  bool MapShared(GuestVirtual address, GuestPhysical frame, PageAccess access);
  void Protect(GuestVirtual address, std::uint64_t bytes, PageAccess access);
  void Unmap(GuestVirtual address, std::uint64_t bytes);
  bool Move(GuestVirtual from, GuestVirtual to, std::uint64_t bytes);
  bool IsPresent(GuestVirtual address) const;

  /// Frees the frames that are mapped but hold nothing but zeroes, which is what a guest finds
  /// where it touches such a page again: those that nobody has touched, above all. Returns the
  /// bytes gained.
  std::uint64_t ReclaimUntouched();

  /// Copies from or to pages that are present, whatever their rights; returns the bytes copied
  /// before the first absent one.
  std::size_t CopyFrom(GuestVirtual address, std::span<std::byte> to) const;
  std::size_t CopyTo(GuestVirtual address, std::span<const std::byte> from);

  /// Lets `read` put bytes at `offset` of the range, piece after piece, straight into the frames of
  /// new pages. It returns how many, 0 for no more, or a negative error. Returns the bytes put
  /// there before the end or the first absent page, or the error.
  using Reader = absl::FunctionRef<std::int64_t(std::span<std::byte> piece, std::uint64_t offset)>;
  std::int64_t Fill(GuestVirtual address, std::uint64_t bytes, Reader read);

  /// True once after a reduction: the vCPU must load CR3 before it runs ring 3 again.
  bool TakeFlushPending() { return std::exchange(flush_pending_, false); }
  /// For whoever took it and could not flush yet.
  void RequestFlush() { flush_pending_ = true; }

 private:
  class Revoke;

  std::uint64_t* Table(GuestPhysical address) const;
  /// The slot for `address` at `level` (1: 4 KiB, 2: 2 MiB), making tables on the way; null when
  /// memory ran out or a large page is in the way at level 1.
  std::uint64_t* MakeSlot(GuestVirtual address, int level);
  /// The entry that maps `address` and the size it maps; null (and the size of the hole) if none.
  std::uint64_t* FindLeaf(GuestVirtual address, std::uint64_t& bytes) const;
  bool Split(std::uint64_t* large);
  void NoteTable(GuestPhysical frame);
  bool PrepareTarget(std::uint64_t& leaf, GuestVirtual target, std::uint64_t bytes);
  /// Host memory of `bytes` within a page of the guest's own; null: there is none.
  std::byte* HostIn(GuestVirtual address, std::size_t bytes) const;
  std::span<std::byte> HostRun(GuestVirtual address, std::uint64_t wanted) const;
  template <typename Visit>
  void ForEachLeaf(GuestVirtual address, std::uint64_t bytes, Visit visit);

  GuestMemory* memory_;
  GuestPhysical root_;
  std::vector<GuestPhysical> tables_;  ///< sorted
  /// Tables of small pages that HostIn has found, by region of 2 MiB. A region that has one keeps
  /// it until the memory is put back to an image.
  struct KnownTable {
    GuestVirtual region = ~GuestVirtual{0};
    const std::uint64_t* table = nullptr;
  };
  mutable std::array<KnownTable, 4> known_tables_{};
  bool flush_pending_ = false;
};

}  // namespace waxvm::vmm

#endif  // WAXVM_SRC_VMM_PAGE_TABLE_H_
