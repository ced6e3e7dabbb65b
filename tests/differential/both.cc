// SPDX-License-Identifier: Apache-2.0
#include "both.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_format.h"
#include "waxvm/providers.h"
#include "waxvm/supervisor.h"

namespace waxvm::differential {
namespace {

namespace fs = std::filesystem;

std::string Drain(int fd) {
  std::string contents;
  char buffer[65536];
  lseek(fd, 0, SEEK_SET);
  for (ssize_t bytes; (bytes = read(fd, buffer, sizeof buffer)) > 0;)
    contents.append(buffer, static_cast<std::size_t>(bytes));
  close(fd);
  return contents;
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& text : strings) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

/// Every signal at its default: a native program must not inherit what this process ignores.
void DefaultSignals(posix_spawnattr_t* attributes) {
  sigset_t all;
  sigset_t none;
  sigfillset(&all);
  sigemptyset(&none);
  posix_spawnattr_init(attributes);
  posix_spawnattr_setsigdefault(attributes, &all);
  posix_spawnattr_setsigmask(attributes, &none);
  posix_spawnattr_setflags(attributes,
                           POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
}

/// The exit code as a shell has it; a child that takes longer than `limit` is killed.
int WaitFor(pid_t child, std::chrono::milliseconds limit) {
  if (child <= 0) return -1;
  const int handle = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
  pollfd ended = {handle, POLLIN, 0};
  if (handle < 0 || poll(&ended, 1, static_cast<int>(limit.count())) <= 0) kill(child, SIGKILL);
  if (handle >= 0) close(handle);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string Contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream contents;
  contents << file.rdbuf();
  return contents.str();
}

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
                         Contents(path));
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
  const int input = memfd_create("input", MFD_CLOEXEC);
  const int output = memfd_create("output", MFD_CLOEXEC);
  const int error = memfd_create("error", MFD_CLOEXEC);
  if (write(input, command.input.data(), command.input.size()) < 0) return {};
  lseek(input, 0, SEEK_SET);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, error, STDERR_FILENO);
  posix_spawn_file_actions_addchdir_np(&actions, "/");
  posix_spawnattr_t attributes;
  DefaultSignals(&attributes);
  const auto argv = Pointers(command.arguments);
  const auto environment = Pointers(command.environment);
  pid_t child = -1;
  if (posix_spawn(&child, argv[0], &actions, &attributes, argv.data(), environment.data()) != 0)
    child = -1;
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  Ran ran;
  ran.exit_code = WaitFor(child, command.wall_time * Slowness());
  close(input);
  ran.output = Drain(output);
  ran.error = Drain(error);
  ran.files = FilesIn(command.folder);
  return ran;
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
    const auto there = [&](const Ran& ran) {
      const auto found = ran.files.find(name);
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
