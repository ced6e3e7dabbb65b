// SPDX-License-Identifier: Apache-2.0
// What stands behind a waxvm::Program.
#ifndef WAXVM_SRC_IMAGE_PROGRAM_REP_H_
#define WAXVM_SRC_IMAGE_PROGRAM_REP_H_

#include <cstddef>
#include <span>
#include <string>

#include "src/base/mapping.h"
#include "src/base/unique_fd.h"
#include "src/image/elf.h"
#include "waxvm/program.h"

namespace waxvm::internal {

/// Immutable after construction, shared by all copies of a Program.
class ProgramRep {
 public:
  ProgramRep(std::string name, NativeFunction function);
  ProgramRep(std::string name, UniqueFd sealed_file, Mapping bytes, std::size_t size,
             image::ElfImage elf);

  Program::Kind kind() const { return kind_; }
  const std::string& name() const { return name_; }
  const NativeFunction& function() const { return function_; }

  /// The parsed image of an ELF program.
  const image::ElfImage& elf() const { return elf_; }
  /// The whole file, read-only.
  std::span<const std::byte> bytes() const { return {bytes_.data(), size_}; }
  /// The same as a sealed memfd (no writing, growing, shrinking), for execveat and mapping.
  int file() const { return file_.get(); }

 private:
  Program::Kind kind_;
  std::string name_;
  NativeFunction function_;
  UniqueFd file_;
  Mapping bytes_;
  std::size_t size_ = 0;
  image::ElfImage elf_;
};

}  // namespace waxvm::internal

#endif  // WAXVM_SRC_IMAGE_PROGRAM_REP_H_
