// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/mapped_files.h"

#include <sys/stat.h>

#include <optional>

namespace waxvm::linux_abi {
namespace {

std::optional<FileIdentity> IdentityOf(Process& process, const OpenFile& file) {
  if (!process.memory().has_shared_files()) return std::nullopt;
  struct stat status {};
  if (file.Stat(status) < 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  return FileIdentity{.device = status.st_dev, .inode = status.st_ino};
}

}  // namespace

std::int64_t SyncMappings(Process& process, const OpenFile& file) {
  const auto identity = IdentityOf(process, file);
  return identity ? process.memory().SyncFile(*identity) : 0;
}

void RefreshMappings(Process& process, const OpenFile& file, std::uint64_t start,
                     std::uint64_t end) {
  if (const auto identity = IdentityOf(process, file))
    process.memory().RefreshFile(*identity, start, end);
}

}  // namespace waxvm::linux_abi
