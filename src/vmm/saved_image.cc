// SPDX-License-Identifier: Apache-2.0
#include "src/vmm/saved_image.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "src/base/sealed_file.h"
#include "src/base/status.h"
#include "src/vmm/page_bits.h"
#include "src/vmm/system_pages.h"

namespace waxvm::vmm {

using namespace page_bits;

namespace {

// Beyond the limit, as GuestMemory: frames lost to alignment, tables of split large pages.
std::uint64_t MostBytes(std::uint64_t limit) { return limit + 4 * kLargePageBytes + limit / 256; }

// What a program can have in its flags; the rest is fixed. Spec: AMD64 APM volume 2, section 3.1.6.
constexpr std::uint64_t kUserFlags = 0xcd5 | 0x100 | 0x10000 | 0x40000 | 0x200000;
constexpr std::uint64_t kFixedFlags = 0x202;

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(
      absl::StrFormat("the machine in the snapshot file is not valid: %s", what));
}

bool IsCanonical(std::uint64_t address) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(address << 16) >> 16) == address;
}

bool IsZero(const std::byte* page) {
  return page[0] == std::byte{0} && std::memcmp(page, page + 1, kPageBytes - 1) == 0;
}

/// What every frame of a machine is for. A frame that two had would let a program reach, through
/// one of them, what the other became after it was given back: a page table, above all.
class Frames {
 public:
  explicit Frames(std::uint64_t bytes) : taken_(bytes / kPageBytes) {}

  /// False where a frame is beyond the end or somebody's already.
  bool Take(std::uint64_t first, std::uint64_t bytes) {
    if (first % bytes != 0 || first / kPageBytes >= taken_.size() ||
        bytes / kPageBytes > taken_.size() - first / kPageBytes)
      return false;
    for (std::uint64_t i = first / kPageBytes; i < (first + bytes) / kPageBytes; ++i) {
      if (taken_[i]) return false;
      taken_[i] = true;
    }
    taken_bytes_ += bytes;
    return true;
  }
  std::uint64_t taken_bytes() const { return taken_bytes_; }

 private:
  std::vector<bool> taken_;
  std::uint64_t taken_bytes_ = 0;
};

/// Looks at every entry of the page tables.
class TableWalk {
 public:
  TableWalk(const Mapping& memory, std::uint64_t bytes, const HostTraits& traits,
            const MachineOptions& options)
      : memory_(memory), frames_(bytes), system_(SystemPages(traits, options)) {
    system_frames_.assign(system_.size(), kNone);
  }

  absl::Status Run(const SavedMachine& saved, std::span<const GuestPhysical> shared,
                   MachineLoader::CheckLeaf check) {
    for (const GuestPhysical frame : shared) {
      if (!frames_.Take(frame, kPageBytes)) return Damaged("a frame of a shared mapping");
      owned_bytes_ += kPageBytes;
    }
    shared_.assign(shared.begin(), shared.end());
    std::ranges::sort(shared_);
    WAXVM_RETURN_IF_ERROR(Table(saved.root, kLevels, 0, check));
    if (std::ranges::find(system_frames_, kNone) != system_frames_.end())
      return Damaged("a page of the machine's own is not mapped");
    const std::uint64_t in_use = frames_.taken_bytes();
    for (const std::uint64_t frame : saved.free_small)
      if (!frames_.Take(frame, kPageBytes)) return Damaged("a free frame");
    for (const std::uint64_t frame : saved.free_large)
      if (!frames_.Take(frame, kLargePageBytes)) return Damaged("a large free frame");
    // What is given back must have been paid for; tables of split pages are not.
    if (saved.charged_bytes < owned_bytes_ || saved.charged_bytes > in_use)
      return Damaged("the bytes that it is charged");
    std::ranges::sort(tables_);
    return absl::OkStatus();
  }

  std::vector<GuestPhysical> TakeTables() { return std::move(tables_); }
  std::span<const GuestPhysical> system_frames() const { return system_frames_; }
  const std::vector<SystemPage>& system() const { return system_; }

 private:
  static constexpr GuestPhysical kNone = ~GuestPhysical{0};

  absl::Status Table(GuestPhysical frame, int level, GuestVirtual base,
                     MachineLoader::CheckLeaf check) {
    if (!frames_.Take(frame, kPageBytes)) return Damaged("a frame of the page tables");
    tables_.push_back(frame);
    const std::size_t entries = level == kLevels ? 256 : 512;
    for (std::size_t i = 0; i < 512; ++i) {
      std::uint64_t entry;
      std::memcpy(&entry, memory_.data() + frame + 8 * i, sizeof entry);
      if (entry == 0) continue;
      if (i >= entries) return Damaged("a page above ring 3's half");
      const GuestVirtual address = base + i * BytesOf(level);
      if (level == 1 || (level == 2 && (entry & kLarge) != 0)) {
        WAXVM_RETURN_IF_ERROR(Leaf(entry, level, address, check));
      } else if ((entry & ~kFrameMask) != kTableFlags) {
        return Damaged("an entry of the page tables");
      } else {
        WAXVM_RETURN_IF_ERROR(Table(entry & kFrameMask, level - 1, address, check));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Leaf(std::uint64_t entry, int level, GuestVirtual address,
                    MachineLoader::CheckLeaf check) {
    const GuestPhysical frame = entry & kFrameMask;
    const std::uint64_t ownership = entry & kOwnership;
    if (ownership == 0) return SystemLeaf(entry, frame, address);
    constexpr std::uint64_t kAlways = kUser | kAccessed | kDirty;
    constexpr std::uint64_t kMay = kAlways | kPresent | kWritable | kNoExecute | kFilled;
    const std::uint64_t rest = entry & ~kFrameMask & ~ownership & ~(level == 2 ? kLarge : 0);
    if (ownership == kOwnership || (rest & ~kMay) != 0 || (rest & kAlways) != kAlways)
      return Damaged("the rights of a page");
    const bool is_shared = ownership == kShared;
    if (is_shared) {
      if (level != 1 || !std::ranges::binary_search(shared_, frame))
        return Damaged("a page of a shared mapping");
    } else {
      if (!frames_.Take(frame, BytesOf(level))) return Damaged("a frame that a page has");
      owned_bytes_ += BytesOf(level);
    }
    if (!check({.address = address, .frame = frame, .bytes = BytesOf(level), .shared = is_shared}))
      return Damaged("a page where nothing is mapped");
    return absl::OkStatus();
  }

  absl::Status SystemLeaf(std::uint64_t entry, GuestPhysical frame, GuestVirtual address) {
    const auto page = std::ranges::find(system_, address, &SystemPage::address);
    if (page == system_.end()) return Damaged("a page of nobody's");
    const std::uint64_t flags =
        kPresent | kAccessed | kDirty | (page->user ? kUser : 0) | (page->writable ? kWritable : 0);
    if ((entry & ~kFrameMask) != flags || !frames_.Take(frame, kPageBytes))
      return Damaged("a page of the machine's own");
    system_frames_[static_cast<std::size_t>(page - system_.begin())] = frame;
    return absl::OkStatus();
  }

  const Mapping& memory_;
  Frames frames_;
  const std::vector<SystemPage> system_;
  std::vector<GuestPhysical> system_frames_;
  std::vector<GuestPhysical> tables_;
  std::vector<GuestPhysical> shared_;
  std::uint64_t owned_bytes_ = 0;
};

}  // namespace

SavedMachine SaveMachine(const MachineImage& image) {
  const MemoryImage& memory = *image.memory;
  SavedMachine saved{.bytes = memory.bytes,
                     .root = image.root,
                     .charged_bytes = memory.charged_bytes,
                     .free_small = memory.free_small,
                     .free_large = memory.free_large,
                     .fs_base = image.special.fs.base,
                     .gs_base = image.special.gs.base,
                     .extended = image.extended};
  static_assert(sizeof saved.general == sizeof image.general);
  std::memcpy(saved.general.data(), &image.general, sizeof saved.general);
  std::vector<bool> left_out(memory.bytes / kPageBytes);
  for (const std::uint64_t frame : memory.free_small) left_out[frame / kPageBytes] = true;
  for (const std::uint64_t frame : memory.free_large)
    for (std::uint64_t i = 0; i < kLargePageBytes / kPageBytes; ++i)
      left_out[frame / kPageBytes + i] = true;
  for (const GuestPhysical frame : {image.frames.stub, image.frames.stack})
    left_out[frame / kPageBytes] = true;
  off_t data = 0;
  for (std::uint64_t at = 0; at < memory.bytes; at += kPageBytes) {
    if (static_cast<off_t>(at) >= data) {
      // Holes are neither read, which would allocate them, nor written.
      data = ::lseek(memory.file.get(), static_cast<off_t>(at), SEEK_DATA);
      if (data < 0) break;
      const off_t hole = ::lseek(memory.file.get(), data, SEEK_HOLE);
      at = PageFloor(static_cast<std::uint64_t>(data));
      data = hole < 0 ? static_cast<off_t>(memory.bytes) : hole;
      if (at >= memory.bytes) break;
    }
    if (left_out[at / kPageBytes] || IsZero(memory.mapping.data() + at)) continue;
    if (!saved.runs.empty() && saved.runs.back().first + saved.runs.back().pages * kPageBytes == at)
      ++saved.runs.back().pages;
    else
      saved.runs.push_back({.first = at, .pages = 1});
  }
  return saved;
}

absl::StatusOr<MachineLoader> MachineLoader::Create(SavedMachine saved, std::uint64_t limit_bytes) {
  if (saved.bytes == 0 || saved.bytes % kPageBytes != 0 || saved.bytes > MostBytes(limit_bytes))
    return Damaged("the size of its memory");
  std::uint64_t next = 0;
  for (const PageRun& run : saved.runs) {
    if (run.first < next || run.first % kPageBytes != 0 || run.first >= saved.bytes ||
        run.pages == 0 || run.pages > (saved.bytes - run.first) / kPageBytes)
      return Damaged("where its pages lie");
    next = run.first + run.pages * kPageBytes;
  }
  WAXVM_ASSIGN_OR_RETURN(UniqueFd file, NewMemoryFile("waxvm-snapshot", Executable::kNo));
  if (::ftruncate(file.get(), static_cast<off_t>(saved.bytes)) != 0)
    return ErrnoStatus(errno, "memory for a snapshot");
  // Private, so that it can stay when the file is sealed; nobody writes through it.
  WAXVM_ASSIGN_OR_RETURN(Mapping memory,
                         Mapping::Map(saved.bytes, PROT_READ, MAP_PRIVATE, file.get()));
  return MachineLoader(std::move(saved), std::move(file), std::move(memory));
}

// By a call, not through a mapping, where each page would cost a fault as well.
absl::Status MachineLoader::Put(std::uint64_t address, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written =
        ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(address));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return ErrnoStatus(written < 0 ? errno : ENOSPC, "memory for a snapshot");
    address += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const MachineImage>> MachineLoader::Finish(
    const HostTraits& traits, const MachineOptions& options, std::span<const GuestPhysical> shared,
    CheckLeaf check) && {
  const std::uint64_t bytes = saved_.bytes;
  TableWalk walk(memory_, bytes, traits, options);
  WAXVM_RETURN_IF_ERROR(walk.Run(saved_, shared, check));
  auto image = std::make_shared<MachineImage>();
  image->options = options;
  image->options.fixed_answers = {};
  image->root = saved_.root;
  image->tables = walk.TakeTables();
  Machine::PutSystem(traits, walk.system_frames(), *image);
  std::memcpy(&image->general, saved_.general.data(), sizeof image->general);
  image->general.rflags = (image->general.rflags & kUserFlags) | kFixedFlags;
  if ((image->general.rip >> 47) != 0 || !IsCanonical(saved_.fs_base) ||
      !IsCanonical(saved_.gs_base))
    return Damaged("its registers");
  image->special.fs.base = saved_.fs_base;
  image->special.gs.base = saved_.gs_base;
  image->extended = saved_.extended;
  std::uint64_t present;
  constexpr std::size_t kHeader = 512;
  std::memcpy(&present, image->extended.data() + kHeader, sizeof present);
  present &= traits.xcr0;
  std::memset(image->extended.data() + kHeader, 0, 64);
  std::memcpy(image->extended.data() + kHeader, &present, sizeof present);

  for (std::size_t i = 0; i < walk.system().size(); ++i) {
    std::array<std::byte, kPageBytes> page;
    const GuestVirtual address = walk.system()[i].address;
    FillSystemPage(address, traits, options, page);
    if (address == kExtendedAddress) FillExtendedPage(traits, *image, page);
    WAXVM_RETURN_IF_ERROR(Put(walk.system_frames()[i], page));
  }
  WAXVM_RETURN_IF_ERROR(SealFile(file_.get()));
  WAXVM_ASSIGN_OR_RETURN(PrivatePages private_pages, PrivatePages::Open());
  image->memory =
      std::make_shared<const MemoryImage>(MemoryImage{.file = std::move(file_),
                                                      .mapping = std::move(memory_),
                                                      .bytes = bytes,
                                                      .free_small = std::move(saved_.free_small),
                                                      .free_large = std::move(saved_.free_large),
                                                      .charged_bytes = saved_.charged_bytes,
                                                      .private_pages = std::move(private_pages)});
  return std::shared_ptr<const MachineImage>(std::move(image));
}

}  // namespace waxvm::vmm
