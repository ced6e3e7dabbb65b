// SPDX-License-Identifier: Apache-2.0
// waxvm advert: signed records, made, verified and shown.
#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include "absl/strings/str_format.h"
#include "advert_json.h"
#include "advert_make.h"
#include "commands.h"
#include "keys.h"
#include "prepare.h"
#include "waxvm/advert.h"

namespace waxvm::cli {
namespace {

constexpr WordFlag kVerifyFlags[] = {
    {.name = "now", .value = "SECONDS", .help = "since 1970 (default: the clock)"}};

std::string_view View(std::span<const std::uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Reads no more than an advert as hexadecimal digits could need.
std::string ReadBounded(std::istream& stream) {
  std::string bytes(4 * kMaxAdvertBytes, '\0');
  stream.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bytes.resize(static_cast<std::size_t>(stream.gcount()));
  return bytes;
}

/// The bytes of an advert that the one word stands for: - is standard input, digits are the advert
/// itself, anything else is a file. Files and streams hold the bytes or their digits.
absl::StatusOr<std::string> ReadAdvert(const Words& words) {
  if (words.positional().size() != 1)
    return absl::InvalidArgumentError("give one advert: a file, its hexadecimal digits, or -");
  const std::string word(words.positional()[0]);
  std::string bytes = word;
  if (word == "-") {
    bytes = ReadBounded(std::cin);
  } else if (word.size() < 2 * kSignatureBytes || !Unhex(word)) {
    std::ifstream file(word, std::ios::binary);
    if (!file) return absl::NotFoundError(absl::StrFormat("%s cannot be read", word));
    bytes = ReadBounded(file);
  }
  std::string digits = bytes;
  while (!digits.empty() && (digits.back() == '\n' || digits.back() == '\r')) digits.pop_back();
  if (const auto decoded = Unhex(digits); decoded && !decoded->empty()) return *decoded;
  return bytes;
}

absl::StatusOr<int> Make(const Words& words) {
  const auto advert = MakeAdvert(words);
  if (!advert.ok()) return advert.status();
  if (words.Has("output")) {
    std::ofstream file(std::string(words.Get("output")), std::ios::binary | std::ios::trunc);
    file.write(advert->bytes().data(), static_cast<std::streamsize>(advert->bytes().size()));
    file.close();
    if (!file) return absl::UnavailableError("the output file cannot be written");
  }
  if (!words.json()) {
    if (!words.Has("output")) absl::PrintF("%s\n", Hex(advert->bytes()));
    return kExitOk;
  }
  Json json = AdvertToJson(advert->fields());
  json["hash"] = Hex(View(advert->hash()));
  json["bytes"] = Hex(advert->bytes());
  const absl::Status printed = PrintFields(json, true);
  if (!printed.ok()) return printed;
  return kExitOk;
}

absl::StatusOr<int> VerifyBytes(const Words& words) {
  const auto bytes = ReadAdvert(words);
  if (!bytes.ok()) return bytes.status();
  const auto now = Now(words);
  if (!now.ok()) return now.status();
  const auto advert = Advert::Check(*bytes, *now);
  Json json = {{"valid", advert.ok()},
               {"code", absl::StatusCodeToString(advert.status().code())},
               {"reason", std::string(advert.status().message())}};
  if (advert.ok()) json["hash"] = Hex(View(advert->hash()));
  const absl::Status printed = PrintFields(json, words.json());
  if (!printed.ok()) return printed;
  return advert.ok() ? kExitOk : kExitRefused;
}

absl::StatusOr<int> Show(const Words& words) {
  const auto bytes = ReadAdvert(words);
  if (!bytes.ok()) return bytes.status();
  const auto fields = ParseAdvert(*bytes);
  if (!fields.ok()) return Fail(kExitRefused, fields.status());
  const absl::Status printed = PrintFields(AdvertToJson(*fields), words.json());
  if (!printed.ok()) return printed;
  return kExitOk;
}

}  // namespace

int AdvertCommand(std::span<const std::string_view> arguments) {
  const Verb verbs[] = {
      {.name = "make",
       .words = "",
       .help = "sign an advert; prints its hexadecimal digits",
       .flags = AdvertMakeFlags(),
       .run = Make},
      {.name = "verify",
       .words = "ADVERT",
       .help = "exit code 0 where signatures, address and time hold, else 1; ADVERT is a file, "
               "its digits, or -",
       .flags = kVerifyFlags,
       .run = VerifyBytes},
      {.name = "show",
       .words = "ADVERT",
       .help = "print what it says, believed or not",
       .flags = {},
       .run = Show}};
  return RunVerb("advert", verbs, arguments);
}

}  // namespace waxvm::cli
