// SPDX-License-Identifier: Apache-2.0
// Secret keys in files that nobody else can read.
#ifndef WAXVM_KEY_STORE_H_
#define WAXVM_KEY_STORE_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/key.h"

namespace waxvm {

/// A folder of keys, one a file: NAME.pem, in PKCS#8, which `openssl pkey` reads. A name has 1 to
/// 64 of a–z, A–Z, 0–9, '-', '_' and '.', and does not start with a dot.
///
/// Folder and files must belong to the effective user, and nobody else may have any right on them
/// (0700, 0600); symbolic links, hard links and anything but regular files are refused. A key
/// appears whole or not at all, and never replaces another one.
/// Thread safety: any number of threads and processes.
class KeyStore {
 public:
  /// Opens the folder; its last component is made where it is missing.
  /// Errors: kNotFound, kPermissionDenied with what is too loose, kInvalidArgument for what is no
  /// folder or is reached by a symbolic link.
  static absl::StatusOr<KeyStore> Open(const std::string& folder);

  KeyStore(KeyStore&&) noexcept;
  KeyStore& operator=(KeyStore&&) noexcept;
  ~KeyStore();

  /// Blocks: on the disk; returns when the key is durable. Errors: kAlreadyExists where there is
  /// one of that name; kInvalidArgument for the name.
  absl::Status Save(std::string_view name, const SigningKey& key);
  absl::Status Save(std::string_view name, const ExchangeKey& key);

  /// Errors: kNotFound; kPermissionDenied with what is too loose; kInvalidArgument for what is no
  /// such key.
  absl::StatusOr<SigningKey> Load(std::string_view name) const;
  absl::StatusOr<ExchangeKey> LoadExchange(std::string_view name) const;

  /// The key of that name, made where there is none. Two that do this at once get the same one.
  absl::StatusOr<SigningKey> LoadOrCreate(std::string_view name);

  /// The names of all files that end in .pem, sorted.
  absl::StatusOr<std::vector<std::string>> List() const;
  /// Where a key of that name is.
  std::string PathOf(std::string_view name) const;
  /// Errors: kNotFound.
  absl::Status Remove(std::string_view name);

 private:
  struct Rep;
  explicit KeyStore(std::unique_ptr<Rep> rep);
  std::unique_ptr<Rep> rep_;
};

/// One key file, under the same rules as those of a store, wherever its folder is.
absl::StatusOr<SigningKey> LoadKeyFile(const std::string& path);

}  // namespace waxvm

#endif  // WAXVM_KEY_STORE_H_
