// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_PROVIDER_PROCESS_PROC_FILE_H_
#define WAXVM_SRC_PROVIDER_PROCESS_PROC_FILE_H_

#include <fcntl.h>
#include <unistd.h>

#include <optional>
#include <string>

#include "src/base/unique_fd.h"

namespace waxvm::process {

/// The whole text of a kernel file, which has no size of its own; empty when it cannot be read.
inline std::optional<std::string> ReadFileAt(int folder, const char* path) {
  const UniqueFd file(openat(folder, path, O_RDONLY | O_CLOEXEC));
  if (!file) return std::nullopt;
  std::string text;
  char part[4096];
  for (;;) {
    const ssize_t n = read(file.get(), part, sizeof part);
    if (n < 0) return std::nullopt;
    if (n == 0) return text;
    text.append(part, static_cast<std::size_t>(n));
  }
}

}  // namespace waxvm::process

#endif  // WAXVM_SRC_PROVIDER_PROCESS_PROC_FILE_H_
