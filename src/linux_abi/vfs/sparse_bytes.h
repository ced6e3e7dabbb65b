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

namespace waxvm::linux_abi {

/// The contents of an in-memory file: pages exist, and are charged, only where something was
/// written. Thread safety: none.
class SparseBytes {
 public:
  /// Keeps offset arithmetic clear of the sign bit of off_t.
  static constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 62;

  explicit SparseBytes(MemoryAccount& account) : account_(account) {}

  std::uint64_t size() const { return size_; }
  std::uint64_t allocated_bytes() const { return pages_.size() * kPageBytes; }

  /// Copies what lies in [offset, size()), holes as zeroes; returns the bytes copied.
  std::size_t Read(std::uint64_t offset, std::span<std::byte> to) const;

  /// Returns the bytes written, fewer than asked when memory ran out, or -EFBIG or -ENOSPC.
  std::int64_t Write(std::uint64_t offset, std::span<const std::byte> from);

  /// Cuts or extends by a hole. Returns 0 or -EFBIG.
  std::int64_t Resize(std::uint64_t bytes);

  /// Makes the range read as zeroes and frees whole pages of it.
  void Punch(std::uint64_t offset, std::uint64_t bytes);

 private:
  using Page = std::array<std::byte, kPageBytes>;

  Page* FindOrAdd(std::uint64_t index);
  void ZeroWithinPage(std::uint64_t start, std::uint64_t end);
  void ErasePages(std::uint64_t first_index, std::uint64_t end_index);

  MemoryAccount& account_;
  MemoryCharge charge_;
  std::map<std::uint64_t, std::unique_ptr<Page>> pages_;
  std::uint64_t size_ = 0;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_SPARSE_BYTES_H_
