/* SPDX-License-Identifier: Apache-2.0 */
/* memory_shared [FOLDER]: mappings of files and memfds, private and shared, seen from both sides.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "step.h"

enum { kPage = 4096 };

static sigjmp_buf back;

static void leave(int signal) { siglongjmp(back, signal); }

static char* map(int fd, size_t size, int protection, int flags, off_t at) {
  return mmap(NULL, size, protection, flags, fd, at);
}

static void private_copy(int fd) {
  char block[16] = {0};
  char* copy = map(fd, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
  if (copy == MAP_FAILED) return step("private", 0);
  step("private", memcmp(copy, "0123456789", 10) == 0);
  copy[0] = 'X';
  step("is its own", pread(fd, block, 10, 0) == 10 && block[0] == '0');
  step("zeroes to the end of the page", copy[6000] == 0 && copy[2 * kPage - 1] == 0);
  char* second = map(fd, kPage, PROT_READ, MAP_PRIVATE, kPage);
  step("second page", second != MAP_FAILED && memcmp(second, "second", 6) == 0);
  close(dup(fd));
  munmap(second, kPage);
  munmap(copy, 2 * kPage);
  refused("offset not aligned", (long)map(fd, kPage, PROT_READ, MAP_PRIVATE, 100), EINVAL);
}

static void shared(int fd) {
  char block[16] = {0};
  char* one = map(fd, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  char* two = map(fd, 2 * kPage, PROT_READ, MAP_SHARED, 0);
  if (one == MAP_FAILED || two == MAP_FAILED) return step("shared", 0);
  step("shared", memcmp(one, "0123456789", 10) == 0);
  memcpy(one, "ab", 2);
  step("seen by the other mapping", memcmp(two, "ab23", 4) == 0);
  step("seen by read", pread(fd, block, 4, 0) == 4 && memcmp(block, "ab23", 4) == 0);
  step("write", pwrite(fd, "CD", 2, 2) == 2);
  step("seen by both mappings", memcmp(one, "abCD", 4) == 0 && memcmp(two, "abCD", 4) == 0);
  step("msync", msync(one, 2 * kPage, MS_SYNC) == 0);
  close(fd);
  one[4] = 'E';
  step("after close", two[4] == 'E');
  munmap(one, 2 * kPage);
  step("one left", two[4] == 'E');
  munmap(two, 2 * kPage);
}

static void rights(const char* name) {
  const int fd = open(name, O_RDONLY);
  refused("read-only file", (long)map(fd, kPage, PROT_WRITE, MAP_SHARED, 0), EACCES);
  char* view = map(fd, kPage, PROT_READ, MAP_SHARED, 0);
  step("read-only view", view != MAP_FAILED && view[0] == 'a');
  if (view != MAP_FAILED) {
    refused("stays so", mprotect(view, kPage, PROT_READ | PROT_WRITE), EACCES);
    munmap(view, kPage);
  }
  char* copy = map(fd, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
  step("a private copy may be written", copy != MAP_FAILED && (copy[0] = 'Z') == 'Z');
  close(fd);
}

static void memory_file(void) {
  const int fd = memfd_create("name", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  struct stat status;
  step("memfd", fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
                    status.st_size == 0 && status.st_nlink == 0);
  step("ftruncate", ftruncate(fd, 3 * kPage) == 0);
  char* one = map(fd, 3 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  char* two = map(fd, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 2 * kPage);
  if (one == MAP_FAILED || two == MAP_FAILED) return step("mapped", 0);
  strcpy(one + 2 * kPage, "through one");
  step("two places, one page", strcmp(two, "through one") == 0);
  char block[16] = {0};
  step("read", pread(fd, block, 11, 2 * kPage) == 11 && strcmp(block, "through one") == 0);
  two[0] = 'T';
  step("and back", one[2 * kPage] == 'T');
  step("shrunk", ftruncate(fd, kPage) == 0);
  volatile int fault = 1;
  if (sigsetjmp(back, 1) == 0) {
    (void)*(volatile char*)two;
    fault = 0;
  }
  step("faults beyond the end", fault == 1);
  step("grown", ftruncate(fd, 3 * kPage) == 0 && two[0] == 0);
  munmap(one, 3 * kPage);
  munmap(two, kPage);
  close(fd);
}

static void anonymous(void) {
  char* region = mmap(NULL, 4 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (region == MAP_FAILED) return step("shared anonymous", 0);
  region[kPage] = 4;
  step("shared anonymous", madvise(region, 4 * kPage, MADV_DONTNEED) == 0 && region[kPage] == 4);
  char* moved = mremap(region, 4 * kPage, 8 * kPage, MREMAP_MAYMOVE);
  step("moved", moved != MAP_FAILED && moved[kPage] == 4);
}

int main(int argc, char** argv) {
  char name[256], block[2 * kPage] = {0};
  snprintf(name, sizeof name, "%s/mapped", argc > 1 ? argv[1] : "/tmp");
  signal(SIGBUS, leave);
  signal(SIGSEGV, leave);
  const int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
  memcpy(block, "0123456789", 10);
  memcpy(block + kPage, "second", 6);
  if (write(fd, block, 6000) != 6000) return 1;
  private_copy(fd);
  shared(fd);
  rights(name);
  memory_file();
  anonymous();
  return failed_steps;
}
