// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/file_locks.h"

#include <algorithm>
#include <cerrno>

#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {
namespace {

constexpr std::uint64_t kChargePerLock = 128;
// On one file: a guest could else make every lock a walk through millions.
constexpr std::size_t kMaxLocks = 4096;

bool Overlap(const FileLock& a, const FileLock& b) { return a.start < b.end && b.start < a.end; }

std::optional<FileLock> Find(const std::vector<FileLock>& locks, const FileLock& wanted) {
  for (const FileLock& lock : locks) {
    if (lock.owner == wanted.owner || !Overlap(lock, wanted)) continue;
    if (lock.exclusive || wanted.exclusive) return lock;
  }
  return std::nullopt;
}

// `locks` without what the owner of `cut` has in its range.
std::vector<FileLock> Without(const std::vector<FileLock>& locks, const FileLock& cut) {
  std::vector<FileLock> kept;
  for (const FileLock& lock : locks) {
    if (lock.owner != cut.owner || !Overlap(lock, cut)) {
      kept.push_back(lock);
      continue;
    }
    FileLock before = lock;
    FileLock after = lock;
    before.end = cut.start;
    after.start = cut.end;
    if (before.start < before.end) kept.push_back(before);
    if (after.start < after.end) kept.push_back(after);
  }
  return kept;
}

}  // namespace

std::optional<FileLock> FileLocks::Conflict(const File& file, bool whole_file,
                                            const FileLock& wanted) const {
  const auto found = files_.find(file);
  if (found == files_.end()) return std::nullopt;
  return Find(whole_file ? found->second.whole : found->second.ranges, wanted);
}

std::int64_t FileLocks::Set(const File& file, bool whole_file, const FileLock& wanted,
                            bool unlock) {
  if (!unlock && Conflict(file, whole_file, wanted)) return -EAGAIN;
  if (unlock && !files_.contains(file)) return 0;
  Locks& locks = files_[file];
  std::vector<FileLock>& list = whole_file ? locks.whole : locks.ranges;
  std::vector<FileLock> next = Without(list, wanted);
  if (!unlock) next.push_back(wanted);
  std::vector<FileLock> before = std::exchange(list, std::move(next));
  const bool fits = list.size() <= kMaxLocks && Charge() == 0;
  if (!fits) list = std::move(before);
  if (locks.ranges.empty() && locks.whole.empty()) files_.erase(file);
  return fits ? 0 : -ENOLCK;
}

void FileLocks::Release(const File& file, const OpenFile* owner) {
  const auto found = files_.find(file);
  if (found == files_.end()) return;
  const auto owned = [owner](const FileLock& lock) { return lock.owner == owner; };
  std::erase_if(found->second.ranges, owned);
  std::erase_if(found->second.whole, owned);
  if (found->second.ranges.empty() && found->second.whole.empty()) files_.erase(found);
  static_cast<void>(Charge());
}

void ReleaseWithFile(FileLocks& locks, const FileLocks::File& file, OpenFile& owner) {
  if (owner.keeps_for_locks()) return;
  owner.KeepForLocks(std::shared_ptr<void>(
      nullptr, [&locks, file, who = &owner](void*) { locks.Release(file, who); }));
}

std::int64_t FileLocks::Charge() {
  std::uint64_t count = files_.size();
  for (const auto& [file, locks] : files_) count += locks.ranges.size() + locks.whole.size();
  return charge_.Resize(account_, count * kChargePerLock) ? 0 : -ENOLCK;
}

}  // namespace waxvm::linux_abi
