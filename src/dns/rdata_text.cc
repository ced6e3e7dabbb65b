// SPDX-License-Identifier: Apache-2.0
// Presentation form: that of zone files.
#include <arpa/inet.h>

#include <limits>

#include "src/base/status.h"
#include "src/dns/rdata.h"
#include "src/dns/svcb.h"

namespace waxvm::dns {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";

std::string ToHex(std::string_view data) {
  std::string hex;
  for (const std::uint8_t c : ToBytes(data)) {
    hex.push_back(kHexDigits[c >> 4]);
    hex.push_back(kHexDigits[c & 15]);
  }
  return hex;
}

/// RFC 3597: "\# LENGTH HEX…". It may be written for any type.
std::string ToGeneric(std::string_view data) {
  return absl::StrFormat("\\# %d%s%s", data.size(), data.empty() ? "" : " ", ToHex(data));
}

absl::StatusOr<std::string> FromGeneric(std::span<const std::string> words) {
  const auto length = words.size() < 2 ? std::nullopt : ParseNumber(words[1], 65535);
  if (!length) return InvalidArgument("\\# needs the number of bytes, and they in hex");
  std::string data;
  int high = -1;
  for (const std::string& word : words.subspan(2))
    for (const char c : word) {
      const std::size_t digit =
          kHexDigits.find(static_cast<char>(c >= 'A' && c <= 'F' ? c + 32 : c));
      if (digit == kHexDigits.npos) return InvalidArgument("'%s' is not hex", word);
      if (high < 0)
        high = static_cast<int>(digit);
      else
        data.push_back(static_cast<char>(std::exchange(high, -1) << 4 | static_cast<int>(digit)));
    }
  if (high >= 0 || data.size() != *length)
    return InvalidArgument("\\# announces %d bytes, and there are %d", *length, data.size());
  return data;
}

std::string AddressToText(int family, Bytes bytes) {
  char buffer[INET6_ADDRSTRLEN];
  return inet_ntop(family, bytes.data(), buffer, sizeof buffer);
}

std::string StringsToText(Reader& reader) {
  std::string text;
  while (reader.left() > 0) {
    if (!text.empty()) text.push_back(' ');
    AppendQuoted(reader.Take(reader.U8()), text);
  }
  return text;
}

std::string FieldToText(Field field, Reader& reader) {
  switch (field) {
    case Field::kU16:
      return absl::StrFormat("%d", reader.U16());
    case Field::kU32:
      return absl::StrFormat("%d", reader.U32());
    case Field::kAddress4:
      return AddressToText(AF_INET, reader.Take(4));
    case Field::kAddress6:
      return AddressToText(AF_INET6, reader.Take(16));
    case Field::kName:
    case Field::kPlainName:
    case Field::kStrictName:
      return reader.ReadName(Compression::kRefused).ToText();
    case Field::kStrings:
      return StringsToText(reader);
    case Field::kSvcParams: {
      const std::string text = SvcParamsToText(reader.Take(reader.left()));
      return text.empty() ? text : text.substr(1);
    }
    case Field::kOptions:
      return ToGeneric(ToText(reader.Take(reader.left())));
  }
  return {};
}

absl::StatusOr<std::string> NumberFromText(std::string_view word, bool wide) {
  const auto number = ParseNumber(word, wide ? std::numeric_limits<std::uint32_t>::max() : 65535);
  if (!number) return InvalidArgument("'%s' is no number that fits", word);
  std::string data;
  for (int shift = wide ? 24 : 8; shift >= 0; shift -= 8)
    data.push_back(static_cast<char>(*number >> shift & 0xff));
  return data;
}

absl::StatusOr<std::string> AddressFromText(int family, const std::string& word) {
  std::string data(family == AF_INET ? 4 : 16, '\0');
  if (inet_pton(family, word.c_str(), data.data()) != 1)
    return InvalidArgument("'%s' is no %s address", word, family == AF_INET ? "IPv4" : "IPv6");
  return data;
}

absl::StatusOr<std::string> StringsFromText(std::span<const std::string> words) {
  std::string data;
  for (std::string_view word : words) {
    std::string plain;
    while (!word.empty()) {
      const auto c = TakeCharacter(word);
      if (!c) return InvalidArgument("a text has an escape that is none");
      plain.push_back(static_cast<char>(*c));
    }
    if (plain.size() > 255)
      return InvalidArgument("a text has %d bytes, at most 255; write several", plain.size());
    data.push_back(static_cast<char>(plain.size()));
    data += plain;
  }
  return data;
}

/// Takes the words of one field from the front.
absl::StatusOr<std::string> FieldFromText(Field field, std::span<const std::string>& words,
                                          const Name& origin) {
  if (field == Field::kOptions) return InvalidArgument("OPT cannot be in a zone");
  if (field == Field::kSvcParams) return SvcParamsFromText(std::exchange(words, {}));
  if (words.empty()) return InvalidArgument("something is missing at the end");
  if (field == Field::kStrings) return StringsFromText(std::exchange(words, {}));
  const std::string& word = words.front();
  words = words.subspan(1);
  switch (field) {
    case Field::kU16:
      return NumberFromText(word, false);
    case Field::kU32:
      return NumberFromText(word, true);
    case Field::kAddress4:
      return AddressFromText(AF_INET, word);
    case Field::kAddress6:
      return AddressFromText(AF_INET6, word);
    default: {
      WAXVM_ASSIGN_OR_RETURN(const Name name, Name::FromText(word, origin));
      return std::string(ToText(name.bytes()));
    }
  }
}

}  // namespace

std::optional<std::uint32_t> ParseNumber(std::string_view text, std::uint32_t max) {
  std::uint64_t number = 0;
  if (text.empty() || text.size() > 10) return std::nullopt;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + static_cast<std::uint64_t>(c - '0');
  }
  if (number > max) return std::nullopt;
  return static_cast<std::uint32_t>(number);
}

std::string RdataToText(std::uint16_t type, std::string_view data) {
  const auto fields = FieldsOf(type);
  if (!fields) return ToGeneric(data);
  std::string text;
  Reader reader(ToBytes(data));
  for (const Field field : *fields) {
    const std::string part = FieldToText(field, reader);
    if (!text.empty() && !part.empty()) text.push_back(' ');
    text += part;
  }
  return text;
}

absl::StatusOr<std::string> RdataFromText(std::uint16_t type, std::span<const std::string> words,
                                          const Name& origin) {
  if (!words.empty() && words[0] == "\\#") {
    WAXVM_ASSIGN_OR_RETURN(std::string data, FromGeneric(words));
    WAXVM_RETURN_IF_ERROR(CheckRdata(type, data));
    return data;
  }
  const auto fields = FieldsOf(type);
  if (!fields)
    return InvalidArgument("%s is not known; write its data as \\# BYTES HEX", TypeToText(type));
  std::string data;
  for (const Field field : *fields) {
    WAXVM_ASSIGN_OR_RETURN(const std::string part, FieldFromText(field, words, origin));
    data += part;
  }
  if (!words.empty()) return InvalidArgument("'%s' is too much", words.front());
  if (data.size() > kMaxMessageBytes) return InvalidArgument("the data are more than 65535 bytes");
  return data;
}

absl::StatusOr<std::vector<std::string>> SplitWords(std::string_view line) {
  std::vector<std::string> words;
  bool in_word = false;
  bool in_quotes = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    const bool blank = c == ' ' || c == '\t' || c == '\r';
    if (!in_quotes && (blank || c == ';')) {
      in_word = false;
      if (c == ';') break;
      continue;
    }
    if (!in_quotes && (c == '(' || c == ')'))
      return InvalidArgument("parentheses are not read; write one record a line");
    if (!std::exchange(in_word, true)) words.emplace_back();
    // One inside a word is a character like others, but where the value of a key begins.
    if (c == '"' && (in_quotes || words.back().empty() || words.back().back() == '=')) {
      in_quotes = !in_quotes;
      continue;
    }
    words.back().push_back(c);
    if (c == '\\' && i + 1 < line.size()) words.back().push_back(line[++i]);
  }
  if (in_quotes) return InvalidArgument("a quote is not closed");
  return words;
}

}  // namespace waxvm::dns
