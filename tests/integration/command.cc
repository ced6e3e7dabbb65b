// SPDX-License-Identifier: Apache-2.0
#include "command.h"

namespace waxvm::integration {
namespace {

support::StartOptions HowToStart(const std::string& working_folder) {
  return {
      .environment = {"WAXVM_AMBIENT=leaked"}, .working_folder = working_folder, .afresh = false};
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
  return support::Start(arguments, HowToStart(working_folder), input_fd, output_fd, error_fd);
}

Completed RunCommand(const std::vector<std::string>& arguments, const CommandOptions& options) {
  return support::Run(arguments, {.start = HowToStart(options.working_folder),
                                  .input = options.input,
                                  .output_fd = options.output_fd,
                                  .limit = std::nullopt});
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

}  // namespace waxvm::integration
