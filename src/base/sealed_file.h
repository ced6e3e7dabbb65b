// SPDX-License-Identifier: Apache-2.0
// Files in memory that nobody can change any more once they are sealed.
#ifndef WAXVM_SRC_BASE_SEALED_FILE_H_
#define WAXVM_SRC_BASE_SEALED_FILE_H_

#include <cstddef>
#include <span>

#include "absl/status/statusor.h"
#include "src/base/unique_fd.h"

namespace waxvm {

/// Whether a file in memory may be executed, where the kernel tells the difference.
enum class Executable { kNo, kYes };

/// An empty memfd that can be sealed, close-on-exec. `name` is what /proc shows.
absl::StatusOr<UniqueFd> NewMemoryFile(const char* name, Executable executable);

/// Forbids writing, growing, shrinking and further seals. No writable mapping may exist.
absl::Status SealFile(int fd);

/// A sealed memfd that holds `bytes`, positioned at its start.
absl::StatusOr<UniqueFd> NewSealedFile(const char* name, Executable executable,
                                       std::span<const std::byte> bytes);

}  // namespace waxvm

#endif  // WAXVM_SRC_BASE_SEALED_FILE_H_
