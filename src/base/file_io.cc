// SPDX-License-Identifier: Apache-2.0
#include "src/base/file_io.h"

#include <unistd.h>

#include <cerrno>

#include "src/base/status.h"

namespace waxvm {

absl::Status WriteAll(int file, std::span<const std::byte> bytes, std::string_view what) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    // A file that takes nothing is full, whatever it calls that.
    if (written <= 0) return ErrnoStatus(written < 0 ? errno : ENOSPC, what);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return absl::OkStatus();
}

}  // namespace waxvm
