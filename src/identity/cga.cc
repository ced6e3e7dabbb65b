// SPDX-License-Identifier: Apache-2.0
#include "waxvm/cga.h"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "src/base/status.h"
#include "src/identity/cga_hash.h"
#include "src/identity/pkcs8.h"
#include "src/identity/sha1.h"
#include "src/identity/text.h"

namespace waxvm::cga {
namespace {

using identity::AsView;
using identity::Raw;

constexpr std::string_view kPrefixContext = "waxvm-cga-prefix-v1";
constexpr std::string_view kTopicContext = "waxvm-topic-v1";
// A key of RSA with 16,384 bits has 2 KiB; every verification hashes the key twice.
constexpr std::size_t kMaxPublicKeyBytes = 8192;
constexpr std::size_t kMaxExtensionBytes = 8192;
constexpr std::size_t kFixedBytes = 16 + 8 + 1;
constexpr std::size_t kSpkiBytes = 12 + kKeyBytes;
// Sec, and the bits that say "universal" and "group": no part of Hash1.
constexpr std::uint8_t kHash1Mask = 0x1c;

template <std::size_t Size>
HashHead HeadOf(const std::array<std::uint8_t, Size>& digest) {
  HashHead head;
  std::copy_n(digest.begin(), head.size(), head.begin());
  return head;
}

HashHead HashSha1(std::string_view bytes) { return HeadOf(identity::Sha1(bytes)); }

std::array<std::uint8_t, crypto_hash_sha256_BYTES> Sha256(std::string_view bytes) {
  std::array<std::uint8_t, crypto_hash_sha256_BYTES> digest;
  crypto_hash_sha256(digest.data(), Raw(bytes), bytes.size());
  return digest;
}

HashHead HashSha256(std::string_view bytes) { return HeadOf(Sha256(bytes)); }

/// Bytes of the outermost DER element; 0 where there is none.
std::size_t DerElementBytes(std::string_view bytes) {
  const auto byte = [&](std::size_t at) -> std::size_t {
    return static_cast<unsigned char>(bytes[at]);
  };
  if (bytes.size() < 2 || byte(0) != 0x30) return 0;
  std::size_t header = 2;
  std::size_t length = byte(1);
  if (length >= 0x80) {
    const std::size_t count = length & 0x7f;
    if (count < 1 || count > 2 || bytes.size() < 2 + count) return 0;
    length = count == 1 ? byte(2) : byte(2) << 8 | byte(3);
    header += count;
  }
  return header + length <= bytes.size() ? header + length : 0;
}

/// Spec: RFC 4581 section 2: type, length, data, one after the other.
bool AreExtensions(std::string_view bytes) {
  while (!bytes.empty()) {
    if (bytes.size() < 4) return false;
    const std::size_t length = static_cast<std::size_t>(static_cast<unsigned char>(bytes[2])) << 8 |
                               static_cast<unsigned char>(bytes[3]);
    if (length > bytes.size() - 4) return false;
    bytes.remove_prefix(4 + length);
  }
  return true;
}

absl::Status CheckCollisionCount(int count) {
  if (count >= 0 && count <= kMaxCollisionCount) return absl::OkStatus();
  return InvalidArgument("the collision count is %d; it is 0 to %d", count, kMaxCollisionCount);
}

absl::Status CheckParameters(const Parameters& parameters) {
  WAXVM_RETURN_IF_ERROR(CheckCollisionCount(parameters.collision_count));
  if (parameters.public_key.size() > kMaxPublicKeyBytes ||
      parameters.extensions.size() > kMaxExtensionBytes)
    return InvalidArgument("a public key of %d bytes with extensions of %d; at most %d and %d",
                           parameters.public_key.size(), parameters.extensions.size(),
                           kMaxPublicKeyBytes, kMaxExtensionBytes);
  if (parameters.public_key.empty() ||
      DerElementBytes(parameters.public_key) != parameters.public_key.size())
    return InvalidArgument("the public key is not one element of DER");
  if (!AreExtensions(parameters.extensions)) return InvalidArgument("the extensions are cut short");
  return absl::OkStatus();
}

absl::StatusOr<Sec> CheckedSec(int code) {
  const auto sec = SecOf(code);
  if (!sec) return InvalidArgument("Sec code %d is not defined; there are 0 to 5", code);
  return *sec;
}

absl::Status Mismatch(const Address& address, std::string_view what) {
  return absl::PermissionDeniedError(
      absl::StrFormat("%s is not an address of this key: %s", address.ToText(), what));
}

absl::Status VerifyHash1(const Address& address, const Sec& sec, std::string_view serialized) {
  const HashHead hash1 = sec.hash(serialized);
  std::uint8_t difference = (address.bytes[8] ^ hash1[0]) & kHash1Mask;
  for (std::size_t i = 1; i < 8; ++i)
    difference = static_cast<std::uint8_t>(difference | (address.bytes[8 + i] ^ hash1[i]));
  if (difference != 0) return Mismatch(address, "its interface identifier is another");
  return absl::OkStatus();
}

absl::Status VerifyHash2(const Address& address, const Sec& sec, std::string_view input) {
  if (sec.zero_bits == 0 || HasZeroBits(sec.hash(input), sec.zero_bits)) return absl::OkStatus();
  return Mismatch(address, absl::StrFormat("Hash2 lacks its %d zero bits", sec.zero_bits));
}

/// All parts one after the other; together they have `Size` bytes.
template <std::size_t Size, typename... Parts>
std::array<std::uint8_t, Size> Concat(const Parts&... parts) {
  std::array<std::uint8_t, Size> bytes;
  std::size_t at = 0;
  ((std::memcpy(bytes.data() + at, parts.data(), parts.size()), at += parts.size()), ...);
  return bytes;
}

}  // namespace

std::optional<Sec> SecOf(int code) {
  if (code < 0 || code > kSha256Bits32) return std::nullopt;
  return Sec{.hash = code < kSha256 ? HashSha1 : HashSha256, .zero_bits = 16 * (code % 3)};
}

bool HasZeroBits(const HashHead& hash, int bits) {
  return std::all_of(hash.begin(), hash.begin() + bits / 8, [](std::uint8_t b) { return b == 0; });
}

std::string Hash2Input(const Modifier& modifier, std::string_view key_and_extensions) {
  std::string input(AsView(modifier));
  input.append(9, '\0');  // in place of prefix and collision count
  return input.append(key_and_extensions);
}

std::string Serialize(const Parameters& parameters) {
  std::string bytes;
  bytes.reserve(kFixedBytes + parameters.public_key.size() + parameters.extensions.size());
  bytes.append(AsView(parameters.modifier));
  bytes.append(AsView(parameters.prefix));
  bytes.push_back(static_cast<char>(parameters.collision_count));
  return bytes.append(parameters.public_key).append(parameters.extensions);
}

absl::StatusOr<Parameters> ParseParameters(std::string_view bytes) {
  if (bytes.size() < kFixedBytes)
    return InvalidArgument("CGA parameters of %d bytes; they have more than %d", bytes.size(),
                           kFixedBytes);
  Parameters parameters;
  std::copy_n(bytes.begin(), 16, parameters.modifier.begin());
  std::copy_n(bytes.begin() + 16, 8, parameters.prefix.begin());
  parameters.collision_count = static_cast<unsigned char>(bytes[24]);
  const std::string_view rest = bytes.substr(kFixedBytes);
  const std::size_t key = DerElementBytes(rest);
  parameters.public_key = rest.substr(0, key);
  parameters.extensions = rest.substr(key);
  WAXVM_RETURN_IF_ERROR(CheckParameters(parameters));
  return parameters;
}

Prefix PrefixOf(const PublicKey& key) {
  const auto digest = Sha256(AsView(Concat<kPrefixContext.size() + kSpkiBytes>(
      kPrefixContext, identity::SpkiPrefix(KeyType::kEd25519), key.view())));
  Prefix prefix = {0xfd};
  std::copy_n(digest.begin(), 7, prefix.begin() + 1);
  return prefix;
}

Address GroupOf(const PublicKey& topic) {
  const auto digest = Sha256(std::string(kTopicContext).append(topic.view()));
  Address group;
  group.bytes = {0xff, 0x18};
  std::copy_n(digest.begin(), 14, group.bytes.begin() + 2);
  return group;
}

absl::StatusOr<Generated> Generate(const PublicKey& key, const GenerateOptions& options) {
  return Generate(key.ToDer(), PrefixOf(key), options);
}

absl::StatusOr<Generated> Generate(std::string_view public_key_der, const Prefix& prefix,
                                   const GenerateOptions& options) {
  Generated made;
  made.parameters = {.modifier = options.modifier,
                     .prefix = prefix,
                     .collision_count = options.collision_count,
                     .public_key = std::string(public_key_der)};
  WAXVM_RETURN_IF_ERROR(CheckParameters(made.parameters));
  WAXVM_ASSIGN_OR_RETURN(const Sec sec, CheckedSec(options.sec_code));
  WAXVM_ASSIGN_OR_RETURN(const Found found, Search(sec, public_key_der, options));
  made.parameters.modifier = found.modifier;
  made.hash2 = found.hash2;
  made.tries = found.tries;
  const HashHead hash1 = sec.hash(Serialize(made.parameters));
  std::copy(prefix.begin(), prefix.end(), made.address.bytes.begin());
  std::copy_n(hash1.begin(), 8, made.address.bytes.begin() + 8);
  std::uint8_t& first = made.address.bytes[8];
  first = static_cast<std::uint8_t>((first & kHash1Mask) | options.sec_code << 5);
  return made;
}

absl::Status Verify(const Address& address, const Parameters& parameters) {
  WAXVM_RETURN_IF_ERROR(CheckParameters(parameters));
  WAXVM_ASSIGN_OR_RETURN(const Sec sec, CheckedSec(SecCodeOf(address)));
  if (!std::equal(parameters.prefix.begin(), parameters.prefix.end(), address.bytes.begin()))
    return Mismatch(address, "its prefix is another");
  const std::string serialized = Serialize(parameters);
  WAXVM_RETURN_IF_ERROR(VerifyHash1(address, sec, serialized));
  return VerifyHash2(
      address, sec,
      Hash2Input(parameters.modifier, std::string_view(serialized).substr(kFixedBytes)));
}

absl::Status Verify(const Address& address, const PublicKey& key, const Modifier& modifier,
                    int collision_count) {
  // The other Verify for a key of known size: every advert comes here, and nothing is allocated.
  WAXVM_RETURN_IF_ERROR(CheckCollisionCount(collision_count));
  WAXVM_ASSIGN_OR_RETURN(const Sec sec, CheckedSec(SecCodeOf(address)));
  const Prefix prefix = PrefixOf(key);
  if (!std::equal(prefix.begin(), prefix.end(), address.bytes.begin()))
    return Mismatch(address, "its prefix is another");
  const std::string_view spki = identity::SpkiPrefix(KeyType::kEd25519);
  const char count = static_cast<char>(collision_count);
  const auto serialized = Concat<kFixedBytes + kSpkiBytes>(
      AsView(modifier), AsView(prefix), std::string_view(&count, 1), spki, key.view());
  WAXVM_RETURN_IF_ERROR(VerifyHash1(address, sec, AsView(serialized)));
  static constexpr std::string_view kZeroes("\0\0\0\0\0\0\0\0\0", 9);
  const auto hash2_input =
      Concat<kFixedBytes + kSpkiBytes>(AsView(modifier), kZeroes, spki, key.view());
  return VerifyHash2(address, sec, AsView(hash2_input));
}

int SecCodeOf(const Address& address) { return address.bytes[8] >> 5; }

}  // namespace waxvm::cga
