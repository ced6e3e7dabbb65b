// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_CAPABILITY_FILE_GRANT_H_
#define WAXVM_SRC_CAPABILITY_FILE_GRANT_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "waxvm/grant.h"
#include "waxvm/provider.h"

namespace waxvm {

/// OK for an absolute path without empty, "." or ".." components, at most 4095 bytes long.
/// Errors: kInvalidArgument with the path and what is wrong with it.
absl::Status CheckGuestPath(std::string_view path);

/// Opens what `grant` names, once: what the path is made to point to later does not matter. The
/// host path is the embedder's own, so its symbolic links are followed.
/// Errors: kNotFound, kPermissionDenied; kInvalidArgument for a bad guest path and for anything
/// but a folder or regular file of an ordinary file system.
absl::StatusOr<FileMount> OpenFileGrant(const FilesGrant& grant);

}  // namespace waxvm

#endif  // WAXVM_SRC_CAPABILITY_FILE_GRANT_H_
