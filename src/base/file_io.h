// SPDX-License-Identifier: Apache-2.0
// Whole reads and writes of descriptors that may take several calls.
#ifndef WAXVM_SRC_BASE_FILE_IO_H_
#define WAXVM_SRC_BASE_FILE_IO_H_

#include <cstddef>
#include <span>
#include <string_view>

#include "absl/status/status.h"

namespace waxvm {

/// Writes all of `bytes` where `file` stands; `what` begins the message of an error.
/// Errors: as ErrnoStatus; some of the bytes may have been written.
absl::Status WriteAll(int file, std::span<const std::byte> bytes, std::string_view what);

}  // namespace waxvm

#endif  // WAXVM_SRC_BASE_FILE_IO_H_
