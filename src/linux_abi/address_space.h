// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_ADDRESS_SPACE_H_
#define WAXVM_SRC_LINUX_ABI_ADDRESS_SPACE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <type_traits>

#include "src/base/memory_account.h"
#include "src/linux_abi/host.h"

namespace waxvm::linux_abi {

/// Where things go. The first 64 KiB are the machine's own.
inline constexpr std::uint64_t kUserStart = 0x10000;
inline constexpr std::uint64_t kUserEnd = 0x7ffffffff000;
inline constexpr std::uint64_t kStackTop = 0x7fffffff0000;
inline constexpr std::uint64_t kStackBytes = std::uint64_t{8} << 20;
/// Below the stack, as Linux's stack_guard_gap.
inline constexpr std::uint64_t kStackGuardBytes = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kMapTop = kStackTop - kStackBytes - kStackGuardBytes;
/// Where a position-independent executable is loaded; aligned for segments that want 2 MiB.
inline constexpr std::uint64_t kRelocatedBase = 0x555555400000;

/// The ranges a process has mapped, with the rights it asked for, and the only way from the host
/// into its memory. Pages come into being when they are first touched, by the guest (HandleFault)
/// or by a system call on its behalf. Errors are negated errno values, as in the kernel ABI.
/// Thread safety: none; used by the instance's thread.
class AddressSpace {
 public:
  enum class Kind { kAnonymous, kImage, kHeap, kStack, kFile };
  enum class FaultResult { kHandled, kNotMapped, kWrongRights, kStackGuard, kOutOfMemory };

  AddressSpace(PageMapper& mapper, MemoryAccount& account);

  /// mmap: at `address` when `fixed` (replacing what is there), near it as a hint otherwise.
  /// Returns the address or -ENOMEM, -EINVAL, -EEXIST (`no_replace`).
  std::int64_t Map(std::uint64_t address, std::uint64_t bytes, PageRights rights, Kind kind,
                   bool fixed, bool no_replace = false);
  std::int64_t Unmap(std::uint64_t address, std::uint64_t bytes);
  std::int64_t Protect(std::uint64_t address, std::uint64_t bytes, PageRights rights);
  std::int64_t Remap(std::uint64_t address, std::uint64_t old_bytes, std::uint64_t new_bytes,
                     bool may_move, std::optional<std::uint64_t> fixed_address);
  /// MADV_DONTNEED: private pages read as zero again.
  std::int64_t Discard(std::uint64_t address, std::uint64_t bytes);

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

  /// True once a page could not be had because the memory limit was met.
  bool out_of_memory() const { return out_of_memory_; }
  /// Lines in the form of /proc/self/maps.
  std::string Describe() const;

 private:
  struct Area {
    std::uint64_t end = 0;
    PageRights rights;
    Kind kind = Kind::kAnonymous;
    /// Bytes made present around the last fault, and where that was; 0: there was none.
    std::uint64_t fault_around = 0;
    std::uint64_t window_start = 0;
    std::uint64_t window_end = 0;
  };
  using Areas = std::map<std::uint64_t, Area>;

  Areas::iterator Find(std::uint64_t address);
  void SplitAt(std::uint64_t address);
  /// True when [start, end) lies in areas without a gap, each with the right asked for.
  bool Allows(std::uint64_t start, std::uint64_t end, bool write);
  bool IsFree(std::uint64_t start, std::uint64_t end);
  std::uint64_t FindFree(std::uint64_t bytes, std::uint64_t hint);
  void Insert(std::uint64_t start, const Area& area);
  void Erase(std::uint64_t start, std::uint64_t end);
  void MergeAround(std::uint64_t start, std::uint64_t end);
  /// Room for two more areas, as a split needs; false: too many, or their memory is refused.
  bool ReserveAreas();
  bool PopulateAround(std::uint64_t address, Areas::iterator area);
  bool PopulateEagerly(std::uint64_t start, std::uint64_t end, PageRights rights);
  bool Copy(std::uint64_t address, std::span<std::byte> to, std::span<const std::byte> from);

  PageMapper& mapper_;
  MemoryAccount& account_;
  MemoryCharge area_charge_;
  Areas areas_;
  std::uint64_t heap_start_ = 0;
  std::uint64_t heap_end_ = 0;
  /// Everything from here up to kMapTop is taken: where the search for room begins.
  std::uint64_t search_top_ = kMapTop;
  bool out_of_memory_ = false;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_ADDRESS_SPACE_H_
