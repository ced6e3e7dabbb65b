// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_VMM_GUEST_MEMORY_H_
#define WAXVM_SRC_VMM_GUEST_MEMORY_H_

#include <pthread.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "src/base/checked.h"
#include "src/base/mapping.h"
#include "src/base/memory_account.h"
#include "src/kvm/kvm.h"
#include "src/vmm/memory_image.h"
#include "src/vmm/private_pages.h"
#include "src/vmm/thread_faults.h"

namespace waxvm::vmm {

inline constexpr std::uint64_t kLargePageBytes = std::uint64_t{2} << 20;

/// A guest-physical address.
using GuestPhysical = std::uint64_t;

/// The physical memory of one virtual machine: hands out frames, each charged to the account.
/// Address space for the whole limit is reserved at once; memory slots (which cost the kernel
/// memory for every page they could hold) are added as frames are needed, and the host pays for
/// a page when somebody first touches it.
/// Thread safety: none; used by the instance's thread.
class GuestMemory {
 public:
  /// Memory of `vm`, bounded by `account`. Both outlive this object, and the VM must be gone
  /// before it. Errors: kResourceExhausted, kInternal.
  static absl::StatusOr<std::unique_ptr<GuestMemory>> Create(const kvm::Vm& vm,
                                                             MemoryAccount& account);

  /// Memory that begins as `image`, which it shares until somebody writes to it.
  /// Errors: also kInvalidArgument when the limit is below what the image holds.
  static absl::StatusOr<std::unique_ptr<GuestMemory>> CreateFrom(
      const kvm::Vm& vm, MemoryAccount& account, std::shared_ptr<const MemoryImage> image);

  /// What the memory holds now. The pages of `cleared` are zero in it.
  /// Errors: kResourceExhausted, kInternal.
  absl::StatusOr<std::shared_ptr<const MemoryImage>> TakeImage(
      std::span<const GuestPhysical> cleared) const;

  /// Puts memory made by CreateFrom back to its image. What was written to is copied over, into the
  /// pages that the hypervisor knows already; so the pages a program writes to each time stay its
  /// own, up to a bound. `tables` are frames in which a change is told: returns true when one of
  /// them was not as in the image. `faults_tell`: no page of this memory becomes its own without a
  /// fault of the thread that uses it (HostTraits::faults_tell). Errors: kInternal; the contents
  /// are then undefined.
  absl::StatusOr<bool> Restore(std::span<const GuestPhysical> tables, bool faults_tell);
  /// The calling thread runs the guest, or writes to its memory.
  void UsedByThisThread() {
    const pthread_t self = ::pthread_self();
    if (user_ && ::pthread_equal(*user_, self) != 0) return;
    user_ = self;
    own_known_at_.reset();
  }
  /// Tells the image what its memory has written to, where nobody has told it yet.
  void Teach();
  /// Has the host copy now what others have written to.
  void CopyLearned();
  /// End of the frames that the image has; 0 without one.
  std::uint64_t image_end() const { return image_ != nullptr ? image_->bytes : 0; }

  /// A zeroed frame of 4 KiB; empty when the limit is met.
  std::optional<GuestPhysical> AllocateFrame();
  /// The same without a charge, for the page tables of a split large page. Their number is
  /// bounded by the frames that were charged.
  std::optional<GuestPhysical> AllocateUnchargedFrame();
  /// A zeroed frame of 2 MiB, aligned, backed by a huge page of the host where it can; empty when
  /// there is none.
  std::optional<GuestPhysical> AllocateLargeFrame();

  /// Gives `count` adjacent small frames back. Their contents are gone and nothing maps them
  /// when this returns: on a machine that shadows page tables it drops the shadow entries.
  void FreeFrames(GuestPhysical first, std::uint64_t count);
  void FreeLargeFrame(GuestPhysical frame);

  /// Makes the hypervisor forget every table that it made of the guest's page tables.
  void ForgetShadows();
  /// False once the hypervisor may still map what was taken away: the machine must not run any
  /// more.
  bool usable() const { return usable_; }

  /// Makes the hypervisor forget how it maps the host pages of a range, so that the next guest
  /// access consults the guest's page tables again. Contents stay.
  void DropMappings(GuestPhysical start, std::uint64_t bytes);

  /// Host address of a frame; stays inside the vmm module.
  std::byte* At(GuestPhysical address) const { return memory_.data() + address; }

  /// Copies from or to the start of a frame, at most its size.
  void Read(GuestPhysical frame, std::span<std::byte> to) const;
  void Write(GuestPhysical frame, std::span<const std::byte> from);

  /// Has the host back the pages of `run`, memory of this object, now and at once: a fault for each
  /// costs it several times as much.
  void Touch(std::span<std::byte> run);

  /// For every frame handed out so far, whether it may hold something: the host has a page for it,
  /// or the image has; all of them where the host does not tell.
  std::vector<bool> ResidentFrames() const;
  bool IsZero(GuestPhysical frame) const;

  /// What the frames take of the host's memory right now, apart from page caches.
  absl::StatusOr<MemoryUse> Use() const;
  /// Bytes that the host holds for the guest right now.
  std::uint64_t ResidentBytes() const;
  /// The highest ResidentBytes seen, looking now and whenever much was given back.
  std::uint64_t PeakResidentBytes();

  /// Bytes of the account that frames take.
  std::uint64_t charged_bytes() const { return charged_bytes_; }
  std::uint64_t FreeBytes() const { return account_->free_bytes(); }

 private:
  GuestMemory(const kvm::Vm& vm, MemoryAccount& account, Mapping memory)
      : vm_(&vm), account_(&account), memory_(std::move(memory)) {}
  static absl::StatusOr<std::unique_ptr<GuestMemory>> Reserve(const kvm::Vm& vm,
                                                              MemoryAccount& account);
  bool AddSlot(std::uint64_t bytes);
  /// Brings own_ up to date.
  absl::Status FindOwn(bool faults_tell);
  /// By mlock or mlockall of the embedder.
  bool IsLocked() const;
  /// Copies the image over what is the memory's own there, or gives it back.
  void PutBack(std::span<const GuestPhysical> tables, bool& tables_changed);
  /// What is there is zero, or the image's, from now on. True when the host took its pages back.
  bool Discard(GuestPhysical start, std::uint64_t bytes);
  /// Lets the host take back the part of a huge page of its own that a range begins or ends in.
  void SplitHugePages(GuestPhysical start, std::uint64_t bytes);
  bool Grow(std::uint64_t end);
  /// Frames of the image are given back with its bytes still in them.
  GuestPhysical Cleared(GuestPhysical frame, std::uint64_t bytes);
  std::optional<GuestPhysical> TakeSmall();
  bool Charge(std::uint64_t bytes);
  void Release(std::uint64_t bytes);

  /// Small pages of the host are behind what lies below. Where the host gives free memory back to a
  /// hypervisor of its own, a huge page that nobody has used of late takes milliseconds: as much as
  /// all small pages of a program that has no more than this.
  static constexpr std::uint64_t kSmallPagesBytes = std::uint64_t{32} << 20;

  const kvm::Vm* vm_;
  MemoryAccount* account_;
  Mapping memory_;
  std::uint64_t slots_end_ = 0;  ///< guest-physical end of the slots made so far
  std::uint32_t slot_count_ = 0;
  std::uint64_t first_slot_bytes_ = 0;
  bool usable_ = true;
  std::uint64_t next_ = 0;                      ///< first frame never handed out
  std::uint64_t huge_from_ = kSmallPagesBytes;  ///< no huge pages of the host below
  std::vector<GuestPhysical> free_small_;
  std::vector<GuestPhysical> free_large_;
  std::shared_ptr<const MemoryImage> image_;
  /// Which pages of the image's range are no longer the image's, in order, as of when the thread
  /// had had as many faults; empty: not known.
  std::vector<FrameRun> own_;
  std::optional<ThreadFaults> own_known_at_;
  std::optional<pthread_t> user_;  ///< whose faults tell since then
  std::uint64_t charged_bytes_ = 0;
  std::uint64_t peak_resident_bytes_ = 0;
};

}  // namespace waxvm::vmm

#endif  // WAXVM_SRC_VMM_GUEST_MEMORY_H_
