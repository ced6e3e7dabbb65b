// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <vector>

#include "absl/strings/str_format.h"
#include "support.h"

using waxvm::RootImage;
using waxvm::c::Guard;

namespace {

absl::Status Give(absl::StatusOr<RootImage> opened, waxvm_image** image) {
  if (!opened.ok()) return opened.status();
  *image = new waxvm_image{*std::move(opened)};
  return absl::OkStatus();
}

waxvm::RootImageOptions WithDigest(const char* digest) {
  waxvm::RootImageOptions options;
  if (digest != nullptr) options.digest = digest;
  return options;
}

}  // namespace

extern "C" {

waxvm_status waxvm_image_open_tar(const char* path, const char* digest, waxvm_image** image,
                                  waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(image);
    *image = nullptr;
    WAXVM_C_REQUIRE(path);
    return Give(RootImage::FromTar(path, WithDigest(digest)), image);
  });
}

waxvm_status waxvm_image_open_erofs(const char* path, const char* digest, waxvm_image** image,
                                    waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(image);
    *image = nullptr;
    WAXVM_C_REQUIRE(path);
    return Give(RootImage::FromErofs(path, WithDigest(digest)), image);
  });
}

waxvm_status waxvm_image_open_oci(const char* folder, const char* reference, waxvm_image** image,
                                  waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(image);
    *image = nullptr;
    WAXVM_C_REQUIRE(folder);
    return Give(RootImage::FromOciLayout(folder, reference != nullptr ? reference : ""), image);
  });
}

waxvm_status waxvm_image_open_stack(const waxvm_image* const* layers, size_t layer_count,
                                    waxvm_image** image, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(image);
    *image = nullptr;
    WAXVM_C_REQUIRE(layers);
    std::vector<RootImage> list;
    for (std::size_t i = 0; i < layer_count; ++i) {
      if (layers[i] == nullptr)
        return absl::InvalidArgumentError(absl::StrFormat("layers[%d] is NULL", i));
      list.push_back(layers[i]->image);
    }
    return Give(RootImage::Stack(list), image);
  });
}

void waxvm_image_close(waxvm_image* image) { delete image; }

}  // extern "C"
