// SPDX-License-Identifier: Apache-2.0
// What stands behind a waxvm::RootImage.
#ifndef WAXVM_SRC_ROOT_IMAGE_ROOT_IMAGE_REP_H_
#define WAXVM_SRC_ROOT_IMAGE_ROOT_IMAGE_REP_H_

#include <memory>
#include <utility>
#include <vector>

#include "src/root_image/blob.h"
#include "src/root_image/tree.h"
#include "waxvm/root_image.h"

namespace waxvm::internal {

/// Immutable after construction, shared by all copies of a RootImage.
class RootImageRep {
 public:
  using Blobs = std::vector<std::shared_ptr<const root_image::Blob>>;

  /// `blobs` hold the bytes that the tree's files point to.
  RootImageRep(root_image::Tree tree, Blobs blobs, ImageConfig config, ImageInfo info);

  static RootImage Wrap(std::shared_ptr<const RootImageRep> rep) {
    return RootImage(std::move(rep));
  }

  const root_image::Tree& tree() const { return tree_; }
  const Blobs& blobs() const { return blobs_; }
  const ImageConfig& config() const { return config_; }
  const ImageInfo& info() const { return info_; }

 private:
  Blobs blobs_;
  root_image::Tree tree_;
  ImageConfig config_;
  ImageInfo info_;
};

}  // namespace waxvm::internal

#endif  // WAXVM_SRC_ROOT_IMAGE_ROOT_IMAGE_REP_H_
