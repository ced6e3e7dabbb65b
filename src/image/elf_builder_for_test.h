// SPDX-License-Identifier: Apache-2.0
// Puts ELF images together field by field, for tests that then break one of them.
#ifndef WAXVM_SRC_IMAGE_ELF_BUILDER_FOR_TEST_H_
#define WAXVM_SRC_IMAGE_ELF_BUILDER_FOR_TEST_H_

#include <elf.h>

#include <cstddef>
#include <cstring>
#include <vector>

namespace waxvm::image {

inline Elf64_Ehdr DefaultHeader() {
  Elf64_Ehdr header = {};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_EXEC;
  header.e_machine = EM_X86_64;
  header.e_version = EV_CURRENT;
  header.e_entry = 0x401100;
  header.e_phoff = sizeof(Elf64_Ehdr);
  header.e_ehsize = sizeof(Elf64_Ehdr);
  header.e_phentsize = sizeof(Elf64_Phdr);
  return header;
}

/// A valid fixed-address image: one read-execute and one read-write segment and a PT_GNU_STACK.
/// Change what is needed, then call Bytes().
struct ElfBuilder {
  Elf64_Ehdr header = DefaultHeader();
  std::vector<Elf64_Phdr> program_headers = {
      {PT_LOAD, PF_R | PF_X, 0, 0x401000, 0x401000, 0x200, 0x200, 0x1000},
      {PT_LOAD, PF_R | PF_W, 0x200, 0x402200, 0x402200, 0x100, 0x3000, 0x1000},
      {PT_GNU_STACK, PF_R | PF_W, 0, 0, 0, 0, 0, 16},
  };
  std::size_t file_bytes = 0x400;
  /// Kept as it is in `header` when false.
  bool count_program_headers = true;

  std::vector<std::byte> Bytes() const {
    std::vector<std::byte> bytes(file_bytes);
    Elf64_Ehdr shown = header;
    if (count_program_headers) shown.e_phnum = static_cast<Elf64_Half>(program_headers.size());
    std::memcpy(bytes.data(), &shown, sizeof shown);
    std::memcpy(bytes.data() + sizeof shown, program_headers.data(),
                program_headers.size() * sizeof(Elf64_Phdr));
    return bytes;
  }
};

}  // namespace waxvm::image

#endif  // WAXVM_SRC_IMAGE_ELF_BUILDER_FOR_TEST_H_
