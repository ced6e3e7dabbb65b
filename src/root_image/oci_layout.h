// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_ROOT_IMAGE_OCI_LAYOUT_H_
#define WAXVM_SRC_ROOT_IMAGE_OCI_LAYOUT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "src/base/unique_fd.h"
#include "src/root_image/blob.h"
#include "waxvm/root_image.h"

namespace waxvm::root_image {

/// The media type, digest and size of a blob, as another blob gives them.
struct Descriptor {
  std::string media_type;
  std::string digest;
  std::uint64_t size = 0;
};

struct OciImage {
  ImageConfig config;
  std::vector<Descriptor> layers;     ///< bottom first
  std::vector<std::string> diff_ids;  ///< of each layer, unpacked
};

/// An OCI image layout folder. Nothing in it is trusted: every blob that is returned has the digest
/// and the size that it was asked for by. Symbolic links in the folder are followed, as blobs may
/// be shared between layouts; the digest decides what is taken. Spec: OCI image-spec v1,
/// image-layout.md, image-index.md, manifest.md, config.md.
class OciLayout {
 public:
  /// Errors: kNotFound; kInvalidArgument for a folder that is no layout.
  static absl::StatusOr<OciLayout> Open(const std::string& folder);

  /// Finds the image for linux/amd64 that `reference` names; empty: the only one.
  absl::StatusOr<OciImage> FindImage(std::string_view reference) const;

  /// Errors: kNotFound, kDataLoss, kResourceExhausted past `max_bytes`.
  absl::StatusOr<std::shared_ptr<const Blob>> ReadBlob(const Descriptor& descriptor,
                                                       std::uint64_t max_bytes) const;

 private:
  explicit OciLayout(UniqueFd folder) : folder_(std::move(folder)) {}
  absl::StatusOr<std::shared_ptr<const Blob>> ReadFile(const std::string& path,
                                                       std::uint64_t max_bytes) const;

  UniqueFd folder_;
};

/// Whether `media_type` is that of a layer as a tar archive, packed or not.
bool IsLayerType(std::string_view media_type);

}  // namespace waxvm::root_image

#endif  // WAXVM_SRC_ROOT_IMAGE_OCI_LAYOUT_H_
