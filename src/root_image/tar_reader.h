// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_ROOT_IMAGE_TAR_READER_H_
#define WAXVM_SRC_ROOT_IMAGE_TAR_READER_H_

#include <cstddef>
#include <span>

#include "absl/status/status.h"
#include "src/root_image/tree.h"

namespace waxvm::root_image {

/// Adds what an uncompressed tar archive holds to `tree`, as one layer; the caller has begun it.
/// The files' data stay where they are in `archive`. Names are bytes, as Linux has them.
/// Errors: kDataLoss for a damaged or truncated archive, kUnimplemented for sparse entries, and as
/// TreeBuilder's.
/// Spec: POSIX.1-2017 pax, ustar; GNU tar's long names and base-256 numbers; OCI image-spec
/// layer.md.
absl::Status ReadTar(std::span<const std::byte> archive, TreeBuilder& tree);

}  // namespace waxvm::root_image

#endif  // WAXVM_SRC_ROOT_IMAGE_TAR_READER_H_
