/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls without a C library: the code that builds a sandbox runs in a freestanding program
 * and, between clone and exec, in the memory of a multi-threaded embedder, where errno, locks and
 * interposed libc functions must not be touched. Results are negated errnos.
 */
#ifndef WAXVM_SRC_PROVIDER_PROCESS_RAW_SYSCALL_H_
#define WAXVM_SRC_PROVIDER_PROCESS_RAW_SYSCALL_H_

#include <sys/syscall.h>

static inline long wx_syscall6(long number, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

static inline long wx_syscall5(long number, long a, long b, long c, long d, long e) {
  return wx_syscall6(number, a, b, c, d, e, 0);
}
static inline long wx_syscall4(long number, long a, long b, long c, long d) {
  return wx_syscall6(number, a, b, c, d, 0, 0);
}
static inline long wx_syscall3(long number, long a, long b, long c) {
  return wx_syscall6(number, a, b, c, 0, 0, 0);
}
static inline long wx_syscall2(long number, long a, long b) {
  return wx_syscall6(number, a, b, 0, 0, 0, 0);
}
static inline long wx_syscall1(long number, long a) {
  return wx_syscall6(number, a, 0, 0, 0, 0, 0);
}
static inline long wx_syscall0(long number) { return wx_syscall6(number, 0, 0, 0, 0, 0, 0); }

#endif /* WAXVM_SRC_PROVIDER_PROCESS_RAW_SYSCALL_H_ */
