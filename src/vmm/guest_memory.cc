// SPDX-License-Identifier: Apache-2.0
#include "src/vmm/guest_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "src/base/sealed_file.h"
#include "src/base/status.h"
#include "src/base/unique_fd.h"

namespace waxvm::vmm {
namespace {

// Enough for a small static program; each further slot doubles the memory.
constexpr std::uint64_t kFirstSlotBytes = std::uint64_t{4} << 20;
// Beyond the limit, address space for frames lost to alignment and for the page tables of split
// large pages (one for every 512 frames).
constexpr std::uint64_t SlackBytes(std::uint64_t limit) {
  return 2 * kLargePageBytes + limit / 256;
}
// Room for new pages behind a snapshot before a clone needs another slot.
constexpr std::uint64_t kLeastRoomBytes = std::uint64_t{512} << 10;
// What a clone may keep for itself over a reset.
constexpr std::uint64_t kKeptPrivateBytes = std::uint64_t{2} << 20;
// What a clone gets for itself before it was ever called.
constexpr std::uint64_t kLearnedBytes = std::uint64_t{32} << 10;
// A part of a huge page of the host that is worth splitting it, which costs some 400 us, once.
constexpr std::uint64_t kWorthSplittingBytes = std::uint64_t{128} << 10;
// Giving back less than this does not make it worth looking at the peak.
constexpr std::uint64_t kPeakSampleFrames = 64;

}  // namespace

absl::StatusOr<std::unique_ptr<GuestMemory>> GuestMemory::Reserve(const kvm::Vm& vm,
                                                                  MemoryAccount& account) {
  constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 40;
  const std::uint64_t limit = account.limit_bytes();
  if (limit > kMaxBytes)
    return InvalidArgument("a memory limit of %d bytes is above the microVM's maximum of %d", limit,
                           kMaxBytes);
  const std::uint64_t bytes =
      (limit + SlackBytes(limit) + kLargePageBytes - 1) & ~(kLargePageBytes - 1);
  WAXVM_ASSIGN_OR_RETURN(Mapping memory, Mapping::Reserve(bytes, kLargePageBytes));
  // A fork of the embedder must not share (and so copy) the guest's pages.
  ::madvise(memory.data(), memory.size(), MADV_DONTFORK);
  // Past the first megabytes, with which most programs make do, huge pages: they save a program
  // that touches much most of the faults. What they hold beyond what was touched is zero, and so
  // given back where the limit would be met (PageTable::ReclaimUntouched).
  if (memory.size() > kSmallPagesBytes)
    ::madvise(memory.data() + kSmallPagesBytes, memory.size() - kSmallPagesBytes, MADV_HUGEPAGE);
  return std::unique_ptr<GuestMemory>(new GuestMemory(vm, account, std::move(memory)));
}

absl::StatusOr<std::unique_ptr<GuestMemory>> GuestMemory::Create(const kvm::Vm& vm,
                                                                 MemoryAccount& account) {
  WAXVM_ASSIGN_OR_RETURN(std::unique_ptr<GuestMemory> result, Reserve(vm, account));
  if (!result->Grow(kPageBytes)) return Internal("cannot give the virtual machine its memory");
  return result;
}

absl::StatusOr<std::unique_ptr<GuestMemory>> GuestMemory::CreateFrom(
    const kvm::Vm& vm, MemoryAccount& account, std::shared_ptr<const MemoryImage> image) {
  WAXVM_ASSIGN_OR_RETURN(std::unique_ptr<GuestMemory> result, Reserve(vm, account));
  GuestMemory& self = *result;
  if (image->bytes > self.memory_.size() || !self.Charge(image->charged_bytes))
    return InvalidArgument("a memory limit of %d bytes is below what the snapshot holds",
                           account.limit_bytes());
  if (::mmap(self.memory_.data(), image->bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, image->file.get(), 0) == MAP_FAILED)
    return ErrnoStatus(errno, "mmap of a snapshot");
  ::madvise(self.memory_.data(), image->bytes, MADV_DONTFORK);
  // The kernel keeps some bytes (10 where it shadows page tables) for every page a slot could hold:
  // as many clones as there are, only a little more than the image.
  const std::uint64_t room = std::max(image->bytes / 16, kLeastRoomBytes) & ~(kPageBytes - 1);
  if (!self.AddSlot(std::min(image->bytes + room, self.memory_.size())))
    return Internal("cannot give the virtual machine its memory");
  self.next_ = image->bytes;
  self.free_small_ = image->free_small;
  self.free_large_ = image->free_large;
  self.image_ = std::move(image);
  return result;
}

// A clone that waits for its first call holds these pages for itself, so there are few.
void GuestMemory::Teach() {
  if (image_ == nullptr || image_->learned->known()) return;
  if (own_.empty() && !FindOwn(/*faults_tell=*/false).ok()) return;
  std::vector<FrameRun> some;
  std::uint64_t left = kLearnedBytes;
  for (const FrameRun& run : own_) {
    if (left == 0) break;
    some.push_back({run.start, std::min(run.bytes, left)});
    left -= some.back().bytes;
  }
  image_->learned->Learn(std::move(some));
}

void GuestMemory::CopyLearned() {
  if (image_ == nullptr) return;
  own_known_at_.reset();
  // Kernels before 5.14 do not know it; the pages are then copied as they are written to.
  for (const FrameRun& run : image_->learned->Get())
    ::madvise(At(run.start), run.bytes, MADV_POPULATE_WRITE);
}

absl::StatusOr<std::shared_ptr<const MemoryImage>> GuestMemory::TakeImage(
    std::span<const GuestPhysical> cleared) const {
  WAXVM_ASSIGN_OR_RETURN(PrivatePages private_pages, PrivatePages::Open());
  WAXVM_ASSIGN_OR_RETURN(UniqueFd file, NewMemoryFile("waxvm-snapshot", Executable::kNo));
  if (::ftruncate(file.get(), static_cast<off_t>(next_)) != 0)
    return ErrnoStatus(errno, "writing a snapshot");
  const std::vector<bool> resident = ResidentFrames();
  for (std::uint64_t start = 0; start < next_;) {
    std::uint64_t end = start;
    while (end < next_ && resident[end / kPageBytes]) end += kPageBytes;
    while (start < end) {
      const ssize_t written =
          ::pwrite(file.get(), At(start), end - start, static_cast<off_t>(start));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return ErrnoStatus(errno, "writing a snapshot");
      start += static_cast<std::uint64_t>(written);
    }
    start += kPageBytes;
  }
  static constexpr std::array<std::byte, kPageBytes> kZeroes{};
  for (const GuestPhysical frame : cleared)
    if (::pwrite(file.get(), kZeroes.data(), kPageBytes, static_cast<off_t>(frame)) !=
        static_cast<ssize_t>(kPageBytes))
      return ErrnoStatus(errno, "writing a snapshot");
  WAXVM_RETURN_IF_ERROR(SealFile(file.get()));
  WAXVM_ASSIGN_OR_RETURN(Mapping mapping, Mapping::Map(next_, PROT_READ, MAP_SHARED, file.get()));
  return std::make_shared<const MemoryImage>(
      MemoryImage{.file = std::move(file),
                  .mapping = std::move(mapping),
                  .bytes = next_,
                  .free_small = free_small_,
                  .free_large = free_large_,
                  .charged_bytes = charged_bytes_,
                  .private_pages = std::move(private_pages)});
}

// Looking through the page tables costs more than all the rest of a short call, and a program that
// was called before mostly writes to the pages that it wrote to then. A page that it has not
// written to yet is the image's until the kernel copies it, which takes a fault of this thread:
// without one, and where no other thread has used the memory, there is nothing new to find. But
// mlock and mlockall of the embedder copy every page at once, whichever thread calls them.
absl::Status GuestMemory::FindOwn(bool faults_tell) {
  UsedByThisThread();
  // Before the look: what comes after it is looked for next time.
  const std::optional<ThreadFaults> now =
      faults_tell ? ThreadFaults::OfThisThread() : std::optional<ThreadFaults>();
  if (now && own_known_at_ == now && !IsLocked()) return absl::OkStatus();
  own_known_at_.reset();
  own_.clear();
  WAXVM_RETURN_IF_ERROR(image_->private_pages.ForEachRun(
      std::span(memory_.data(), image_->bytes), [&](std::uint64_t offset, std::uint64_t bytes) {
        own_.push_back({offset, bytes});
      }));
  own_known_at_ = now;
  return absl::OkStatus();
}

// Spec: msync(2), EBUSY.
bool GuestMemory::IsLocked() const {
  return ::msync(memory_.data(), kPageBytes, MS_ASYNC | MS_INVALIDATE) != 0;
}

void GuestMemory::PutBack(std::span<const GuestPhysical> tables, bool& tables_changed) {
  std::uint64_t kept = 0;
  auto table = tables.begin();
  const std::byte* const image = image_->mapping.data();
  std::erase_if(own_, [&](const FrameRun& run) {
    while (table != tables.end() && *table < run.start) ++table;
    for (; table != tables.end() && *table < run.start + run.bytes; ++table)
      tables_changed = tables_changed || std::memcmp(At(*table), image + *table, kPageBytes) != 0;
    // What is not taken back stays in the list: the next write to it needs no fault.
    if (kept + run.bytes > kKeptPrivateBytes) return Discard(run.start, run.bytes);
    kept += run.bytes;
    std::memcpy(At(run.start), image + run.start, run.bytes);
    return false;
  });
}

absl::StatusOr<bool> GuestMemory::Restore(std::span<const GuestPhysical> tables, bool faults_tell) {
  if (image_ == nullptr) return FailedPrecondition("the memory was not made from a snapshot");
  WAXVM_RETURN_IF_ERROR(FindOwn(faults_tell));
  bool tables_changed = false;
  PutBack(tables, tables_changed);
  if (const std::uint64_t later = next_ - image_->bytes;
      later != 0 && ::madvise(At(image_->bytes), later, MADV_DONTNEED) != 0)
    std::memset(At(image_->bytes), 0, later);  // locked by the embedder, as in Discard
  next_ = image_->bytes;
  if (free_small_ != image_->free_small) free_small_ = image_->free_small;
  if (free_large_ != image_->free_large) free_large_ = image_->free_large;
  Release(charged_bytes_);
  if (!Charge(image_->charged_bytes)) return Internal("the memory of the snapshot does not fit");
  peak_resident_bytes_ = 0;
  return tables_changed;
}

bool GuestMemory::AddSlot(std::uint64_t bytes) {
  if (bytes == 0 ||
      !vm_->SetMemory(slot_count_, slots_end_, {memory_.data() + slots_end_, bytes}).ok())
    return false;
  if (slot_count_++ == 0) first_slot_bytes_ = bytes;
  slots_end_ += bytes;
  return true;
}

// Deleting any slot drops all shadow tables. Spec: Linux kvm_arch_flush_shadow_memslot().
void GuestMemory::ForgetShadows() {
  usable_ = usable_ && vm_->SetMemory(0, 0, {memory_.data(), 0}).ok() &&
            vm_->SetMemory(0, 0, {memory_.data(), first_slot_bytes_}).ok();
}

// MADV_DONTNEED of a part only notes that the huge page could be split when memory runs short:
// until then all of it stays taken. MADV_COLD of any page of it splits it at once.
// Spec: Linux madvise_cold_or_pageout_pte_range().
void GuestMemory::SplitHugePages(GuestPhysical start, std::uint64_t bytes) {
  const GuestPhysical end = start + bytes;
  const GuestPhysical start_ends = (start + kLargePageBytes - 1) & ~(kLargePageBytes - 1);
  const GuestPhysical end_begins = end & ~(kLargePageBytes - 1);
  if (std::min(start_ends, end) - start >= kWorthSplittingBytes)
    ::madvise(At(start), kPageBytes, MADV_COLD);
  if (end_begins >= start_ends && end - end_begins >= kWorthSplittingBytes)
    ::madvise(At(end_begins), kPageBytes, MADV_COLD);
}

bool GuestMemory::Discard(GuestPhysical start, std::uint64_t bytes) {
  if (start >= std::max(huge_from_, image_end())) SplitHugePages(start, bytes);
  if (::madvise(At(start), bytes, MADV_DONTNEED) == 0) return true;
  // Memory that the embedder has locked (mlockall) is not taken back.
  const std::uint64_t of_image = start < image_end() ? std::min(bytes, image_end() - start) : 0;
  if (of_image != 0) std::memcpy(At(start), image_->mapping.data() + start, of_image);
  std::memset(At(start + of_image), 0, bytes - of_image);
  DropMappings(start, bytes);
  return false;
}

bool GuestMemory::Grow(std::uint64_t end) {
  while (slots_end_ < end)
    if (!AddSlot(std::min(std::max(slots_end_, kFirstSlotBytes), memory_.size() - slots_end_)))
      return false;
  return true;
}

GuestPhysical GuestMemory::Cleared(GuestPhysical frame, std::uint64_t bytes) {
  for (GuestPhysical at = frame; at < std::min(frame + bytes, image_end()); at += kPageBytes)
    if (!IsZero(at)) std::memset(At(at), 0, kPageBytes);
  return frame;
}

bool GuestMemory::Charge(std::uint64_t bytes) {
  if (!account_->Charge(bytes)) return false;
  charged_bytes_ += bytes;
  return true;
}

void GuestMemory::Release(std::uint64_t bytes) {
  account_->Release(bytes);
  charged_bytes_ -= bytes;
}

std::optional<GuestPhysical> GuestMemory::TakeSmall() {
  if (!free_small_.empty()) {
    const GuestPhysical frame = free_small_.back();
    free_small_.pop_back();
    return Cleared(frame, kPageBytes);
  }
  if (!Grow(next_ + kPageBytes)) return std::nullopt;
  const GuestPhysical frame = next_;
  next_ += kPageBytes;
  return frame;
}

std::optional<GuestPhysical> GuestMemory::AllocateFrame() {
  if (!Charge(kPageBytes)) return std::nullopt;
  const auto frame = TakeSmall();
  if (!frame) Release(kPageBytes);
  return frame;
}

std::optional<GuestPhysical> GuestMemory::AllocateUnchargedFrame() { return TakeSmall(); }

std::optional<GuestPhysical> GuestMemory::AllocateLargeFrame() {
  if (account_->free_bytes() < kLargePageBytes) return std::nullopt;
  GuestPhysical frame;
  if (!free_large_.empty()) {
    frame = Cleared(free_large_.back(), kLargePageBytes);
    free_large_.pop_back();
  } else {
    frame = (next_ + kLargePageBytes - 1) & ~(kLargePageBytes - 1);
    if (frame + kLargePageBytes > memory_.size() || !Grow(frame + kLargePageBytes))
      return std::nullopt;
    while (next_ < frame) {
      free_small_.push_back(next_);
      next_ += kPageBytes;
    }
    next_ = frame + kLargePageBytes;
    if (frame < kSmallPagesBytes) {
      ::madvise(At(frame), kLargePageBytes, MADV_HUGEPAGE);
      huge_from_ = std::min(huge_from_, frame);
    }
  }
  if (!Charge(kLargePageBytes)) {
    free_large_.push_back(frame);
    return std::nullopt;
  }
  return frame;
}

void GuestMemory::FreeFrames(GuestPhysical first, std::uint64_t count) {
  if (count >= kPeakSampleFrames) PeakResidentBytes();
  Discard(first, count * kPageBytes);
  // Last first: they are taken from the end, and neighbours in memory are cheaper to fill.
  for (std::uint64_t i = count; i-- > 0;) free_small_.push_back(first + i * kPageBytes);
  Release(count * kPageBytes);
}

void GuestMemory::FreeLargeFrame(GuestPhysical frame) {
  PeakResidentBytes();
  Discard(frame, kLargePageBytes);
  free_large_.push_back(frame);
  Release(kLargePageBytes);
}

void GuestMemory::Touch(std::span<std::byte> run) {
  constexpr std::uint64_t kWorthACall = 2 * kPageBytes;
  if (run.size() < kWorthACall) return;
  const auto start = reinterpret_cast<std::uintptr_t>(run.data()) & ~(kPageBytes - 1);
  const auto end = reinterpret_cast<std::uintptr_t>(run.data() + run.size());
  // Kernels before 5.14 do not know it; the pages are then touched one by one, as they are used.
  ::madvise(reinterpret_cast<void*>(start), end - start, MADV_POPULATE_WRITE);
}

void GuestMemory::DropMappings(GuestPhysical start, std::uint64_t bytes) {
  // Adding a right and taking it away again makes the kernel tell KVM that the range changed,
  // while no access of another vCPU can fail in between (as it could with PROT_NONE).
  if (::mprotect(At(start), bytes, PROT_READ | PROT_WRITE | PROT_EXEC) == 0 &&
      ::mprotect(At(start), bytes, PROT_READ | PROT_WRITE) == 0)
    return;
  // A host that lets nobody make memory executable.
  ForgetShadows();
}

void GuestMemory::Read(GuestPhysical frame, std::span<std::byte> to) const {
  std::memcpy(to.data(), At(frame), std::min<std::size_t>(to.size(), kPageBytes));
}

void GuestMemory::Write(GuestPhysical frame, std::span<const std::byte> from) {
  std::memcpy(At(frame), from.data(), std::min<std::size_t>(from.size(), kPageBytes));
}

// Not mincore(), which cannot tell a page that was swapped out from one that never was.
// Spec: Linux Documentation/admin-guide/mm/pagemap.rst.
std::vector<bool> GuestMemory::ResidentFrames() const {
  constexpr std::uint64_t kPresentOrSwapped = std::uint64_t{3} << 62;
  std::vector<bool> resident(next_ / kPageBytes, true);
  const UniqueFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap) return resident;
  std::array<std::uint64_t, 4096> entries;
  const std::uint64_t first = reinterpret_cast<std::uintptr_t>(memory_.data()) / kPageBytes;
  for (std::size_t done = 0; done < resident.size();) {
    const std::size_t wanted = std::min(entries.size(), resident.size() - done);
    const ssize_t got = ::pread(pagemap.get(), entries.data(), wanted * sizeof entries[0],
                                static_cast<off_t>((first + done) * sizeof entries[0]));
    if (got <= 0) return resident;
    const std::size_t count = static_cast<std::size_t>(got) / sizeof entries[0];
    if (count == 0) return resident;
    for (std::size_t i = 0; i < count; ++i)
      resident[done + i] =
          (entries[i] & kPresentOrSwapped) != 0 || (done + i) * kPageBytes < image_end();
    done += count;
  }
  return resident;
}

bool GuestMemory::IsZero(GuestPhysical frame) const {
  const std::byte* bytes = At(frame);
  return bytes[0] == std::byte{0} && std::memcmp(bytes, bytes + 1, kPageBytes - 1) == 0;
}

absl::StatusOr<MemoryUse> GuestMemory::Use() const {
  if (image_ != nullptr) return image_->private_pages.Count({At(0), next_});
  const std::uint64_t resident = ResidentBytes();
  return MemoryUse{.resident_bytes = resident, .private_bytes = resident};
}

std::uint64_t GuestMemory::ResidentBytes() const {
  std::vector<unsigned char> resident(next_ / kPageBytes);
  if (resident.empty() || ::mincore(memory_.data(), next_, resident.data()) != 0) return 0;
  return kPageBytes * static_cast<std::uint64_t>(std::ranges::count_if(
                          resident, [](unsigned char flags) { return (flags & 1) != 0; }));
}

std::uint64_t GuestMemory::PeakResidentBytes() {
  // Huge pages, and the pages that clones share, are there whether the program has touched them or
  // not; it holds no more than what it was charged for.
  peak_resident_bytes_ = std::max(peak_resident_bytes_, std::min(ResidentBytes(), charged_bytes_));
  return peak_resident_bytes_;
}

}  // namespace waxvm::vmm
