// SPDX-License-Identifier: Apache-2.0
#include "src/image/program_rep.h"

#include <utility>

namespace waxvm::internal {

ProgramRep::ProgramRep(std::string name, NativeFunction function)
    : kind_(Program::Kind::kNative), name_(std::move(name)), function_(std::move(function)) {}

ProgramRep::ProgramRep(std::string name, UniqueFd sealed_file, Mapping bytes, std::size_t size,
                       image::ElfImage elf)
    : kind_(Program::Kind::kElf),
      name_(std::move(name)),
      file_(std::move(sealed_file)),
      bytes_(std::move(bytes)),
      size_(size),
      elf_(std::move(elf)) {}

}  // namespace waxvm::internal
