// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_TESTS_INTEGRATION_FIXTURE_H_
#define WAXVM_TESTS_INTEGRATION_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "command.h"

namespace waxvm::integration {

/// Every test has a folder of its own, gone with it.
class WithFolder : public testing::Test {
 protected:
  WithFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "waxvm_cli.XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) std::abort();
    std::filesystem::permissions(name, std::filesystem::perms::all);
    folder_ = name;
  }
  ~WithFolder() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  std::string Path(const std::string& name) const { return folder_ + "/" + name; }

  std::string folder_;
};

/// Run once for each provider that runs files; skipped, with the provider's own reason, where it
/// does not work.
class EachProvider : public WithFolder, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    if (const std::string reason = WhyNot(GetParam()); !reason.empty()) GTEST_SKIP() << reason;
  }

  /// Runs a guest of tests/guests.
  Completed Waxvm(const std::vector<std::string>& flags, const std::vector<std::string>& program,
                  const CommandOptions& options = {}) const {
    std::vector<std::string> guest = program;
    guest[0] = Guest(guest[0]);
    return RunCommand(WaxvmRun(GetParam(), flags, guest), options);
  }
};

}  // namespace waxvm::integration

#endif  // WAXVM_TESTS_INTEGRATION_FIXTURE_H_
