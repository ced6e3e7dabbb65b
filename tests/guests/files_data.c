/* SPDX-License-Identifier: Apache-2.0 */
/* files_data [FOLDER]: everything about contents: offsets, holes, appending, copying, locks, sync.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "step.h"

static char base[200];

static int open_file(const char* name, int flags) {
  char path[300];
  snprintf(path, sizeof path, "%s/%s", base, name);
  return open(path, flags, 0644);
}

static off_t size_of(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? status.st_size : -1;
}

static void offsets(void) {
  char block[64] = {0};
  const int fd = open_file("offsets", O_RDWR | O_CREAT | O_TRUNC);
  step("write", fd >= 0 && write(fd, "0123456789", 10) == 10);
  equal("seek back", lseek(fd, -4, SEEK_CUR), 6);
  step("read", read(fd, block, 64) == 4 && memcmp(block, "6789", 4) == 0);
  equal("at the end", read(fd, block, 64), 0);
  refused("before the start", lseek(fd, -11, SEEK_END), EINVAL);
  equal("beyond the end", lseek(fd, 100, SEEK_SET), 100);
  equal("nothing there", read(fd, block, 64), 0);
  step("pread", pread(fd, block, 3, 2) == 3 && memcmp(block, "234", 3) == 0);
  step("pwrite", pwrite(fd, "AB", 2, 4) == 2 && lseek(fd, 0, SEEK_CUR) == 100);
  refused("negative", pread(fd, block, 3, -1), EINVAL);
  struct iovec parts[3] = {{block, 3}, {block + 10, 0}, {block + 20, 4}};
  step("preadv", preadv(fd, parts, 3, 1) == 7 && memcmp(block, "123", 3) == 0 &&
                     memcmp(block + 20, "AB67", 4) == 0);
  step("pwritev", pwritev(fd, parts, 3, 8) == 7 && size_of(fd) == 15);
  refused("no memory to read into", syscall(SYS_pread64, fd, 16, 5, 0), EFAULT);
  const int second = dup(fd);
  lseek(fd, 5, SEEK_SET);
  equal("dup shares the offset", lseek(second, 0, SEEK_CUR), 5);
  close(second);
  close(fd);
  refused("closed", write(fd, "x", 1), EBADF);
  const int reading = open_file("offsets", O_RDONLY);
  refused("not for writing", write(reading, "x", 1), EBADF);
  close(reading);
}

static void appending(void) {
  char block[64] = {0};
  const int fd = open_file("appended", O_RDWR | O_CREAT | O_TRUNC | O_APPEND);
  const int other = open_file("appended", O_WRONLY | O_APPEND);
  step("in turn",
       write(fd, "one", 3) == 3 && write(other, "two", 3) == 3 && write(fd, "three", 5) == 5);
  step("each at the end", pread(fd, block, 64, 0) == 11 && strcmp(block, "onetwothree") == 0);
  lseek(fd, 0, SEEK_SET);
  step("wherever it is", write(fd, "4", 1) == 1 && lseek(fd, 0, SEEK_CUR) == 12);
  step("not any more", fcntl(fd, F_SETFL, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0 &&
                           write(fd, "O", 1) == 1 && size_of(fd) == 12);
  close(fd);
  close(other);
}

static void holes(void) {
  char block[64];
  const int fd = open_file("sparse", O_RDWR | O_CREAT | O_TRUNC);
  step("a megabyte on", pwrite(fd, "end", 3, 1 << 20) == 3 && size_of(fd) == (1 << 20) + 3);
  memset(block, 1, sizeof block);
  step("zeroes between", pread(fd, block, 64, 5000) == 64 && block[0] == 0 && block[63] == 0);
  struct stat status;
  step("takes little", fstat(fd, &status) == 0 && status.st_blocks < 1000);
  equal("hole", lseek(fd, 0, SEEK_HOLE), 0);
  equal("data", lseek(fd, 0, SEEK_DATA), 1 << 20);
  equal("hole behind it", lseek(fd, 1 << 20, SEEK_HOLE), (1 << 20) + 3);
  refused("no data beyond", lseek(fd, 2 << 20, SEEK_DATA), ENXIO);
  step("shorter", ftruncate(fd, 100) == 0 && size_of(fd) == 100);
  step("longer", ftruncate(fd, 8192) == 0 && pread(fd, block, 1, 8191) == 1 && block[0] == 0);
  refused("negative", ftruncate(fd, -1), EINVAL);
  memset(block, 'x', sizeof block);
  pwrite(fd, block, 64, 4096);
  step("fallocate", fallocate(fd, 0, 0, 20000) == 0 && size_of(fd) == 20000);
  step("beyond the size",
       fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 40000) == 0 && size_of(fd) == 20000);
  step("punched", fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 4096, 4096) == 0 &&
                      pread(fd, block, 1, 4096) == 1 && block[0] == 0);
  refused("no bytes", fallocate(fd, 0, 0, 0), EINVAL);
  close(fd);
}

static void copying(void) {
  char block[100], back[100] = {0};
  const int from = open_file("from", O_RDWR | O_CREAT | O_TRUNC);
  const int to = open_file("to", O_RDWR | O_CREAT | O_TRUNC);
  for (int i = 0; i < 100; i++) block[i] = (char)i;
  for (int i = 0; i < 1000; i++)
    if (write(from, block, 100) != 100) break;
  off_t at = 100;
  equal("sendfile", sendfile(to, from, &at, 50000), 50000);
  step("moves its own offset",
       at == 50100 && lseek(from, 0, SEEK_CUR) == 100000 && lseek(to, 0, SEEK_CUR) == 50000);
  step("the same bytes", pread(to, back, 100, 49900) == 100 && memcmp(block, back, 100) == 0);
  lseek(from, 99990, SEEK_SET);
  equal("what is left", sendfile(to, from, NULL, 100), 10);
  equal("and nothing", sendfile(to, from, NULL, 100), 0);
  int ends[2];
  if (pipe(ends) != 0) return;
  at = 0;
  equal("into a pipe", sendfile(ends[1], from, &at, 100), 100);
  step("arrives", read(ends[0], back, 100) == 100 && memcmp(block, back, 100) == 0);
  off_t in = 0, out = 100000;
  equal("copy_file_range", copy_file_range(from, &in, to, &out, 1000, 0), 1000);
  step("both offsets", in == 1000 && out == 101000 && size_of(to) == 101000);
  in = 0;
  out = 50;
  refused("onto itself", copy_file_range(from, &in, from, &out, 100, 0), EINVAL);
  refused("from a pipe", copy_file_range(ends[0], NULL, to, NULL, 1, 0), EINVAL);
  refused("sendfile from a pipe", sendfile(to, ends[0], NULL, 1), EINVAL);
  close(from);
  close(to);
}

/* The kernel's structure, which both C libraries share. */
static struct flock lock(short type, off_t start, off_t length) {
  struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
  return range;
}

static void locks(void) {
  const int one = open_file("locked", O_RDWR | O_CREAT | O_TRUNC);
  const int two = open_file("locked", O_RDWR);
  step("flock", flock(one, LOCK_EX) == 0);
  refused("held by another opening", flock(two, LOCK_EX | LOCK_NB), EWOULDBLOCK);
  step("shared", flock(one, LOCK_SH) == 0 && flock(two, LOCK_SH | LOCK_NB) == 0);
  refused("not upgraded", flock(two, LOCK_EX | LOCK_NB), EWOULDBLOCK);
  step("unlocked", flock(one, LOCK_UN) == 0 && flock(two, LOCK_EX | LOCK_NB) == 0);
  close(two);
  step("released by close", flock(one, LOCK_EX | LOCK_NB) == 0);
  const int three = open_file("locked", O_RDWR);
  struct flock range = lock(F_WRLCK, 0, 100);
  step("F_SETLK", fcntl(one, F_SETLK, &range) == 0);
  range = lock(F_WRLCK, 50, 10);
  step("own locks do not matter", fcntl(three, F_GETLK, &range) == 0 && range.l_type == F_UNLCK);
  step("nor forbid", fcntl(three, F_SETLK, &range) == 0);
  range = lock(F_UNLCK, 0, 0);
  fcntl(one, F_SETLK, &range);
  range = lock(F_WRLCK, 10, 20);
  range.l_pid = 0;
  step("open file description", fcntl(one, F_OFD_SETLK, &range) == 0);
  range = lock(F_RDLCK, 15, 1);
  refused("conflicts", fcntl(three, F_OFD_SETLK, &range), EAGAIN);
  range = lock(F_RDLCK, 0, 0);
  step("is told where", fcntl(three, F_OFD_GETLK, &range) == 0 && range.l_type == F_WRLCK &&
                            range.l_start == 10 && range.l_len == 20 && range.l_pid == -1);
  range = lock(F_RDLCK, 30, 0);
  step("beside it", fcntl(three, F_OFD_SETLK, &range) == 0);
  range = lock(99, 0, 0);
  refused("no such lock", fcntl(one, F_SETLK, &range), EINVAL);
  const int reading = open_file("locked", O_RDONLY);
  range = lock(F_WRLCK, 500, 1);
  refused("not opened for writing", fcntl(reading, F_SETLK, &range), EBADF);
  close(one);
  close(three);
  close(reading);
}

static void nameless(void) {
  char path[300], name[64];
  struct stat status;
  const int fd = open(base, O_RDWR | O_TMPFILE, 0600);
  if (fd < 0) return refused("O_TMPFILE", -1, EOPNOTSUPP);
  step("O_TMPFILE",
       write(fd, "nameless", 8) == 8 && fstat(fd, &status) == 0 && status.st_nlink == 0);
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  snprintf(path, sizeof path, "%s/named", base);
  step("gets a name", linkat(AT_FDCWD, name, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0);
  step("and keeps its bytes", stat(path, &status) == 0 && status.st_size == 8);
  close(fd);
  const int open_still = open_file("unlinked", O_RDWR | O_CREAT | O_TRUNC);
  snprintf(path, sizeof path, "%s/unlinked", base);
  step("unlinked while open", unlink(path) == 0 && write(open_still, "still", 5) == 5 &&
                                  pread(open_still, name, 5, 0) == 5 &&
                                  fstat(open_still, &status) == 0 && status.st_nlink == 0);
  close(open_still);
}

static void syncing(void) {
  const int fd = open_file("synced", O_RDWR | O_CREAT | O_TRUNC | O_DSYNC);
  step("fsync", write(fd, "data", 4) == 4 && fsync(fd) == 0);
  step("fdatasync", fdatasync(fd) == 0);
  step("sync_file_range", sync_file_range(fd, 0, 4, SYNC_FILE_RANGE_WRITE) == 0);
  step("syncfs", syncfs(fd) == 0);
  step("posix_fadvise", posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL) == 0);
  const int dir = open(base, O_RDONLY);
  step("of a folder", fsync(dir) == 0);
  close(dir);
  int ends[2];
  if (pipe(ends) != 0) return;
  refused("not of a pipe", fsync(ends[0]), EINVAL);
  refused("no place in a pipe", lseek(ends[0], 0, SEEK_SET), ESPIPE);
  refused("pread of a pipe", pread(ends[0], base, 1, 0), ESPIPE);
  close(fd);
}

static void* write_region(void* part) {
  char block[1000];
  const int fd = open_file("together", O_WRONLY);
  for (int i = 0; i < 20; i++) {
    memset(block, 'a' + (int)(intptr_t)part, sizeof block);
    if (pwrite(fd, block, sizeof block, (i * 4 + (intptr_t)part) * 1000) != 1000) return NULL;
  }
  close(fd);
  return part;
}

static void threads(void) {
  pthread_t ids[4];
  char block[1000];
  int ok = 1;
  const int fd = open_file("together", O_RDWR | O_CREAT | O_TRUNC);
  for (intptr_t i = 0; i < 4; i++) pthread_create(&ids[i], NULL, write_region, (void*)i);
  for (int i = 0; i < 4; i++) pthread_join(ids[i], NULL);
  for (int i = 0; i < 80; i++)
    ok &= pread(fd, block, 1000, i * 1000) == 1000 && block[0] == 'a' + i % 4 &&
          block[999] == 'a' + i % 4;
  step("threads write side by side", ok);
  close(fd);
}

int main(int argc, char** argv) {
  snprintf(base, sizeof base, "%s", argc > 1 ? argv[1] : "/tmp");
  offsets();
  appending();
  holes();
  copying();
  locks();
  nameless();
  syncing();
  threads();
  return failed_steps;
}
