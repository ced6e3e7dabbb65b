// SPDX-License-Identifier: Apache-2.0
#include "both.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "absl/strings/str_format.h"
#include "tests/support/process.h"
#include "waxvm/providers.h"
#include "waxvm/supervisor.h"

namespace waxvm::differential {
namespace {

namespace fs = std::filesystem;

std::string Describe(const fs::path& path) {
  struct stat status = {};
  if (lstat(path.c_str(), &status) != 0) return "unreadable";
  // Only times that a program set are the same in two runs; those lie before the year 2001.
  const std::string time = status.st_mtim.tv_sec < 978'307'200
                               ? absl::StrFormat(" modified %d", status.st_mtim.tv_sec)
                               : std::string();
  const std::string mode = absl::StrFormat("mode %o%s", status.st_mode, time);
  if (S_ISLNK(status.st_mode)) return mode + " to " + fs::read_symlink(path).string();
  if (!S_ISREG(status.st_mode)) return mode;
  return absl::StrFormat("%s links %d size %d: %s", mode, status.st_nlink, status.st_size,
                         support::ReadFile(path));
}

/// Adds what lies below `folder`, which is called `name`. Links are described, never followed.
void AddFiles(const fs::path& folder, const std::string& name,
              std::map<std::string, std::string>* files) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string inner = name + entry.path().filename().string();
    (*files)[inner] = Describe(entry.path());
    if (fs::is_directory(entry.symlink_status(error))) AddFiles(entry.path(), inner + "/", files);
  }
}

std::map<std::string, std::string> FilesIn(const std::string& folder) {
  std::map<std::string, std::string> files;
  if (!folder.empty()) AddFiles(folder, "", &files);
  return files;
}

RunOptions ToOptions(const Command& command) {
  RunOptions options;
  options.arguments.assign(command.arguments.begin() + 1, command.arguments.end());
  options.argument_zero = command.arguments[0];
  options.environment = command.environment;
  options.input = command.input;
  options.limits.memory_bytes = command.memory_bytes;
  options.limits.wall_time = command.wall_time * Slowness();
  options.grants = {Clock(), Random()};
  if (command.whole_root) options.grants.push_back(Files("/", "/"));
  if (!command.folder.empty())
    options.grants.push_back(Files(command.folder, command.folder, Rights::kReadWrite));
  return options;
}

std::string Ending(const RunResult& result) {
  std::string text = std::string(OutcomeName(result.outcome));
  if (result.limit) text += " at the limit " + std::string(LimitName(*result.limit));
  if (result.fault) text += ": " + result.fault->detail;
  for (const Denial& denial : result.report.denied)
    text += absl::StrFormat("\n  refused: %s %s%s, %d times", ResourceName(denial.resource),
                            denial.name, denial.write ? " (write)" : "", denial.count);
  return text;
}

/// At most 2 KiB, which ends with what comes last.
std::string Tail(const std::string& text) {
  return text.size() <= 2048 ? text : "…" + text.substr(text.size() - 2048);
}

}  // namespace

Ran RunNatively(const Command& command) {
  support::Completed completed = support::Run(
      command.arguments,
      {.start = {.environment = command.environment, .working_folder = "/", .afresh = true},
       .input = command.input,
       .limit = command.wall_time * Slowness()});
  return {.exit_code = completed.exit_code,
          .output = std::move(completed.output),
          .error = std::move(completed.error),
          .files = FilesIn(command.folder),
          .report = ""};
}

Ran RunInMicroVm(const Command& command) {
  Ran ran;
  const auto result =
      RunOnce(NewMicroVmProvider(), Program::FromFile(command.arguments[0]), ToOptions(command));
  if (!result.ok()) {
    ran.report = "nothing ran: " + std::string(result.status().message());
    return ran;
  }
  ran.exit_code = result->exit_code;
  ran.output = result->output;
  ran.error = result->error_output;
  ran.files = FilesIn(command.folder);
  ran.report = Ending(*result);
  return ran;
}

std::string FirstDifference(std::string_view native, std::string_view isolated) {
  const auto [one, two] = std::ranges::mismatch(native, isolated);
  if (one == native.end() && two == isolated.end()) return "";
  const auto at = static_cast<std::size_t>(one - native.begin());
  const std::size_t start = at == 0 ? 0 : native.rfind('\n', at - 1) + 1;
  const auto line = [start](std::string_view text) {
    if (start >= text.size()) return std::string("(end)");
    return std::string(text.substr(start, std::min(text.find('\n', start) - start, size_t{200})));
  };
  return absl::StrFormat("at byte %d of %d and %d\n  native:  %s\n  microVM: %s\n", at,
                         native.size(), isolated.size(), line(native), line(isolated));
}

std::string Difference(const Ran& native, const Ran& isolated) {
  std::string text;
  if (native.exit_code != isolated.exit_code)
    text +=
        absl::StrFormat("exit code: native %d, microVM %d\n", native.exit_code, isolated.exit_code);
  if (const auto output = FirstDifference(native.output, isolated.output); !output.empty())
    text += "standard output differs " + output;
  if (const auto error = FirstDifference(native.error, isolated.error); !error.empty())
    text += "standard error differs " + error;
  auto files = native.files;
  files.insert(isolated.files.begin(), isolated.files.end());
  for (const auto& [name, ignored] : files) {
    const auto there = [&path = name](const Ran& ran) {
      const auto found = ran.files.find(path);
      return found == ran.files.end() ? std::string("not there") : found->second;
    };
    if (const auto file = FirstDifference(there(native), there(isolated)); !file.empty())
      text += "file " + name + " differs " + file;
    if (text.size() > 4096) break;
  }
  if (text.empty()) return text;
  return text + "microVM " + isolated.report + "\nits standard error: " + Tail(isolated.error) +
         "\nits output: " + Tail(isolated.output) + "\n";
}

std::string WhyNoMicroVm() {
  const absl::Status available = NewMicroVmProvider()->Available();
  return available.ok() ? "" : "microvm is not available: " + std::string(available.message());
}

std::string GuestPath(const std::string& name) {
  const char* folder = std::getenv("WAXVM_GUEST_DIR");
  return std::string(folder != nullptr ? folder : WAXVM_GUEST_DIR) + "/" + name;
}

int Slowness() {
  return std::getenv("WAXVM_LANE") != nullptr || std::getenv("WAXVM_HARDWARE_LANE") != nullptr
             ? 20
             : WAXVM_SANITIZER_SLOWNESS;
}

Scratch::Scratch() {
  std::string name = (fs::temp_directory_path() / "waxvm_both.XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) std::abort();
  base_ = name;
  folder_ = name + "/work";
}

Scratch::~Scratch() {
  std::error_code ignored;
  fs::remove_all(base_, ignored);
}

const std::string& Scratch::Fresh() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
  fs::create_directory(folder_, ignored);
  return folder_;
}

}  // namespace waxvm::differential
