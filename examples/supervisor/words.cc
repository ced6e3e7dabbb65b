// SPDX-License-Identifier: Apache-2.0
#include "words.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <utility>

#include "absl/strings/str_format.h"
#include "commands.h"
#include "flags.h"
#include "prepare.h"

namespace waxvm::cli {
namespace {

constexpr WordFlag kJson = {.name = "json", .value = "", .help = "print JSON"};

template <typename... Args>
absl::Status Refuse(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::InvalidArgumentError(absl::StrFormat(format, args...));
}

absl::Status UnknownFlag(std::string_view name, std::span<const WordFlag> flags) {
  std::vector<std::string_view> names;
  for (const WordFlag& flag : flags) names.push_back(flag.name);
  const std::string_view nearest = Nearest(name, names);
  if (nearest.empty()) return Refuse("unknown flag --%s", name);
  return Refuse("unknown flag --%s; did you mean --%s?", name, nearest);
}

}  // namespace

absl::StatusOr<Words> Words::Parse(std::span<const std::string_view> arguments,
                                   std::span<const WordFlag> flags) {
  Words words;
  bool only_words = false;
  for (std::size_t at = 0; at < arguments.size(); ++at) {
    const std::string_view argument = arguments[at];
    if (only_words || !argument.starts_with("--")) {
      words.positional_.push_back(argument);
      continue;
    }
    if (argument == "--") {
      only_words = true;
      continue;
    }
    const std::size_t equals = std::min(argument.find('='), argument.size());
    const std::string_view name = argument.substr(2, equals - 2);
    const auto known = std::find_if(flags.begin(), flags.end(),
                                    [&](const WordFlag& flag) { return flag.name == name; });
    if (known == flags.end() && name != kJson.name) return UnknownFlag(name, flags);
    const WordFlag& flag = known == flags.end() ? kJson : *known;
    std::vector<std::string_view>& values = words.values_[flag.name];
    if (!values.empty() && !flag.repeatable) return Refuse("--%s is given twice", name);
    if (equals < argument.size() && flag.value.empty()) return Refuse("--%s has no value", name);
    if (flag.value.empty()) {
      values.emplace_back();
    } else if (equals < argument.size()) {
      values.push_back(argument.substr(equals + 1));
    } else if (++at < arguments.size()) {
      values.push_back(arguments[at]);
    } else {
      return Refuse("--%s needs a value: --%s=%s", name, name, flag.value);
    }
  }
  return words;
}

std::string_view Words::Get(std::string_view flag, std::string_view otherwise) const {
  const auto found = values_.find(flag);
  return found == values_.end() ? otherwise : found->second.front();
}

std::vector<std::string_view> Words::All(std::string_view flag) const {
  const auto found = values_.find(flag);
  return found == values_.end() ? std::vector<std::string_view>() : found->second;
}

absl::StatusOr<std::uint64_t> Words::Number(std::string_view flag, std::uint64_t otherwise,
                                            std::uint64_t max) const {
  if (!Has(flag)) return otherwise;
  const auto number = ParseNumber(Get(flag), max);
  if (!number.ok()) return Refuse("--%s: %s", flag, std::string(number.status().message()));
  return number;
}

absl::StatusOr<std::uint64_t> Words::Seconds(std::string_view flag, std::uint64_t otherwise) const {
  if (!Has(flag)) return otherwise;
  const auto time = ParseDuration(Get(flag));
  if (!time.ok()) return Refuse("--%s: %s", flag, std::string(time.status().message()));
  return static_cast<std::uint64_t>(std::chrono::floor<std::chrono::seconds>(*time).count());
}

int RunVerb(std::string_view noun, std::span<const Verb> verbs,
            std::span<const std::string_view> arguments) {
  const auto asks_help = [](std::string_view word) { return word == "--help" || word == "-h"; };
  if (!arguments.empty() && std::any_of(arguments.begin(), arguments.end(), asks_help)) {
    absl::PrintF("%s", VerbHelp(noun, verbs));
    return kExitOk;
  }
  std::vector<std::string_view> names;
  for (const Verb& verb : verbs) names.push_back(verb.name);
  const std::string_view name = arguments.empty() ? "" : arguments[0];
  const auto verb =
      std::find_if(verbs.begin(), verbs.end(), [&](const Verb& v) { return v.name == name; });
  if (verb == verbs.end()) {
    std::string list;
    for (const std::string_view known : names) list.append(list.empty() ? "" : ", ").append(known);
    return Fail(kExitFailed,
                Refuse("waxvm %s does not know '%s'; there are %s, see waxvm %s --help", noun, name,
                       list, noun));
  }
  const auto words = Words::Parse(arguments.subspan(1), verb->flags);
  if (!words.ok()) return Fail(kExitFailed, words.status());
  const auto exit_code = verb->run(*words);
  return exit_code.ok() ? *exit_code : Fail(kExitFailed, exit_code.status());
}

std::string VerbHelp(std::string_view noun, std::span<const Verb> verbs) {
  std::string help;
  for (const Verb& verb : verbs) {
    absl::StrAppendFormat(&help, "  waxvm %s %s [flags] %s\n      %s\n", noun, verb.name,
                          verb.words, verb.help);
    for (const WordFlag& flag : verb.flags)
      absl::StrAppendFormat(&help, "    --%-29s %s\n",
                            flag.value.empty() ? std::string(flag.name)
                                               : absl::StrFormat("%s=%s", flag.name, flag.value),
                            flag.help);
    absl::StrAppendFormat(&help, "    --%-29s %s\n\n", kJson.name, kJson.help);
  }
  return help;
}

absl::Status PrintFields(const Json& fields, bool json) {
  std::string text;
  if (json) {
    text = fields.dump(2) + "\n";
  } else {
    for (const auto& [name, value] : fields.items())
      absl::StrAppendFormat(&text, "%-16s %s\n", name,
                            value.is_string() ? value.get<std::string>() : value.dump());
  }
  if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0)
    return absl::UnavailableError("standard output cannot be written");
  return absl::OkStatus();
}

absl::StatusOr<std::uint64_t> ParseNumber(std::string_view text, std::uint64_t max) {
  std::uint64_t number = 0;
  const bool digits = !text.empty() && std::all_of(text.begin(), text.end(),
                                                   [](char c) { return c >= '0' && c <= '9'; });
  for (const char c : text) {
    if (!digits || __builtin_mul_overflow(number, 10, &number) ||
        __builtin_add_overflow(number, c - '0', &number))
      number = UINT64_MAX;
  }
  if (!digits || number > max)
    return Refuse("'%s' is not a whole number from 0 to %d", text.substr(0, 80), max);
  return number;
}

std::string Hex(std::string_view bytes) {
  std::string digits;
  for (const char c : bytes)
    absl::StrAppendFormat(&digits, "%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
  return digits;
}

std::optional<std::string> Unhex(std::string_view digits) {
  const auto value = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  if (digits.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  for (std::size_t i = 0; i < digits.size(); i += 2) {
    const int high = value(digits[i]);
    const int low = value(digits[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(high << 4 | low));
  }
  return bytes;
}

}  // namespace waxvm::cli
