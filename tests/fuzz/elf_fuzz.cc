// SPDX-License-Identifier: Apache-2.0
// Any bytes at all for the ELF parser; what it accepts must keep the promises of elf.h.
#include <cstddef>
#include <cstdint>
#include <span>

#include "src/base/checked.h"
#include "src/image/elf.h"

namespace waxvm::image {
namespace {

void Require(bool condition) {
  if (!condition) __builtin_trap();
}

void CheckSegments(const ElfImage& image, std::size_t file_bytes) {
  Require(!image.segments.empty() && image.segments.size() <= kMaxProgramHeaders);
  std::uint64_t end = 0;
  for (const Segment& segment : image.segments) {
    Require(segment.memory_bytes != 0 && segment.file_bytes <= segment.memory_bytes);
    Require(segment.file_offset <= file_bytes);
    Require(segment.file_bytes <= file_bytes - segment.file_offset);
    Require(segment.address % kPageBytes == segment.file_offset % kPageBytes);
    Require(segment.address >= end && segment.memory_bytes <= kHighestAddress - segment.address);
    end = segment.address + segment.memory_bytes;
  }
  Require(image.lowest_address == PageFloor(image.segments.front().address));
  Require(image.highest_address == *PageCeil(end));
  Require(image.highest_address - image.lowest_address <= kMaxLoadedBytes);
  Require(image.relocatable ? image.highest_address <= kMaxLoadedBytes
                            : image.lowest_address >= kLowestAddress);
}

void CheckImage(const ElfImage& image, std::size_t file_bytes) {
  CheckSegments(image, file_bytes);
  bool entry_is_executable = false;
  bool headers_are_loaded = image.program_header_address == 0;
  for (const Segment& segment : image.segments) {
    entry_is_executable |=
        segment.executable && image.entry - segment.address < segment.memory_bytes;
    headers_are_loaded |= image.program_header_address - segment.address < segment.file_bytes &&
                          segment.file_bytes - (image.program_header_address - segment.address) >=
                              image.program_header_count * 56u;
  }
  Require(entry_is_executable && headers_are_loaded);
  Require(!image.interpreter || !image.interpreter->empty());
}

}  // namespace
}  // namespace waxvm::image

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto image = waxvm::image::ParseElf(std::as_bytes(std::span(data, size)));
  if (image.ok()) waxvm::image::CheckImage(*image, size);
  return 0;
}
