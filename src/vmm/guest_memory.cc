// SPDX-License-Identifier: Apache-2.0
#include "src/vmm/guest_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "src/base/status.h"
#include "src/base/unique_fd.h"

namespace waxvm::vmm {
namespace {

// Enough for a small static program; each further slot doubles the memory.
constexpr std::uint64_t kFirstSlotBytes = std::uint64_t{4} << 20;
constexpr std::uint64_t kSmallPagesBytes = kLargePageBytes;
// Beyond the limit, address space for frames lost to alignment and for the page tables of split
// large pages (one for every 512 frames).
constexpr std::uint64_t SlackBytes(std::uint64_t limit) {
  return 2 * kLargePageBytes + limit / 256;
}
// Giving back less than this does not make it worth looking at the peak.
constexpr std::uint64_t kPeakSampleFrames = 64;

}  // namespace

absl::StatusOr<std::unique_ptr<GuestMemory>> GuestMemory::Create(const kvm::Vm& vm,
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
  std::unique_ptr<GuestMemory> result(new GuestMemory(vm, account, std::move(memory)));
  if (!result->Grow(kPageBytes)) return Internal("cannot give the virtual machine its memory");
  return result;
}

bool GuestMemory::Grow(std::uint64_t end) {
  while (slots_end_ < end) {
    const std::uint64_t bytes =
        std::min(std::max(slots_end_, kFirstSlotBytes), memory_.size() - slots_end_);
    if (bytes == 0) return false;
    if (!vm_->SetMemory(slot_count_, slots_end_, {memory_.data() + slots_end_, bytes}).ok())
      return false;
    ++slot_count_;
    slots_end_ += bytes;
  }
  return true;
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
    return frame;
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
    frame = free_large_.back();
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
    if (frame < kSmallPagesBytes) ::madvise(At(frame), kLargePageBytes, MADV_HUGEPAGE);
  }
  if (!Charge(kLargePageBytes)) {
    free_large_.push_back(frame);
    return std::nullopt;
  }
  return frame;
}

void GuestMemory::FreeFrames(GuestPhysical first, std::uint64_t count) {
  if (count >= kPeakSampleFrames) PeakResidentBytes();
  ::madvise(At(first), count * kPageBytes, MADV_DONTNEED);
  // Last first: they are taken from the end, and neighbours in memory are cheaper to fill.
  for (std::uint64_t i = count; i-- > 0;) free_small_.push_back(first + i * kPageBytes);
  Release(count * kPageBytes);
}

void GuestMemory::FreeLargeFrame(GuestPhysical frame) {
  PeakResidentBytes();
  ::madvise(At(frame), kLargePageBytes, MADV_DONTNEED);
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
  ::mprotect(At(start), bytes, PROT_READ | PROT_WRITE | PROT_EXEC);
  ::mprotect(At(start), bytes, PROT_READ | PROT_WRITE);
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
      resident[done + i] = (entries[i] & kPresentOrSwapped) != 0;
    done += count;
  }
  return resident;
}

bool GuestMemory::IsZero(GuestPhysical frame) const {
  const std::byte* bytes = At(frame);
  return bytes[0] == std::byte{0} && std::memcmp(bytes, bytes + 1, kPageBytes - 1) == 0;
}

std::uint64_t GuestMemory::ResidentBytes() const {
  std::vector<unsigned char> resident(next_ / kPageBytes);
  if (resident.empty() || ::mincore(memory_.data(), next_, resident.data()) != 0) return 0;
  return kPageBytes * static_cast<std::uint64_t>(std::ranges::count_if(
                          resident, [](unsigned char flags) { return (flags & 1) != 0; }));
}

std::uint64_t GuestMemory::PeakResidentBytes() {
  peak_resident_bytes_ = std::max(peak_resident_bytes_, ResidentBytes());
  return peak_resident_bytes_;
}

}  // namespace waxvm::vmm
