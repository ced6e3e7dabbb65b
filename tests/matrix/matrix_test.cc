// SPDX-License-Identifier: Apache-2.0
// Every entry of the language matrix natively and in a microVM: the same output, exit code and
// files.
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <ostream>
#include <string>

#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "matrix.h"
#include "tests/differential/both.h"

namespace waxvm::matrix {

void PrintTo(const Entry& entry, std::ostream* out) { *out << entry.name; }

namespace {

using differential::Command;
using differential::Ran;

class Matrix : public testing::TestWithParam<Entry> {
 protected:
  void SetUp() override {
    const std::string reason = differential::WhyNoMicroVm();
    if (!reason.empty()) GTEST_SKIP() << reason;
  }

  /// The program with its arguments; sources lie beside the folder, not in it.
  Command Prepare(const std::string& folder) const {
    const Entry& entry = GetParam();
    const std::string source = std::string(WAXVM_MATRIX_SOURCES) + "/" + std::string(entry.source);
    Command command;
    if (entry.command.empty())
      command.arguments = {std::string(WAXVM_MATRIX_PROGRAMS) + "/" + std::string(entry.name),
                           folder};
    else
      for (const absl::string_view word :
           absl::StrSplit(absl::string_view(entry.command.data(), entry.command.size()), ' '))
        command.arguments.push_back(
            absl::StrReplaceAll(word, {{"SOURCE", source}, {"FOLDER", folder}}));
    for (int i = 0; i < 200; ++i) command.input += "line " + std::to_string(i * 7919) + "\n";
    command.folder = folder;
    command.whole_root = entry.whole_root;
    command.memory_bytes = entry.memory_mib << 20;
    command.environment = {"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"};
    return command;
  }

  differential::Scratch scratch_;
};

TEST_P(Matrix, SameAsNative) {
  const Entry& entry = GetParam();
  const Command command = Prepare(scratch_.Fresh());
  if (access(command.arguments[0].c_str(), X_OK) != 0)
    GTEST_SKIP() << entry.package << " is not installed, or its program is not built";
  const Ran native = RunNatively(command);
  scratch_.Fresh();
  const Ran isolated = RunInMicroVm(command);
  const std::string difference = Difference(native, isolated);
  if (!entry.not_yet.empty()) {
    if (difference.empty()) FAIL() << "runs now: take not_yet out of its entry in matrix.cc";
    GTEST_SKIP() << difference << "not yet: " << entry.not_yet;
  }
  if (!difference.empty()) FAIL() << difference;
}

INSTANTIATE_TEST_SUITE_P(Every, Matrix, testing::ValuesIn(Entries().begin(), Entries().end()),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace waxvm::matrix
