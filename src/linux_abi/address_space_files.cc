// SPDX-License-Identifier: Apache-2.0
// Shared file mappings, and what /proc/self/maps says.
#include <fcntl.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "absl/strings/str_format.h"
#include "src/linux_abi/address_range.h"
#include "src/linux_abi/address_space.h"

namespace waxvm::linux_abi {

ErrnoOr<std::shared_ptr<SharedFile>> AddressSpace::ShareFile(const MapRequest& request) {
  std::shared_ptr<SharedFile>& file = shared_files_[request.source->identity()];
  if (file == nullptr)
    file = std::make_shared<SharedFile>(mapper_, account_, request.source);
  else if (request.may_write)
    file->set_source(request.source);
  return file;
}

template <typename Visit>
void AddressSpace::ForEachMappingOf(const SharedFile& file, Visit visit) {
  for (auto& [start, area] : areas_)
    if (area.shared.get() == &file) visit(start, area);
}

std::int64_t AddressSpace::WriteBack(SharedFile& file) {
  if (!file.has_dirty()) return 0;
  // Whoever writes from here on faults, which marks the page again.
  ForEachMappingOf(file, [&](std::uint64_t start, const Area& area) {
    if (area.rights.write) mapper_.Protect(start, area.end - start, WithoutWrite(area.rights));
  });
  return file.WriteBack();
}

std::int64_t AddressSpace::SyncFile(std::optional<FileIdentity> identity) {
  std::int64_t result = 0;
  for (const auto& [known, file] : shared_files_) {
    if (identity && known != *identity) continue;
    const std::int64_t error = WriteBack(*file);
    if (result == 0) result = error;
  }
  return result;
}

void AddressSpace::RefreshFile(const FileIdentity& identity, std::uint64_t start,
                               std::uint64_t end) {
  const auto known = shared_files_.find(identity);
  if (known == shared_files_.end()) return;
  SharedFile& file = *known->second;
  // Looked at once: where the host's processes make the file longer in between, a page that is
  // given back here must not stay mapped.
  const std::int64_t size = file.source().Size();
  if (size < 0) return;
  ForEachMappingOf(file, [&](std::uint64_t area_start, Area& area) {
    const std::uint64_t file_end = FileEnd({area_start, area}, size);
    if (file_end < area.end) mapper_.Unmap(file_end, area.end - file_end);
  });
  file.Reload(static_cast<std::uint64_t>(size), start, end);
}

std::int64_t AddressSpace::RemovePart(std::uint64_t start, std::uint64_t end,
                                      Areas::iterator area) {
  const Area& mapping = area->second;
  // Memory that is shared without a file is nobody else's here: its pages are the contents.
  if (mapping.kind == Kind::kSharedAnonymous) {
    mapper_.Unmap(start, end - start);
    return 0;
  }
  if (mapping.source == nullptr) return -EINVAL;
  if (mapping.shared == nullptr || !mapping.may_write) return -EACCES;
  auto* source = dynamic_cast<FileSource*>(&mapping.shared->source());
  if (source == nullptr) return -EACCES;
  const std::uint64_t offset = mapping.offset + (start - area->first);
  if (const std::int64_t error = WriteBack(*mapping.shared); error < 0) return error;
  const std::int64_t punched =
      source->file().Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, end - start);
  if (punched == 0) RefreshFile(source->identity(), offset, offset + (end - start));
  return punched;
}

std::int64_t AddressSpace::Remove(std::uint64_t address, std::uint64_t bytes) {
  const auto end = RangeEnd(address, bytes);
  if (!IsPageAligned(address) || !end) return -EINVAL;
  std::uint64_t at = address;
  bool gap = false;
  auto area = areas_.upper_bound(address);
  if (area != areas_.begin() && std::prev(area)->second.end > address) --area;
  for (; area != areas_.end() && area->first < *end; ++area) {
    gap = gap || area->first > at;
    const std::uint64_t start = std::max(at, area->first);
    const std::uint64_t stop = std::min(*end, area->second.end);
    if (const std::int64_t error = RemovePart(start, stop, area); error < 0) return error;
    at = stop;
  }
  return gap || at < *end ? -ENOMEM : 0;
}

void AddressSpace::DropUnmappedFiles() {
  for (auto entry = shared_files_.begin(); entry != shared_files_.end();) {
    if (entry->second.use_count() > 1) {
      ++entry;
      continue;
    }
    entry->second->WriteBack();
    entry = shared_files_.erase(entry);
  }
}

void AddressSpace::AddSystemRange(std::uint64_t start, std::uint64_t end, PageRights rights,
                                  std::string name) {
  system_ranges_.insert_or_assign(start, SystemRange{end, rights, std::move(name)});
}

std::uint64_t AddressSpace::mapped_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& [start, area] : areas_) bytes += area.end - start;
  return bytes;
}

// Spec: proc(5), /proc/pid/maps; the name begins at column 74.
std::string AddressSpace::Describe() const {
  constexpr std::size_t kNameColumn = 73;
  std::string text;
  const auto add = [&](std::uint64_t start, std::uint64_t end, PageRights rights, bool shared,
                       std::uint64_t offset, FileIdentity file, std::string_view name) {
    std::string line = absl::StrFormat(
        "%08x-%08x %c%c%c%c %08x %02x:%02x %d ", start, end, rights.read ? 'r' : '-',
        rights.write ? 'w' : '-', rights.execute ? 'x' : '-', shared ? 's' : 'p', offset,
        gnu_dev_major(file.device), gnu_dev_minor(file.device), file.inode);
    if (!name.empty()) {
      if (line.size() < kNameColumn) line.resize(kNameColumn, ' ');
      // As Linux writes it: a name with a line break must not look like another mapping.
      for (const char character : name) {
        if (character == '\n')
          line += "\\012";
        else
          line += character;
      }
    }
    text += line;
    text += '\n';
  };
  auto system = system_ranges_.begin();
  const auto add_system_until = [&](std::uint64_t address) {
    for (; system != system_ranges_.end() && system->first < address; ++system)
      add(system->first, system->second.end, system->second.rights, false, 0, {},
          system->second.name);
  };
  for (const auto& [start, area] : areas_) {
    add_system_until(start);
    const std::string_view name = area.source != nullptr     ? std::string_view(area.source->path())
                                  : area.kind == Kind::kHeap ? std::string_view("[heap]")
                                  : area.end == kStackTop    ? std::string_view("[stack]")
                                                             : std::string_view();
    add(start, area.end, area.rights, area.shared != nullptr, area.offset,
        area.source != nullptr ? area.source->identity() : FileIdentity{}, name);
  }
  add_system_until(~std::uint64_t{0});
  return text;
}

}  // namespace waxvm::linux_abi
