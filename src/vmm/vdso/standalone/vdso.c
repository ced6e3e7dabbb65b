/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vDSO: a shared object that a C library finds through AT_SYSINFO_EHDR and asks for the time
 * without leaving the guest. It runs in ring 3 as part of the program, on any stack, in any state
 * of the vector registers, and holds no secret and no privilege: whatever it cannot answer it hands
 * to the system call, which is where policy is. Spec: Linux vdso(7) for names and versions; the
 * calls as their man pages say.
 */
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "src/vmm/vdso/page.h"

#define EXPORT __attribute__((visibility("default")))

enum { kNanosPerSecond = 1000000000 };

static long Call2(long number, long a, long b) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b) : "rcx", "r11", "memory");
  return result;
}

/* Not ahead of the loads before it. */
static uint64_t ReadTsc(void) {
  uint32_t low, high;
  __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high)::"memory");
  return (uint64_t)high << 32 | low;
}

/* 0: the page cannot tell. A preemption between two of the reads shows in the sequence. */
static int ReadLine(int64_t* monotonic, int64_t* realtime_offset) {
  const volatile struct waxvm_vdso_page* shared =
      (const volatile struct waxvm_vdso_page*)WAXVM_VDSO_DATA_ADDRESS;
  for (;;) {
    const uint32_t sequence = shared->sequence;
    if ((sequence & 1) != 0 || shared->valid == 0) return 0;
    const struct waxvm_vdso_page page = {
        .tsc_base = shared->tsc_base,
        .tsc_limit = shared->tsc_limit,
        .multiplier = shared->multiplier,
        .monotonic_ns = shared->monotonic_ns,
        .realtime_offset_ns = shared->realtime_offset_ns,
    };
    const uint64_t cycles = ReadTsc() - page.tsc_base;
    if (sequence != shared->sequence) continue;
    if (cycles > page.tsc_limit) return 0;
    *monotonic = waxvm_vdso_monotonic(&page, cycles);
    *realtime_offset = page.realtime_offset_ns;
    return 1;
  }
}

/* Nanoseconds of a clock that follows the line; 0: it does not, or the page cannot tell. */
static int ReadClock(clockid_t clock, int64_t* nanoseconds) {
  int64_t monotonic, offset;
  if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE && clock != CLOCK_MONOTONIC &&
      clock != CLOCK_MONOTONIC_RAW && clock != CLOCK_MONOTONIC_COARSE && clock != CLOCK_BOOTTIME)
    return 0;
  if (!ReadLine(&monotonic, &offset)) return 0;
  const int real = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
  *nanoseconds = real ? monotonic + offset : monotonic;
  return *nanoseconds >= 0;
}

EXPORT int __vdso_clock_gettime(clockid_t clock, struct timespec* time) {
  int64_t now;
  if (!ReadClock(clock, &now)) return (int)Call2(SYS_clock_gettime, clock, (long)time);
  time->tv_sec = now / kNanosPerSecond;
  time->tv_nsec = now % kNanosPerSecond;
  return 0;
}

EXPORT int __vdso_gettimeofday(struct timeval* time, struct timezone* zone) {
  int64_t now;
  if (!ReadClock(CLOCK_REALTIME, &now)) return (int)Call2(SYS_gettimeofday, (long)time, (long)zone);
  if (time != NULL) {
    time->tv_sec = now / kNanosPerSecond;
    time->tv_usec = now % kNanosPerSecond / 1000;
  }
  if (zone != NULL) {
    zone->tz_minuteswest = 0;
    zone->tz_dsttime = 0;
  }
  return 0;
}

EXPORT time_t __vdso_time(time_t* time) {
  int64_t now;
  if (!ReadClock(CLOCK_REALTIME, &now)) return Call2(SYS_time, (long)time, 0);
  const time_t seconds = now / kNanosPerSecond;
  if (time != NULL) *time = seconds;
  return seconds;
}

EXPORT int __vdso_clock_getres(clockid_t clock, struct timespec* resolution) {
  int64_t now;
  if (!ReadClock(clock, &now)) return (int)Call2(SYS_clock_getres, clock, (long)resolution);
  if (resolution != NULL) {
    resolution->tv_sec = 0;
    resolution->tv_nsec = 1;
  }
  return 0;
}

/* One vCPU, one node. */
EXPORT long __vdso_getcpu(unsigned* cpu, unsigned* node, void* unused) {
  (void)unused;
  if (cpu != NULL) *cpu = 0;
  if (node != NULL) *node = 0;
  return 0;
}
