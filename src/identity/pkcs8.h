// SPDX-License-Identifier: Apache-2.0
// PKCS#8 and SubjectPublicKeyInfo of RFC 8410, and PEM around them. What is secret stays in Secret.
#ifndef WAXVM_SRC_IDENTITY_PKCS8_H_
#define WAXVM_SRC_IDENTITY_PKCS8_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "waxvm/key.h"

namespace waxvm::identity {

/// Before the 32 bytes of a public key. Spec: RFC 8410 section 4.
std::string_view SpkiPrefix(KeyType type);

/// A secret key as it was found, with the public one where the file has it.
struct ParsedSecret {
  Secret secret;
  std::optional<PublicKey> public_key;
};

/// OneAsymmetricKey of either version. Errors: kInvalidArgument.
absl::StatusOr<ParsedSecret> ParsePkcs8(std::string_view der, KeyType type);
/// Version 1, without attributes and public key, which everything reads.
absl::StatusOr<Secret> WritePkcs8(std::string_view secret, KeyType type);

/// The bytes between the lines of `label`, such as "PRIVATE KEY". Text before and after them is
/// allowed, as openssl allows it; a second block of that label is not.
absl::StatusOr<Secret> DecodePem(std::string_view pem, std::string_view label);
absl::StatusOr<Secret> EncodePem(std::string_view der, std::string_view label);

}  // namespace waxvm::identity

#endif  // WAXVM_SRC_IDENTITY_PKCS8_H_
