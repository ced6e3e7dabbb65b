// SPDX-License-Identifier: Apache-2.0
#include "command.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>

namespace waxvm::integration {
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

/// A reader of JSON that keeps nothing but where values start and end.
class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  bool Object(std::map<std::string, std::string>* members) {
    if (!Take('{')) return false;
    if (Take('}')) return true;
    do {
      Space();
      const std::size_t name = at_;
      if (!String() || !Take(':')) return false;
      const std::size_t name_end = text_.rfind('"', at_ - 2);
      Space();
      const std::size_t value = at_;
      if (!Value()) return false;
      if (members != nullptr)
        (*members)[std::string(text_.substr(name + 1, name_end - name - 1))] =
            text_.substr(value, at_ - value);
    } while (Take(','));
    return Take('}');
  }

  bool AtEnd() {
    Space();
    return at_ == text_.size();
  }

 private:
  void Space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != text_.npos) ++at_;
  }
  bool Take(char c) {
    Space();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool Literal(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  bool String() {
    if (!Take('"')) return false;
    for (; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (static_cast<unsigned char>(text_[at_]) < 0x20) return false;
      if (text_[at_] == '\\') ++at_;
    }
    return Take('"');
  }
  bool Number() {
    const std::size_t start = at_;
    while (at_ < text_.size() && std::string_view("+-.eE0123456789").find(text_[at_]) != text_.npos)
      ++at_;
    return at_ != start;
  }
  bool Array() {
    if (!Take('[')) return false;
    if (Take(']')) return true;
    do {
      Space();
      if (!Value()) return false;
    } while (Take(','));
    return Take(']');
  }
  bool Value() {
    if (at_ == text_.size()) return false;
    switch (text_[at_]) {
      case '{':
        return Object(nullptr);
      case '[':
        return Array();
      case '"':
        return String();
      case 't':
        return Literal("true");
      case 'f':
        return Literal("false");
      case 'n':
        return Literal("null");
      default:
        return Number();
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

pid_t StartCommand(const std::vector<std::string>& arguments, int input_fd, int output_fd,
                   int error_fd, const std::string& working_folder) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  char variable[] = "WAXVM_AMBIENT=leaked";
  char* environment[] = {variable, nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input_fd, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output_fd, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, error_fd, STDERR_FILENO);
  if (!working_folder.empty())
    posix_spawn_file_actions_addchdir_np(&actions, working_folder.c_str());
  pid_t child = -1;
  if (posix_spawn(&child, argv[0], &actions, nullptr, argv.data(), environment) != 0) child = -1;
  posix_spawn_file_actions_destroy(&actions);
  return child;
}

int Wait(pid_t child) {
  int status = 0;
  while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (child <= 0) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

Completed RunCommand(const std::vector<std::string>& arguments, const CommandOptions& options) {
  const int input = MemoryFile();
  const int output = MemoryFile();
  const int error = MemoryFile();
  if (write(input, options.input.data(), options.input.size()) < 0) return {};
  lseek(input, 0, SEEK_SET);
  const pid_t child =
      StartCommand(arguments, input, options.output_fd >= 0 ? options.output_fd : output, error,
                   options.working_folder);
  Completed completed;
  completed.exit_code = Wait(child);
  close(input);
  completed.output = Drain(output);
  completed.error = Drain(error);
  return completed;
}

std::vector<std::string> WaxvmRun(const std::string& provider,
                                  const std::vector<std::string>& flags,
                                  const std::vector<std::string>& program) {
  std::vector<std::string> arguments = {WAXVM_COMMAND, "run", "--provider=" + provider};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  arguments.push_back("--");
  arguments.insert(arguments.end(), program.begin(), program.end());
  return arguments;
}

std::string Guest(const std::string& name) { return std::string(WAXVM_GUEST_DIR) + "/" + name; }

std::string WhyNot(const std::string& provider) {
  const Completed run = RunCommand(WaxvmRun(provider, {}, {Guest("true_musl")}));
  return run.exit_code == 125 && run.error.find("is not available") != std::string::npos ? run.error
                                                                                         : "";
}

std::optional<std::map<std::string, std::string>> ParseJsonObject(std::string_view text) {
  std::map<std::string, std::string> members;
  JsonReader reader(text);
  if (!reader.Object(&members) || !reader.AtEnd()) return std::nullopt;
  return members;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream contents;
  contents << file.rdbuf();
  return contents.str();
}

}  // namespace waxvm::integration
