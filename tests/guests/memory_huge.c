/* SPDX-License-Identifier: Apache-2.0 */
/* Large anonymous mappings, with and without huge pages, that parts are taken from afterwards. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "page_rights.h"
#include "step.h"

static const size_t kPage = 4096;
static const size_t kHuge = 2 << 20;
static const size_t kBytes = 16 << 20;

/* A mapping that starts on a huge page; what lies around it is left mapped, without rights. */
static char* make(void) {
  char* region =
      mmap(NULL, kBytes + 2 * kHuge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) return NULL;
  char* start = (char*)(((uintptr_t)region + kHuge) & ~(kHuge - 1));
  return mprotect(start, kBytes, PROT_READ | PROT_WRITE) == 0 ? start : NULL;
}

/* Each page holds its own number. */
static void fill(char* region) {
  for (size_t at = 0; at < kBytes; at += kPage) *(uint64_t*)(region + at) = at + 1;
}
static size_t wrong_pages(const char* region, size_t from, size_t to) {
  size_t wrong = 0;
  for (size_t at = from; at < to; at += kPage)
    wrong += *(const volatile uint64_t*)(region + at) != at + 1;
  return wrong;
}
static size_t used_pages(const char* region, size_t from, size_t to) {
  size_t used = 0;
  for (size_t at = from; at < to; at += kPage)
    used += *(const volatile uint64_t*)(region + at) != 0;
  return used;
}

static void advice(char* region, const char* name, int kind) {
  printf("%s\n", name);
  if (kind != 0) equal("advice", madvise(region, kBytes, kind), 0);
  equal("zeroes", used_pages(region, 0, kBytes), 0);
  fill(region);
  equal("filled", wrong_pages(region, 0, kBytes), 0);
}

static void take_parts(char* region) {
  /* A page in the middle of a huge page, two across a border, and a whole huge page. */
  const size_t page = kHuge + 7 * kPage, across = 3 * kHuge - kPage, whole = 4 * kHuge;
  equal("a page unmapped", munmap(region + page, kPage), 0);
  step("is gone, and no other",
       !readable(region + page) && writable(region + page - 1) && writable(region + page + kPage));
  equal("two across a border", munmap(region + across, 2 * kPage), 0);
  step("are gone", !readable(region + across) && !readable(region + across + kPage));
  equal("a whole huge page", munmap(region + whole, kHuge), 0);
  step("is gone", !readable(region + whole) && !readable(region + whole + kHuge - 1));
  equal("the rest is as it was",
        wrong_pages(region, 0, page) + wrong_pages(region, page + kPage, across) +
            wrong_pages(region, across + 2 * kPage, whole) +
            wrong_pages(region, whole + kHuge, kBytes),
        0);
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  step("filled again",
       mmap(region + whole, kHuge, PROT_READ | PROT_WRITE, flags, -1, 0) == region + whole &&
           mmap(region + page, kPage, PROT_READ | PROT_WRITE, flags, -1, 0) == region + page &&
           mmap(region + across, 2 * kPage, PROT_READ | PROT_WRITE, flags, -1, 0) ==
               region + across);
  equal("with zeroes",
        used_pages(region, whole, whole + kHuge) + used_pages(region, page, page + kPage) +
            used_pages(region, across, across + 2 * kPage),
        0);
  fill(region);
}

static void protect_parts(char* region) {
  const size_t page = kHuge + 9 * kPage, whole = 5 * kHuge;
  equal("a page made constant", mprotect(region + page, kPage, PROT_READ), 0);
  step("it alone", readable(region + page) && !writable(region + page) &&
                       writable(region + page - 1) && writable(region + page + kPage));
  equal("a huge page closed", mprotect(region + whole, kHuge, PROT_NONE), 0);
  step("it alone again", !readable(region + whole) && !readable(region + whole + kHuge - 1) &&
                             writable(region + whole - 1) && writable(region + whole + kHuge));
  equal("half of it opened", mprotect(region + whole, kHuge / 2, PROT_READ), 0);
  step("half of it", readable(region + whole + kHuge / 2 - 1) &&
                         !writable(region + whole + kHuge / 2 - 1) &&
                         !readable(region + whole + kHuge / 2));
  equal("all opened", mprotect(region, kBytes, PROT_READ | PROT_WRITE), 0);
  equal("all as it was", wrong_pages(region, 0, kBytes), 0);
}

static void drop_parts(char* region) {
  const size_t page = 2 * kHuge + 11 * kPage, whole = 6 * kHuge;
  equal("a page not needed", madvise(region + page, kPage, MADV_DONTNEED), 0);
  equal("a huge page not needed", madvise(region + whole, kHuge, MADV_DONTNEED), 0);
  equal("both are zeroes",
        used_pages(region, page, page + kPage) + used_pages(region, whole, whole + kHuge), 0);
  equal("nothing else is",
        wrong_pages(region, 0, page) + wrong_pages(region, page + kPage, whole) +
            wrong_pages(region, whole + kHuge, kBytes),
        0);
  fill(region);
  char* moved = mremap(region + whole, kHuge, kHuge, MREMAP_MAYMOVE | MREMAP_FIXED, region);
  step("a huge page moved", moved == region && !readable(region + whole));
  int wrong = 0;
  for (size_t at = 0; at < kHuge; at += kPage) wrong += *(uint64_t*)(region + at) != whole + at + 1;
  equal("with what was in it", wrong, 0);
}

static void errors(char* region) {
  refused("advice not aligned", madvise(region + 1, kHuge, MADV_HUGEPAGE), EINVAL);
  refused("for what is not mapped", madvise((void*)0x10000, kPage, MADV_HUGEPAGE), ENOMEM);
  refused("nor against it", madvise((void*)0x10000, kPage, MADV_NOHUGEPAGE), ENOMEM);
  equal("for nothing", madvise(region, 0, MADV_HUGEPAGE), 0);
  refused("advice that is none", madvise(region, kPage, 999), EINVAL);
}

int main(void) {
  struct sigaction action = {.sa_handler = leave};
  sigaction(SIGSEGV, &action, NULL);
  const struct {
    const char* name;
    int kind;
  } advices[] = {{"no advice", 0}, {"huge pages", MADV_HUGEPAGE}, {"none", MADV_NOHUGEPAGE}};
  for (int i = 0; i < 3; i++) {
    char* region = make();
    step("a large mapping", region != NULL);
    if (region == NULL) return 1;
    advice(region, advices[i].name, advices[i].kind);
    take_parts(region);
    protect_parts(region);
    drop_parts(region);
    if (i == 1) errors(region);
    munmap(region, kBytes);
  }
  return failed_steps;
}
