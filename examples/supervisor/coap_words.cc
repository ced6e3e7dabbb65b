// SPDX-License-Identifier: Apache-2.0
#include "coap_words.h"

#include <net/if.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <memory>
#include <utility>

#include "absl/strings/str_format.h"
#include "flags.h"
#include "keys.h"
#include "waxvm/cga.h"
#include "waxvm/directory.h"
#include "waxvm/petnames.h"
#include "waxvm/resolver.h"

namespace waxvm::cli {
namespace {

using coap::OptionNumber;

constexpr std::string_view kSuffix = ".internal";
// Of a request; longer ones belong into files on another protocol.
constexpr std::size_t kMaxBodyBytes = std::size_t{64} << 20;

template <typename... Args>
absl::Status Refuse(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::InvalidArgumentError(absl::StrFormat(format, args...));
}

absl::StatusOr<coap::Uri> ReadUri(std::string_view text) {
  const auto uri = coap::Uri::Parse(text);
  if (!uri.ok()) return Refuse("'%s': %s", Printable(text), std::string(uri.status().message()));
  if (uri->scheme != coap::Scheme::kCoap)
    return Refuse("%s is not spoken here, only coap over UDP is", coap::NameOf(uri->scheme));
  return uri;
}

absl::StatusOr<std::shared_ptr<const Resolution>> ResolveName(const Words& words,
                                                              const std::string& name) {
  std::string directory_path(words.Get("directory"));
  std::string petnames_path(words.Get("petnames"));
  if (directory_path.empty() || petnames_path.empty()) {
    std::string folder(words.Get("folder"));
    if (folder.empty()) {
      auto home = HomeFolder();
      if (!home.ok()) return home.status();
      folder = *std::move(home);
    }
    if (directory_path.empty()) directory_path = folder + "/directory";
    if (petnames_path.empty()) petnames_path = folder + "/names";
  }
  const auto petnames = Petnames::Open(petnames_path);
  if (!petnames.ok()) return petnames.status();
  const auto directory = OpenDirectory(directory_path);
  if (!directory.ok()) return directory.status();
  const auto resolver = Resolver::Create(directory->get(), &*petnames);
  auto found = resolver->Resolve(name);
  if (!found.ok())
    return absl::Status(found.status().code(),
                        absl::StrFormat("%s: %s", name, std::string(found.status().message())));
  return found;
}

std::string WithoutSuffix(const std::string& host) {
  if (host.size() > kSuffix.size() && host.ends_with(kSuffix))
    return host.substr(0, host.size() - kSuffix.size());
  return host;
}

/// An advert says where CoAP is served, unless the URI says otherwise.
std::uint16_t PortOf(const coap::Uri& uri, const Resolution& found) {
  if (uri.port != coap::DefaultPort(coap::Scheme::kCoap)) return uri.port;
  for (const AdvertisedService& service : found.services)
    if (service.name == "coap" && service.protocol == 17) return service.port;
  return uri.port;
}

absl::StatusOr<SocketAddress> LiteralOf(const coap::Uri& uri) {
  const int port = uri.port;
  const bool ipv6 = uri.host.find(':') != uri.host.npos;
  auto address = SocketAddress::Parse(ipv6 ? absl::StrFormat("[%s]:%d", uri.host, port)
                                           : absl::StrFormat("%s:%d", uri.host, port));
  if (!address.ok()) return address.status();
  return address;
}

bool IsUintOption(OptionNumber number) {
  switch (number) {
    case OptionNumber::kObserve:
    case OptionNumber::kUriPort:
    case OptionNumber::kContentFormat:
    case OptionNumber::kMaxAge:
    case OptionNumber::kHopLimit:
    case OptionNumber::kAccept:
    case OptionNumber::kSize1:
    case OptionNumber::kSize2:
    case OptionNumber::kNoResponse:
      return true;
    default:
      return false;
  }
}

bool IsTextOption(OptionNumber number) {
  switch (number) {
    case OptionNumber::kUriHost:
    case OptionNumber::kLocationPath:
    case OptionNumber::kUriPath:
    case OptionNumber::kUriQuery:
    case OptionNumber::kLocationQuery:
    case OptionNumber::kProxyUri:
    case OptionNumber::kProxyScheme:
      return true;
    default:
      return false;
  }
}

/// How many bytes the character at the front has; 0: that is no UTF-8. Spec: RFC 3629 section 4.
std::size_t CharacterBytes(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (text.empty()) return 0;
  if (at(0) < 0x80) return 1;
  const std::size_t bytes = at(0) >= 0xf0 ? 4 : at(0) >= 0xe0 ? 3 : 2;
  if (at(0) < 0xc2 || at(0) > 0xf4 || text.size() < bytes) return 0;
  for (std::size_t i = 1; i < bytes; ++i)
    if ((at(i) & 0xc0) != 0x80) return 0;
  const bool legal = !((at(0) == 0xe0 && at(1) < 0xa0) || (at(0) == 0xed && at(1) > 0x9f) ||
                       (at(0) == 0xf0 && at(1) < 0x90) || (at(0) == 0xf4 && at(1) > 0x8f));
  return legal ? bytes : 0;
}

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t bytes = CharacterBytes(text);
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
}

absl::StatusOr<std::string> ReadAll(std::FILE* file, const std::string& name) {
  std::string bytes;
  char part[65536];
  for (std::size_t count = 0; (count = std::fread(part, 1, sizeof part, file)) > 0;) {
    bytes.append(part, count);
    if (bytes.size() > kMaxBodyBytes)
      return Refuse("%s has more than %d bytes", name, kMaxBodyBytes);
  }
  if (std::ferror(file) != 0) return absl::ErrnoToStatus(errno, "cannot read " + name);
  return bytes;
}

}  // namespace

Given GivenOf(const Words& words) {
  Given given = {.words = words.positional(), .verbose = words.Has("verbose")};
  const auto end = std::remove(given.words.begin(), given.words.end(), "-v");
  given.verbose |= end != given.words.end();
  given.words.erase(end, given.words.end());
  return given;
}

absl::StatusOr<std::uint32_t> InterfaceOf(const Words& words) {
  if (!words.Has("interface")) return std::uint32_t{0};
  const std::string name(words.Get("interface"));
  if (const unsigned index = if_nametoindex(name.c_str()); index != 0) return index;
  return Refuse("--interface: there is no interface '%s'", Printable(name));
}

absl::StatusOr<CoapTarget> FindTarget(const Words& words, std::string_view text) {
  auto uri = ReadUri(text);
  if (!uri.ok()) return uri.status();
  CoapTarget target = {.uri = *std::move(uri), .peer = {}};
  const auto zone = InterfaceOf(words);
  if (!zone.ok()) return zone.status();
  if (target.uri.host_is_address) {
    const auto literal = LiteralOf(target.uri);
    if (!literal.ok()) return literal.status();
    target.peer = *literal;
  } else if (target.uri.host == "localhost") {
    target.peer.address.bytes.back() = 1;
    target.peer.port = target.uri.port;
  } else {
    const auto found = ResolveName(words, WithoutSuffix(target.uri.host));
    if (!found.ok()) return found.status();
    target.peer = {.address = (*found)->address, .port = PortOf(target.uri, **found)};
  }
  if (target.peer.port == 0) return Refuse("'%s': there is no port 0", Printable(text));
  target.peer.zone = *zone;
  return target;
}

absl::StatusOr<CoapTarget> FindGroup(const Words& words, std::string_view text) {
  auto uri = ReadUri(text);
  if (!uri.ok()) return uri.status();
  const auto key = PublicKey::Parse(WithoutSuffix(uri->host));
  absl::StatusOr<CoapTarget> target =
      !uri->host_is_address && key.ok()
          ? CoapTarget{.uri = *uri, .peer = {.address = cga::GroupOf(*key), .port = uri->port}}
          : FindTarget(words, text);
  if (!target.ok()) return target;
  if (!target->peer.is_multicast())
    return Refuse("%s is no group: give a topic, its key, or an address of ff00::/8",
                  Printable(uri->host));
  const auto zone = InterfaceOf(words);
  if (!zone.ok()) return zone.status();
  target->peer.zone = *zone;
  return target;
}

absl::StatusOr<std::chrono::milliseconds> TimeOf(const Words& words, std::string_view flag,
                                                 std::chrono::milliseconds otherwise) {
  if (!words.Has(flag)) return otherwise;
  const auto time = ParseDuration(words.Get(flag));
  if (!time.ok()) return Refuse("--%s: %s", flag, std::string(time.status().message()));
  const auto whole = std::chrono::ceil<std::chrono::milliseconds>(*time);
  if (whole.count() == 0 || whole > std::chrono::hours(24 * 365))
    return Refuse("--%s must be more than 0 and at most a year", flag);
  return whole;
}

absl::StatusOr<std::string> BodyOf(const Words& words, bool or_input) {
  if (words.Has("data") && words.Has("file"))
    return Refuse("give the body with --data or with --file, not both");
  if (words.Has("data")) return std::string(words.Get("data"));
  if (!words.Has("file") && !or_input) return std::string();
  const std::string path(words.Get("file", "-"));
  if (path == "-") return ReadAll(stdin, "standard input");
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"),
                                                             std::fclose);
  if (file == nullptr) return absl::ErrnoToStatus(errno, "cannot open " + path);
  return ReadAll(file.get(), path);
}

absl::StatusOr<std::optional<coap::ContentFormat>> FormatOf(const Words& words,
                                                            std::string_view flag) {
  if (!words.Has(flag)) return std::optional<coap::ContentFormat>();
  const auto format = coap::ParseContentFormat(words.Get(flag));
  if (format) return format;
  return Refuse(
      "--%s: '%s' is no content format; write a number up to 65535, or a media type "
      "such as text/plain, application/json or application/cbor",
      flag, Printable(words.Get(flag)));
}

absl::StatusOr<std::uint8_t> BlockExponentOf(const Words& words) {
  const auto bytes = words.Number("block-size", 1024, 1024);
  if (!bytes.ok()) return bytes.status();
  if (*bytes < 16 || !std::has_single_bit(*bytes))
    return Refuse("--block-size is 16, 32, 64, 128, 256, 512 or 1024, not %d", *bytes);
  return static_cast<std::uint8_t>(std::countr_zero(*bytes) - 4);
}

std::string Printable(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const std::size_t count = CharacterBytes(bytes);
    const auto first = static_cast<unsigned char>(bytes[0]);
    // U+0080 to U+009F are control characters as well.
    const bool control =
        first < ' ' || first == 0x7f ||
        (count == 2 && first == 0xc2 && static_cast<unsigned char>(bytes[1]) < 0xa0);
    if (count == 0 || control) {
      absl::StrAppendFormat(&text, "\\x%02x", static_cast<unsigned>(first));
      bytes.remove_prefix(1);
      // The rest of a control character is no character.
      continue;
    }
    text.append(bytes.substr(0, count));
    bytes.remove_prefix(count);
  }
  return text;
}

std::string OptionToText(const coap::OptionView& option) {
  std::string name(coap::NameOf(option.number));
  if (name.empty()) name = absl::StrFormat("Option-%d", static_cast<int>(option.number));
  const auto number = option.AsUint();
  if (option.number == OptionNumber::kContentFormat || option.number == OptionNumber::kAccept) {
    const auto format = static_cast<coap::ContentFormat>(number.value_or(0));
    const std::string_view known = coap::NameOf(format);
    if (number && *number <= 0xffff && !known.empty())
      return absl::StrFormat("%s: %s", name, known);
  }
  if (option.number == OptionNumber::kBlock1 || option.number == OptionNumber::kBlock2) {
    const auto block = coap::Block::FromUint(static_cast<std::uint32_t>(number.value_or(0)));
    return absl::StrFormat("%s: %d of %d bytes%s", name, block.number, block.bytes(),
                           block.more ? ", more follow" : "");
  }
  if (IsUintOption(option.number) && number) return absl::StrFormat("%s: %d", name, *number);
  if (IsTextOption(option.number)) return name + ": " + Printable(option.text());
  return absl::StrFormat("%s: %s", name, Hex(option.text()));
}

Json MessageToJson(coap::Code code, coap::OptionsView options, std::string_view payload,
                   const SocketAddress& peer) {
  Json json = {{"code", coap::ToText(code)},
               {"name", std::string(coap::NameOf(code))},
               {"peer", peer.ToText()}};
  Json list = Json::array();
  for (const coap::OptionView& option : options) {
    Json one = {{"number", static_cast<int>(option.number)}};
    one["name"] = std::string(coap::NameOf(option.number));
    if (IsUintOption(option.number) && option.AsUint()) {
      one["value"] = *option.AsUint();
    } else if (IsTextOption(option.number) && IsUtf8(option.text())) {
      one["value"] = std::string(option.text());
    } else {
      one["hex"] = Hex(option.text());
    }
    list.push_back(std::move(one));
  }
  json["options"] = std::move(list);
  if (IsUtf8(payload)) {
    json["payload"] = std::string(payload);
  } else {
    json["payload_hex"] = Hex(payload);
  }
  return json;
}

std::string OneLine(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

absl::Status WriteOut(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size() ||
      std::fflush(stdout) != 0)
    return absl::UnavailableError("standard output cannot be written");
  return absl::OkStatus();
}

}  // namespace waxvm::cli
