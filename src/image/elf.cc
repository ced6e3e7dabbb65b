// SPDX-License-Identifier: Apache-2.0
#include "src/image/elf.h"

#include <elf.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "src/base/checked.h"
#include "src/base/status.h"

namespace waxvm::image {
namespace {

/// The longest PT_INTERP, its terminating zero included: Linux's PATH_MAX.
constexpr std::uint64_t kMaxInterpreterBytes = 4096;
/// How much of something that is not an ELF image is quoted.
constexpr std::size_t kShownBytes = 16;

/// True when [offset, offset + bytes) lies in the first `size` bytes.
bool Within(std::uint64_t offset, std::uint64_t bytes, std::uint64_t size) {
  const auto end = CheckedAdd(offset, bytes);
  return end && *end <= size;
}

absl::Status NotElf(std::span<const std::byte> bytes) {
  const absl::string_view start(reinterpret_cast<const char*>(bytes.data()),
                                std::min(bytes.size(), kShownBytes));
  const bool script = absl::StartsWith(start, "#!");
  return InvalidArgument("not an ELF image (starts with \"%s\")%s", absl::CHexEscape(start),
                         script ? "; run a script's interpreter and name the script to it" : "");
}

absl::Status CheckIdentification(const unsigned char (&ident)[EI_NIDENT]) {
  if (ident[EI_CLASS] != ELFCLASS64)
    return InvalidArgument("ELF header: e_ident[EI_CLASS] is %d, must be %d (64-bit)",
                           ident[EI_CLASS], ELFCLASS64);
  if (ident[EI_DATA] != ELFDATA2LSB)
    return InvalidArgument("ELF header: e_ident[EI_DATA] is %d, must be %d (little-endian)",
                           ident[EI_DATA], ELFDATA2LSB);
  if (ident[EI_VERSION] != EV_CURRENT)
    return InvalidArgument("ELF header: e_ident[EI_VERSION] is %d, must be %d", ident[EI_VERSION],
                           EV_CURRENT);
  return absl::OkStatus();
}

absl::Status CheckHeader(const Elf64_Ehdr& header, std::uint64_t start_bytes) {
  WAXVM_RETURN_IF_ERROR(CheckIdentification(header.e_ident));
  if (header.e_machine != EM_X86_64)
    return InvalidArgument("ELF header: e_machine is %d, must be %d (x86-64)", header.e_machine,
                           EM_X86_64);
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN)
    return InvalidArgument("ELF header: e_type is %d, must be %d (ET_EXEC) or %d (ET_DYN)",
                           header.e_type, ET_EXEC, ET_DYN);
  if (header.e_version != EV_CURRENT)
    return InvalidArgument("ELF header: e_version is %d, must be %d", header.e_version, EV_CURRENT);
  if (header.e_phentsize != sizeof(Elf64_Phdr))
    return InvalidArgument("ELF header: e_phentsize is %d, must be %d", header.e_phentsize,
                           sizeof(Elf64_Phdr));
  // Also refuses PN_XNUM (0xffff), which moves the count into a section header.
  if (header.e_phnum == 0 || header.e_phnum > kMaxProgramHeaders)
    return InvalidArgument("ELF header: e_phnum is %d, must be 1 to %d", header.e_phnum,
                           kMaxProgramHeaders);
  if (!Within(header.e_phoff, header.e_phnum * sizeof(Elf64_Phdr), start_bytes))
    return InvalidArgument(
        "ELF header: e_phoff %d and %d program headers of %d bytes reach past the end of the file "
        "(%d bytes)",
        header.e_phoff, header.e_phnum, sizeof(Elf64_Phdr), start_bytes);
  return absl::OkStatus();
}

/// Goes through the program headers in order and fills an ElfImage.
/// Thread safety: none; lives for one ParseElf.
class Parser {
 public:
  Parser(std::span<const std::byte> bytes, std::uint64_t file_bytes, const Elf64_Ehdr& header)
      : bytes_(bytes), file_bytes_(file_bytes), header_(header) {
    image_.relocatable = header.e_type == ET_DYN;
    image_.entry = header.e_entry;
    image_.executable_stack = true;  // until a PT_GNU_STACK says otherwise
  }

  absl::StatusOr<ElfImage> Parse() &&;

 private:
  absl::Status AddHeader(int index, const Elf64_Phdr& header);
  absl::Status AddSegment(int index, const Elf64_Phdr& header);
  absl::Status CheckSegmentFields(int index, const Elf64_Phdr& header) const;
  absl::Status CheckAddressRange(int index, const Elf64_Phdr& header) const;
  absl::Status CheckOrder(int index, const Segment& next) const;
  absl::Status SetInterpreter(int index, const Elf64_Phdr& header);
  absl::Status CheckEntry() const;
  void LocateProgramHeaders();

  std::span<const std::byte> bytes_;  ///< the file, or its start
  const std::uint64_t file_bytes_;
  const Elf64_Ehdr& header_;
  ElfImage image_;
};

absl::StatusOr<ElfImage> Parser::Parse() && {
  for (int i = 0; i < header_.e_phnum; ++i) {
    Elf64_Phdr header;
    std::memcpy(&header, bytes_.data() + header_.e_phoff + i * sizeof header, sizeof header);
    WAXVM_RETURN_IF_ERROR(AddHeader(i, header));
  }
  if (image_.segments.empty())
    return InvalidArgument("ELF image: none of the %d program headers is a PT_LOAD with contents",
                           header_.e_phnum);
  image_.lowest_address = PageFloor(image_.segments.front().address);
  const Segment& last = image_.segments.back();
  // Cannot overflow: every end is at most kHighestAddress.
  image_.highest_address = *PageCeil(last.address + last.memory_bytes);
  const std::uint64_t loaded_bytes = image_.highest_address - image_.lowest_address;
  if (loaded_bytes > kMaxLoadedBytes)
    return InvalidArgument("ELF image: its segments span %d bytes (0x%x to 0x%x), at most %d",
                           loaded_bytes, image_.lowest_address, image_.highest_address,
                           kMaxLoadedBytes);
  WAXVM_RETURN_IF_ERROR(CheckEntry());
  LocateProgramHeaders();
  return std::move(image_);
}

absl::Status Parser::AddHeader(int index, const Elf64_Phdr& header) {
  switch (header.p_type) {
    case PT_LOAD:
      return AddSegment(index, header);
    case PT_INTERP:
      return SetInterpreter(index, header);
    case PT_GNU_STACK:
      image_.executable_stack = (header.p_flags & PF_X) != 0;
      return absl::OkStatus();
    default:
      return absl::OkStatus();
  }
}

absl::Status Parser::CheckSegmentFields(int index, const Elf64_Phdr& header) const {
  if (header.p_filesz > header.p_memsz)
    return InvalidArgument("ELF program header %d: p_filesz %d is larger than p_memsz %d", index,
                           header.p_filesz, header.p_memsz);
  if (!Within(header.p_offset, header.p_filesz, file_bytes_))
    return InvalidArgument(
        "ELF program header %d: p_offset %d and p_filesz %d reach past the end of the file "
        "(%d bytes)",
        index, header.p_offset, header.p_filesz, file_bytes_);
  if (header.p_align != 0 && !std::has_single_bit(header.p_align))
    return InvalidArgument("ELF program header %d: p_align %d is not a power of two", index,
                           header.p_align);
  if (header.p_vaddr % kPageBytes != header.p_offset % kPageBytes)
    return InvalidArgument(
        "ELF program header %d: p_vaddr 0x%x and p_offset 0x%x differ modulo the page size %d",
        index, header.p_vaddr, header.p_offset, kPageBytes);
  return absl::OkStatus();
}

absl::Status Parser::CheckAddressRange(int index, const Elf64_Phdr& header) const {
  const std::uint64_t lowest = image_.relocatable ? 0 : kLowestAddress;
  const std::uint64_t highest = image_.relocatable ? kMaxLoadedBytes : kHighestAddress;
  if (header.p_vaddr < lowest)
    return InvalidArgument("ELF program header %d: p_vaddr 0x%x is below the lowest address 0x%x",
                           index, header.p_vaddr, lowest);
  if (!Within(header.p_vaddr, header.p_memsz, highest))
    return InvalidArgument(
        "ELF program header %d: p_vaddr 0x%x and p_memsz 0x%x reach past the highest address 0x%x",
        index, header.p_vaddr, header.p_memsz, highest);
  return absl::OkStatus();
}

/// Segments must ascend, and two may only meet inside a page where they agree on its rights:
/// otherwise one of them would silently get the other's.
absl::Status Parser::CheckOrder(int index, const Segment& next) const {
  if (image_.segments.empty()) return absl::OkStatus();
  const Segment& previous = image_.segments.back();
  const std::uint64_t end = previous.address + previous.memory_bytes;
  if (next.address < end)
    return InvalidArgument(
        "ELF program header %d: p_vaddr 0x%x is below 0x%x, the end of the segment before it",
        index, next.address, end);
  const bool same_rights = previous.readable == next.readable &&
                           previous.writable == next.writable &&
                           previous.executable == next.executable;
  if (!same_rights && PageFloor(next.address) < *PageCeil(end))
    return InvalidArgument(
        "ELF program header %d: p_vaddr 0x%x shares the page at 0x%x with the segment before it "
        "(end 0x%x), which has other p_flags",
        index, next.address, PageFloor(next.address), end);
  return absl::OkStatus();
}

absl::Status Parser::AddSegment(int index, const Elf64_Phdr& header) {
  if (header.p_memsz == 0 && header.p_filesz == 0) return absl::OkStatus();
  WAXVM_RETURN_IF_ERROR(CheckSegmentFields(index, header));
  WAXVM_RETURN_IF_ERROR(CheckAddressRange(index, header));
  const Segment segment = {.address = header.p_vaddr,
                           .memory_bytes = header.p_memsz,
                           .file_offset = header.p_offset,
                           .file_bytes = header.p_filesz,
                           .readable = (header.p_flags & PF_R) != 0,
                           .writable = (header.p_flags & PF_W) != 0,
                           .executable = (header.p_flags & PF_X) != 0};
  WAXVM_RETURN_IF_ERROR(CheckOrder(index, segment));
  image_.segments.push_back(segment);
  return absl::OkStatus();
}

absl::Status Parser::SetInterpreter(int index, const Elf64_Phdr& header) {
  if (image_.interpreter)
    return InvalidArgument("ELF program header %d: p_type is PT_INTERP for a second time", index);
  if (header.p_filesz < 2 || header.p_filesz > kMaxInterpreterBytes)
    return InvalidArgument("ELF program header %d: p_filesz of PT_INTERP is %d, must be 2 to %d",
                           index, header.p_filesz, kMaxInterpreterBytes);
  if (!Within(header.p_offset, header.p_filesz, bytes_.size()))
    return InvalidArgument(
        "ELF program header %d: p_offset %d and p_filesz %d of PT_INTERP reach past the end of the "
        "file (%d bytes)",
        index, header.p_offset, header.p_filesz, bytes_.size());
  const std::string_view path(reinterpret_cast<const char*>(bytes_.data()) + header.p_offset,
                              header.p_filesz);
  if (path.back() != '\0')
    return InvalidArgument("ELF program header %d: PT_INTERP does not end with a zero byte", index);
  if (path.front() == '\0')
    return InvalidArgument("ELF program header %d: PT_INTERP is an empty path", index);
  image_.interpreter = path.substr(0, path.find('\0'));
  return absl::OkStatus();
}

absl::Status Parser::CheckEntry() const {
  for (const Segment& segment : image_.segments) {
    // `entry - address` wraps to something large when the entry lies below the segment.
    if (segment.executable && image_.entry - segment.address < segment.memory_bytes)
      return absl::OkStatus();
  }
  return InvalidArgument("ELF header: e_entry 0x%x is not in an executable segment", image_.entry);
}

/// As Linux does it: by the segment that contains the table, not by what PT_PHDR claims.
void Parser::LocateProgramHeaders() {
  image_.program_header_count = header_.e_phnum;
  const std::uint64_t table_bytes = header_.e_phnum * sizeof(Elf64_Phdr);
  for (const Segment& segment : image_.segments) {
    if (header_.e_phoff >= segment.file_offset &&
        Within(header_.e_phoff - segment.file_offset, table_bytes, segment.file_bytes)) {
      image_.program_header_address = segment.address + (header_.e_phoff - segment.file_offset);
      return;
    }
  }
}

}  // namespace

absl::StatusOr<ElfImage> ParseElf(std::span<const std::byte> bytes) {
  return ParseElfStart(bytes, bytes.size());
}

absl::StatusOr<ElfImage> ParseElfStart(std::span<const std::byte> start, std::uint64_t file_bytes) {
  if (start.empty()) return InvalidArgument("not an ELF image (0 bytes)");
  if (std::memcmp(start.data(), ELFMAG, std::min<std::size_t>(start.size(), SELFMAG)) != 0)
    return NotElf(start);
  Elf64_Ehdr header;
  if (start.size() < sizeof header)
    return InvalidArgument("ELF header: the file has %d bytes, must have at least %d", start.size(),
                           sizeof header);
  std::memcpy(&header, start.data(), sizeof header);
  WAXVM_RETURN_IF_ERROR(CheckHeader(header, start.size()));
  return Parser(start, file_bytes, header).Parse();
}

}  // namespace waxvm::image
