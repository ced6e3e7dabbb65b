// SPDX-License-Identifier: Apache-2.0
// Command lines of the form `waxvm NOUN VERB [--flag=value…] [words…]`, where each verb has flags
// of its own.
#ifndef WAXVM_EXAMPLES_SUPERVISOR_WORDS_H_
#define WAXVM_EXAMPLES_SUPERVISOR_WORDS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace waxvm::cli {

/// Fields in the order in which they were added.
using Json = nlohmann::ordered_json;

struct WordFlag {
  std::string_view name;
  std::string_view value;  ///< how the help calls it; empty: a switch
  std::string_view help;
  bool repeatable = false;
};

/// What follows a verb, sorted. --json is a flag of all verbs.
class Words {
 public:
  /// Errors: kInvalidArgument in words for the person who typed it.
  static absl::StatusOr<Words> Parse(std::span<const std::string_view> arguments,
                                     std::span<const WordFlag> flags);

  bool Has(std::string_view flag) const { return values_.count(flag) != 0; }
  /// The value of a flag; `otherwise` where it is not given.
  std::string_view Get(std::string_view flag, std::string_view otherwise = "") const;
  std::vector<std::string_view> All(std::string_view flag) const;
  /// A whole number up to `max`; `otherwise` where the flag is not given.
  absl::StatusOr<std::uint64_t> Number(std::string_view flag, std::uint64_t otherwise,
                                       std::uint64_t max) const;
  /// A time such as 1h, in whole seconds.
  absl::StatusOr<std::uint64_t> Seconds(std::string_view flag, std::uint64_t otherwise) const;
  bool json() const { return Has("json"); }
  const std::vector<std::string_view>& positional() const { return positional_; }

 private:
  std::map<std::string_view, std::vector<std::string_view>> values_;
  std::vector<std::string_view> positional_;
};

struct Verb {
  std::string_view name;
  std::string_view words;  ///< after the flags, for the help
  std::string_view help;
  std::span<const WordFlag> flags;
  /// Returns the exit code; an error is printed and makes it 125.
  absl::StatusOr<int> (*run)(const Words& words);
};

/// Runs the verb that arguments[0] names, or prints the help of all of them.
int RunVerb(std::string_view noun, std::span<const Verb> verbs,
            std::span<const std::string_view> arguments);

/// The help of a noun, as `waxvm NOUN --help` prints it.
std::string VerbHelp(std::string_view noun, std::span<const Verb> verbs);

/// Prints an object as JSON, or, without `json`, as one line a field. Errors: kUnavailable where
/// standard output is gone.
absl::Status PrintFields(const Json& fields, bool json);

/// A whole number in decimal. Errors: kInvalidArgument.
absl::StatusOr<std::uint64_t> ParseNumber(std::string_view text, std::uint64_t max);

std::string Hex(std::string_view bytes);
/// Empty where it is no even number of hexadecimal digits.
std::optional<std::string> Unhex(std::string_view digits);

}  // namespace waxvm::cli

#endif  // WAXVM_EXAMPLES_SUPERVISOR_WORDS_H_
