// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/shared_file.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "src/base/checked.h"

namespace waxvm::linux_abi {
namespace {

constexpr std::uint64_t kBytesPerPage = 64;
constexpr std::uint64_t kPagesPerCharge = 64;

}  // namespace

SharedFile::~SharedFile() {
  for (const auto& [index, page] : pages_) mapper_.FreeSharedFrame(page.frame);
}

bool SharedFile::Load(const Pages& pages) {
  const std::uint64_t charge =
      ((pages.size() + kPagesPerCharge - 1) / kPagesPerCharge) * kPagesPerCharge * kBytesPerPage;
  if (!charge_.Resize(account_, charge)) return false;
  pages_ = pages;
  for (const auto& [index, page] : pages_) has_dirty_ = has_dirty_ || page.dirty;
  return true;
}

std::int64_t SharedFile::Load(std::uint64_t index, PageMapper::SharedFrame frame) {
  std::array<std::byte, kPageBytes> bytes{};
  std::size_t done = 0;
  while (done < bytes.size()) {
    const std::int64_t got =
        source_->PRead(std::span(bytes).subspan(done), index * kPageBytes + done);
    if (got < 0) return got;
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  mapper_.WriteShared(frame, bytes);
  return 0;
}

ErrnoOr<SharedFile::Page*> SharedFile::Get(std::uint64_t index) {
  if (const auto page = pages_.find(index); page != pages_.end()) return &page->second;
  const std::uint64_t charge =
      (pages_.size() / kPagesPerCharge + 1) * kPagesPerCharge * kBytesPerPage;
  if (charge > charge_.bytes() && !charge_.Resize(account_, charge)) return Errno{ENOMEM};
  const auto frame = mapper_.NewSharedFrame();
  if (!frame) return Errno{ENOMEM};
  if (const std::int64_t error = Load(index, *frame); error < 0) {
    mapper_.FreeSharedFrame(*frame);
    return ToErrno(error);
  }
  return &pages_.emplace(index, Page{.frame = *frame}).first->second;
}

std::int64_t SharedFile::WriteBack() {
  if (!has_dirty_) return 0;
  const std::int64_t size = source_->Size();
  if (size < 0) return size;
  std::array<std::byte, kPageBytes> bytes;
  std::int64_t result = 0;
  has_dirty_ = false;
  for (auto& [index, page] : pages_) {
    if (!page.dirty) continue;
    mapper_.ReadShared(page.frame, bytes);
    std::uint64_t at = index * kPageBytes;
    const std::uint64_t end = std::min(at + kPageBytes, static_cast<std::uint64_t>(size));
    std::int64_t written = 1;
    while (at < end && written > 0) {
      written = source_->PWrite(std::span(bytes).subspan(at - index * kPageBytes, end - at), at);
      if (written > 0) at += static_cast<std::uint64_t>(written);
    }
    page.dirty = at < end;
    has_dirty_ |= page.dirty;
    if (page.dirty && result == 0) result = written < 0 ? written : -EIO;
  }
  return result;
}

void SharedFile::Reload(std::uint64_t size, std::uint64_t start, std::uint64_t end) {
  auto page = pages_.lower_bound(size / kPageBytes + (size % kPageBytes != 0 ? 1 : 0));
  while (page != pages_.end()) {
    mapper_.FreeSharedFrame(page->second.frame);
    page = pages_.erase(page);
  }
  for (page = pages_.lower_bound(start / kPageBytes);
       page != pages_.end() && page->first * kPageBytes < end; ++page)
    if (!page->second.dirty) Load(page->first, page->second.frame);
}

}  // namespace waxvm::linux_abi
