// SPDX-License-Identifier: Apache-2.0
// Prints docs/language-matrix.md.
#include <algorithm>
#include <string>

#include "absl/strings/str_format.h"
#include "matrix.h"

int main() {
  const auto entries = waxvm::matrix::Entries();
  absl::PrintF(
      "# The language matrix\n\n"
      "<!-- Generated from tests/matrix/matrix.cc; do not edit. To write it anew:\n"
      "     cmake --build build/release --target language_matrix_page\n"
      "     build/release/tests/matrix/language_matrix_page > docs/language-matrix.md -->\n\n"
      "Programs that `tools/test matrix` builds with Debian 12's own toolchains, or interpreters "
      "as\n"
      "Debian ships them, each run natively and in a microVM on the same input: the same output,\n"
      "exit code and files. Dynamically linked ones get the host's root for reading\n"
      "(`--grant=files:/:/:ro`); all get a folder for writing, clock and random. What a microVM "
      "does\n"
      "not offer, above all other processes, is in [linux-abi.md](linux-abi.md). The sources are "
      "in\n"
      "`tests/matrix/programs`.\n\n");
  const auto runs = std::ranges::count_if(
      entries, [](const waxvm::matrix::Entry& entry) { return entry.not_yet.empty(); });
  absl::PrintF("%d of %d run.\n\n", runs, entries.size());
  absl::PrintF("| language or program | package | linked | exercised | runs |\n");
  absl::PrintF("|---|---|---|---|---|\n");
  for (const auto& entry : entries)
    absl::PrintF("| %s | `%s` | %s | %s | %s |\n", entry.what, entry.package,
                 entry.whole_root ? "dynamic" : "static", entry.tries,
                 entry.not_yet.empty() ? "yes" : "not yet: " + std::string(entry.not_yet));
}
