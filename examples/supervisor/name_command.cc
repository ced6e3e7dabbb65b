// SPDX-License-Identifier: Apache-2.0
// waxvm name: petnames, adverts kept in a directory, and what a name means.
#include <chrono>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "advert_json.h"
#include "advert_make.h"
#include "commands.h"
#include "keys.h"
#include "prepare.h"
#include "waxvm/directory.h"
#include "waxvm/petnames.h"
#include "waxvm/resolver.h"

namespace waxvm::cli {
namespace {

constexpr WordFlag kFolderFlag = {
    .name = "folder", .value = "FOLDER", .help = "where names and adverts are (default: ~/.waxvm)"};
constexpr WordFlag kNowFlag = {
    .name = "now", .value = "SECONDS", .help = "since 1970 (default: the clock)"};

constexpr WordFlag kSetFlags[] = {kFolderFlag,
                                  kNowFlag,
                                  {.name = "advert",
                                   .value = "FILE",
                                   .help = "keep this advert too; may be repeated",
                                   .repeatable = true},
                                  {.name = "remove", .value = "", .help = "forget NAME"}};
constexpr WordFlag kResolveFlags[] = {kFolderFlag, kNowFlag};
constexpr WordFlag kListFlags[] = {kFolderFlag};

/// The names and adverts of a folder.
struct Book {
  Petnames petnames;
  std::unique_ptr<Directory> directory;
};

absl::StatusOr<Book> OpenBook(const Words& words) {
  std::string folder(words.Get("folder"));
  if (!words.Has("folder")) {
    auto home = HomeFolder();
    if (!home.ok()) return home.status();
    folder = *std::move(home);
  }
  auto petnames = Petnames::Open(folder + "/names");
  if (!petnames.ok()) return petnames.status();
  auto directory = OpenDirectory(folder + "/directory");
  if (!directory.ok()) return directory.status();
  return Book{.petnames = *std::move(petnames), .directory = *std::move(directory)};
}

absl::Status KeepAdverts(const Words& words, Directory& directory, Json& accepted) {
  const auto now = Now(words);
  if (!now.ok()) return now.status();
  for (const std::string_view path : words.All("advert")) {
    std::ifstream file(std::string(path), std::ios::binary);
    if (!file) return absl::NotFoundError(absl::StrFormat("%s cannot be read", path));
    std::string bytes(kMaxAdvertBytes + 1, '\0');
    file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    bytes.resize(static_cast<std::size_t>(file.gcount()));
    const auto advert = Accept(directory, bytes, *now);
    if (!advert.ok())
      return absl::Status(advert.status().code(),
                          absl::StrFormat("%s: %s", path, std::string(advert.status().message())));
    accepted.push_back(AdvertToJson(advert->fields()));
  }
  return absl::OkStatus();
}

absl::StatusOr<int> SetName(const Words& words) {
  const auto& given = words.positional();
  const bool removes = words.Has("remove");
  const bool names = !given.empty();
  if (given.size() != (removes ? 1u : 2u) && (names || words.All("advert").empty()))
    return absl::InvalidArgumentError("write waxvm name set NAME PUBLIC-KEY, or --advert=FILE");
  auto book = OpenBook(words);
  if (!book.ok()) return book.status();
  Json fields = Json::object();
  if (removes) {
    const absl::Status status = book->petnames.Remove(given[0]);
    if (!status.ok()) return Fail(kExitRefused, status);
    fields["removed"] = given[0];
  } else if (names) {
    const auto key = PublicKey::Parse(given[1]);
    if (!key.ok()) return key.status();
    const absl::Status status = book->petnames.Set(given[0], *key);
    if (!status.ok()) return status;
    fields["name"] = given[0];
    fields["public_key"] = key->ToHex();
  }
  Json accepted = Json::array();
  const absl::Status kept = KeepAdverts(words, *book->directory, accepted);
  if (!kept.ok()) return Fail(kExitRefused, kept);
  if (!accepted.empty()) fields["adverts"] = accepted;
  const absl::Status printed = PrintFields(fields, words.json());
  if (!printed.ok()) return printed;
  return kExitOk;
}

Json ToJson(const Resolution& found) {
  Json json = {{"name", found.name},
               {"public_key", found.key.ToHex()},
               {"type", AdvertTypeName(found.type)},
               {"address", found.address.ToText()}};
  json["host"] = found.host ? Json(found.host->ToHex()) : Json(nullptr);
  Json services = Json::array();
  for (const AdvertisedService& service : found.services)
    services.push_back(ServiceToJson(service));
  json["services"] = services;
  Json transports = Json::array();
  for (const AdvertisedTransport& transport : found.transports)
    transports.push_back(TransportToJson(transport));
  json["transports"] = transports;
  json["ttl"] = found.ttl;
  json["expires"] = found.expires;
  return json;
}

absl::StatusOr<int> ResolveName(const Words& words) {
  if (words.positional().size() != 1)
    return absl::InvalidArgumentError("write waxvm name resolve NAME");
  const auto book = OpenBook(words);
  if (!book.ok()) return book.status();
  const auto now = Now(words);
  if (!now.ok()) return now.status();
  const auto resolver =
      Resolver::Create(book->directory.get(), &book->petnames, {.clock = [&] { return *now; }});
  const auto found = resolver->Resolve(words.positional()[0]);
  if (absl::IsInvalidArgument(found.status())) return found.status();
  if (!found.ok()) return Fail(kExitRefused, found.status());
  const absl::Status printed = PrintFields(ToJson(**found), words.json());
  if (!printed.ok()) return printed;
  return kExitOk;
}

absl::StatusOr<int> ListNames(const Words& words) {
  if (!words.positional().empty()) return absl::InvalidArgumentError("write waxvm name list");
  const auto book = OpenBook(words);
  if (!book.ok()) return book.status();
  Json names = Json::array();
  for (const auto& [name, key] : book->petnames.List()) {
    if (!words.json()) absl::PrintF("%-20s %s\n", name, key.ToBase32());
    names.push_back({{"name", name}, {"public_key", key.ToHex()}, {"base32", key.ToBase32()}});
  }
  if (!words.json()) return kExitOk;
  const absl::Status printed = PrintFields({{"names", names}}, true);
  if (!printed.ok()) return printed;
  return kExitOk;
}

constexpr Verb kVerbs[] = {
    {.name = "set",
     .words = "NAME PUBLIC-KEY",
     .help = "call a key NAME, here and nowhere else",
     .flags = kSetFlags,
     .run = SetName},
    {.name = "resolve",
     .words = "NAME",
     .help = "print where NAME is: a petname, a key in base32, or label.NAME; exit code 1: unknown",
     .flags = kResolveFlags,
     .run = ResolveName},
    {.name = "list",
     .words = "",
     .help = "print the petnames",
     .flags = kListFlags,
     .run = ListNames}};

}  // namespace

int NameCommand(std::span<const std::string_view> arguments) {
  return RunVerb("name", kVerbs, arguments);
}

}  // namespace waxvm::cli
