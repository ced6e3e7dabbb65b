/* SPDX-License-Identifier: Apache-2.0 */
/* mmap and its kin: hints, fixed places, protections, guards, moving, advice, huge reservations. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "page_rights.h"
#include "step.h"

enum { kPage = 4096 };

static char* map(void* hint, size_t size, int protection, int flags) {
  return mmap(hint, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

static void mapping(void) {
  char* region = map(NULL, 16 * kPage, PROT_READ | PROT_WRITE, 0);
  step("mmap", region != MAP_FAILED && (uintptr_t)region % kPage == 0);
  int zero = 1;
  for (int i = 0; i < 16 * kPage; i++) zero &= region[i] == 0;
  step("zeroes", zero);
  memset(region, 7, 16 * kPage);
  step("a hole", munmap(region + 4 * kPage, kPage) == 0 && !readable(region + 4 * kPage) &&
                     writable(region + 5 * kPage) && writable(region + 3 * kPage));
  step("a hint for the hole", map(region + 4 * kPage, kPage, PROT_READ, 0) == region + 4 * kPage);
  step("fresh there", region[4 * kPage] == 0 && !writable(region + 4 * kPage));
  step("over what is there", map(region, 2 * kPage, PROT_READ | PROT_WRITE, MAP_FIXED) == region &&
                                 region[0] == 0 && region[2 * kPage] == 7);
  refused("not over it", (long)map(region, kPage, PROT_READ, MAP_FIXED_NOREPLACE), EEXIST);
  refused("not aligned", (long)map(region + 1, kPage, PROT_READ, MAP_FIXED), EINVAL);
  refused("no bytes", (long)map(NULL, 0, PROT_READ, 0), EINVAL);
  refused("more than there is", (long)map(NULL, 1UL << 47, PROT_NONE, MAP_NORESERVE), ENOMEM);
  refused("neither shared nor private", (long)mmap(NULL, kPage, PROT_READ, MAP_ANONYMOUS, -1, 0),
          EINVAL);
  refused("no descriptor", (long)mmap(NULL, kPage, PROT_READ, MAP_PRIVATE, 900, 0), EBADF);
  refused("munmap not aligned", munmap(region + 1, kPage), EINVAL);
  step("munmap of nothing",
       munmap(region + 4 * kPage, kPage) == 0 && munmap(region + 4 * kPage, kPage) == 0);
  munmap(region, 16 * kPage);
  step("gone", !readable(region));
}

static void protections(void) {
  char* region = map(NULL, 8 * kPage, PROT_NONE, 0);
  step("none", !readable(region));
  step("read", mprotect(region, kPage, PROT_READ) == 0 && readable(region) && !writable(region));
  step("write", mprotect(region, kPage, PROT_READ | PROT_WRITE) == 0 && writable(region));
  step("others stay", !readable(region + kPage));
  static const unsigned char kCode[] = {0xb8, 0x2a, 0, 0, 0, 0xc3}; /* mov $42, %eax; ret */
  memcpy(region, kCode, sizeof kCode);
  mprotect(region, kPage, PROT_READ | PROT_EXEC);
  int (*code)(void) = (int (*)(void))(uintptr_t)region;
  step("execute", code() == 42 && !writable(region));
  mprotect(region, kPage, PROT_READ | PROT_WRITE);
  region[1] = 43;
  int ran = 0;
  if (sigsetjmp(back, 1) == 0) ran = code();
  step("not any more", ran == 0);
  mprotect(region, kPage, PROT_READ | PROT_EXEC);
  step("changed code", code() == 43);
  int ok = 1;
  for (int i = 0; i < 200; i++) {
    mprotect(region + 2 * kPage, kPage, PROT_READ | PROT_WRITE);
    region[2 * kPage] = (char)i;
    mprotect(region + 2 * kPage, kPage, i % 2 ? PROT_READ : PROT_NONE);
    ok &= i % 2 ? region[2 * kPage] == (char)i : !readable(region + 2 * kPage);
  }
  step("back and forth", ok);
  munmap(region + 4 * kPage, kPage);
  refused("over a hole", mprotect(region, 8 * kPage, PROT_READ), ENOMEM);
  refused("mprotect not aligned", syscall(SYS_mprotect, region + 1, kPage, PROT_READ), EINVAL);
  step("no bytes at all", mprotect(region, 0, PROT_READ) == 0);
  munmap(region, 8 * kPage);
}

static void moving(void) {
  char* region = map(NULL, 4 * kPage, PROT_READ | PROT_WRITE, 0);
  for (int i = 0; i < 4; i++) region[i * kPage] = (char)(i + 1);
  step("shrunk",
       mremap(region, 4 * kPage, 2 * kPage, 0) == region && !readable(region + 2 * kPage));
  char* wall = map(region + 2 * kPage, kPage, PROT_READ, MAP_FIXED);
  refused("no room", (long)mremap(region, 2 * kPage, 3 * kPage, 0), ENOMEM);
  char* moved = mremap(region, 2 * kPage, 64 * kPage, MREMAP_MAYMOVE);
  step("moved", moved != MAP_FAILED && moved != region && moved[0] == 1 && moved[kPage] == 2 &&
                    moved[2 * kPage] == 0 && !readable(region));
  char* place = map(NULL, 64 * kPage, PROT_NONE, 0);
  char* there = mremap(moved, 64 * kPage, 2 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, place);
  step("to a place", there == place && there[kPage] == 2 && !readable(moved));
  step("what lay behind stays", !readable(place + 2 * kPage));
  refused("not mapped", (long)mremap(moved, kPage, 2 * kPage, MREMAP_MAYMOVE), EFAULT);
  refused("fixed needs maymove", (long)mremap(place, kPage, kPage, MREMAP_FIXED, region), EINVAL);
  refused("no new bytes", (long)mremap(place, kPage, 0, MREMAP_MAYMOVE), EINVAL);
  munmap(wall, kPage);
  munmap(place, 64 * kPage);
}

static void advice(void) {
  char* region = map(NULL, 8 * kPage, PROT_READ | PROT_WRITE, 0);
  memset(region, 9, 8 * kPage);
  step("dontneed", madvise(region + kPage, 2 * kPage, MADV_DONTNEED) == 0 && region[0] == 9 &&
                       region[kPage] == 0 && region[3 * kPage] == 9);
  step("willneed", madvise(region, 8 * kPage, MADV_WILLNEED) == 0);
  step("hugepage", madvise(region, 8 * kPage, MADV_NOHUGEPAGE) == 0);
  step("free", madvise(region + 4 * kPage, kPage, MADV_FREE) == 0);
  region[4 * kPage] = 3;
  equal("written after free", region[4 * kPage], 3);
  refused("no such advice", madvise(region, kPage, 9999), EINVAL);
  refused("advice not aligned", madvise(region + 1, kPage, MADV_DONTNEED), EINVAL);
  munmap(region + 5 * kPage, kPage);
  refused("advice over a hole", madvise(region, 8 * kPage, MADV_DONTNEED), ENOMEM);
  equal("is followed elsewhere", region[7 * kPage], 0);
  munmap(region, 8 * kPage);
  refused("locked nothing", msync(region, kPage, MS_SYNC), ENOMEM);
}

static void growing(void) {
  const size_t size = 16UL << 20;
  char* region = map(NULL, size, PROT_NONE, MAP_NORESERVE);
  munmap(region, size);
  char* stack = region + size / 2;
  const int kind = MAP_FIXED | MAP_GROWSDOWN;
  step("a stack", map(stack, kPage, PROT_READ | PROT_WRITE, kind) == stack);
  step("grows by a store", writable(stack - 1) && writable(stack - kPage));
  step("far at once", writable(stack - 1000 * kPage) && stack[-999 * kPage] == 0);
  int ends[2];
  if (pipe(ends) != 0) return step("pipe", 0);
  step("and by a call", write(ends[1], "grown", 5) == 5 &&
                            read(ends[0], stack - 1500 * kPage, 5) == 5 &&
                            memcmp(stack - 1500 * kPage, "grown", 5) == 0);
  char* lowest = stack + kPage - (8UL << 20);
  step("up to its limit", writable(lowest) && !writable(lowest - 1));
  munmap(lowest, 8UL << 20);
  map(stack, kPage, PROT_READ | PROT_WRITE, kind);
  map(stack - 300 * kPage, kPage, PROT_READ, MAP_FIXED);
  step("not up to what is below it",
       writable(stack - 43 * kPage) && !writable(stack - 43 * kPage - 1));
  mprotect(stack - 300 * kPage, kPage, PROT_NONE);
  step("but to a guard", writable(stack - 299 * kPage));
  step("room is left", map(stack - 301 * kPage, kPage, PROT_READ, 0) == stack - 301 * kPage);
  refused("no shared one",
          (long)mmap(NULL, kPage, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0),
          EINVAL);
  munmap(region, size);
  close(ends[0]);
  close(ends[1]);
}

static void reservations(void) {
  const size_t size = 64UL << 30;
  char* arena = map(NULL, size, PROT_NONE, MAP_NORESERVE);
  step("64 GiB reserved", arena != MAP_FAILED);
  if (arena == MAP_FAILED) return;
  int ok = 1;
  for (size_t at = 0; at < size; at += 1UL << 30) {
    ok &= mprotect(arena + at, kPage, PROT_READ | PROT_WRITE) == 0;
    arena[at] = 1;
  }
  step("a page of each GiB", ok && arena[63UL << 30] == 1);
  step("trimmed", munmap(arena + (1UL << 30), size - (1UL << 30)) == 0 && arena[0] == 1);
  munmap(arena, 1UL << 30);
  char* many[200];
  ok = 1;
  for (int i = 0; i < 200; i++) ok &= (many[i] = map(NULL, kPage, i % 2 ? 1 : 3, 0)) != MAP_FAILED;
  step("200 mappings", ok);
  for (int i = 0; i < 200; i += 2) munmap(many[i], kPage);
  ok = 1;
  for (int i = 1; i < 200; i += 2) ok &= readable(many[i]);
  step("every other one", ok);
  for (int i = 1; i < 200; i += 2) munmap(many[i], kPage);
}

/* The call by its number: musl's brk and sbrk only refuse. */
static char* move_break(char* to) { return (char*)syscall(SYS_brk, to); }

static void program_break(void) {
  char* start = move_break(NULL);
  step("brk grows", move_break(start + 5 * kPage) == start + 5 * kPage);
  memset(start, 5, 5 * kPage);
  step("and shrinks", move_break(start + kPage) == start + kPage && start[0] == 5);
  step("and is fresh again", move_break(start + 5 * kPage) != NULL && start[4 * kPage] == 0);
  step("not below its start", move_break((char*)16) == start + 5 * kPage);
  step("given back", move_break(start) == start);
  void* blocks[300];
  for (size_t i = 0; i < 300; i++) memset(blocks[i] = malloc(i * 997 + 1), (int)i, i * 997 + 1);
  int ok = 1;
  for (int i = 299; i >= 0; i--) {
    ok &= ((unsigned char*)blocks[i])[i * 997] == (unsigned char)i;
    free(blocks[i]);
  }
  step("malloc and free", ok);
}

int main(void) {
  signal(SIGSEGV, leave);
  mapping();
  protections();
  moving();
  advice();
  growing();
  reservations();
  program_break();
  return failed_steps;
}
