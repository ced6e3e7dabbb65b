/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <linux/securebits.h>
#include <sys/prctl.h>

#include "src/provider_process/raw_syscall.h"
#include "src/provider_process/sandbox.h"

/* Landlock as of ABI 7; the structure's tail is cut off for older kernels. */
struct landlock_rules {
  uint64_t files;
  uint64_t network;
  uint64_t scoped;
};
struct landlock_path {
  uint64_t allowed;
  int32_t fd;
} __attribute__((packed));

enum {
  kExecute = 1 << 0,
  kWriteFile = 1 << 1,
  kReadFile = 1 << 2,
  kReadDirectory = 1 << 3,
  kRemove = (1 << 4) | (1 << 5),
  kMakeDevice = (1 << 6) | (1 << 11),
  kMakeDirectory = 1 << 7,
  kMakeRegular = 1 << 8,
  kMakeSocket = 1 << 9,
  kMakeFifo = 1 << 10,
  kMakeSymlink = 1 << 12,
  kRefer = 1 << 13,
  kTruncate = 1 << 14,
  kIoctlDevice = 1 << 15,
  kRead = kExecute | kReadFile | kReadDirectory,
  kWrite = kWriteFile | kRemove | kMakeDirectory | kMakeRegular | kMakeSymlink | kRefer | kTruncate,
  kOfFile = kExecute | kWriteFile | kReadFile | kTruncate | kIoctlDevice
};

static uint64_t known_rights(uint32_t abi) {
  uint64_t rights = kRefer - 1;
  if (abi >= 2) rights |= kRefer;
  if (abi >= 3) rights |= kTruncate;
  if (abi >= 5) rights |= kIoctlDevice;
  return rights;
}

static const struct wx_mount* mounts_of(const struct wx_config* config) {
  return (const struct wx_mount*)(const void*)((const char*)config + config->mount_offset);
}

static long allow(long rules, const char* path, uint64_t rights) {
  struct open_how how = {0};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_NO_SYMLINKS;
  const long fd = wx_syscall4(SYS_openat2, AT_FDCWD, (long)path, (long)&how, sizeof how);
  if (fd < 0) return fd;
  const struct landlock_path rule = {rights, (int32_t)fd};
  const long result = wx_syscall4(SYS_landlock_add_rule, rules, 1, (long)&rule, 0);
  wx_syscall1(SYS_close, fd);
  return result;
}

/* The same for a folder of the private root, unless a grant lies there or a granted root has none.
 */
static long allow_private(long rules, const struct wx_config* config, const char* path,
                          uint64_t rights) {
  const struct wx_mount* mounts = mounts_of(config);
  for (uint32_t i = 0; i < config->mount_count; ++i) {
    const char* guest = (const char*)config + mounts[i].guest_path;
    size_t n = 0;
    while (path[n] != 0 && path[n] == guest[n]) ++n;
    if (path[n] == 0 && guest[n] == 0) return 0;
  }
  const long result = allow(rules, path, rights);
  return result == -ENOENT || result == -ELOOP || result == -ENOTDIR ? 0 : result;
}

/* A second wall behind the mount namespace: reading everywhere in the new root, writing in the
 * private /tmp, to the devices and in the folders granted so. FIFOs and sockets cannot be planted
 * in a granted folder, where a host program might open them and hang. */
static long restrict_paths(const struct wx_config* config) {
  const uint64_t known = known_rights(config->landlock_abi);
  struct landlock_rules rules = {known, 3 /* bind, connect TCP */,
                                 3 /* abstract sockets, signals */};
  const size_t size = config->landlock_abi >= 6 ? 24 : config->landlock_abi >= 4 ? 16 : 8;
  const long fd = wx_syscall3(SYS_landlock_create_ruleset, (long)&rules, (long)size, 0);
  if (fd < 0) return fd;
  long result = allow(fd, "/", kRead);
  if (result == 0) result = allow_private(fd, config, "/dev", kWriteFile & known);
  if (result == 0) result = allow_private(fd, config, "/tmp", (kRead | kWrite | kMakeFifo) & known);
  const struct wx_mount* mounts = mounts_of(config);
  for (uint32_t i = 0; i < config->mount_count && result == 0; ++i) {
    if ((mounts[i].flags & WX_MOUNT_WRITABLE) == 0) continue;
    uint64_t rights = (kRead | kWrite) & known;
    if ((mounts[i].flags & WX_MOUNT_DIRECTORY) == 0) rights &= kOfFile & ~(uint64_t)kIoctlDevice;
    result = allow(fd, (const char*)config + mounts[i].guest_path, rights);
  }
  if (result == 0) result = wx_syscall2(SYS_landlock_restrict_self, fd, 0);
  wx_syscall1(SYS_close, fd);
  return result;
}

/* The bounding set stays: nothing leads from it to the others. An exec adds from it what a file
 * (not with no_new_privs) or root (not with these securebits, which are locked) brings, and a
 * process raises from it what CAP_SETPCAP lets it. Emptying it takes as long as all the rest. */
static long drop_capabilities(void) {
  const long result =
      wx_syscall5(SYS_prctl, PR_SET_SECUREBITS,
                  (SECURE_ALL_BITS & ~SECBIT_KEEP_CAPS) | SECURE_ALL_LOCKS, 0, 0, 0);
  if (result < 0) return result;
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  const struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
  return wx_syscall2(SYS_capset, (long)&header, (long)none);
}

int wx_drop_privileges(const struct wx_config* config) {
  long result = wx_syscall5(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (result < 0) {
    wx_report_failure(WX_STEP_NO_NEW_PRIVILEGES, result, -1);
    return -1;
  }
  result = drop_capabilities();
  if (result < 0) {
    wx_report_failure(WX_STEP_CAPABILITIES, result, -1);
    return -1;
  }
  if (config->landlock_abi == 0) return 0;
  result = restrict_paths(config);
  if (result < 0) {
    wx_report_failure(WX_STEP_LANDLOCK, result, -1);
    return -1;
  }
  return 0;
}
