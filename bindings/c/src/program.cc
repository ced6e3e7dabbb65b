// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <span>

#include "support.h"

using waxvm::Program;
using waxvm::c::Guard;

namespace {

absl::Status Give(absl::StatusOr<Program> opened, waxvm_program** program) {
  if (!opened.ok()) return opened.status();
  *program = new waxvm_program{*std::move(opened)};
  return absl::OkStatus();
}

}  // namespace

extern "C" {

const char* waxvm_version(void) { return WAXVM_VERSION; }

waxvm_status waxvm_program_open_file(const char* path, waxvm_program** program,
                                     waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(program);
    *program = nullptr;
    WAXVM_C_REQUIRE(path);
    return Give(Program::FromFile(path), program);
  });
}

waxvm_status waxvm_program_open_bytes(const void* bytes, size_t byte_count, const char* name,
                                      waxvm_program** program, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(program);
    *program = nullptr;
    WAXVM_C_REQUIRE(bytes);
    WAXVM_C_REQUIRE(name);
    return Give(Program::FromBytes({static_cast<const std::byte*>(bytes), byte_count}, name),
                program);
  });
}

waxvm_status waxvm_program_open_image(const waxvm_image* image, const char* path,
                                      waxvm_program** program, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(program);
    *program = nullptr;
    WAXVM_C_REQUIRE(image);
    WAXVM_C_REQUIRE(path);
    return Give(image->image.OpenProgram(path), program);
  });
}

void waxvm_program_close(waxvm_program* program) { delete program; }

}  // extern "C"
