// SPDX-License-Identifier: Apache-2.0
// Where the identity commands find keys.
#ifndef WAXVM_EXAMPLES_SUPERVISOR_KEYS_H_
#define WAXVM_EXAMPLES_SUPERVISOR_KEYS_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "waxvm/key.h"
#include "waxvm/key_store.h"
#include "words.h"

namespace waxvm::cli {

inline constexpr WordFlag kStoreFlag = {
    .name = "store", .value = "FOLDER", .help = "the key store (default: ~/.waxvm/keys)"};

/// ~/.waxvm, made where it is missing. Errors: kNotFound without HOME.
absl::StatusOr<std::string> HomeFolder();

/// The store that --store names, or the one in the home folder.
absl::StatusOr<KeyStore> OpenStore(const Words& words);

/// A key that can sign: "agent:" and a public key is asked of the agent at SSH_AUTH_SOCK, something
/// with a slash is a file, anything else is a name in the store.
absl::StatusOr<std::unique_ptr<Signer>> OpenSigner(const Words& words, std::string_view key);

}  // namespace waxvm::cli

#endif  // WAXVM_EXAMPLES_SUPERVISOR_KEYS_H_
