// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/directory_file.h"

#include <algorithm>
#include <utility>

#include "src/linux_abi/vfs/node_source.h"

namespace waxvm::linux_abi {
namespace {

// Reading a host folder takes memory before it can be charged name by name.
constexpr std::uint64_t kMaxListingBytes = std::uint64_t{64} << 20;

std::uint64_t ListingBytes(const std::vector<DirectoryEntry>& entries) {
  std::uint64_t bytes = 0;
  for (const DirectoryEntry& entry : entries) bytes += sizeof entry + entry.name.size() + 1;
  return bytes;
}

std::uint64_t InodeOf(const OpenFile& file) {
  struct stat status {};
  return file.Stat(status) == 0 ? status.st_ino : 1;
}

}  // namespace

std::int64_t DirectoryFile::Seek(std::int64_t offset, int whence) {
  if (whence != SEEK_SET && whence != SEEK_CUR) return -EINVAL;
  return SeekWithin(offset, whence, 0);
}

std::int64_t DirectoryFile::Load() {
  MemoryNode& anchor = *place_.anchor();
  if (anchor.source != nullptr) anchor.source->Refresh(anchor);
  std::vector<DirectoryEntry> entries;
  const std::uint64_t self = InodeOf(*attributes_);
  entries.push_back({self, DT_DIR, "."});
  entries.push_back({self, DT_DIR, ".."});
  const bool at_anchor = place_.rest().empty();
  if (at_anchor) {
    if (anchor.children().size() > context_.account.free_bytes() / sizeof(DirectoryEntry)) {
      return -ENOMEM;
    }
    for (const auto& [name, link] : anchor.children()) {
      entries.push_back(
          {link.node->inode, static_cast<unsigned char>(IFTODT(link.node->mode)), name});
    }
    anchor.ForEachImageChild([&entries](std::uint64_t inode, mode_t mode, const std::string& name) {
      entries.push_back({inode, static_cast<unsigned char>(IFTODT(mode)), name});
    });
  }
  if (place_.folder() != nullptr) {
    const std::string path = place_.HostPath();
    ErrnoOr<HostObject> object = place_.folder()->Resolve(path);
    // A folder that only leads to mount points need have none behind it on the host.
    const bool optional = at_anchor && !anchor.backing.path.empty();
    if (!object.ok() && !optional) return object.result();
    if (object.ok() && (S_ISDIR(object->status.st_mode) || !optional)) {
      std::vector<DirectoryEntry> listed;
      const std::uint64_t room = std::min(kMaxListingBytes, context_.account.free_bytes());
      const std::int64_t result = place_.folder()->List(path, object->status, listed, room);
      if (result < 0) return result;
      for (DirectoryEntry& entry : listed) {
        if (at_anchor && anchor.children().contains(entry.name)) continue;
        entries.push_back(std::move(entry));
      }
    }
  }
  if (!charge_.Resize(context_.account, ListingBytes(entries))) return -ENOMEM;
  entries_ = std::move(entries);
  return 0;
}

bool DirectoryFile::ChargeEntries() {
  return charge_.Resize(context_.account, ListingBytes(entries_));
}

ErrnoOr<std::span<const DirectoryEntry>> DirectoryFile::ReadDirectory() {
  if (place_.rest().empty() && place_.anchor()->is_removed()) return Errno{ENOENT};
  if (offset_ == 0) {
    const std::int64_t loaded = Load();
    if (loaded < 0) return ToErrno(loaded);
  }
  const std::size_t skip = std::min<std::uint64_t>(offset_, entries_.size());
  return std::span<const DirectoryEntry>(entries_).subspan(skip);
}

}  // namespace waxvm::linux_abi
