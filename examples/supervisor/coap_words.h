// SPDX-License-Identifier: Apache-2.0
// What the verbs of `waxvm coap` have in common: flags, where a URI leads, what is printed.
#ifndef WAXVM_EXAMPLES_SUPERVISOR_COAP_WORDS_H_
#define WAXVM_EXAMPLES_SUPERVISOR_COAP_WORDS_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "waxvm/coap_endpoint.h"
#include "waxvm/coap_uri.h"
#include "words.h"

namespace waxvm::cli {

inline constexpr int kExitClientError = 4;  ///< the response was 4.xx
inline constexpr int kExitServerError = 5;  ///< the response was 5.xx
inline constexpr int kExitNobodyThere = 6;  ///< rejected with a reset, or unreachable
inline constexpr int kExitNoAnswer = 124;   ///< none in time

inline constexpr WordFlag kFolderFlag = {
    .name = "folder", .value = "FOLDER", .help = "where names and adverts are (default: ~/.waxvm)"};
inline constexpr WordFlag kDirectoryFlag = {
    .name = "directory", .value = "FILE", .help = "adverts, in place of FOLDER/directory"};
inline constexpr WordFlag kPetnamesFlag = {
    .name = "petnames", .value = "FILE", .help = "petnames, in place of FOLDER/names"};
inline constexpr WordFlag kInterfaceFlag = {
    .name = "interface", .value = "NAME", .help = "of a group or a link-local address"};
inline constexpr WordFlag kVerboseFlag = {
    .name = "verbose", .value = "", .help = "code, options, peer and time on standard error; -v"};

/// The words that are no flags, and whether -v was among them or --verbose given.
struct Given {
  std::vector<std::string_view> words;
  bool verbose = false;
};
Given GivenOf(const Words& words);

/// Where a request goes.
struct CoapTarget {
  coap::Uri uri;
  SocketAddress peer;
};

/// Reads the URI and finds its host: a literal address needs nothing, "localhost" is ::1, any other
/// name is one of the resolver's, with or without ".internal". Errors: kInvalidArgument in words
/// for the person who typed it; those of the resolver.
absl::StatusOr<CoapTarget> FindTarget(const Words& words, std::string_view text);
/// The same where the host must be a group. A key alone is the topic of that key.
absl::StatusOr<CoapTarget> FindGroup(const Words& words, std::string_view text);

/// The index that --interface names, 0 without it.
absl::StatusOr<std::uint32_t> InterfaceOf(const Words& words);

/// The value of --timeout or the like. Errors: kInvalidArgument also for zero.
absl::StatusOr<std::chrono::milliseconds> TimeOf(const Words& words, std::string_view flag,
                                                 std::chrono::milliseconds otherwise);

/// Whole body of --data, --file (- is standard input) or, where `or_input`, standard input.
/// Errors: kInvalidArgument for both; what the system says.
absl::StatusOr<std::string> BodyOf(const Words& words, bool or_input);
/// The format that the flag names. Errors: kInvalidArgument with those that are known.
absl::StatusOr<std::optional<coap::ContentFormat>> FormatOf(const Words& words,
                                                            std::string_view flag);
/// --block-size, as an exponent.
absl::StatusOr<std::uint8_t> BlockExponentOf(const Words& words);

/// "Content-Format: application/json", without anything that a terminal would act upon.
std::string OptionToText(const coap::OptionView& option);
/// Text for a terminal: control characters and what is no UTF-8 become escapes.
std::string Printable(std::string_view bytes);
/// A message as a JSON object.
Json MessageToJson(coap::Code code, coap::OptionsView options, std::string_view payload,
                   const SocketAddress& peer);
/// One line of JSON, whatever bytes are in it.
std::string OneLine(const Json& json);
/// Writes all to standard output. Errors: kUnavailable where it is gone.
absl::Status WriteOut(std::string_view bytes);

/// The verbs that have files of their own.
absl::StatusOr<int> CoapRequest(const Words& words, coap::Code method);
absl::StatusOr<int> CoapObserve(const Words& words);
absl::StatusOr<int> CoapServe(const Words& words);
absl::StatusOr<int> CoapPublish(const Words& words);
absl::StatusOr<int> CoapSubscribe(const Words& words);

}  // namespace waxvm::cli

#endif  // WAXVM_EXAMPLES_SUPERVISOR_COAP_WORDS_H_
