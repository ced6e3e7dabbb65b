// SPDX-License-Identifier: Apache-2.0
#include "src/identity/pkcs8.h"

#include <sodium.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "src/base/status.h"
#include "src/identity/text.h"

namespace waxvm::identity {
namespace {

// A key file with attributes has a few hundred bytes; more is somebody who fills memory.
constexpr std::size_t kMaxKeyFileBytes = 16384;

constexpr unsigned char kInteger = 0x02;
constexpr unsigned char kOctetString = 0x04;
constexpr unsigned char kObjectIdentifier = 0x06;
constexpr unsigned char kSequence = 0x30;
constexpr unsigned char kAttributes = 0xa0;  // [0] IMPLICIT, constructed
constexpr unsigned char kPublicKey = 0x81;   // [1] IMPLICIT, primitive

/// 1.3.101.110 and 1.3.101.112.
std::string_view Oid(KeyType type) {
  return type == KeyType::kEd25519 ? "\x2b\x65\x70" : "\x2b\x65\x6e";
}

std::string_view Name(KeyType type) { return type == KeyType::kEd25519 ? "Ed25519" : "X25519"; }

/// Reads DER, element by element. Lengths are definite, minimal and at most 65535.
class Der {
 public:
  explicit Der(std::string_view bytes) : rest_(bytes) {}
  bool empty() const { return rest_.empty(); }
  bool Next(unsigned char tag) const {
    return !rest_.empty() && static_cast<unsigned char>(rest_[0]) == tag;
  }
  /// The contents of the next element, if its tag is this.
  std::optional<std::string_view> Take(unsigned char tag) {
    if (!Next(tag) || rest_.size() < 2) return std::nullopt;
    std::size_t header = 2;
    std::size_t length = Byte(1);
    if (length >= 0x80) {
      const std::size_t count = length & 0x7f;
      if (count < 1 || count > 2 || rest_.size() < 2 + count) return std::nullopt;
      length = Byte(2);
      if (count == 2) length = length << 8 | Byte(3);
      if (length < (count == 1 ? 0x80u : 0x100u)) return std::nullopt;
      header += count;
    }
    if (length > rest_.size() - header) return std::nullopt;
    const std::string_view contents = rest_.substr(header, length);
    rest_.remove_prefix(header + length);
    return contents;
  }

 private:
  std::size_t Byte(std::size_t at) const { return static_cast<unsigned char>(rest_[at]); }
  std::string_view rest_;
};

absl::Status NotPkcs8(KeyType type) {
  return InvalidArgument("this is not an %s secret key in PKCS#8", Name(type));
}

}  // namespace

std::string_view SpkiPrefix(KeyType type) {
  using std::string_view_literals::operator""sv;
  return type == KeyType::kEd25519 ? "\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"sv
                                   : "\x30\x2a\x30\x05\x06\x03\x2b\x65\x6e\x03\x21\x00"sv;
}

absl::StatusOr<ParsedSecret> ParsePkcs8(std::string_view der, KeyType type) {
  if (der.size() > kMaxKeyFileBytes) return NotPkcs8(type);
  Der file(der);
  const auto all = file.Take(kSequence);
  if (!all || !file.empty()) return NotPkcs8(type);
  Der key(*all);
  const auto version = key.Take(kInteger);
  const auto algorithm = key.Take(kSequence);
  const auto wrapped = key.Take(kOctetString);
  if (!version || version->size() != 1 || (*version)[0] < 0 || (*version)[0] > 1 || !algorithm ||
      !wrapped)
    return NotPkcs8(type);
  Der identifier(*algorithm);
  const auto oid = identifier.Take(kObjectIdentifier);
  if (!oid || !identifier.empty()) return NotPkcs8(type);  // parameters must be absent
  if (*oid != Oid(type)) return InvalidArgument("the key is not one of %s", Name(type));
  Der octets(*wrapped);
  const auto bytes = octets.Take(kOctetString);
  if (!bytes || bytes->size() != kKeyBytes || !octets.empty()) return NotPkcs8(type);
  if (key.Next(kAttributes) && !key.Take(kAttributes)) return NotPkcs8(type);
  std::optional<PublicKey> public_key;
  if (key.Next(kPublicKey)) {
    const auto bits = key.Take(kPublicKey);
    if ((*version)[0] != 1 || !bits || bits->size() != kKeyBytes + 1 || (*bits)[0] != 0)
      return NotPkcs8(type);
    public_key.emplace();
    std::memcpy(public_key->bytes.data(), bits->data() + 1, kKeyBytes);
  }
  if (!key.empty()) return NotPkcs8(type);
  WAXVM_ASSIGN_OR_RETURN(Secret secret, Secret::Create(kKeyBytes));
  std::memcpy(secret.data(), bytes->data(), kKeyBytes);
  return ParsedSecret{std::move(secret), public_key};
}

absl::StatusOr<Secret> WritePkcs8(std::string_view secret, KeyType type) {
  static constexpr std::string_view kHead("\x30\x2e\x02\x01\x00\x30\x05\x06\x03", 9);
  static constexpr std::string_view kOctets("\x04\x22\x04\x20", 4);
  const std::string_view parts[] = {kHead, Oid(type), kOctets, secret};
  std::size_t size = 0;
  for (const std::string_view part : parts) size += part.size();
  WAXVM_ASSIGN_OR_RETURN(Secret der, Secret::Create(size));
  char* to = der.data();
  for (const std::string_view part : parts) to = std::copy(part.begin(), part.end(), to);
  return der;
}

absl::StatusOr<Secret> DecodePem(std::string_view pem, std::string_view label) {
  const std::string begin = absl::StrFormat("-----BEGIN %s-----", label);
  const std::string end = absl::StrFormat("-----END %s-----", label);
  const std::size_t first = pem.find(begin);
  const std::size_t last = pem.find(end);
  if (pem.size() > kMaxKeyFileBytes || first == pem.npos || last == pem.npos ||
      last < first + begin.size() || pem.find(begin, first + 1) != pem.npos)
    return InvalidArgument("there is no single %s in PEM", label);
  std::string_view body = pem.substr(first + begin.size(), last - first - begin.size());
  WAXVM_ASSIGN_OR_RETURN(Secret der, Secret::Create(body.size()));
  std::size_t bytes = 0;
  const char* stopped = nullptr;
  if (sodium_base642bin(Raw(der.data()), der.size(), body.data(), body.size(), " \r\n\t", &bytes,
                        &stopped, sodium_base64_VARIANT_ORIGINAL) != 0 ||
      stopped != body.data() + body.size())
    return InvalidArgument("the %s is not base64", label);
  der.Truncate(bytes);
  return der;
}

absl::StatusOr<Secret> EncodePem(std::string_view der, std::string_view label) {
  constexpr std::size_t kLine = 48;  // bytes, 64 digits
  const std::string begin = absl::StrFormat("-----BEGIN %s-----\n", label);
  const std::string end = absl::StrFormat("-----END %s-----\n", label);
  const std::size_t lines = (der.size() + kLine - 1) / kLine;
  WAXVM_ASSIGN_OR_RETURN(Secret pem, Secret::Create(begin.size() + lines * 66 + end.size()));
  char* to = std::copy(begin.begin(), begin.end(), pem.data());
  for (std::size_t at = 0; at < der.size(); at += kLine) {
    const std::string_view part = der.substr(at, kLine);
    const std::size_t room = sodium_base64_ENCODED_LEN(part.size(), sodium_base64_VARIANT_ORIGINAL);
    sodium_bin2base64(to, room, Raw(part), part.size(), sodium_base64_VARIANT_ORIGINAL);
    to += room - 1;  // the terminator gives way to the end of the line
    *to++ = '\n';
  }
  to = std::copy(end.begin(), end.end(), to);
  pem.Truncate(static_cast<std::size_t>(to - pem.data()));
  return pem;
}

}  // namespace waxvm::identity
