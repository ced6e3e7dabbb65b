// SPDX-License-Identifier: Apache-2.0
#include "tests/coap/npm.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "absl/strings/str_format.h"
#include "tests/support/process.h"

namespace waxvm::coap {

std::string FindProgram(std::string_view program) {
  const char* const path = std::getenv("PATH");
  std::istringstream folders(path != nullptr ? path : "/usr/bin:/bin");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string file = folder + '/' + std::string(program);
    if (access(file.c_str(), X_OK) == 0) return file;
  }
  return "";
}

std::string InstallPackage(const std::string& folder, const std::string& package) {
  if (FindProgram("node").empty()) return "there is no node here";
  const std::string name = package.substr(0, package.find('@'));
  const std::filesystem::path root = folder;
  if (std::filesystem::exists(root / "node_modules" / name / "package.json")) return "";
  const std::string npm = FindProgram("npm");
  if (npm.empty()) return "there is no npm here";
  std::filesystem::create_directories(root);
  support::RunOptions options;
  options.limit = std::chrono::seconds(60);
  options.start.working_folder = folder;
  for (char** entry = environ; *entry != nullptr; ++entry)
    options.start.environment.emplace_back(*entry);
  const support::Completed done =
      support::Run({npm, "install", "--prefix", folder, "--no-audit", "--no-fund", "--no-save",
                    "--ignore-scripts", package},
                   options);
  if (done.exit_code == 0) return "";
  return absl::StrFormat("npm cannot install %s: %s", package, done.error.substr(0, 300));
}

}  // namespace waxvm::coap
