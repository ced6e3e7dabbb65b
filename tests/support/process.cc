// SPDX-License-Identifier: Apache-2.0
#include "tests/support/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>

namespace waxvm::support {
namespace {

int MemoryFile() { return memfd_create("stream", MFD_CLOEXEC); }

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

void StartAfresh(posix_spawnattr_t* attributes) {
  sigset_t all;
  sigset_t none;
  sigfillset(&all);
  sigemptyset(&none);
  posix_spawnattr_setsigdefault(attributes, &all);
  posix_spawnattr_setsigmask(attributes, &none);
  posix_spawnattr_setflags(attributes,
                           POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
}

void KillAfter(pid_t child, std::chrono::milliseconds limit) {
  const int handle = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
  pollfd ended = {handle, POLLIN, 0};
  if (handle < 0 || poll(&ended, 1, static_cast<int>(limit.count())) <= 0) kill(child, SIGKILL);
  if (handle >= 0) close(handle);
}

}  // namespace

pid_t Start(const std::vector<std::string>& arguments, const StartOptions& options, int input_fd,
            int output_fd, int error_fd) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input_fd, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output_fd, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, error_fd, STDERR_FILENO);
  if (!options.working_folder.empty())
    posix_spawn_file_actions_addchdir_np(&actions, options.working_folder.c_str());
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  if (options.afresh) StartAfresh(&attributes);
  const auto argv = Pointers(arguments);
  const auto environment = Pointers(options.environment);
  pid_t child = -1;
  if (posix_spawn(&child, argv[0], &actions, &attributes, argv.data(), environment.data()) != 0)
    child = -1;
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return child;
}

int Wait(pid_t child, std::optional<std::chrono::milliseconds> limit) {
  if (child <= 0) return -1;
  if (limit) KillAfter(child, *limit);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

Completed Run(const std::vector<std::string>& arguments, const RunOptions& options) {
  const int input = MemoryFile();
  const int output = MemoryFile();
  const int error = MemoryFile();
  Completed completed;
  if (write(input, options.input.data(), options.input.size()) >= 0) {
    lseek(input, 0, SEEK_SET);
    const int shown = options.output_fd >= 0 ? options.output_fd : output;
    completed.exit_code = Wait(Start(arguments, options.start, input, shown, error), options.limit);
  }
  close(input);
  completed.output = Drain(output);
  completed.error = Drain(error);
  return completed;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream contents;
  contents << file.rdbuf();
  return contents.str();
}

}  // namespace waxvm::support
