// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/sparse_bytes.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace waxvm::linux_abi {
namespace {

// A page and its place in the map.
constexpr std::uint64_t kChargePerPage = kPageBytes + 96;

}  // namespace

std::size_t SparseBytes::Read(std::uint64_t offset, std::span<std::byte> to) const {
  if (offset >= size_) return 0;
  const std::size_t total = std::min<std::uint64_t>(to.size(), size_ - offset);
  std::size_t done = 0;
  while (done < total) {
    const std::uint64_t at = offset + done;
    const std::size_t skip = at % kPageBytes;
    const std::size_t n = std::min<std::size_t>(total - done, kPageBytes - skip);
    const auto page = pages_.find(at / kPageBytes);
    if (page == pages_.end()) {
      std::memset(to.data() + done, 0, n);
    } else {
      std::memcpy(to.data() + done, page->second->data() + skip, n);
    }
    done += n;
  }
  return total;
}

SparseBytes::Page* SparseBytes::FindOrAdd(std::uint64_t index) {
  const auto found = pages_.find(index);
  if (found != pages_.end()) return found->second.get();
  if (!charge_.Resize(account_, (pages_.size() + 1) * kChargePerPage)) return nullptr;
  return pages_.emplace(index, std::make_unique<Page>()).first->second.get();
}

std::int64_t SparseBytes::Write(std::uint64_t offset, std::span<const std::byte> from) {
  if (from.empty()) return 0;
  if (offset >= kMaxBytes) return -EFBIG;
  const std::size_t total = std::min<std::uint64_t>(from.size(), kMaxBytes - offset);
  std::size_t done = 0;
  while (done < total) {
    const std::uint64_t at = offset + done;
    const std::size_t skip = at % kPageBytes;
    const std::size_t n = std::min<std::size_t>(total - done, kPageBytes - skip);
    Page* page = FindOrAdd(at / kPageBytes);
    if (page == nullptr) break;
    std::memcpy(page->data() + skip, from.data() + done, n);
    done += n;
  }
  if (done == 0) return -ENOSPC;
  size_ = std::max(size_, offset + done);
  return static_cast<std::int64_t>(done);
}

std::int64_t SparseBytes::Resize(std::uint64_t bytes) {
  if (bytes > kMaxBytes) return -EFBIG;
  if (bytes < size_) Punch(bytes, size_ - bytes);
  size_ = bytes;
  return 0;
}

void SparseBytes::Punch(std::uint64_t offset, std::uint64_t bytes) {
  if (offset >= size_) return;
  // Nothing is kept behind the end, so a hole that reaches it frees the last page as a whole.
  const std::uint64_t end = bytes >= size_ - offset ? kMaxBytes : offset + bytes;
  const std::uint64_t first = (offset + kPageBytes - 1) / kPageBytes;
  const std::uint64_t last = end / kPageBytes;
  if (first > last) return ZeroWithinPage(offset, end);
  ZeroWithinPage(offset, first * kPageBytes);
  ErasePages(first, last);
  ZeroWithinPage(last * kPageBytes, end);
}

void SparseBytes::ZeroWithinPage(std::uint64_t start, std::uint64_t end) {
  if (start >= end) return;
  const auto page = pages_.find(start / kPageBytes);
  if (page == pages_.end()) return;
  std::memset(page->second->data() + start % kPageBytes, 0, end - start);
}

void SparseBytes::ErasePages(std::uint64_t first_index, std::uint64_t end_index) {
  pages_.erase(pages_.lower_bound(first_index), pages_.lower_bound(end_index));
  // Shrinking a charge is never refused.
  static_cast<void>(charge_.Resize(account_, pages_.size() * kChargePerPage));
}

}  // namespace waxvm::linux_abi
