// SPDX-License-Identifier: Apache-2.0
// What a snapshot keeps of the mappings; their pages are the machine's.
#include <cerrno>
#include <utility>

#include "src/base/status.h"
#include "src/linux_abi/address_space.h"

namespace waxvm::linux_abi {

std::int64_t KeptSource::PRead(std::span<std::byte>, std::uint64_t) { return -EIO; }
std::int64_t KeptSource::PWrite(std::span<const std::byte>, std::uint64_t) { return -EIO; }
std::int64_t KeptSource::Size() const { return -EIO; }

absl::StatusOr<AddressSpace::Image> AddressSpace::TakeImage(KeepFile keep_file) const {
  Image image{.heap_start = heap_start_, .heap_end = heap_end_, .system_ranges = system_ranges_};
  std::map<const MappedSource*, std::shared_ptr<MappedSource>> frozen;
  const auto freeze = [&](MappedSource& source) -> absl::StatusOr<std::shared_ptr<MappedSource>> {
    std::shared_ptr<MappedSource>& kept = frozen[&source];
    if (kept == nullptr) kept = source.Freeze();
    auto* const file = dynamic_cast<FileSource*>(&source);
    if (kept == nullptr && file != nullptr) {
      // A file of the instance's own: each clone has another one.
      WAXVM_ASSIGN_OR_RETURN(const std::uint32_t index, keep_file(file->file().shared_from_this()));
      kept = std::make_shared<KeptSource>(index, source.identity(), source.path());
    }
    if (kept == nullptr)
      return FailedPrecondition("a snapshot cannot keep the mapping of %s", source.path());
    return kept;
  };
  std::map<const SharedFile*, std::uint32_t> shared;
  for (const auto& [start, area] : areas_) {
    Area kept = area;
    kept.fault_around = kept.window_start = kept.window_end = 0;
    kept.shared = nullptr;
    if (area.source != nullptr) {
      WAXVM_ASSIGN_OR_RETURN(kept.source, freeze(*area.source));
    }
    if (area.shared != nullptr) {
      const auto [found, is_new] = shared.try_emplace(
          area.shared.get(), static_cast<std::uint32_t>(image.shared_files.size()));
      if (is_new) {
        SharedFileImage& file = image.shared_files.emplace_back();
        WAXVM_ASSIGN_OR_RETURN(file.source, freeze(area.shared->source()));
        if (dynamic_cast<KeptSource*>(file.source.get()) == nullptr)
          return FailedPrecondition("a snapshot cannot keep the shared mapping of %s",
                                    file.source->path());
        file.pages = area.shared->pages();
      }
      image.shared_areas.emplace_back(start, found->second);
    }
    image.areas.emplace_hint(image.areas.end(), start, std::move(kept));
  }
  return image;
}

std::shared_ptr<MappedSource> AddressSpace::Thaw(const std::shared_ptr<MappedSource>& source,
                                                 std::span<const std::shared_ptr<OpenFile>> files) {
  const auto* const kept = dynamic_cast<const KeptSource*>(source.get());
  if (kept == nullptr) return source;
  const std::shared_ptr<OpenFile>& file = files[kept->file()];
  std::weak_ptr<MappedSource>& known = sources_[{kept->identity(), file->writable()}];
  std::shared_ptr<MappedSource> thawed = known.lock();
  if (thawed == nullptr)
    known = thawed = std::make_shared<FileSource>(file, kept->identity(), kept->path());
  return thawed;
}

bool AddressSpace::LoadImage(const Image& image, std::span<const std::shared_ptr<OpenFile>> files) {
  areas_.clear();
  free_ = FreeRanges(kUserStart, kMapTop);
  std::vector<std::shared_ptr<SharedFile>> shared;
  for (const SharedFileImage& kept : image.shared_files) {
    const std::shared_ptr<MappedSource> source = Thaw(kept.source, files);
    shared.push_back(std::make_shared<SharedFile>(mapper_, account_, source));
    shared_files_[source->identity()] = shared.back();
    if (!shared.back()->Load(kept.pages)) return false;
  }
  auto shared_area = image.shared_areas.begin();
  for (const auto& [start, area] : image.areas) {
    if (!ReserveAreas()) return false;
    Area thawed = area;
    thawed.source = Thaw(area.source, files);
    if (shared_area != image.shared_areas.end() && shared_area->first == start)
      thawed.shared = shared[(shared_area++)->second];
    Insert(start, std::move(thawed));
  }
  heap_start_ = image.heap_start;
  heap_end_ = image.heap_end;
  system_ranges_ = image.system_ranges;
  return ChargeSources();
}

void AddressSpace::ForgetWindows() {
  for (auto& [start, area] : areas_) area.fault_around = area.window_start = area.window_end = 0;
}

}  // namespace waxvm::linux_abi
