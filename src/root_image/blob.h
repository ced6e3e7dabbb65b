// SPDX-License-Identifier: Apache-2.0
// Bytes that were read once, cannot change any more, and are known by their digest.
#ifndef WAXVM_SRC_ROOT_IMAGE_BLOB_H_
#define WAXVM_SRC_ROOT_IMAGE_BLOB_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "src/base/mapping.h"

namespace waxvm::root_image {

/// "sha256:" and 64 lower-case hexadecimal digits.
std::string DigestOf(std::span<const std::byte> bytes);

/// OK for a digest as above. Errors: kInvalidArgument; kUnimplemented for another algorithm.
absl::Status CheckDigest(std::string_view digest);

/// A private copy in a sealed memfd, mapped read-only: whoever changes or cuts the file that it
/// came from changes nothing here. Immutable. Thread safety: any number of threads.
class Blob {
 public:
  /// Reads the regular file `fd` to its end.
  /// Errors: kInvalidArgument for anything but a regular file, kResourceExhausted past `max_bytes`.
  static absl::StatusOr<std::shared_ptr<const Blob>> Read(int fd, std::uint64_t max_bytes);

  /// Unpacks gzip or zstd, as the first bytes tell; null for what is neither.
  /// Errors: kDataLoss for damaged or truncated data, kResourceExhausted past `max_bytes`, at which
  /// unpacking stops: a small archive can stand for a thousand times its size.
  static absl::StatusOr<std::shared_ptr<const Blob>> Unpack(const Blob& packed,
                                                            std::uint64_t max_bytes);

  std::span<const std::byte> bytes() const { return {mapping_.data(), size_}; }
  const std::string& digest() const { return digest_; }

  /// OK where the digest is `expected`, or nothing is expected. Errors: kDataLoss names both.
  absl::Status Verify(std::string_view expected) const;

 private:
  friend class BlobWriter;
  Mapping mapping_;
  std::size_t size_ = 0;
  std::string digest_;
};

}  // namespace waxvm::root_image

#endif  // WAXVM_SRC_ROOT_IMAGE_BLOB_H_
