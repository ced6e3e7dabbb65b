// SPDX-License-Identifier: Apache-2.0
#include "src/dns/svcb.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "src/base/status.h"
#include "src/dns/rdata.h"

namespace waxvm::dns {
namespace {

enum Key : std::uint16_t {
  kMandatory = 0,
  kAlpn = 1,
  kNoDefaultAlpn = 2,
  kPort = 3,
  kIpv4Hint = 4,
  kEch = 5,
  kIpv6Hint = 6,
  kFirstUnnamed = 7,
};
constexpr std::array<std::string_view, kFirstUnnamed> kKeyNames = {
    "mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint"};
constexpr std::uint16_t kInvalidKey = 65535;

std::string KeyToText(std::uint16_t key) {
  return key < kFirstUnnamed ? std::string(kKeyNames[key]) : absl::StrFormat("key%d", key);
}

std::optional<std::uint16_t> KeyFromText(std::string_view text) {
  for (std::uint16_t key = 0; key < kFirstUnnamed; ++key)
    if (kKeyNames[key] == text) return key;
  if (!text.starts_with("key")) return std::nullopt;
  const auto number = ParseNumber(text.substr(3), kInvalidKey - 1);
  if (!number || (text.size() > 4 && text[3] == '0')) return std::nullopt;
  return static_cast<std::uint16_t>(*number);
}

absl::Status Refuse(std::uint16_t key, std::string_view why) {
  return InvalidArgument("the parameter %s of a service record %s", KeyToText(key), why);
}

absl::Status CheckMandatory(Bytes value, const std::set<std::uint16_t>& present) {
  if (value.empty() || value.size() % 2 != 0) return Refuse(kMandatory, "is malformed");
  std::uint16_t last = 0;  // which itself must not be listed
  for (std::size_t at = 0; at < value.size(); at += 2) {
    const std::uint16_t key = Load16(&value[at]);
    if (key <= last) return Refuse(kMandatory, "is not in order");
    if (!present.contains(key)) return Refuse(kMandatory, "names one that is missing");
    last = key;
  }
  return absl::OkStatus();
}

bool IsAlpn(Bytes value) {
  Reader reader(value);
  if (value.empty()) return false;
  while (reader.left() > 0) {
    const std::uint8_t length = reader.U8();
    if (length == 0) return false;
    reader.Take(length);
  }
  return reader.ok();
}

bool IsValue(std::uint16_t key, Bytes value) {
  switch (key) {
    case kAlpn:
      return IsAlpn(value);
    case kNoDefaultAlpn:
      return value.empty();
    case kPort:
      return value.size() == 2;
    case kIpv4Hint:
      return !value.empty() && value.size() % 4 == 0;
    case kEch:
      return !value.empty();
    case kIpv6Hint:
      return !value.empty() && value.size() % 16 == 0;
    default:
      return true;
  }
}

/// A list in which commas and backslashes of the items are escaped once more.
std::string AlpnToText(Bytes value) {
  std::string list;
  Reader reader(value);
  while (reader.left() > 0) {
    if (!list.empty()) list.push_back(',');
    for (const std::uint8_t c : reader.Take(reader.U8())) {
      if (c == ',' || c == '\\') list.push_back('\\');
      list.push_back(static_cast<char>(c));
    }
  }
  std::string text;
  AppendQuoted(ToBytes(list), text);
  return text;
}

std::string AddressesToText(Bytes value, int family, std::size_t size) {
  std::string text;
  for (std::size_t at = 0; at < value.size(); at += size) {
    char buffer[INET6_ADDRSTRLEN];
    if (at != 0) text.push_back(',');
    text += inet_ntop(family, &value[at], buffer, sizeof buffer);
  }
  return text;
}

std::string ValueToText(std::uint16_t key, Bytes value) {
  std::string text;
  switch (key) {
    case kMandatory:
      for (std::size_t at = 0; at < value.size(); at += 2)
        text += (at == 0 ? "" : ",") + KeyToText(Load16(&value[at]));
      return text;
    case kAlpn:
      return AlpnToText(value);
    case kPort:
      return absl::StrFormat("%d", Load16(value.data()));
    case kIpv4Hint:
      return AddressesToText(value, AF_INET, 4);
    case kEch:
      return absl::Base64Escape(ToAbsl(ToText(value)));
    case kIpv6Hint:
      return AddressesToText(value, AF_INET6, 16);
    default:
      AppendQuoted(value, text);
      return text;
  }
}

/// Without the escapes of a character string. Errors: kInvalidArgument.
absl::StatusOr<std::string> Unescape(std::uint16_t key, std::string_view text) {
  std::string plain;
  while (!text.empty()) {
    const auto c = TakeCharacter(text);
    if (!c) return Refuse(key, "has an escape that is none");
    plain.push_back(static_cast<char>(*c));
  }
  return plain;
}

/// The items of a list; `\,` and `\\` are part of one.
std::optional<std::vector<std::string>> SplitList(std::string_view text) {
  std::vector<std::string> items(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ',') {
      items.emplace_back();
      continue;
    }
    if (text[i] == '\\' && ++i == text.size()) return std::nullopt;
    items.back().push_back(text[i]);
  }
  for (const std::string& item : items)
    if (item.empty()) return std::nullopt;
  return items;
}

void Append16(std::size_t value, std::string& data) {
  data.push_back(static_cast<char>(value >> 8 & 0xff));
  data.push_back(static_cast<char>(value & 0xff));
}

/// One item of a list as bytes; nothing: it is none of this key.
std::optional<std::string> ItemFromText(std::uint16_t key, const std::string& item) {
  std::string data;
  if (key == kMandatory) {
    const auto named = KeyFromText(item);
    if (!named) return std::nullopt;
    Append16(*named, data);
  } else if (key == kAlpn) {
    if (item.size() > 255) return std::nullopt;
    data = static_cast<char>(item.size()) + item;
  } else {
    const bool six = key == kIpv6Hint;
    data.resize(six ? 16 : 4);
    if (inet_pton(six ? AF_INET6 : AF_INET, item.c_str(), data.data()) != 1) return std::nullopt;
  }
  return data;
}

absl::StatusOr<std::string> ListFromText(std::uint16_t key, std::string_view text) {
  const auto items = SplitList(text);
  if (!items) return Refuse(key, "has an empty item");
  std::vector<std::string> values;
  for (const std::string& item : *items) {
    auto value = ItemFromText(key, item);
    if (!value) return Refuse(key, "is malformed");
    values.push_back(*std::move(value));
  }
  if (key == kMandatory) std::sort(values.begin(), values.end());
  std::string data;
  for (const std::string& value : values) data += value;
  return data;
}

absl::StatusOr<std::string> ValueFromText(std::uint16_t key, std::string_view escaped) {
  WAXVM_ASSIGN_OR_RETURN(const std::string text, Unescape(key, escaped));
  std::string data;
  switch (key) {
    case kMandatory:
    case kAlpn:
    case kIpv4Hint:
    case kIpv6Hint:
      return ListFromText(key, text);
    case kPort: {
      const auto port = ParseNumber(text, 65535);
      if (!port) return Refuse(key, "is no port");
      Append16(*port, data);
      return data;
    }
    case kEch:
      if (!absl::Base64Unescape(ToAbsl(text), &data)) return Refuse(key, "is not base64");
      return data;
    default:
      return text;
  }
}

}  // namespace

void AppendQuoted(Bytes value, std::string& text) {
  text.push_back('"');
  for (const std::uint8_t c : value) {
    if (c < ' ' || c >= 0x7f)
      text += absl::StrFormat("\\%03d", c);
    else if (c == '"' || c == '\\')
      text += {'\\', static_cast<char>(c)};
    else
      text.push_back(static_cast<char>(c));
  }
  text.push_back('"');
}

absl::Status CheckSvcParams(Bytes params) {
  std::set<std::uint16_t> present;
  Bytes mandatory;
  std::optional<std::uint16_t> last;
  Reader reader(params);
  while (reader.left() > 0) {
    const std::uint16_t key = reader.U16();
    const Bytes value = reader.Take(reader.U16());
    if (!reader.ok()) return InvalidArgument("the parameters of a service record are cut off");
    if ((last && key <= *last) || key == kInvalidKey) return Refuse(key, "is not in order");
    if (!IsValue(key, value)) return Refuse(key, "is malformed");
    if (key == kMandatory) mandatory = value;
    if (key == kMandatory && value.empty()) return Refuse(key, "is malformed");
    present.insert(key);
    last = key;
  }
  if (present.contains(kNoDefaultAlpn) && !present.contains(kAlpn))
    return Refuse(kNoDefaultAlpn, "needs alpn");
  return mandatory.empty() ? absl::OkStatus() : CheckMandatory(mandatory, present);
}

std::string SvcParamsToText(Bytes params) {
  std::string text;
  Reader reader(params);
  while (reader.left() > 0) {
    const std::uint16_t key = reader.U16();
    const Bytes value = reader.Take(reader.U16());
    text += " " + KeyToText(key);
    if (!value.empty()) text += "=" + ValueToText(key, value);
  }
  return text;
}

absl::StatusOr<std::string> SvcParamsFromText(std::span<const std::string> words) {
  std::map<std::uint16_t, std::string> values;
  for (const std::string& word : words) {
    const std::size_t equals = word.find('=');
    const auto key = KeyFromText(std::string_view(word).substr(0, equals));
    if (!key) return InvalidArgument("'%s' is no parameter of a service record", word);
    std::string value;
    if (equals != word.npos) {
      WAXVM_ASSIGN_OR_RETURN(value, ValueFromText(*key, std::string_view(word).substr(equals + 1)));
    }
    if (value.size() > 65535) return Refuse(*key, "is longer than 65535 bytes");
    if (!values.emplace(*key, std::move(value)).second) return Refuse(*key, "is there twice");
  }
  std::string data;
  for (const auto& [key, value] : values) {
    Append16(key, data);
    Append16(value.size(), data);
    data += value;
  }
  WAXVM_RETURN_IF_ERROR(CheckSvcParams(ToBytes(data)));
  return data;
}

}  // namespace waxvm::dns
