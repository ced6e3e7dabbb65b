/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host and the vDSO share: where they lie in a guest, and the page through which the host
 * tells the vDSO how to turn the timestamp counter into time. C11, for both sides.
 *
 * The line: within tsc_limit cycles of tsc_base,
 *   monotonic = monotonic_ns + ((tsc - tsc_base) * multiplier >> 32)
 *   realtime  = monotonic + realtime_offset_ns
 * The product fits into 64 bits as long as the limit stays below two seconds. Outside the limit, or
 * before the host has filled the page (valid is 0), the vDSO makes the system call.
 */
#ifndef WAXVM_SRC_VMM_VDSO_PAGE_H_
#define WAXVM_SRC_VMM_VDSO_PAGE_H_

#include <stdint.h>

/* Above the stack, where no program can map anything. Fixed, so that the vDSO needs no relocation
 * to find its data. */
#define WAXVM_VDSO_DATA_ADDRESS 0x7fffffff2000
#define WAXVM_VDSO_IMAGE_ADDRESS 0x7fffffff3000
#define WAXVM_VDSO_SHIFT 32

struct waxvm_vdso_page {
  uint32_t sequence; /* odd while the host is writing; changes with every change of the rest */
  uint32_t valid;
  uint64_t tsc_base;
  uint64_t tsc_limit;
  uint64_t multiplier; /* nanoseconds of a cycle, times 2^32 */
  int64_t monotonic_ns;
  int64_t realtime_offset_ns;
};

/* The one formula that host and guest share. `cycles` is at most tsc_limit. */
static inline int64_t waxvm_vdso_monotonic(const struct waxvm_vdso_page* page, uint64_t cycles) {
  return page->monotonic_ns + (int64_t)((cycles * page->multiplier) >> WAXVM_VDSO_SHIFT);
}

#endif /* WAXVM_SRC_VMM_VDSO_PAGE_H_ */
