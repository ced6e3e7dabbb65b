// SPDX-License-Identifier: Apache-2.0
#include "src/base/kernel_filesystem.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "src/base/status.h"

namespace waxvm {
namespace {

// Without a name in <linux/magic.h>.
constexpr std::uint32_t kConfigFs = 0x62656570;
constexpr std::uint32_t kFuseControl = 0x65735543;
constexpr std::uint32_t kMessageQueue = 0x19800202;
constexpr std::uint32_t kNfsd = 0x6e667364;
constexpr std::uint32_t kRpcPipe = 0x67596969;

constexpr std::uint32_t kKernelFilesystems[] = {
    PROC_SUPER_MAGIC,
    SYSFS_MAGIC,
    CGROUP_SUPER_MAGIC,
    CGROUP2_SUPER_MAGIC,
    DEBUGFS_MAGIC,
    TRACEFS_MAGIC,
    SECURITYFS_MAGIC,
    SELINUX_MAGIC,
    SMACK_MAGIC,
    BPF_FS_MAGIC,
    PSTOREFS_MAGIC,
    EFIVARFS_MAGIC,
    BINFMTFS_MAGIC,
    DEVPTS_SUPER_MAGIC,
    NSFS_MAGIC,
    PIPEFS_MAGIC,
    SOCKFS_MAGIC,
    ANON_INODE_FS_MAGIC,
    RDTGROUP_SUPER_MAGIC,
    kConfigFs,
    AAFS_MAGIC,
    BINDERFS_SUPER_MAGIC,
    kFuseControl,
    kMessageQueue,
    kNfsd,
    kRpcPipe,
};

}  // namespace

absl::StatusOr<bool> IsOnKernelFilesystem(int fd) {
  struct statfs info;
  if (::fstatfs(fd, &info) != 0) return ErrnoStatus(errno, "cannot tell the type of a file system");
  return std::ranges::find(kKernelFilesystems, static_cast<std::uint32_t>(info.f_type)) !=
         std::end(kKernelFilesystems);
}

}  // namespace waxvm
