// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_ROOT_IMAGE_EROFS_READER_H_
#define WAXVM_SRC_ROOT_IMAGE_EROFS_READER_H_

#include <cstddef>
#include <span>

#include "absl/status/status.h"
#include "src/root_image/tree.h"

namespace waxvm::root_image {

/// Adds what an EROFS image holds to `tree`, as one layer; the caller has begun it. The files' data
/// stay where they are in `image`.
/// Errors: kDataLoss for a damaged image, kUnimplemented for compressed files and for features that
/// are not known here, and as TreeBuilder's.
/// Spec: https://erofs.docs.kernel.org, core on-disk format and chunk-based files.
absl::Status ReadErofs(std::span<const std::byte> image, TreeBuilder& tree);

}  // namespace waxvm::root_image

#endif  // WAXVM_SRC_ROOT_IMAGE_EROFS_READER_H_
