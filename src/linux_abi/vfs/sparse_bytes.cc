// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/sparse_bytes.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "src/linux_abi/files_image.h"

namespace waxvm::linux_abi {
namespace {

// A page's place in the map.
constexpr std::uint64_t kChargePerPlace = 96;

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
      ReadLower(at, to.subspan(done, n));
    } else if (page->second == nullptr) {
      std::memset(to.data() + done, 0, n);
    } else {
      std::memcpy(to.data() + done, page->second->data() + skip, n);
    }
    done += n;
  }
  return total;
}

void SparseBytes::SetLower(const root_image::Contents& lower) {
  lower_ = &lower;
  size_ = lower_bytes_ = lower.size();
}

bool SparseBytes::Load(const ContentsImage& image) {
  pages_.clear();
  size_ = image.size;
  lower_bytes_ = std::min(image.lower_bytes, lower_ != nullptr ? lower_->size() : 0);
  holes_ = pages_past_lower_ = 0;
  for (const auto& [index, bytes] : image.pages) {
    if (bytes == nullptr) ++holes_;
    if (bytes != nullptr && index >= LowerPages()) ++pages_past_lower_;
  }
  if (!Charge(image.pages.size(), holes_)) return false;
  for (const auto& [index, bytes] : image.pages)
    pages_.emplace_hint(pages_.end(), index,
                        bytes != nullptr ? std::make_unique<Page>(*bytes) : nullptr);
  return true;
}

void SparseBytes::ReadLower(std::uint64_t offset, std::span<std::byte> to) const {
  std::size_t n = 0;
  if (offset < lower_bytes_) {
    n = std::min<std::uint64_t>(to.size(), lower_bytes_ - offset);
    n = lower_->Read(offset, to.first(n));
  }
  if (n < to.size()) std::memset(to.data() + n, 0, to.size() - n);
}

bool SparseBytes::Charge(std::uint64_t entries, std::uint64_t holes) {
  return charge_.Resize(account_, entries * kChargePerPlace + (entries - holes) * kPageBytes);
}

SparseBytes::Page* SparseBytes::FindOrAdd(std::uint64_t index) {
  const auto found = pages_.find(index);
  if (found != pages_.end() && found->second != nullptr) return found->second.get();
  if (found != pages_.end()) {
    if (!Charge(pages_.size(), holes_ - 1)) return nullptr;
    --holes_;
    found->second = std::make_unique<Page>();
    return found->second.get();
  }
  if (!Charge(pages_.size() + 1, holes_)) return nullptr;
  auto page = std::make_unique<Page>();
  if (index < LowerPages()) {
    ReadLower(index * kPageBytes, *page);
  } else {
    ++pages_past_lower_;
  }
  return pages_.emplace(index, std::move(page)).first->second.get();
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
  if (bytes < size_) {
    // The rest of the last page is kept nowhere else, so that nothing is needed to clear it.
    const std::uint64_t whole = (bytes + kPageBytes - 1) / kPageBytes;
    const auto last = pages_.find(bytes / kPageBytes);
    if (bytes % kPageBytes != 0 && last != pages_.end() && last->second != nullptr)
      std::memset(last->second->data() + bytes % kPageBytes, 0, kPageBytes - bytes % kPageBytes);
    ErasePages(whole, kMaxBytes / kPageBytes);
    lower_bytes_ = std::min(lower_bytes_, bytes);
  }
  size_ = bytes;
  return 0;
}

std::int64_t SparseBytes::Punch(std::uint64_t offset, std::uint64_t bytes) {
  if (offset >= size_) return 0;
  // Nothing is kept behind the end, so a hole that reaches it frees the last page as a whole.
  const std::uint64_t end = bytes >= size_ - offset ? kMaxBytes : offset + bytes;
  const std::uint64_t first = (offset + kPageBytes - 1) / kPageBytes;
  const std::uint64_t last = end / kPageBytes;
  if (first > last) return ZeroWithinPage(offset, end);
  std::int64_t result = ZeroWithinPage(offset, first * kPageBytes);
  if (result < 0) return result;
  ErasePages(first, last);
  result = CoverLower(first, last);
  return result < 0 ? result : ZeroWithinPage(last * kPageBytes, end);
}

std::uint64_t SparseBytes::FindData(std::uint64_t offset) const {
  std::uint64_t index = offset / kPageBytes;
  auto page = pages_.lower_bound(index);
  for (; page != pages_.end() && page->first == index && page->second == nullptr; ++page) ++index;
  const bool exists = index < LowerPages() || (page != pages_.end() && page->first == index);
  if (!exists && page == pages_.end()) return size_;
  if (!exists) index = page->first;
  return std::min(size_, std::max(offset, index * kPageBytes));
}

std::uint64_t SparseBytes::FindHole(std::uint64_t offset) const {
  std::uint64_t index = offset / kPageBytes;
  auto page = pages_.lower_bound(index);
  while (true) {
    if (page != pages_.end() && page->first == index) {
      if (page->second == nullptr) break;
      ++index;
      ++page;
    } else if (index < LowerPages()) {
      index = page != pages_.end() ? std::min(page->first, LowerPages()) : LowerPages();
    } else {
      break;
    }
  }
  return std::min(size_, std::max(offset, index * kPageBytes));
}

std::int64_t SparseBytes::ZeroWithinPage(std::uint64_t start, std::uint64_t end) {
  if (start >= end) return 0;
  const std::uint64_t index = start / kPageBytes;
  const auto page = pages_.find(index);
  if (page == pages_.end() && index >= LowerPages()) return 0;
  if (page != pages_.end() && page->second == nullptr) return 0;
  Page* const copy = FindOrAdd(index);
  if (copy == nullptr) return -ENOSPC;
  std::memset(copy->data() + start % kPageBytes, 0, end - start);
  return 0;
}

void SparseBytes::ErasePages(std::uint64_t first_index, std::uint64_t end_index) {
  const auto begin = pages_.lower_bound(first_index);
  const auto end = pages_.lower_bound(end_index);
  for (auto page = begin; page != end; ++page) {
    if (page->second == nullptr) {
      --holes_;
    } else if (page->first >= LowerPages()) {
      --pages_past_lower_;
    }
  }
  pages_.erase(begin, end);
  static_cast<void>(Charge(pages_.size(), holes_));
}

// Without a mark what was erased would show again what lies below.
std::int64_t SparseBytes::CoverLower(std::uint64_t first_index, std::uint64_t end_index) {
  for (std::uint64_t index = first_index; index < std::min(end_index, LowerPages()); ++index) {
    if (!Charge(pages_.size() + 1, holes_ + 1)) return -ENOSPC;
    pages_.emplace(index, nullptr);
    ++holes_;
  }
  return 0;
}

}  // namespace waxvm::linux_abi
