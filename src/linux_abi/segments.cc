// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/segments.h"

#include <algorithm>
#include <array>

#include "src/base/checked.h"

namespace waxvm::linux_abi {
namespace {

/// One segment with its place in memory. Page numbers of file and memory agree (ParseElf).
class SegmentMapper {
 public:
  SegmentMapper(const image::Segment& segment, const std::shared_ptr<MappedSource>& source,
                std::uint64_t base, AddressSpace& memory)
      : segment_(segment),
        source_(source),
        memory_(memory),
        rights_{segment.readable, segment.writable, segment.executable},
        start_(base + segment.address),
        file_end_(start_ + segment.file_bytes),
        end_(start_ + segment.memory_bytes) {}

  /// Maps everything from `from` on, where the segment before ends. Returns the end, or 0.
  std::uint64_t Map(std::uint64_t from) {
    const std::uint64_t file_pages_end = *PageCeil(file_end_);
    const std::uint64_t pages_end = *PageCeil(end_);
    std::uint64_t at = std::max(PageFloor(start_), from);
    // A segment may begin in the page where the one before it ends, with the same rights.
    if (from > start_ && !CopyIntoSharedPage(std::min(from, file_end_))) return 0;
    if (segment_.file_bytes != 0 && file_pages_end > at) {
      if (!MapPages(at, file_pages_end, source_)) return 0;
      at = file_pages_end;
      if (end_ > file_end_ && !ZeroTail(file_pages_end)) return 0;
    }
    if (pages_end > at && !MapPages(at, pages_end, nullptr)) return 0;
    return pages_end;
  }

 private:
  bool MapPages(std::uint64_t from, std::uint64_t to, std::shared_ptr<MappedSource> source) {
    const std::uint64_t offset =
        segment_.file_offset - (start_ - PageFloor(start_)) + (from - PageFloor(start_));
    return memory_.Map(from, to - from,
                       {.rights = rights_,
                        .kind = AddressSpace::Kind::kImage,
                        .fixed = true,
                        .source = source,
                        .offset = source == nullptr ? 0 : offset}) > 0;
  }
  bool CopyIntoSharedPage(std::uint64_t end) {
    std::array<std::byte, kPageBytes> bytes;
    if (end <= start_) return true;
    const std::span<std::byte> piece(bytes.data(), end - start_);
    const std::int64_t got = source_->PRead(piece, segment_.file_offset);
    return got == static_cast<std::int64_t>(piece.size()) && memory_.WriteForced(start_, piece);
  }
  // What follows the segment in the file must not show behind its end.
  bool ZeroTail(std::uint64_t pages_end) {
    static constexpr std::array<std::byte, kPageBytes> kZeroes{};
    return memory_.WriteForced(file_end_, std::span(kZeroes).first(pages_end - file_end_));
  }

  const image::Segment& segment_;
  const std::shared_ptr<MappedSource>& source_;
  AddressSpace& memory_;
  const PageRights rights_;
  const std::uint64_t start_;
  const std::uint64_t file_end_;
  const std::uint64_t end_;
};

}  // namespace

bool MapSegments(const image::ElfImage& elf, const std::shared_ptr<MappedSource>& source,
                 std::uint64_t base, AddressSpace& memory) {
  std::uint64_t mapped_end = 0;
  for (const image::Segment& segment : elf.segments) {
    mapped_end = SegmentMapper(segment, source, base, memory).Map(mapped_end);
    if (mapped_end == 0) return false;
  }
  return true;
}

}  // namespace waxvm::linux_abi
