// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/memory_file.h"

#include <linux/magic.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "src/linux_abi/vfs/node_source.h"

namespace waxvm::linux_abi {

std::int64_t MemoryFile::PRead(std::span<std::byte> to, std::uint64_t offset) {
  return static_cast<std::int64_t>(node_->contents.Read(offset, to));
}

std::int64_t MemoryFile::PWrite(std::span<const std::byte> from, std::uint64_t offset) {
  if ((node_->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) return -EPERM;
  const bool grows = offset + from.size() > node_->contents.size();
  if (grows && (node_->seals & F_SEAL_GROW) != 0) return -EPERM;
  const std::int64_t n = node_->contents.Write(offset, from);
  if (n > 0) node_->TouchContents();
  return n;
}

std::int64_t MemoryFile::Seek(std::int64_t offset, int whence) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return SeekableFile::Seek(offset, whence);
  const SparseBytes& contents = node_->contents;
  const auto start = static_cast<std::uint64_t>(offset);
  if (offset < 0 || start >= contents.size()) return -ENXIO;
  const bool data = whence == SEEK_DATA;
  const std::uint64_t found = data ? contents.FindData(start) : contents.FindHole(start);
  if (data && found >= contents.size()) return -ENXIO;
  return SeekWithin(static_cast<std::int64_t>(found), SEEK_SET, 0);
}

std::int64_t MemoryFile::Stat(struct stat& status) const {
  node_->Stat(status);
  return 0;
}

std::int64_t MemoryFile::StatFs(struct statfs& status) const {
  status = {};
  status.f_type = TMPFS_MAGIC;
  if (node_->closed) {
    const ErrnoOr<std::string> path = node_->Path();
    status.f_type = path.ok() && path->starts_with("/sys") ? SYSFS_MAGIC : PROC_SUPER_MAGIC;
  }
  status.f_bsize = status.f_frsize = kPageBytes;
  status.f_blocks = context_.account.limit_bytes() / kPageBytes;
  status.f_bfree = status.f_bavail = context_.account.free_bytes() / kPageBytes;
  status.f_files = kMaxNodes;
  status.f_ffree = kMaxNodes - std::min(kMaxNodes, context_.live_nodes);
  status.f_namelen = 255;
  return 0;
}

std::int64_t MemoryFile::Truncate(std::uint64_t bytes) {
  if (!node_->is_regular()) return -EINVAL;
  const std::uint64_t size = node_->contents.size();
  if (bytes < size && (node_->seals & F_SEAL_SHRINK) != 0) return -EPERM;
  if (bytes > size && (node_->seals & F_SEAL_GROW) != 0) return -EPERM;
  const std::int64_t result = node_->contents.Resize(bytes);
  if (result == 0) node_->TouchContents();
  return result;
}

std::int64_t MemoryFile::Allocate(int mode, std::uint64_t offset, std::uint64_t bytes) {
  SparseBytes& contents = node_->contents;
  if ((mode & FALLOC_FL_PUNCH_HOLE) != 0) {
    if ((node_->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) return -EPERM;
    const std::int64_t result = contents.Punch(offset, bytes);
    node_->TouchContents();
    return result;
  }
  // Memory is charged when it is written; what is promised here can still run out.
  if ((mode & FALLOC_FL_KEEP_SIZE) != 0 || offset + bytes <= contents.size()) return 0;
  return Truncate(offset + bytes);
}

std::int64_t MemoryFile::SetMode(mode_t mode) {
  constexpr int kSealExec = 0x20;  // F_SEAL_EXEC
  if ((node_->seals & kSealExec) != 0 && ((node_->mode ^ mode) & 0111) != 0) return -EPERM;
  node_->mode = (node_->mode & S_IFMT) | (mode & 07777);
  node_->TouchStatus();
  return 0;
}

std::int64_t MemoryFile::SetOwner(uid_t owner, gid_t group) {
  if (owner != static_cast<uid_t>(-1)) node_->owner = owner;
  if (group != static_cast<gid_t>(-1)) node_->group = group;
  node_->TouchStatus();
  return 0;
}

std::int64_t MemoryFile::SetTimes(const std::array<timespec, 2>& times) {
  return node_->SetTimes(times);
}

std::int64_t MemoryFile::AddSeals(int seals) {
  constexpr int kSealExec = 0x20;  // F_SEAL_EXEC
  constexpr int kKnown =
      F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | kSealExec;
  if (!node_->is_regular() || (seals & ~kKnown) != 0) return -EINVAL;
  if (!writable() || (node_->seals & F_SEAL_SEAL) != 0) return -EPERM;
  node_->seals |= seals;
  return 0;
}

ErrnoOr<std::string> MemoryFile::ReadLink() const {
  if (!node_->is_link()) return Errno{EINVAL};
  return node_->source != nullptr ? node_->source->Text() : node_->target;
}

ErrnoOr<std::string> MemoryFile::Path() const {
  ErrnoOr<std::string> path = node_->Path();
  if (path.ok() || path.error().number != ENOENT) return path;
  return "/" + node_->name + " (deleted)";
}

std::int64_t DeviceFile::PRead(std::span<std::byte> to, std::uint64_t) {
  switch (node()->device) {
    case Device::kZero:
    case Device::kFull:
      std::fill(to.begin(), to.end(), std::byte{0});
      break;
    case Device::kRandom:
    case Device::kUrandom:
      if (context().spec.random == nullptr) return -EIO;
      context().spec.random->Fill(to);
      break;
    default:
      return 0;
  }
  return static_cast<std::int64_t>(to.size());
}

std::int64_t DeviceFile::PWrite(std::span<const std::byte> from, std::uint64_t) {
  if (node()->device == Device::kFull) return -ENOSPC;
  return static_cast<std::int64_t>(from.size());
}

}  // namespace waxvm::linux_abi
