// SPDX-License-Identifier: Apache-2.0
// The image of a process as the state section of a snapshot file (docs/formats/snapshot.md).
#ifndef WAXVM_SRC_LINUX_ABI_IMAGE_CODEC_H_
#define WAXVM_SRC_LINUX_ABI_IMAGE_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "src/linux_abi/process_image.h"
#include "waxvm/provider.h"

namespace waxvm::linux_abi {

/// Bytes of mapped files of granted folders that a snapshot file holds, in sum: a program that maps
/// large files would otherwise make one as large.
inline constexpr std::uint64_t kMaxMappedFileBytes = std::uint64_t{256} << 20;

/// Mapped files of granted folders are read now. Errors: kFailedPrecondition with the name of one
/// that cannot be, or does not fit.
absl::StatusOr<std::vector<std::byte>> EncodeImage(const ProcessImage& image);

/// The opposite, from hostile bytes: what it returns has passed CheckImage. `features`: XCR0.
/// Errors: kDataLoss.
absl::StatusOr<ProcessImage> DecodeImage(std::span<const std::byte> bytes, const InstanceSpec& spec,
                                         std::uint64_t features);

/// Whether everything in `image` is as the code that uses it relies on: indices within their lists,
/// trees without circles, registers that belong to ring 3. Registers and vector state are cut to
/// what a program could load itself. Errors: kDataLoss with what is wrong.
absl::Status CheckImage(ProcessImage& image, std::uint64_t features);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_IMAGE_CODEC_H_
