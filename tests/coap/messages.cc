// SPDX-License-Identifier: Apache-2.0
#include "tests/coap/messages.h"

#include <algorithm>
#include <iterator>

namespace waxvm::coap {
namespace {

constexpr int kNumbers[] = {1,  3,  4,  5,  6,  7,  8,  9,  11, 11,  11,  12,  14,  15,
                            16, 17, 20, 23, 27, 28, 35, 39, 60, 252, 258, 292, 2048};
constexpr int kCodes[] = {1,    1,    1,    2,    3,    4,    5,    6,   7,
                          0x41, 0x44, 0x45, 0x45, 0x5f, 0x80, 0x84, 0xa0};

/// Values from the front of a datagram, one byte after the other.
class Bytes {
 public:
  explicit Bytes(std::string_view bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  int Peek() const { return static_cast<unsigned char>(bytes_.front()); }
  int Next() {
    if (bytes_.empty()) {
      cut_off_ = true;
      return 0;
    }
    const int byte = Peek();
    bytes_.remove_prefix(1);
    return byte;
  }
  /// A field of four bits with its one or two bytes more.
  std::size_t Extend(int field) {
    if (field == 13) return 13 + static_cast<std::size_t>(Next());
    if (field < 13) return static_cast<std::size_t>(field);
    const int high = Next();
    return 269 + static_cast<std::size_t>(high * 256 + Next());
  }
  std::string Take(std::size_t count) {
    if (count > bytes_.size()) {
      cut_off_ = true;
      count = bytes_.size();
    }
    std::string taken(bytes_.substr(0, count));
    bytes_.remove_prefix(count);
    return taken;
  }
  bool cut_off() const { return cut_off_; }

 private:
  std::string_view bytes_;
  bool cut_off_ = false;
};

Reason ReadOption(Bytes& bytes, std::size_t& number, Fields& fields) {
  const int head = bytes.Next();
  if (head / 16 == 15 || head % 16 == 15) return Reason::kReservedField;
  number += bytes.Extend(head / 16);
  const std::size_t length = bytes.Extend(head % 16);
  if (bytes.cut_off()) return Reason::kOptionHeadCutOff;
  if (number > 65535) return Reason::kNumberOverflow;
  std::string value = bytes.Take(length);
  if (bytes.cut_off()) return Reason::kOptionValueCutOff;
  fields.options.emplace_back(static_cast<int>(number), std::move(value));
  return Reason::kNone;
}

/// Four bits for a length or delta; what follows them is put behind `more`.
int Field(std::size_t value, std::string& more) {
  if (value < 13) return static_cast<int>(value);
  if (value < 269) {
    more += static_cast<char>(value - 13);
    return 13;
  }
  more += static_cast<char>((value - 269) >> 8);
  more += static_cast<char>((value - 269) & 255);
  return 14;
}

}  // namespace

Reading ReadSlowly(std::string_view datagram, bool extended_tokens) {
  Reading reading;
  Fields& fields = reading.fields;
  const auto because = [&](Reason reason) {
    reading.reason = reason;
    return reading;
  };
  if (datagram.size() < 4) return because(Reason::kShort);
  Bytes bytes(datagram);
  const int head = bytes.Next();
  if (head / 64 != 1) return because(Reason::kVersion);
  fields.type = head / 16 % 4;
  fields.code = bytes.Next();
  const int high = bytes.Next();
  fields.id = high * 256 + bytes.Next();
  const int token_field = head % 16;
  if (token_field > (extended_tokens ? 14 : 8)) return because(Reason::kReservedTokenLength);
  if (fields.code == 0 && (token_field != 0 || !bytes.empty()))
    return because(Reason::kEmptyWithMore);
  fields.token = bytes.Take(bytes.Extend(token_field));
  if (bytes.cut_off()) return because(Reason::kTokenCutOff);
  std::size_t number = 0;
  while (!bytes.empty() && bytes.Peek() != 255) {
    const Reason reason = ReadOption(bytes, number, fields);
    if (reason != Reason::kNone) return because(reason);
  }
  if (bytes.empty()) return reading;
  bytes.Next();
  if (bytes.empty()) return because(Reason::kMarkerWithoutPayload);
  while (!bytes.empty()) fields.payload += static_cast<char>(bytes.Next());
  return reading;
}

std::string WriteSlowly(const Fields& fields) {
  std::string more;
  const int token_field = Field(fields.token.size(), more);
  std::string datagram;
  datagram += static_cast<char>(64 + fields.type * 16 + token_field);
  datagram += static_cast<char>(fields.code);
  datagram += static_cast<char>(fields.id >> 8);
  datagram += static_cast<char>(fields.id & 255);
  datagram += more + fields.token;
  int last = 0;
  for (const auto& [number, value] : fields.options) {
    std::string extended;
    const int delta = Field(static_cast<std::size_t>(number - last), extended);
    const int length = Field(value.size(), extended);
    datagram += static_cast<char>(delta * 16 + length);
    datagram += extended + value;
    last = number;
  }
  if (!fields.payload.empty()) datagram += '\xff' + fields.payload;
  return datagram;
}

std::string Generator::Bytes(std::size_t count) {
  std::string bytes(count, '\0');
  for (char& c : bytes) c = static_cast<char>(Below(256));
  return bytes;
}

std::pair<int, std::string> Generator::MakeOption() {
  const int number =
      Below(10) == 0 ? static_cast<int>(Below(65536)) : kNumbers[Below(std::size(kNumbers))];
  std::size_t bytes = Below(5);
  if (Below(6) == 0) bytes = Below(30);
  if (Below(30) == 0) bytes = 250 + Below(40);
  return {number, Bytes(bytes)};
}

Fields Generator::Make() {
  Fields fields;
  fields.code = Below(12) == 0 ? static_cast<int>(Below(256)) : kCodes[Below(std::size(kCodes))];
  fields.type = static_cast<int>(Below(Below(4) == 0 ? 4 : 2));
  fields.id = static_cast<int>(Below(65536));
  if (fields.code == 0) return fields;
  fields.token = Bytes(Below(9));
  for (std::uint32_t count = Below(7); count > 0; --count) fields.options.push_back(MakeOption());
  std::stable_sort(fields.options.begin(), fields.options.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  if (Below(2) == 0) fields.payload = Bytes(1 + Below(40));
  return fields;
}

std::string Generator::Spoil(std::string datagram) {
  for (std::uint32_t count = 1 + Below(3); count > 0; --count) {
    const std::size_t at = Below(static_cast<std::uint32_t>(datagram.size() + 1));
    switch (Below(5)) {
      case 0:
        if (at < datagram.size()) datagram[at] = static_cast<char>(Below(256));
        break;
      case 1:
        datagram.insert(at, Bytes(1 + Below(3)));
        break;
      case 2:
        datagram.erase(at, 1 + Below(3));
        break;
      case 3:
        datagram.insert(at, 1, Below(2) == 0 ? '\xff' : static_cast<char>(0xe0 + Below(16)));
        break;
      default:
        datagram.resize(at);
    }
  }
  return datagram;
}

std::string ToHex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes) {
    hex += kDigits[static_cast<unsigned char>(c) >> 4];
    hex += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return hex;
}

}  // namespace waxvm::coap
