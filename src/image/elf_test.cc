// SPDX-License-Identifier: Apache-2.0
#include "src/image/elf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <string>

#include "src/image/elf_builder_for_test.h"

namespace waxvm::image {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();

TEST(ElfTest, FixedAddressImage) {
  const auto image = ParseElf(ElfBuilder().Bytes());
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_FALSE(image->relocatable);
  EXPECT_EQ(image->entry, 0x401100u);
  EXPECT_EQ(image->program_header_address, 0x401040u);
  EXPECT_EQ(image->program_header_count, 3);
  EXPECT_EQ(image->lowest_address, 0x401000u);
  EXPECT_EQ(image->highest_address, 0x406000u);
  EXPECT_FALSE(image->interpreter);
  EXPECT_FALSE(image->executable_stack);
  ASSERT_EQ(image->segments.size(), 2u);
  const Segment& text = image->segments[0];
  EXPECT_TRUE(text.readable && !text.writable && text.executable);
  const Segment& data = image->segments[1];
  EXPECT_TRUE(data.readable && data.writable && !data.executable);
  EXPECT_EQ(data.address, 0x402200u);
  EXPECT_EQ(data.memory_bytes, 0x3000u);
  EXPECT_EQ(data.file_offset, 0x200u);
  EXPECT_EQ(data.file_bytes, 0x100u);
}

TEST(ElfTest, PositionIndependentImage) {
  ElfBuilder builder;
  builder.header.e_type = ET_DYN;
  builder.header.e_entry = 0x100;
  builder.program_headers[0].p_vaddr = 0;
  builder.program_headers[1].p_vaddr = 0x1200;
  const auto image = ParseElf(builder.Bytes());
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_TRUE(image->relocatable);
  EXPECT_EQ(image->lowest_address, 0u);
  EXPECT_EQ(image->highest_address, 0x5000u);
  EXPECT_EQ(image->program_header_address, 0x40u);
}

TEST(ElfTest, StackIsExecutableUnlessToldOtherwise) {
  ElfBuilder builder;
  builder.program_headers[2].p_flags |= PF_X;
  EXPECT_TRUE(ParseElf(builder.Bytes())->executable_stack);
  builder.program_headers.pop_back();
  EXPECT_TRUE(ParseElf(builder.Bytes())->executable_stack);
}

TEST(ElfTest, ProgramHeadersOutsideOfEverySegmentHaveNoAddress) {
  ElfBuilder builder;
  builder.program_headers[0].p_filesz = 0x80;  // cuts the table, which ends at 0xe8
  EXPECT_EQ(ParseElf(builder.Bytes())->program_header_address, 0u);
}

TEST(ElfTest, Interpreter) {
  ElfBuilder builder;
  builder.program_headers.push_back({PT_INTERP, PF_R, 0x300, 0x300, 0x300, 10, 10, 1});
  auto bytes = builder.Bytes();
  std::memcpy(bytes.data() + 0x300, "/lib/ld.so", 10);
  EXPECT_THAT(std::string(ParseElf(bytes).status().message()),
              HasSubstr("ELF program header 3: PT_INTERP does not end with a zero byte"));
  std::memcpy(bytes.data() + 0x300, "/lib/ld-1", 10);
  const auto image = ParseElf(bytes);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->interpreter, "/lib/ld-1");
}

TEST(ElfTest, WritableAndExecutableIsTheProgramsChoice) {
  ElfBuilder builder;
  builder.program_headers[0].p_flags = PF_R | PF_W | PF_X;
  const auto image = ParseElf(builder.Bytes());
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_TRUE(image->segments[0].writable && image->segments[0].executable);
}

TEST(ElfTest, EmptySegmentIsIgnored) {
  ElfBuilder builder;
  builder.program_headers.push_back({PT_LOAD, PF_R, kHuge, kHuge, 0, 0, 0, 3});
  const auto image = ParseElf(builder.Bytes());
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->segments.size(), 2u);
}

TEST(ElfTest, SegmentsMaySharePagesOfTheFileAndPagesOfEqualRights) {
  ElfBuilder builder;  // both segments are in the first page of the file already
  builder.program_headers[1].p_flags = PF_R | PF_X;
  builder.program_headers[1].p_vaddr = 0x401200;
  const auto image = ParseElf(builder.Bytes());
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->segments[1].address, 0x401200u);
}

TEST(ElfTest, HighestAndLowestAddressesAreAllowed) {
  ElfBuilder builder;
  builder.program_headers[0].p_vaddr = kLowestAddress;
  builder.program_headers[1].p_vaddr = kLowestAddress + 0x1200;
  builder.header.e_entry = kLowestAddress;
  EXPECT_TRUE(ParseElf(builder.Bytes()).ok());

  builder.program_headers[0].p_vaddr = kHighestAddress - 0x5000;
  builder.program_headers[1].p_vaddr = kHighestAddress - 0x2e00;
  builder.program_headers[1].p_memsz = 0x2e00;
  builder.header.e_entry = kHighestAddress - 0x5000;
  const auto image = ParseElf(builder.Bytes());
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->highest_address, kHighestAddress);
}

struct BadImage {
  const char* name;
  std::function<void(ElfBuilder&)> change;
  const char* message;
};

class BadElfTest : public ::testing::TestWithParam<BadImage> {};

TEST_P(BadElfTest, IsRefusedWithFieldValueAndBound) {
  ElfBuilder builder;
  GetParam().change(builder);
  const auto image = ParseElf(builder.Bytes());
  EXPECT_EQ(image.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(std::string(image.status().message()), GetParam().message);
}

const BadImage kBadHeaders[] = {
    {"Class32", [](ElfBuilder& b) { b.header.e_ident[EI_CLASS] = 1; },
     "ELF header: e_ident[EI_CLASS] is 1, must be 2 (64-bit)"},
    {"BigEndian", [](ElfBuilder& b) { b.header.e_ident[EI_DATA] = 2; },
     "ELF header: e_ident[EI_DATA] is 2, must be 1 (little-endian)"},
    {"IdentVersion", [](ElfBuilder& b) { b.header.e_ident[EI_VERSION] = 0; },
     "ELF header: e_ident[EI_VERSION] is 0, must be 1"},
    {"Version", [](ElfBuilder& b) { b.header.e_version = 2; },
     "ELF header: e_version is 2, must be 1"},
    {"Aarch64", [](ElfBuilder& b) { b.header.e_machine = EM_AARCH64; },
     "ELF header: e_machine is 183, must be 62 (x86-64)"},
    {"Relocatable", [](ElfBuilder& b) { b.header.e_type = ET_REL; },
     "ELF header: e_type is 1, must be 2 (ET_EXEC) or 3 (ET_DYN)"},
    {"Core", [](ElfBuilder& b) { b.header.e_type = ET_CORE; },
     "ELF header: e_type is 4, must be 2 (ET_EXEC) or 3 (ET_DYN)"},
    {"HeaderSize", [](ElfBuilder& b) { b.header.e_phentsize = 32; },
     "ELF header: e_phentsize is 32, must be 56"},
    {"NoHeaders",
     [](ElfBuilder& b) {
       b.count_program_headers = false;
       b.header.e_phnum = 0;
     },
     "ELF header: e_phnum is 0, must be 1 to 128"},
    {"TooManyHeaders",
     [](ElfBuilder& b) {
       b.count_program_headers = false;
       b.header.e_phnum = 129;
       b.file_bytes = 1 << 16;
     },
     "ELF header: e_phnum is 129, must be 1 to 128"},
    {"ExtendedCount",
     [](ElfBuilder& b) {
       b.count_program_headers = false;
       b.header.e_phnum = PN_XNUM;
     },
     "ELF header: e_phnum is 65535, must be 1 to 128"},
    {"TableOffsetWraps", [](ElfBuilder& b) { b.header.e_phoff = kHuge - 8; },
     "ELF header: e_phoff 18446744073709551607 and 3 program headers of 56 bytes reach past the "
     "end of the file (1024 bytes)"},
    {"TableCut", [](ElfBuilder& b) { b.header.e_phoff = 1024 - 3 * 56 + 1; },
     "ELF header: e_phoff 857 and 3 program headers of 56 bytes reach past the end of the file "
     "(1024 bytes)"},
    {"EntryInData", [](ElfBuilder& b) { b.header.e_entry = 0x402200; },
     "ELF header: e_entry 0x402200 is not in an executable segment"},
    {"EntryBehindText", [](ElfBuilder& b) { b.header.e_entry = 0x401200; },
     "ELF header: e_entry 0x401200 is not in an executable segment"},
    {"EntryBelow", [](ElfBuilder& b) { b.header.e_entry = 0x400fff; },
     "ELF header: e_entry 0x400fff is not in an executable segment"},
    {"NothingToLoad",
     [](ElfBuilder& b) {
       for (auto& header : b.program_headers) header.p_type = PT_NOTE;
     },
     "ELF image: none of the 3 program headers is a PT_LOAD with contents"},
};

const BadImage kBadSegments[] = {
    {"FileLargerThanMemory", [](ElfBuilder& b) { b.program_headers[1].p_memsz = 100; },
     "ELF program header 1: p_filesz 256 is larger than p_memsz 100"},
    {"FileBytesWithoutMemory", [](ElfBuilder& b) { b.program_headers[1].p_memsz = 0; },
     "ELF program header 1: p_filesz 256 is larger than p_memsz 0"},
    {"PastEndOfFile", [](ElfBuilder& b) { b.program_headers[1].p_filesz = 0x201; },
     "ELF program header 1: p_offset 512 and p_filesz 513 reach past the end of the file "
     "(1024 bytes)"},
    {"OffsetWraps", [](ElfBuilder& b) { b.program_headers[1].p_offset = kHuge - 0xff; },
     "ELF program header 1: p_offset 18446744073709551360 and p_filesz 256 reach past the end of "
     "the file (1024 bytes)"},
    {"Alignment", [](ElfBuilder& b) { b.program_headers[0].p_align = 0x1001; },
     "ELF program header 0: p_align 4097 is not a power of two"},
    {"NotCongruent", [](ElfBuilder& b) { b.program_headers[1].p_vaddr += 8; },
     "ELF program header 1: p_vaddr 0x402208 and p_offset 0x200 differ modulo the page size 4096"},
    {"PageZero", [](ElfBuilder& b) { b.program_headers[0].p_vaddr = 0; },
     "ELF program header 0: p_vaddr 0x0 is below the lowest address 0x10000"},
    {"TooLow", [](ElfBuilder& b) { b.program_headers[0].p_vaddr = 0xf000; },
     "ELF program header 0: p_vaddr 0xf000 is below the lowest address 0x10000"},
    {"KernelHalf", [](ElfBuilder& b) { b.program_headers[1].p_vaddr = 0xffffffff80000200; },
     "ELF program header 1: p_vaddr 0xffffffff80000200 and p_memsz 0x3000 reach past the highest "
     "address 0x7ffffffff000"},
    {"HugeMemory", [](ElfBuilder& b) { b.program_headers[1].p_memsz = kHuge; },
     "ELF program header 1: p_vaddr 0x402200 and p_memsz 0xffffffffffffffff reach past the highest "
     "address 0x7ffffffff000"},
    {"Terabyte", [](ElfBuilder& b) { b.program_headers[1].p_memsz = std::uint64_t{1} << 40; },
     "ELF image: its segments span 1099511635968 bytes (0x401000 to 0x10000403000), at most "
     "68719476736"},
    {"FarApart", [](ElfBuilder& b) { b.program_headers[1].p_vaddr = 0x7f0000000200; },
     "ELF image: its segments span 139637972545536 bytes (0x401000 to 0x7f0000004000), at most "
     "68719476736"},
    {"WritableExecutableAbsurd",
     [](ElfBuilder& b) {
       b.program_headers[0].p_flags = PF_R | PF_W | PF_X;
       b.program_headers[0].p_vaddr = 0xfffffffffffff000;
     },
     "ELF program header 0: p_vaddr 0xfffffffffffff000 and p_memsz 0x200 reach past the highest "
     "address 0x7ffffffff000"},
    {"PositionIndependentFarAway",
     [](ElfBuilder& b) {
       b.header.e_type = ET_DYN;
       b.program_headers[0].p_vaddr = kMaxLoadedBytes;
     },
     "ELF program header 0: p_vaddr 0x1000000000 and p_memsz 0x200 reach past the highest address "
     "0x1000000000"},
    {"Descending", [](ElfBuilder& b) { std::swap(b.program_headers[0], b.program_headers[1]); },
     "ELF program header 1: p_vaddr 0x401000 is below 0x405200, the end of the segment before it"},
    {"Overlap", [](ElfBuilder& b) { b.program_headers[0].p_memsz = 0x1201; },
     "ELF program header 1: p_vaddr 0x402200 is below 0x402201, the end of the segment before it"},
    {"SharedPage", [](ElfBuilder& b) { b.program_headers[0].p_memsz = 0x1001; },
     "ELF program header 1: p_vaddr 0x402200 shares the page at 0x402000 with the segment before "
     "it (end 0x402001), which has other p_flags"},
    {"InterpreterTooLong",
     [](ElfBuilder& b) {
       b.program_headers[2] = {PT_INTERP, PF_R, 0x100, 0, 0, 4097, 4097, 1};
       b.file_bytes = 0x4000;
     },
     "ELF program header 2: p_filesz of PT_INTERP is 4097, must be 2 to 4096"},
    {"InterpreterEmpty",
     [](ElfBuilder& b) { b.program_headers[2] = {PT_INTERP, PF_R, 0x300, 0, 0, 1, 1, 1}; },
     "ELF program header 2: p_filesz of PT_INTERP is 1, must be 2 to 4096"},
    {"InterpreterOnlyZeroes",
     [](ElfBuilder& b) { b.program_headers[2] = {PT_INTERP, PF_R, 0x300, 0, 0, 4, 4, 1}; },
     "ELF program header 2: PT_INTERP is an empty path"},
    {"InterpreterPastEndOfFile",
     [](ElfBuilder& b) { b.program_headers[2] = {PT_INTERP, PF_R, kHuge, 0, 0, 4, 4, 1}; },
     "ELF program header 2: p_offset 18446744073709551615 and p_filesz 4 of PT_INTERP reach past "
     "the end of the file (1024 bytes)"},
};

std::string NameOf(const ::testing::TestParamInfo<BadImage>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Header, BadElfTest, ::testing::ValuesIn(kBadHeaders), NameOf);
INSTANTIATE_TEST_SUITE_P(Segment, BadElfTest, ::testing::ValuesIn(kBadSegments), NameOf);

TEST(ElfTest, SecondInterpreterIsRefused) {
  ElfBuilder builder;
  builder.program_headers.push_back({PT_INTERP, PF_R, 1, 0, 0, 11, 11, 1});
  builder.program_headers.push_back(builder.program_headers.back());
  EXPECT_THAT(std::string(ParseElf(builder.Bytes()).status().message()),
              HasSubstr("ELF program header 4: p_type is PT_INTERP for a second time"));
}

TEST(ElfTest, EveryTruncationIsRefused) {
  ElfBuilder builder;
  builder.file_bytes = 0x300;  // where the last segment ends
  const auto bytes = builder.Bytes();
  ASSERT_TRUE(ParseElf(bytes).ok());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    // A copy of its own, so that a sanitizer sees a read past the end.
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + size);
    EXPECT_EQ(ParseElf(cut).status().code(), absl::StatusCode::kInvalidArgument) << size;
  }
}

TEST(ElfTest, EveryByteOfTheHeadersMayBeAnything) {
  const auto good = ElfBuilder().Bytes();
  for (std::size_t at = 0; at < sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr); ++at) {
    for (int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      auto bytes = good;
      bytes[at] = static_cast<std::byte>(value);
      const auto image = ParseElf(bytes);
      if (!image.ok()) continue;
      for (const Segment& segment : image->segments) {
        EXPECT_LE(segment.file_offset + segment.file_bytes, bytes.size());
        EXPECT_LE(segment.address + segment.memory_bytes, kHighestAddress);
      }
    }
  }
}

TEST(ElfTest, WhatIsNoElfImageIsShown) {
  const std::string script = "#!/bin/sh\necho hello\n";
  EXPECT_EQ(std::string(ParseElf(std::as_bytes(std::span(script))).status().message()),
            "not an ELF image (starts with \"#!/bin/sh\\necho h\"); run a script's interpreter "
            "and name the script to it");
  EXPECT_EQ(std::string(ParseElf({}).status().message()), "not an ELF image (0 bytes)");
}

}  // namespace
}  // namespace waxvm::image
