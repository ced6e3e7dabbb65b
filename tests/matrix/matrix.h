// SPDX-License-Identifier: Apache-2.0
// The languages and interpreters that are tried in a microVM.
#ifndef WAXVM_TESTS_MATRIX_MATRIX_H_
#define WAXVM_TESTS_MATRIX_MATRIX_H_

#include <cstdint>
#include <span>
#include <string_view>

namespace waxvm::matrix {

struct Entry {
  std::string_view name;         ///< of the test and of the built program
  std::string_view what;         ///< for people
  std::string_view package;      ///< Debian's, which brings the compiler or the interpreter
  std::string_view source = "";  ///< in programs/
  std::string_view tries = "";   ///< what the source exercises
  /// Run in front of the source, words separated by blanks; empty: the source is compiled.
  /// FOLDER and SOURCE stand for paths.
  std::string_view command = "";
  bool whole_root = true;  ///< the host's root is granted for reading
  std::uint64_t memory_mib = 512;
  std::string_view not_yet = "";  ///< why it does not run; "": it runs
};

std::span<const Entry> Entries();

}  // namespace waxvm::matrix

#endif  // WAXVM_TESTS_MATRIX_MATRIX_H_
