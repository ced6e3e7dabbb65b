// SPDX-License-Identifier: Apache-2.0
#include "src/coap_edge/raw_key.h"

#include <sodium.h>

#include <array>

#include "waxvm/coap_edge.h"

namespace waxvm::coap {
namespace edge {

std::string IdentityOfKey(const std::uint8_t* der, std::size_t bytes) {
  std::array<unsigned char, crypto_hash_sha256_BYTES> hash;
  crypto_hash_sha256(hash.data(), der, bytes);
  std::string text(2 * hash.size() + 1, '\0');
  sodium_bin2hex(text.data(), text.size(), hash.data(), hash.size());
  text.pop_back();
  return "rpk:" + text;
}

}  // namespace edge

absl::StatusOr<std::string> RawKeyIdentity(std::string_view pem) {
  constexpr std::string_view kBegin = "-----BEGIN PUBLIC KEY-----";
  constexpr std::string_view kEnd = "-----END PUBLIC KEY-----";
  constexpr std::size_t kMaxBytes = 2048;
  const std::size_t begin = pem.find(kBegin);
  const std::size_t end = pem.find(kEnd);
  if (begin == std::string_view::npos || end == std::string_view::npos || end < begin)
    return absl::InvalidArgumentError("no PUBLIC KEY in PEM");
  const std::string_view text = pem.substr(begin + kBegin.size(), end - begin - kBegin.size());
  std::array<unsigned char, kMaxBytes> der;
  std::size_t bytes = 0;
  // A SubjectPublicKeyInfo is a SEQUENCE. Spec: RFC 5280 section 4.1.
  if (sodium_base642bin(der.data(), der.size(), text.data(), text.size(), " \t\r\n", &bytes,
                        nullptr, sodium_base64_VARIANT_ORIGINAL) != 0 ||
      bytes < 16 || der[0] != 0x30)
    return absl::InvalidArgumentError("a PUBLIC KEY in PEM that cannot be read");
  return edge::IdentityOfKey(der.data(), bytes);
}

}  // namespace waxvm::coap
