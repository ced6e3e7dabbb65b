// SPDX-License-Identifier: Apache-2.0
// Parses ELF64 x86-64 executables. Every field is hostile: it is checked here, once, and what
// comes out can be used without another look.
#ifndef WAXVM_SRC_IMAGE_ELF_H_
#define WAXVM_SRC_IMAGE_ELF_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace waxvm::image {

/// Bounds on what an image may ask for; each stops a host from doing work or reserving address
/// space that no honest program needs.
inline constexpr std::size_t kMaxProgramHeaders = 128;
inline constexpr std::uint64_t kMaxImageBytes = std::uint64_t{1} << 30;   ///< file size
inline constexpr std::uint64_t kMaxLoadedBytes = std::uint64_t{1} << 36;  ///< address range
/// The lowest and highest address a fixed-address image may use: the first 64 KiB are the VMM's
/// (and below Linux's default vm.mmap_min_addr); the user half ends one page early as on Linux.
inline constexpr std::uint64_t kLowestAddress = 0x10000;
inline constexpr std::uint64_t kHighestAddress = 0x7ffffffff000;

/// One PT_LOAD: `file_bytes` from `file_offset` at `address`, then zeroes up to `memory_bytes`.
/// address ≡ file_offset modulo the page size; ranges are inside the file, ascend, and do not
/// share a page with different rights unless they only touch at a page.
struct Segment {
  std::uint64_t address = 0;
  std::uint64_t memory_bytes = 0;
  std::uint64_t file_offset = 0;
  std::uint64_t file_bytes = 0;
  bool readable = false;
  bool writable = false;
  bool executable = false;
};

/// A checked executable. Addresses of a position-independent image (`relocatable`) start near 0
/// and are relative to a base the loader chooses.
struct ElfImage {
  bool relocatable = false;
  std::uint64_t entry = 0;
  std::uint64_t program_header_address = 0;  ///< AT_PHDR; 0 when the headers are not loaded
  std::uint16_t program_header_count = 0;
  std::uint64_t lowest_address = 0;   ///< page-aligned start of the first segment
  std::uint64_t highest_address = 0;  ///< page-aligned end of the last
  std::vector<Segment> segments;
  std::optional<std::string> interpreter;  ///< PT_INTERP: a dynamic executable
  bool executable_stack = false;           ///< PT_GNU_STACK asks for it, or is missing
};

/// Parses and checks `bytes`. Errors: kInvalidArgument naming the field, its value and the bound.
/// Spec: System V ABI (gABI) chapters 4 and 5; x86-64 psABI.
absl::StatusOr<ElfImage> ParseElf(std::span<const std::byte> bytes);

/// The same for a file of `file_bytes` of which only the start is at hand; the program headers and
/// the name of the interpreter must lie there.
absl::StatusOr<ElfImage> ParseElfStart(std::span<const std::byte> start, std::uint64_t file_bytes);

}  // namespace waxvm::image

#endif  // WAXVM_SRC_IMAGE_ELF_H_
