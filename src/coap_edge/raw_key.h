// SPDX-License-Identifier: Apache-2.0
// Raw public keys as identities.
#ifndef WAXVM_SRC_COAP_EDGE_RAW_KEY_H_
#define WAXVM_SRC_COAP_EDGE_RAW_KEY_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace waxvm::coap::edge {

/// "rpk:" and the SHA-256 of a SubjectPublicKeyInfo in DER, in hexadecimal digits.
std::string IdentityOfKey(const std::uint8_t* der, std::size_t bytes);

}  // namespace waxvm::coap::edge

#endif  // WAXVM_SRC_COAP_EDGE_RAW_KEY_H_
