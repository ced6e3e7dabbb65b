// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_TESTS_CONFORMANCE_NATIVE_PROGRAMS_H_
#define WAXVM_TESTS_CONFORMANCE_NATIVE_PROGRAMS_H_

#include <optional>
#include <string>

#include "waxvm/program.h"

namespace waxvm::conformance {

/// The native function that does what the guest of that name does, or empty where native functions
/// cannot do such a thing.
std::optional<Program> FindNativeProgram(const std::string& name);

}  // namespace waxvm::conformance

#endif  // WAXVM_TESTS_CONFORMANCE_NATIVE_PROGRAMS_H_
