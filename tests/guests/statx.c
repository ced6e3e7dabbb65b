/* SPDX-License-Identifier: Apache-2.0 */
/* statx FOLDER: statx against stat, field by field; its flags, its masks and its errors. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "step.h"

/* The kernel's own structure and numbers; musl 1.2.3 has neither. */
struct stamp {
  int64_t seconds;
  uint32_t nanoseconds;
  int32_t reserved;
};
struct status {
  uint32_t mask, block_size;
  uint64_t attributes;
  uint32_t links, uid, gid;
  uint16_t mode, spare;
  uint64_t inode, size, blocks, attributes_mask;
  struct stamp accessed, born, changed, modified;
  uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
  uint64_t more[14];
};
_Static_assert(sizeof(struct status) == 256, "the size that the kernel writes");

enum {
  kBasic = 0x7ff,
  kReserved = INT_MIN,
  kForceSync = 0x2000,
  kDontSync = 0x4000,
  kEmptyPath = 0x1000,
  kNoAutomount = 0x800,
  kNoFollow = 0x100
};

static struct status seen;

static long statx_at(int fd, const char* path, int flags, int mask) {
  memset(&seen, 0xee, sizeof seen);
  return syscall(SYS_statx, fd, path, flags, mask, &seen);
}

static int same_time(struct stamp stamp, struct timespec time) {
  return stamp.seconds == time.tv_sec && stamp.nanoseconds == time.tv_nsec && stamp.reserved == 0;
}

/* What was seen last is what stat says. */
static void same(const char* name, const struct stat* old) {
  const int facts[] = {(seen.mask & kBasic) == kBasic,
                       seen.mode == old->st_mode,
                       seen.links == old->st_nlink,
                       seen.uid == old->st_uid,
                       seen.gid == old->st_gid,
                       seen.inode == old->st_ino,
                       seen.size == (uint64_t)old->st_size,
                       seen.blocks == (uint64_t)old->st_blocks,
                       seen.block_size == (uint64_t)old->st_blksize,
                       seen.rdev_major == major(old->st_rdev),
                       seen.rdev_minor == minor(old->st_rdev),
                       seen.dev_major == major(old->st_dev),
                       seen.dev_minor == minor(old->st_dev),
                       same_time(seen.accessed, old->st_atim),
                       same_time(seen.modified, old->st_mtim),
                       same_time(seen.changed, old->st_ctim),
                       (seen.attributes & ~seen.attributes_mask) == 0,
                       seen.spare == 0};
  int ok = 1;
  for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
    if (!facts[i]) printf("(fact %d of %s) ", (int)i, name);
    ok &= facts[i];
  }
  step(name, ok);
}

static void show(void) {
  printf("  mode %o size %llu\n", seen.mode, (unsigned long long)seen.size);
}

static void of_names(int folder) {
  struct stat old;
  const int file = openat(folder, "file", O_CREAT | O_RDWR, 0640);
  step("a file", file >= 0 && write(file, "hello", 5) == 5 && fchmod(file, 0751) == 0);
  const struct timespec times[2] = {{86400, 123456789}, {172800, 999999999}};
  equal("with times", futimens(file, times), 0);
  equal("and a second name", linkat(folder, "file", folder, "second", 0), 0);
  equal("statx", statx_at(folder, "file", 0, kBasic), 0);
  fstatat(folder, "file", &old, 0);
  same("a file is as stat has it", &old);
  show();
  printf("  links %u accessed %lld.%09u modified %lld.%09u\n", seen.links,
         (long long)seen.accessed.seconds, seen.accessed.nanoseconds,
         (long long)seen.modified.seconds, seen.modified.nanoseconds);
  equal("by the descriptor", statx_at(file, "", kEmptyPath, kBasic), 0);
  same("the same file", &old);
  equal("a path is taken where there is one", statx_at(folder, "file", kEmptyPath, kBasic), 0);
  same("and is the same file", &old);
  refused("no path", statx_at(file, "", 0, kBasic), ENOENT);
  refused("no path in a folder", statx_at(folder, "", 0, kBasic), ENOENT);
  symlinkat("file", folder, "link");
  equal("through a link", statx_at(folder, "link", 0, kBasic), 0);
  same("what it points to", &old);
  equal("the link itself", statx_at(folder, "link", kNoFollow, kBasic), 0);
  fstatat(folder, "link", &old, AT_SYMLINK_NOFOLLOW);
  same("a link is as lstat has it", &old);
  show();
  const int handle = openat(folder, "link", O_PATH | O_NOFOLLOW);
  equal("by a handle on it", statx_at(handle, "", kEmptyPath, kBasic), 0);
  same("the same link", &old);
  equal("its folder", statx_at(folder, ".", 0, kBasic), 0);
  fstat(folder, &old);
  same("a folder is as stat has it", &old);
  equal("the working folder", statx_at(AT_FDCWD, "", kEmptyPath, kBasic), 0);
  stat(".", &old);
  same("the same folder", &old);
  equal("a hole", ftruncate(file, 1 << 20), 0);
  statx_at(file, "", kEmptyPath, kBasic);
  fstat(file, &old);
  same("a file with a hole", &old);
  show();
  close(handle);
  close(file);
}

static void of_others(void) {
  struct stat old;
  int ends[2];
  if (pipe(ends) != 0) return;
  equal("a pipe", statx_at(ends[0], "", kEmptyPath, kBasic), 0);
  fstat(ends[0], &old);
  same("a pipe is as fstat has it", &old);
  step("it is one", S_ISFIFO(seen.mode));
  close(ends[0]);
  close(ends[1]);
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return;
  equal("a socket", statx_at(ends[0], "", kEmptyPath, kBasic), 0);
  fstat(ends[0], &old);
  same("a socket is as fstat has it", &old);
  step("it is none of the others", S_ISSOCK(seen.mode));
  close(ends[0]);
  close(ends[1]);
  const int memory = (int)syscall(SYS_memfd_create, "memory", 0);
  if (ftruncate(memory, 12345) != 0) return;
  equal("a memfd", statx_at(memory, "", kEmptyPath, kBasic), 0);
  fstat(memory, &old);
  same("a memfd is as fstat has it", &old);
  show();
  close(memory);
  equal("a device", statx_at(AT_FDCWD, "/dev/null", 0, kBasic), 0);
  stat("/dev/null", &old);
  same("a device is as stat has it", &old);
  printf("  device %u %u\n", seen.rdev_major, seen.rdev_minor);
}

static void flags_and_masks(int folder) {
  equal("without automounting", statx_at(folder, "file", kNoAutomount, kBasic), 0);
  equal("with what is at hand", statx_at(folder, "file", kDontSync, kBasic), 0);
  equal("with what is true", statx_at(folder, "file", kForceSync, kBasic), 0);
  equal("one field", statx_at(folder, "file", 0, 0x200), 0);
  step("which is there", (seen.mask & 0x200) != 0 && seen.size == 1 << 20);
  equal("no field", statx_at(folder, "file", 0, 0), 0);
  equal("fields that nobody knows yet", statx_at(folder, "file", 0, 0x7fffffff), 0);
  step("the known ones come", (seen.mask & kBasic) == kBasic);
  refused("a reserved field", statx_at(folder, "file", 0, kReserved), EINVAL);
  refused("both ways to be in step", statx_at(folder, "file", kForceSync | kDontSync, kBasic),
          EINVAL);
  for (int bit = 0; bit < 32; bit++) {
    const int flag = (int)(1u << bit);
    const int known = kNoFollow | kNoAutomount | kEmptyPath | kForceSync | kDontSync;
    if ((flag & known) != 0) continue;
    char name[32];
    snprintf(name, sizeof name, "no flag 0x%x", (unsigned)flag);
    refused(name, statx_at(folder, "file", flag, kBasic), EINVAL);
  }
}

static void errors(int folder) {
  char* longest = malloc(PATH_MAX + 1);
  memset(longest, 'a', PATH_MAX);
  longest[PATH_MAX] = 0;
  refused("too long a path", statx_at(folder, longest, 0, kBasic), ENAMETOOLONG);
  longest[NAME_MAX + 1] = 0;
  refused("too long a name", statx_at(folder, longest, 0, kBasic), ENAMETOOLONG);
  refused("nothing of that name", statx_at(folder, "absent", 0, kBasic), ENOENT);
  refused("below a file", statx_at(folder, "file/x", 0, kBasic), ENOTDIR);
  refused("a file with a slash", statx_at(folder, "file/", 0, kBasic), ENOTDIR);
  symlinkat("round", folder, "round");
  refused("a link to itself", statx_at(folder, "round", 0, kBasic), ELOOP);
  equal("but not the link", statx_at(folder, "round", kNoFollow, kBasic), 0);
  refused("no descriptor", statx_at(900, "file", 0, kBasic), EBADF);
  refused("no descriptor without a path", statx_at(900, "", kEmptyPath, kBasic), EBADF);
  equal("none is needed", statx_at(900, "/", 0, kBasic), 0);
  const int file = openat(folder, "file", O_RDONLY);
  refused("a descriptor that is no folder", statx_at(file, "file", 0, kBasic), ENOTDIR);
  close(file);
  refused("a path that is nowhere", statx_at(folder, (char*)8, 0, kBasic), EFAULT);
  refused("a place that is nowhere", syscall(SYS_statx, folder, "file", 0, kBasic, (void*)8),
          EFAULT);
  char* page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  equal("up to the end of a page",
        syscall(SYS_statx, folder, "file", 0, kBasic, page + 4096 - sizeof seen), 0);
  mprotect(page, 4096, PROT_READ);
  refused("into a constant", syscall(SYS_statx, folder, "file", 0, kBasic, page), EFAULT);
}

int main(int argc, char** argv) {
  const int folder = open(argc > 1 ? argv[1] : "/tmp", O_RDONLY | O_DIRECTORY);
  if (folder < 0) return 1;
  of_names(folder);
  of_others();
  flags_and_masks(folder);
  errors(folder);
  return failed_steps;
}
