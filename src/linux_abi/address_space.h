// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_ADDRESS_SPACE_H_
#define WAXVM_SRC_LINUX_ABI_ADDRESS_SPACE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/status/statusor.h"
#include "src/base/checked.h"
#include "src/base/memory_account.h"
#include "src/linux_abi/free_ranges.h"
#include "src/linux_abi/host.h"
#include "src/linux_abi/mapped_source.h"
#include "src/linux_abi/shared_file.h"

namespace waxvm::linux_abi {

/// Where things go. The first 64 KiB are the machine's own.
inline constexpr std::uint64_t kUserStart = 0x10000;
inline constexpr std::uint64_t kUserEnd = 0x7ffffffff000;
/// Nothing from here up can be mapped, unmapped or protected by the guest: for it the address
/// space ends here. Pages that the machine itself shows to the guest lie above.
inline constexpr std::uint64_t kStackTop = 0x7fffffff0000;
inline constexpr std::uint64_t kStackBytes = std::uint64_t{8} << 20;
/// Below the stack, as Linux's stack_guard_gap.
inline constexpr std::uint64_t kStackGuardBytes = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kMapTop = kStackTop - kStackBytes - kStackGuardBytes;
/// Where a position-independent executable is loaded; aligned for segments that want 2 MiB.
inline constexpr std::uint64_t kRelocatedBase = 0x555555400000;

/// The ranges a process has mapped, with the rights it asked for, and the only way from the host
/// into its memory. Pages come into being when they are first touched, by the guest (HandleFault)
/// or by a system call on its behalf: zeroed, or with the bytes of the file that is mapped there.
/// Errors are negated errno values, as in the kernel ABI.
///
/// Pages of a private file mapping are copies. Those of a shared one belong to a SharedFile, one
/// for each file, and are mapped wherever the file is; they are written back to it at the points
/// that SyncFile names. Thread safety: none; used by the instance's thread.
class AddressSpace {
 public:
  /// kSharedAnonymous keeps its contents when it is discarded: they could be somebody else's, too.
  /// kStack grows downwards where it is touched below its start.
  enum class Kind { kAnonymous, kSharedAnonymous, kImage, kHeap, kStack, kFile };
  enum class FaultResult {
    kHandled,
    kNotMapped,
    kWrongRights,
    kStackGuard,
    kOutOfMemory,
    kBeyondFile,  ///< a page of a file mapping that the file has no bytes for: SIGBUS
  };

  struct MapRequest {
    PageRights rights;
    Kind kind = Kind::kAnonymous;
    bool fixed = false;  ///< exactly there, replacing what is there
    bool no_replace = false;
    bool low = false;         ///< MAP_32BIT
    bool no_reserve = false;  ///< however large: no refusal of obvious overcommitment
    std::shared_ptr<MappedSource> source = {};
    std::uint64_t offset = 0;  ///< in `source`; page-aligned
    bool shared = false;       ///< what is written reaches `source`
    bool may_write = true;     ///< of a shared mapping: the descriptor allows it
  };

  struct Area {
    std::uint64_t end = 0;
    PageRights rights;
    Kind kind = Kind::kAnonymous;
    bool may_write = true;
    std::shared_ptr<MappedSource> source = {};
    std::uint64_t offset = 0;  ///< in `source`, of the area's first byte
    std::shared_ptr<SharedFile> shared = {};
    /// Bytes made present around the last fault, and where that was; 0: there was none.
    std::uint64_t fault_around = 0;
    std::uint64_t window_start = 0;
    std::uint64_t window_end = 0;

    /// This area's mapping continued at `at`, whose end is `new_end`.
    Area Continued(std::uint64_t start, std::uint64_t at, std::uint64_t new_end) const;
  };
  using Areas = std::map<std::uint64_t, Area>;
  struct SystemRange {
    std::uint64_t end;
    PageRights rights;
    std::string name;
  };

  /// A file that is mapped shared, with the frames that its pages are in.
  struct SharedFileImage {
    std::shared_ptr<MappedSource> source = {};
    SharedFile::Pages pages = {};
  };
  /// The mappings at one moment; their pages are the machine's. Immutable once taken: the sources
  /// may be shared between threads.
  struct Image {
    Areas areas = {};  ///< without `shared`
    std::vector<SharedFileImage> shared_files = {};
    /// Of areas that are shared: where they start, in order, and which file it is.
    std::vector<std::pair<std::uint64_t, std::uint32_t>> shared_areas = {};
    std::uint64_t heap_start = 0;
    std::uint64_t heap_end = 0;
    std::map<std::uint64_t, SystemRange> system_ranges = {};
  };

  AddressSpace(PageMapper& mapper, MemoryAccount& account);
  ~AddressSpace();
  AddressSpace(const AddressSpace&) = delete;
  AddressSpace& operator=(const AddressSpace&) = delete;

  /// mmap: at `address` when fixed, near it as a hint otherwise. Returns the address or -ENOMEM,
  /// -EINVAL, -EPERM, -EEXIST (no_replace), -ENFILE (too many different files are mapped).
  std::int64_t Map(std::uint64_t address, std::uint64_t bytes, const MapRequest& request);
  std::int64_t Map(std::uint64_t address, std::uint64_t bytes, PageRights rights, Kind kind,
                   bool fixed, bool no_replace = false) {
    return Map(address, bytes,
               {.rights = rights, .kind = kind, .fixed = fixed, .no_replace = no_replace});
  }
  std::int64_t Unmap(std::uint64_t address, std::uint64_t bytes);
  /// mprotect; with `grows_down` from the start of the stack it lies in.
  std::int64_t Protect(std::uint64_t address, std::uint64_t bytes, PageRights rights,
                       bool grows_down = false);
  /// `keep_old` is MREMAP_DONTUNMAP.
  std::int64_t Remap(std::uint64_t address, std::uint64_t old_bytes, std::uint64_t new_bytes,
                     bool may_move, std::optional<std::uint64_t> fixed_address,
                     bool keep_old = false);
  /// MADV_DONTNEED: private pages read as zero, or as the file, again. `anonymous_only` is
  /// MADV_FREE, which refuses files. -ENOMEM for a gap, with everything else done.
  std::int64_t Discard(std::uint64_t address, std::uint64_t bytes, bool anonymous_only = false);
  /// MADV_REMOVE: a hole in what is mapped shared there, in the file as well. -EINVAL for what has
  /// no file, -EACCES for a mapping that writes to none, -ENOMEM for a gap, or what the file says.
  std::int64_t Remove(std::uint64_t address, std::uint64_t bytes);
  /// MADV_POPULATE_READ and MADV_POPULATE_WRITE: makes pages present. -EFAULT behind a file.
  std::int64_t MakeResident(std::uint64_t address, std::uint64_t bytes, bool write);
  /// 0, or -ENOMEM where the range has a gap.
  std::int64_t CheckMapped(std::uint64_t address, std::uint64_t bytes);
  bool IsPresent(std::uint64_t address) const { return mapper_.IsPresent(PageFloor(address)); }
  /// True for memory without a file that is nobody else's and cannot be written.
  bool IsPrivateReadOnly(std::uint64_t address);

  /// `keep_file` gives an open file of the instance's own its index, for a KeptSource.
  /// Errors: its own; kFailedPrecondition with the name of a mapping that cannot be kept.
  using KeepFile = absl::FunctionRef<absl::StatusOr<std::uint32_t>(std::shared_ptr<OpenFile>)>;
  absl::StatusOr<Image> TakeImage(KeepFile keep_file) const;
  /// Replaces everything by what an image has, whose pages are there already. `files`: by the
  /// indices that were given. False when its memory is refused.
  bool LoadImage(const Image& image, std::span<const std::shared_ptr<OpenFile>> files);

  /// How much was made present around the last faults is forgotten.
  void ForgetWindows();

  /// brk: moves the end of the heap, which starts where SetHeapStart said; returns the end.
  void SetHeapStart(std::uint64_t address);
  std::uint64_t MoveHeapEnd(std::uint64_t address);

  /// Answers a page fault of the guest.
  FaultResult HandleFault(std::uint64_t address, bool write, bool execute);

  /// Copies from or to the guest, checking what the guest itself may read or write; false: EFAULT
  /// (or memory ran out: out_of_memory() is then true).
  [[nodiscard]] bool Read(std::uint64_t address, std::span<std::byte> to);
  [[nodiscard]] bool Write(std::uint64_t address, std::span<const std::byte> from);
  /// Writes whatever rights the guest has there: for the loader.
  [[nodiscard]] bool WriteForced(std::uint64_t address, std::span<const std::byte> from);

  /// Makes the pages of [start, end) present now, rather than at a fault each.
  [[nodiscard]] bool Prefault(std::uint64_t start, std::uint64_t end);

  template <typename T>
  requires std::is_trivially_copyable_v<T>
  [[nodiscard]] bool ReadObject(std::uint64_t address, T& object) {
    return Read(address, std::as_writable_bytes(std::span<T, 1>(&object, 1)));
  }
  template <typename T>
  requires std::is_trivially_copyable_v<T>
  [[nodiscard]] bool WriteObject(std::uint64_t address, const T& object) {
    return Write(address, std::as_bytes(std::span<const T, 1>(&object, 1)));
  }

  /// Reads a terminated string of at most `max_bytes` with its terminator. Returns its length,
  /// -EFAULT, or -ENAMETOOLONG.
  std::int64_t ReadString(std::uint64_t address, std::size_t max_bytes, std::string& string);

  /// The source for an open regular file: the one that is mapped already where there is one for the
  /// same file with the same rights. Errors: ENODEV for what is no regular file; ENFILE past a
  /// bound: a guest that maps and closes file after file would otherwise use up the host's
  /// descriptors.
  ErrnoOr<std::shared_ptr<MappedSource>> SourceOf(std::shared_ptr<OpenFile> file);

  /// True while any file is mapped shared, so that the calls below have something to do.
  bool has_shared_files() const { return !shared_files_.empty(); }
  /// Writes what was changed through shared mappings of the file to it. Call it before the file's
  /// bytes are read or written by other means, and for msync and fsync; without a file, for all.
  /// Returns 0 or the errno of the write that failed.
  std::int64_t SyncFile(std::optional<FileIdentity> identity = std::nullopt);
  /// The file's bytes in [start, end), or its size, were changed by other means: what is present of
  /// them is read again.
  void RefreshFile(const FileIdentity& identity, std::uint64_t start, std::uint64_t end);
  /// Writes back and forgets every mapping: the end of the process. The files must still be there.
  void Close();

  /// True once a page could not be had because the memory limit was met.
  bool out_of_memory() const { return out_of_memory_; }

  /// A range of the machine's own that the guest sees, such as "[vdso]", for Describe.
  void AddSystemRange(std::uint64_t start, std::uint64_t end, PageRights rights, std::string name);
  /// Lines in the form of /proc/self/maps.
  std::string Describe() const;
  std::uint64_t heap_start() const { return heap_start_; }
  std::uint64_t heap_end() const { return heap_end_; }
  /// Bytes mapped, as VmSize counts them.
  std::uint64_t mapped_bytes() const;

 private:
  Areas::iterator Find(std::uint64_t address);
  void SplitAt(std::uint64_t address);
  /// True when [start, end) lies in areas without a gap, each with the right asked for.
  bool Allows(std::uint64_t start, std::uint64_t end, bool write);
  bool IsFree(std::uint64_t start, std::uint64_t end);
  /// Extends the stack that begins above `address` down to its page, as far as Linux would. Returns
  /// the stack, or areas_.end().
  Areas::iterator GrowDown(std::uint64_t address);
  /// True where a stack above `end` would lose its room to grow.
  bool CrowdsStack(std::uint64_t end) const;
  std::uint64_t FindRoom(std::uint64_t bytes, std::uint64_t hint, bool low);
  void Insert(std::uint64_t start, Area area);
  void Erase(std::uint64_t start, std::uint64_t end);
  static bool CanMerge(const Areas::value_type& lower, const Areas::value_type& upper);
  void MergeAround(std::uint64_t start, std::uint64_t end);
  /// Room for two more areas, as a split needs; false: too many, or their memory is refused.
  bool ReserveAreas();
  /// Where a mapping goes, with what was there erased.
  std::int64_t Place(std::uint64_t address, std::uint64_t length, const MapRequest& request);
  struct Relocation {
    std::uint64_t old_start;
    std::uint64_t old_end;
    std::uint64_t new_bytes;
    std::optional<std::uint64_t> target;
    bool keep_old;
  };
  std::int64_t Relocate(std::uint64_t area_start, const Area& area, const Relocation& to);

  /// Makes the page at `address` and, within bounds, its neighbours present.
  FaultResult MakePresent(std::uint64_t address, Areas::iterator area, bool write);
  FaultResult PopulateAnonymous(std::uint64_t address, Areas::iterator area);
  FaultResult PopulateFile(std::uint64_t address, Areas::iterator area);
  FaultResult PopulateShared(std::uint64_t address, Areas::iterator area, bool write);
  FaultResult MapSharedPage(std::uint64_t address, Areas::iterator area, bool write);
  /// The range to make present around `address`, which grows while faults stay together.
  void ChooseWindow(std::uint64_t address, Areas::iterator area);
  /// Makes the absent pages of the range, which the file reaches, present with the file's bytes.
  FaultResult FillRange(std::uint64_t start, std::uint64_t end, Areas::iterator area);
  FaultResult FillRun(std::uint64_t start, std::uint64_t end, Areas::iterator area);
  /// The end of what the file has pages for within the area; at most the area's own.
  static std::uint64_t FileEnd(const Areas::value_type& area);
  static std::uint64_t FileEnd(const Areas::value_type& area, std::int64_t size);
  /// Runs `attempt` again after taking back pages that nobody touched, if it fails for want of
  /// memory and that gained enough.
  template <typename Attempt>
  FaultResult WithReclaim(Attempt attempt);
  bool PopulateEagerly(std::uint64_t start, std::uint64_t end, PageRights rights);
  /// The same for a file mapping that begins at `start`.
  void FillEagerly(std::uint64_t start, std::uint64_t end);
  bool Copy(std::uint64_t address, std::span<std::byte> to, std::span<const std::byte> from);

  std::int64_t WriteBack(SharedFile& file);
  std::int64_t RemovePart(std::uint64_t start, std::uint64_t end, Areas::iterator area);
  /// Calls visit(start, area) for every area that maps `file`.
  template <typename Visit>
  void ForEachMappingOf(const SharedFile& file, Visit visit);
  /// Calls visit(start, end, area) for every part of [start, end) that is mapped, until it returns
  /// an error, which is the result; -ENOMEM when there was a gap.
  template <typename Visit>
  std::int64_t ForEachPart(std::uint64_t start, std::uint64_t end, Visit visit);
  void DropUnmappedFiles();
  bool ChargeSources();
  /// The source that a clone reads instead of one that an image keeps.
  std::shared_ptr<MappedSource> Thaw(const std::shared_ptr<MappedSource>& source,
                                     std::span<const std::shared_ptr<OpenFile>> files);
  ErrnoOr<std::shared_ptr<SharedFile>> ShareFile(const MapRequest& request);

  PageMapper& mapper_;
  MemoryAccount& account_;
  MemoryCharge area_charge_;
  Areas areas_;
  FreeRanges free_{kUserStart, kMapTop};
  std::map<FileIdentity, std::shared_ptr<SharedFile>> shared_files_;
  /// Open files that something maps; by identity and whether they may be written.
  std::map<std::pair<FileIdentity, bool>, std::weak_ptr<MappedSource>> sources_;
  MemoryCharge source_charge_;
  std::map<std::uint64_t, SystemRange> system_ranges_;
  std::uint64_t heap_start_ = 0;
  std::uint64_t heap_end_ = 0;
  bool out_of_memory_ = false;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_ADDRESS_SPACE_H_
