// SPDX-License-Identifier: Apache-2.0
#include "src/dns/rdata.h"

#include <algorithm>
#include <array>

#include "src/base/status.h"
#include "src/dns/svcb.h"

namespace waxvm::dns {
namespace {

constexpr std::array kAFields = {Field::kAddress4};
constexpr std::array kAaaaFields = {Field::kAddress6};
constexpr std::array kNameFields = {Field::kName};
constexpr std::array kMxFields = {Field::kU16, Field::kName};
constexpr std::array kSoaFields = {Field::kName, Field::kName, Field::kU32, Field::kU32,
                                   Field::kU32,  Field::kU32,  Field::kU32};
constexpr std::array kTxtFields = {Field::kStrings};
constexpr std::array kSrvFields = {Field::kU16, Field::kU16, Field::kU16, Field::kPlainName};
constexpr std::array kSvcbFields = {Field::kU16, Field::kStrictName, Field::kSvcParams};
constexpr std::array kOptFields = {Field::kOptions};

struct Type {
  std::uint16_t number;
  std::string_view name;
  std::span<const Field> fields;
};
// CNAME and MX are never answered, but read: their RDATA may hold pointers.
constexpr std::array kTypes = {
    Type{1, "A", kAFields},        Type{28, "AAAA", kAaaaFields}, Type{12, "PTR", kNameFields},
    Type{33, "SRV", kSrvFields},   Type{64, "SVCB", kSvcbFields}, Type{65, "HTTPS", kSvcbFields},
    Type{16, "TXT", kTxtFields},   Type{6, "SOA", kSoaFields},    Type{2, "NS", kNameFields},
    Type{5, "CNAME", kNameFields}, Type{15, "MX", kMxFields},     Type{41, "OPT", kOptFields},
};

constexpr std::string_view kGeneric = "TYPE";

absl::Status Malformed(std::uint16_t type) {
  return InvalidArgument("the data of a record of type %s is malformed", TypeToText(type));
}

void Copy(Bytes bytes, std::string& data) { data.append(ToText(bytes)); }

/// Character strings to the end, at least one.
void ReadStrings(Reader& reader, std::string& data) {
  if (reader.left() == 0) reader.Fail();
  while (reader.left() > 0) {
    const std::uint8_t length = reader.U8();
    const Bytes bytes = reader.Take(length);
    if (!reader.ok()) return;
    data.push_back(static_cast<char>(length));
    Copy(bytes, data);
  }
}

void ReadOptions(Reader& reader, std::string& data) {
  const Bytes all = reader.Take(reader.left());
  Reader options(all);
  while (options.left() > 0) {
    options.U16();
    options.Take(options.U16());
  }
  if (!options.ok()) reader.Fail();
  Copy(all, data);
}

void ReadField(Field field, Reader& reader, std::string& data) {
  switch (field) {
    case Field::kU16:
      return Copy(reader.Take(2), data);
    case Field::kU32:
    case Field::kAddress4:
      return Copy(reader.Take(4), data);
    case Field::kAddress6:
      return Copy(reader.Take(16), data);
    case Field::kName:
    case Field::kPlainName:
      return Copy(reader.ReadName(Compression::kAllowed).bytes(), data);
    case Field::kStrictName:
      return Copy(reader.ReadName(Compression::kRefused).bytes(), data);
    case Field::kStrings:
      return ReadStrings(reader, data);
    case Field::kSvcParams: {
      const Bytes params = reader.Take(reader.left());
      if (!CheckSvcParams(params).ok()) reader.Fail();
      return Copy(params, data);
    }
    case Field::kOptions:
      return ReadOptions(reader, data);
  }
}

}  // namespace

std::optional<std::span<const Field>> FieldsOf(std::uint16_t type) {
  for (const Type& known : kTypes)
    if (known.number == type) return known.fields;
  return std::nullopt;
}

std::string TypeToText(std::uint16_t type) {
  for (const Type& known : kTypes)
    if (known.number == type) return std::string(known.name);
  return absl::StrFormat("%s%d", kGeneric, type);
}

std::optional<std::uint16_t> TypeFromText(std::string_view text) {
  std::string upper(text);
  std::transform(upper.begin(), upper.end(), upper.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  for (const Type& known : kTypes)
    if (known.name == upper) return known.number;
  if (!upper.starts_with(kGeneric)) return std::nullopt;
  const auto number = ParseNumber(std::string_view(upper).substr(kGeneric.size()), 65535);
  if (!number) return std::nullopt;
  return static_cast<std::uint16_t>(*number);
}

absl::StatusOr<std::string> ReadRdata(std::uint16_t type, Reader reader) {
  std::string data;
  const auto fields = FieldsOf(type);
  if (!fields) {
    Copy(reader.Take(reader.left()), data);
    return data;
  }
  for (const Field field : *fields) {
    ReadField(field, reader, data);
    if (!reader.ok()) return Malformed(type);
  }
  if (reader.left() != 0) return Malformed(type);
  return data;
}

absl::Status CheckRdata(std::uint16_t type, std::string_view data) {
  if (data.size() > kMaxMessageBytes) return Malformed(type);
  const auto read = ReadRdata(type, Reader(ToBytes(data)));
  if (!read.ok()) return read.status();
  // A pointer into the data itself would be another name elsewhere.
  return *read == data ? absl::OkStatus() : Malformed(type);
}

void WriteRdata(std::uint16_t type, std::string_view data, Writer& writer) {
  const std::size_t length_at = writer.position();
  writer.U16(0);
  Reader reader(ToBytes(data));
  for (const Field field : FieldsOf(type).value_or(std::span<const Field>())) {
    if (field == Field::kU16)
      writer.Put(reader.Take(2));
    else if (field == Field::kU32)
      writer.Put(reader.Take(4));
    else if (field == Field::kName)
      writer.PutCompressed(reader.ReadName(Compression::kRefused));
    else
      break;  // nothing behind it is compressed
  }
  writer.Put(reader.Take(reader.left()));
  if (writer.ok()) writer.Patch16(length_at, writer.position() - length_at - 2);
}

}  // namespace waxvm::dns
