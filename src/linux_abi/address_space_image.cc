// SPDX-License-Identifier: Apache-2.0
// What a snapshot keeps of the mappings; their pages are the machine's.
#include <utility>

#include "src/base/status.h"
#include "src/linux_abi/address_space.h"

namespace waxvm::linux_abi {

absl::StatusOr<AddressSpace::Image> AddressSpace::TakeImage() const {
  Image image{.heap_start = heap_start_, .heap_end = heap_end_, .system_ranges = system_ranges_};
  std::map<const MappedSource*, std::shared_ptr<MappedSource>> frozen;
  for (const auto& [start, area] : areas_) {
    if (area.shared != nullptr)
      return FailedPrecondition("a snapshot cannot keep the shared mapping of %s",
                                area.source != nullptr ? area.source->path() : "a file");
    Area kept = area;
    kept.fault_around = kept.window_start = kept.window_end = 0;
    if (area.source != nullptr) {
      std::shared_ptr<MappedSource>& source = frozen[area.source.get()];
      if (source == nullptr) source = area.source->Freeze();
      if (source == nullptr)
        return FailedPrecondition("a snapshot cannot keep the mapping of %s", area.source->path());
      kept.source = source;
    }
    image.areas.emplace_hint(image.areas.end(), start, std::move(kept));
  }
  return image;
}

bool AddressSpace::LoadImage(const Image& image) {
  areas_.clear();
  free_ = FreeRanges(kUserStart, kMapTop);
  for (const auto& [start, area] : image.areas) {
    if (!ReserveAreas()) return false;
    Insert(start, area);
  }
  heap_start_ = image.heap_start;
  heap_end_ = image.heap_end;
  system_ranges_ = image.system_ranges;
  return true;
}

void AddressSpace::ForgetWindows() {
  for (auto& [start, area] : areas_) area.fault_around = area.window_start = area.window_end = 0;
}

}  // namespace waxvm::linux_abi
