// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_BASE_ATOMIC_FILE_H_
#define WAXVM_SRC_BASE_ATOMIC_FILE_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace waxvm {

/// Puts a new file in the place of what is at `path`, if anything: `write` fills it, and nothing is
/// seen of it until all of it is on disk. Whoever is killed in between leaves the old file as it
/// was. Only its owner can read the new one. A symbolic link at `path` is replaced, not followed.
/// Blocks: until the disk has it. Errors: as ErrnoStatus, and those of `write`; nothing has changed
/// then, unless the folder could not be written to disk after the file had its name.
absl::Status ReplaceFile(const std::string& path, absl::FunctionRef<absl::Status(int file)> write);

}  // namespace waxvm

#endif  // WAXVM_SRC_BASE_ATOMIC_FILE_H_
