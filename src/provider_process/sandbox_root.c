/* SPDX-License-Identifier: Apache-2.0 */
/* Builds the program's root: an in-memory file system with /tmp and a few devices, and the granted
 * folders. Everything of the host is opened and cloned before it is attached; places are found name
 * by name, below their folder and without links, so that no path of a grant can lead out. There is
 * no /proc: its mount shows the host's settings and hardware, and what hides them takes more trust
 * than it is worth. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#include <sys/mman.h>

#include "src/provider_process/mount_info.h"
#include "src/provider_process/raw_syscall.h"
#include "src/provider_process/sandbox.h"

#define WX_MS_REC 16384
#define WX_MS_PRIVATE (1 << 18)
#define WX_MS_NOSUID 2
#define WX_MNT_DETACH 2
#define WX_OPEN_TREE_CLONE 1
#define WX_AT_RECURSIVE 0x8000

enum { kMaxMounts = 256, kMountInfoBytes = 4 << 20, kDirectory = 0040000, kCharacter = 0020000 };
enum { kFormat = 0170000 };

struct device {
  const char* source;
  const char* target;
  uint32_t minor; /* of major 1, "mem" */
  uint32_t flag;  /* of wx_config, 0: always */
};
static const struct device kDevices[] = {
    {"/dev/null", "dev/null", 3, 0},
    {"/dev/zero", "dev/zero", 5, 0},
    {"/dev/full", "dev/full", 7, 0},
    {"/dev/random", "dev/random", 8, WX_RANDOM_DEVICES},
    {"/dev/urandom", "dev/urandom", 9, WX_RANDOM_DEVICES},
};
enum { kDeviceCount = sizeof kDevices / sizeof kDevices[0] };

struct builder {
  const struct wx_config* config;
  const struct wx_mount* mounts;
  int tree[kMaxMounts]; /* detached clones of the grants */
  int device[kDeviceCount];
  char* mount_info; /* of this namespace, before anything was added */
  size_t mount_info_bytes;
  uint64_t root_device; /* of the in-memory file system */
  int root;             /* its top */
};

static int failed(uint32_t step, long result, int item) {
  wx_report_failure(step, result, item);
  return -1;
}

static long describe(long fd, struct statx* out) {
  return wx_syscall5(SYS_statx, fd, (long)"", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID,
                     (long)out);
}

static uint64_t device_of(const struct statx* about) {
  return (uint64_t)about->stx_dev_major << 32 | about->stx_dev_minor;
}

static long clone_tree(long directory, const char* path, unsigned flags) {
  return wx_syscall3(SYS_open_tree, directory, (long)path, WX_OPEN_TREE_CLONE | O_CLOEXEC | flags);
}

static long set_attributes(long tree, uint64_t attributes) {
  struct mount_attr change = {0};
  change.attr_set = attributes;
  return wx_syscall5(SYS_mount_setattr, tree, (long)"", AT_EMPTY_PATH | WX_AT_RECURSIVE,
                     (long)&change, sizeof change);
}

static long attach(long tree, long target) {
  return wx_syscall5(SYS_move_mount, tree, (long)"", target, (long)"",
                     MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static long read_mount_info(struct builder* b) {
  const long fd =
      wx_syscall4(SYS_openat, AT_FDCWD, (long)"/proc/self/mountinfo", O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return fd;
  const long memory = wx_syscall6(SYS_mmap, 0, kMountInfoBytes, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory < 0 && memory > -4096) return memory;
  b->mount_info = (char*)memory;
  long n;
  do {
    const size_t left = kMountInfoBytes - b->mount_info_bytes;
    if (left == 0) return -E2BIG;
    n = wx_syscall3(SYS_read, fd, memory + (long)b->mount_info_bytes, (long)left);
    if (n > 0) b->mount_info_bytes += (size_t)n;
  } while (n > 0);
  wx_syscall1(SYS_close, fd);
  return n;
}

/* Device nodes of the host are read-only mounts: the embedder's own id may own them, and chmod
 * needs no capability. */
static int open_devices(struct builder* b) {
  for (int i = 0; i < kDeviceCount; ++i) {
    b->device[i] = -1;
    if ((kDevices[i].flag & ~b->config->flags) != 0) continue;
    const long fd = clone_tree(AT_FDCWD, kDevices[i].source, 0);
    if (fd < 0) return failed(WX_STEP_DEVICE, fd, i);
    struct statx about;
    long result = describe(fd, &about);
    if (result == 0 && ((about.stx_mode & kFormat) != kCharacter || about.stx_rdev_major != 1 ||
                        about.stx_rdev_minor != kDevices[i].minor))
      result = -ENODEV;
    if (result == 0)
      result = set_attributes(fd, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    if (result < 0) return failed(WX_STEP_DEVICE, result, i);
    b->device[i] = (int)fd;
  }
  return 0;
}

static int open_grant(struct builder* b, int i) {
  const struct wx_mount* mount = &b->mounts[i];
  struct open_how how = {0};
  how.flags = O_PATH | O_CLOEXEC | O_NOFOLLOW;
  how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const char* path = (const char*)b->config + mount->host_path;
  const long fd = wx_syscall4(SYS_openat2, AT_FDCWD, (long)path, (long)&how, sizeof how);
  if (fd < 0) return failed(WX_STEP_GRANT_OPEN, fd, i);
  struct statx about;
  long result = describe(fd, &about);
  if (result < 0) return failed(WX_STEP_GRANT_OPEN, result, i);
  /* The supervisor checked an open object; whoever renames folders meanwhile gains nothing. */
  if (device_of(&about) != mount->device || about.stx_ino != mount->inode)
    return failed(WX_STEP_GRANT_CHANGED, -ESTALE, i);
  if (!wx_mount_allowed(b->mount_info, b->mount_info_bytes, about.stx_mnt_id))
    return failed(WX_STEP_GRANT_TYPE, -EPERM, i);
  const long tree = clone_tree(fd, "", AT_EMPTY_PATH | WX_AT_RECURSIVE);
  wx_syscall1(SYS_close, fd);
  if (tree < 0) return failed(WX_STEP_GRANT_CLONE, tree, i);
  uint64_t attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  if ((mount->flags & WX_MOUNT_WRITABLE) == 0) attributes |= MOUNT_ATTR_RDONLY;
  result = set_attributes(tree, attributes);
  if (result < 0) return failed(WX_STEP_GRANT_RIGHTS, result, i);
  b->tree[i] = (int)tree;
  return 0;
}

static size_t append(char* out, const char* text) {
  size_t n = 0;
  while (text[n] != 0) out[n] = text[n], ++n;
  out[n] = 0;
  return n;
}

/* A new tmpfs over /proc, whose folder surely exists and is not needed again; the working directory
 * moves into it. */
static long mount_root(struct builder* b) {
  char options[64];
  size_t at = append(options, "mode=0755");
  if (b->config->root_bytes != 0) {
    at += append(options + at, ",size=");
    char digits[20];
    size_t count = 0;
    for (uint64_t v = b->config->root_bytes; v != 0; v /= 10)
      digits[count++] = (char)('0' + v % 10);
    while (count != 0) options[at++] = digits[--count];
    options[at] = 0;
  }
  long result = wx_syscall5(SYS_mount, (long)"waxvm", (long)"/proc", (long)"tmpfs", WX_MS_NOSUID,
                            (long)options);
  if (result == 0) result = wx_syscall1(SYS_chdir, (long)"/proc");
  if (result < 0) return result;
  struct statx about;
  result = wx_syscall5(SYS_statx, AT_FDCWD, (long)".", 0, STATX_BASIC_STATS, (long)&about);
  b->root_device = device_of(&about);
  return result;
}

static long make_file(const char* path) {
  return wx_syscall4(SYS_mknodat, AT_FDCWD, (long)path, 0100444, 0);
}

static long open_path(long directory, const char* path, uint64_t resolve) {
  struct open_how how = {0};
  how.flags = O_PATH | O_CLOEXEC | O_NOFOLLOW;
  how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | resolve;
  return wx_syscall4(SYS_openat2, directory, (long)path, (long)&how, sizeof how);
}

static long attach_at(long tree, const char* path) {
  const long target = open_path(AT_FDCWD, path, 0);
  if (target < 0) return target;
  const long result = attach(tree, target);
  wx_syscall1(SYS_close, target);
  return result;
}

static int populate_root(struct builder* b) {
  long result = wx_syscall3(SYS_mkdirat, AT_FDCWD, (long)"tmp", 0);
  /* The umask is the embedder's. */
  if (result == 0) result = wx_syscall3(SYS_fchmodat, AT_FDCWD, (long)"tmp", 01777);
  if (result == 0) result = wx_syscall3(SYS_mkdirat, AT_FDCWD, (long)"dev", 0755);
  if (result < 0) return failed(WX_STEP_ROOT, result, -1);
  for (int i = 0; i < kDeviceCount; ++i) {
    if (b->device[i] < 0) continue;
    result = make_file(kDevices[i].target);
    if (result == 0) result = attach_at(b->device[i], kDevices[i].target);
    wx_syscall1(SYS_close, b->device[i]);
    if (result < 0) return failed(WX_STEP_DEVICE, result, i);
  }
  return 0;
}

/* Opens `path`, or the folder on the way to it that may not be searched. What lies behind such a
 * folder is out of the program's reach as well, but its mode may change while the program runs: it
 * is the folder that gets covered then. Shortens `path`. */
static long open_reachable(long tree, char* path) {
  for (;;) {
    const long target = open_path(tree, path, RESOLVE_BENEATH);
    if (target != -EACCES) return target;
    char* slash = NULL;
    for (char* at = path; *at != 0; ++at)
      if (*at == '/') slash = at;
    if (slash == NULL) return target;
    *slash = 0;
  }
}

/* Kernel interfaces mounted below a granted folder (its proc, sys, dev …) are hidden under an
 * empty folder or file of the private root. */
static int cover_submounts(const struct builder* b, int item) {
  const char* path = (const char*)b->config + b->mounts[item].host_path;
  struct wx_mount_cursor cursor = {b->mount_info, b->mount_info_bytes, 0};
  char below[4096];
  while (wx_next_forbidden(&cursor, path, below, sizeof below)) {
    const long target = open_reachable(b->tree[item], below);
    if (target == -ENOENT || target == -ENOTDIR) continue; /* under what is covered already */
    if (target < 0) return failed(WX_STEP_GRANT_COVER, target, item);
    struct statx about;
    long result = describe(target, &about);
    if (result == 0) {
      const int is_directory = (about.stx_mode & kFormat) == kDirectory;
      const long blank = clone_tree(b->root, is_directory ? "blank" : "blank_file", 0);
      result = blank < 0 ? blank : set_attributes(blank, MOUNT_ATTR_RDONLY);
      if (result == 0) result = attach(blank, target);
      if (blank >= 0) wx_syscall1(SYS_close, blank);
    }
    wx_syscall1(SYS_close, target);
    if (result < 0) return failed(WX_STEP_GRANT_COVER, result, item);
  }
  return cursor.too_long ? failed(WX_STEP_GRANT_COVER, -ENAMETOOLONG, item) : 0;
}

/* Opens the place for a grant, a path relative to the root. Missing folders are made in the private
 * root only: a grant never changes the host's folders. */
static long open_place(const struct builder* b, const char* path, int is_directory) {
  long at = wx_syscall4(SYS_openat, AT_FDCWD, (long)".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  while (at >= 0 && *path != 0) {
    char part[256];
    size_t n = 0;
    while (path[n] != 0 && path[n] != '/') {
      if (n == sizeof part - 1) return -ENAMETOOLONG;
      part[n] = path[n];
      ++n;
    }
    part[n] = 0;
    path += n;
    const int last = *path == 0;
    while (*path == '/') ++path;
    long next = open_path(at, part, RESOLVE_BENEATH);
    if (next == -ENOENT) {
      struct statx about;
      long made = describe(at, &about);
      if (made == 0 && device_of(&about) != b->root_device) made = -ENOENT;
      if (made == 0 && last && !is_directory)
        made = wx_syscall4(SYS_mknodat, at, (long)part, 0100444, 0);
      else if (made == 0)
        made = wx_syscall3(SYS_mkdirat, at, (long)part, 0755);
      next = made < 0 ? made : open_path(at, part, RESOLVE_BENEATH);
    }
    wx_syscall1(SYS_close, at);
    at = next;
  }
  return at;
}

static int attach_grants(const struct builder* b, uint32_t first) {
  for (uint32_t i = first; i < b->config->mount_count; ++i) {
    const int is_directory = (b->mounts[i].flags & WX_MOUNT_DIRECTORY) != 0;
    const char* path = (const char*)b->config + b->mounts[i].guest_path + 1;
    const long place = open_place(b, path, is_directory);
    if (place < 0) return failed(WX_STEP_GRANT_ATTACH, place, (int)i);
    const long result = attach(b->tree[i], place);
    wx_syscall1(SYS_close, place);
    if (result < 0) return failed(WX_STEP_GRANT_ATTACH, result, (int)i);
    if (cover_submounts(b, (int)i) != 0) return -1;
    wx_syscall1(SYS_close, b->tree[i]);
  }
  return 0;
}

/* Whether a granted root has no folder of its own to lay a private one over. */
static int has_no_place(long result) {
  return result == -ENOENT || result == -ENOTDIR || result == -ELOOP;
}

/* A grant of "/" becomes the root itself; the private /tmp and /dev are laid over its own. */
static int use_granted_root(const struct builder* b) {
  long result = wx_syscall3(SYS_mkdirat, AT_FDCWD, (long)"root", 0755);
  const long private_tmp = clone_tree(AT_FDCWD, "tmp", 0);
  const long private_dev = clone_tree(AT_FDCWD, "dev", WX_AT_RECURSIVE);
  if (result == 0 && private_tmp < 0) result = private_tmp;
  if (result == 0 && private_dev < 0) result = private_dev;
  if (result < 0) return failed(WX_STEP_ROOT, result, -1);
  const long place = open_path(AT_FDCWD, "root", 0);
  result = place < 0 ? place : attach(b->tree[0], place);
  if (result < 0) return failed(WX_STEP_GRANT_ATTACH, result, 0);
  wx_syscall1(SYS_close, place);
  if (cover_submounts(b, 0) != 0) return -1;
  result = wx_syscall1(SYS_fchdir, b->tree[0]);
  if (result == 0) result = attach_at(private_tmp, "tmp");
  if (result == 0 || has_no_place(result)) result = attach_at(private_dev, "dev");
  if (result < 0 && !has_no_place(result)) return failed(WX_STEP_GRANT_ATTACH, result, 0);
  wx_syscall1(SYS_close, private_tmp);
  wx_syscall1(SYS_close, private_dev);
  wx_syscall1(SYS_close, b->tree[0]);
  return 0;
}

static int make_blanks(struct builder* b) {
  long result = wx_syscall3(SYS_mkdirat, b->root, (long)"blank", 0555);
  if (result == 0) result = wx_syscall4(SYS_mknodat, b->root, (long)"blank_file", 0100444, 0);
  return result < 0 ? failed(WX_STEP_ROOT, result, -1) : 0;
}

/* Their names are gone from the root, by its descriptor: "/" may be a granted folder by now. */
static void remove_blanks(const struct builder* b) {
  wx_syscall3(SYS_unlinkat, b->root, (long)"blank", AT_REMOVEDIR);
  wx_syscall3(SYS_unlinkat, b->root, (long)"blank_file", 0);
}

/* The old root is stacked below the new one and taken away from there: no path leads to it. */
static int change_root(void) {
  long result = wx_syscall2(SYS_pivot_root, (long)".", (long)".");
  if (result == 0) result = wx_syscall2(SYS_umount2, (long)".", WX_MNT_DETACH);
  if (result == 0) result = wx_syscall1(SYS_chdir, (long)"/");
  return result < 0 ? failed(WX_STEP_PIVOT, result, -1) : 0;
}

/* Before the root changes: a mount can only be cloned while it is in this namespace, and a private
 * root that a granted one replaces is not there after that. */
static int attach_all(struct builder* b) {
  if (make_blanks(b) != 0) return -1;
  const char* guest = (const char*)b->config + b->mounts[0].guest_path;
  const int granted_root = guest[0] == '/' && guest[1] == 0;
  if (granted_root && use_granted_root(b) != 0) return -1;
  if (attach_grants(b, granted_root ? 1 : 0) != 0) return -1;
  remove_blanks(b);
  return 0;
}

int wx_build_root(const struct wx_config* config) {
  struct builder b = {0};
  b.config = config;
  b.mounts = (const struct wx_mount*)(const void*)((const char*)config + config->mount_offset);
  if (config->mount_count > kMaxMounts) return failed(WX_STEP_CONFIG, -E2BIG, -1);
  /* Frozen before it is read: nothing the host mounts later appears here. */
  long result = wx_syscall5(SYS_mount, 0, (long)"/", 0, WX_MS_REC | WX_MS_PRIVATE, 0);
  if (result < 0) return failed(WX_STEP_PRIVATE_MOUNTS, result, -1);
  if (config->mount_count != 0) {
    result = read_mount_info(&b);
    if (result < 0) return failed(WX_STEP_MOUNT_INFO, result, -1);
  }
  for (uint32_t i = 0; i < config->mount_count; ++i)
    if (open_grant(&b, (int)i) != 0) return -1;
  if (open_devices(&b) != 0) return -1;
  result = mount_root(&b);
  if (result < 0) return failed(WX_STEP_ROOT, result, -1);
  if (populate_root(&b) != 0) return -1;
  const int root_wanted = (config->flags & WX_ROOT_WANTED) != 0;
  if (root_wanted || config->mount_count != 0) {
    result = wx_syscall4(SYS_openat, AT_FDCWD, (long)".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (result < 0) return failed(WX_STEP_ROOT, result, -1);
    b.root = (int)result;
    if (root_wanted) wx_report_root(b.root);
    if (config->mount_count != 0 && attach_all(&b) != 0) return -1;
    wx_syscall1(SYS_close, b.root);
  }
  if (change_root() != 0) return -1;
  if (b.mount_info != NULL) wx_syscall2(SYS_munmap, (long)b.mount_info, kMountInfoBytes);
  return 0;
}
