// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_SPARSE_BYTES_H_
#define WAXVM_SRC_LINUX_ABI_VFS_SPARSE_BYTES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>

#include "src/base/checked.h"
#include "src/base/memory_account.h"
#include "src/root_image/tree.h"

namespace waxvm::linux_abi {

struct ContentsImage;
class FilesKeeper;

/// The contents of an in-memory file: pages exist, and are charged, only where something was
/// written. Below them may lie the contents of a file of an image, which are never written: a page
/// is copied when it is first changed. Thread safety: none.
class SparseBytes {
 public:
  /// Keeps offset arithmetic clear of the sign bit of off_t.
  static constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 62;

  explicit SparseBytes(MemoryAccount& account) : account_(account) {}

  std::uint64_t size() const { return size_; }
  std::uint64_t allocated_bytes() const {
    return (LowerPages() - holes_ + pages_past_lower_) * kPageBytes;
  }

  /// Lies below from now on, and outlives this; nothing was written yet.
  void SetLower(const root_image::Contents& lower);

  /// True while nothing was written to what lies below.
  bool IsUntouched() const {
    return pages_.empty() && lower_bytes_ == size_ &&
           (lower_ == nullptr || size_ == lower_->size());
  }
  /// Replaces what was written, over the same bytes below. False when memory is refused.
  bool Load(const ContentsImage& image);

  /// Copies what lies in [offset, size()), holes as zeroes; returns the bytes copied.
  std::size_t Read(std::uint64_t offset, std::span<std::byte> to) const;

  /// Returns the bytes written, fewer than asked when memory ran out, or -EFBIG or -ENOSPC.
  std::int64_t Write(std::uint64_t offset, std::span<const std::byte> from);

  /// Cuts or extends by a hole. Returns 0 or -EFBIG.
  std::int64_t Resize(std::uint64_t bytes);

  /// Where the first page at or behind `offset` begins that exists, or that does not; `offset`
  /// where it is within such a page, size() where there is none.
  std::uint64_t FindData(std::uint64_t offset) const;
  std::uint64_t FindHole(std::uint64_t offset) const;

  /// Makes the range read as zeroes and frees whole pages of it. Returns 0 or -ENOSPC, which only
  /// a file with something below can meet.
  std::int64_t Punch(std::uint64_t offset, std::uint64_t bytes);

 private:
  friend class FilesKeeper;
  using Page = std::array<std::byte, kPageBytes>;

  std::uint64_t LowerPages() const { return (lower_bytes_ + kPageBytes - 1) / kPageBytes; }
  Page* FindOrAdd(std::uint64_t index);
  bool Charge(std::uint64_t entries, std::uint64_t holes);
  void ReadLower(std::uint64_t offset, std::span<std::byte> to) const;
  std::int64_t ZeroWithinPage(std::uint64_t start, std::uint64_t end);
  void ErasePages(std::uint64_t first_index, std::uint64_t end_index);
  std::int64_t CoverLower(std::uint64_t first_index, std::uint64_t end_index);

  MemoryAccount& account_;
  MemoryCharge charge_;
  /// Null: a hole in what lies below.
  std::map<std::uint64_t, std::unique_ptr<Page>> pages_;
  std::uint64_t size_ = 0;
  const root_image::Contents* lower_ = nullptr;
  std::uint64_t lower_bytes_ = 0;  ///< as many of them show: those behind were cut off once
  std::uint64_t holes_ = 0;
  std::uint64_t pages_past_lower_ = 0;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_SPARSE_BYTES_H_
