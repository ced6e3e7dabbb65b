/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clocks through libc, the vDSO and the raw system calls, in turn.
 *   clock_vdso turns N    alternates N times, reports every step back; prints ok or no vdso
 *   clock_vdso twice      reads a clock before and after 0.5 s; prints on or back, and seconds
 *   clock_vdso cost N     nanoseconds of a call: libc, raw clock_gettime, getpid
 *   clock_vdso unmap      tries to lose, change and write the vDSO; what it says is printed
 *   clock_vdso write      writes to the page that holds the time: must fault
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

typedef long long Nanos;
static const clockid_t kClocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME,        CLOCK_MONOTONIC_RAW,
                                    CLOCK_BOOTTIME,  CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE};

static Nanos ToNanos(const struct timespec* time) {
  return time->tv_sec * 1000000000LL + time->tv_nsec;
}
static Nanos Libc(clockid_t clock) {
  struct timespec time;
  return clock_gettime(clock, &time) == 0 ? ToNanos(&time) : -1;
}
static Nanos Raw(clockid_t clock) {
  struct timespec time;
  return syscall(SYS_clock_gettime, clock, &time) == 0 ? ToNanos(&time) : -1;
}

/* The symbol at the vDSO, as a C library looks for it: PT_DYNAMIC, DT_HASH, DT_VERSYM. */
static void* Find(const char* base, const char* name) {
  const Elf64_Ehdr* header = (const Elf64_Ehdr*)base;
  const Elf64_Phdr* segments = (const Elf64_Phdr*)(base + header->e_phoff);
  const Elf64_Dyn* dynamic = NULL;
  const char* load = base;
  if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_type != ET_DYN) return NULL;
  for (int i = 0; i < header->e_phnum; ++i) {
    if (segments[i].p_type == PT_DYNAMIC) dynamic = (const Elf64_Dyn*)(base + segments[i].p_offset);
    if (segments[i].p_type == PT_LOAD) load = base + segments[i].p_offset - segments[i].p_vaddr;
  }
  const Elf64_Sym* symbols = NULL;
  const Elf64_Half* versions = NULL;
  const unsigned* hash = NULL;
  const char* strings = NULL;
  int gnu_hash = 0;
  for (; dynamic != NULL && dynamic->d_tag != DT_NULL; ++dynamic) {
    const void* at = load + dynamic->d_un.d_ptr;
    if (dynamic->d_tag == DT_SYMTAB) symbols = at;
    if (dynamic->d_tag == DT_STRTAB) strings = at;
    if (dynamic->d_tag == DT_HASH) hash = at;
    if (dynamic->d_tag == DT_VERSYM) versions = at;
    if (dynamic->d_tag == DT_GNU_HASH) gnu_hash = 1;
  }
  if (!symbols || !strings || !hash || !versions || !gnu_hash) return NULL;
  for (unsigned i = 0; i < hash[1]; ++i)
    if (strcmp(strings + symbols[i].st_name, name) == 0 && versions[i] >= 2)
      return (void*)(load + symbols[i].st_value);
  return NULL;
}

static int Alternate(const char* vdso, int turns) {
  int (*direct)(clockid_t, struct timespec*) = NULL;
  if (vdso != NULL) *(void**)&direct = Find(vdso, "__vdso_clock_gettime");
  if (vdso != NULL && direct == NULL) return printf("no symbol\n"), 3;
  long back = 0;
  for (size_t c = 0; c < sizeof kClocks / sizeof kClocks[0]; ++c) {
    const clockid_t clock = kClocks[c];
    Nanos last = 0;
    for (int i = 0; i < (c == 0 ? turns : turns / 50); ++i) {
      struct timespec time = {0, 0};
      Nanos now = i % 3 == 0 ? Raw(clock) : Libc(clock);
      if (i % 3 == 2 && direct != NULL) {
        if (direct(clock, &time) != 0) return 4;
        now = ToNanos(&time);
      }
      if (now < last && back++ < 5) printf("clock %d: back by %lld\n", (int)clock, last - now);
      last = now;
    }
  }
  /* What the other functions say lies between two readings. */
  const Nanos before = Raw(CLOCK_REALTIME);
  struct timeval day;
  struct timezone zone;
  if (gettimeofday(&day, &zone) != 0) return 5;
  const Nanos seconds = time(NULL);
  const Nanos after = Raw(CLOCK_REALTIME);
  const Nanos micros = day.tv_sec * 1000000LL + day.tv_usec;
  if (micros < before / 1000 || micros > after / 1000) return 6;
  if (seconds < before / 1000000000 || seconds > after / 1000000000) return 7;
  struct timespec resolution;
  if (clock_getres(CLOCK_MONOTONIC, &resolution) != 0 || resolution.tv_nsec != 1) return 8;
  if (Libc(CLOCK_PROCESS_CPUTIME_ID) < 0) return 9;
  if (clock_gettime(99, &resolution) != -1 || errno != EINVAL) return 10;
  printf("%s\n", back != 0 ? "back" : vdso != NULL ? "ok" : "no vdso");
  return back != 0;
}

static double Cost(int count, int kind) {
  const Nanos start = Raw(CLOCK_MONOTONIC);
  for (int i = 0; i < count; ++i) {
    if (kind == 0) Libc(CLOCK_MONOTONIC);
    if (kind == 1) Raw(CLOCK_MONOTONIC);
    if (kind == 2) syscall(SYS_getpid);
  }
  return (double)(Raw(CLOCK_MONOTONIC) - start) / count;
}

int main(int argc, char** argv) {
  char* vdso = (char*)getauxval(AT_SYSINFO_EHDR);
  if (argc < 2) return 1;
  if (strcmp(argv[1], "turns") == 0 && argc > 2) return Alternate(vdso, atoi(argv[2]));
  if (strcmp(argv[1], "twice") == 0) {
    const Nanos first = Libc(CLOCK_REALTIME);
    usleep(500000);
    const Nanos second = Libc(CLOCK_REALTIME);
    return printf("%s %lld\n", second < first ? "back" : "on", second / 1000000000) < 0;
  }
  if (strcmp(argv[1], "cost") == 0 && argc > 2) {
    const int count = atoi(argv[2]);
    printf("libc %.1f ns\n", Cost(count, 0));
    printf("system call %.1f ns\n", Cost(count / 50 + 1, 1));
    printf("getpid %.1f ns\n", Cost(count / 50 + 1, 2));
    return 0;
  }
  if (vdso == NULL) return 20;
  if (strcmp(argv[1], "write") == 0) {
    *(volatile char*)(vdso - 4096) = 1;
    return 21;
  }
  /* Whether the calls fail or not, the time must still be there afterwards. */
  munmap(vdso - 4096, 3 * 4096);
  mprotect(vdso - 4096, 2 * 4096, PROT_READ | PROT_WRITE);
  mremap(vdso, 4096, 8192, MREMAP_MAYMOVE);
  madvise(vdso - 4096, 2 * 4096, MADV_DONTNEED);
  mmap(vdso, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  return Alternate(vdso, 1000);
}
