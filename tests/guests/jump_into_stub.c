/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jump_into_stub RCX HOW: continues at 0x2000, where waxvm's machine keeps its entry for system
 * calls, as if by `syscall`, with RCX (hexadecimal) as the address to come back to.
 *   answered   getpid, which the entry answers itself
 *   leaves     sched_yield
 *   unknown    a call that is none
 *   sleeps     nanosleep, while another thread computes
 *   signal     tgkill of itself, with a handler that returns
 *   handled    sched_yield, with a handler of SIGSEGV that says so and ends
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void* compute(void* unused) {
  static volatile int for_ever = 1;
  while (for_ever) {
  }
  return unused;
}

static void come_back(int signal) { (void)signal; }
static void end(int signal) {
  (void)signal;
  if (write(1, "handled\n", 8) != 8) _exit(2);
  _exit(3);
}

static void enter(uint64_t back, long number, long one, long two, long three) {
  __asm__ volatile("jmp *%[stub]"
                   :
                   : [stub] "r"((uint64_t)0x2000), "c"(back), "a"(number), "D"(one), "S"(two),
                     "d"(three)
                   : "r11", "memory");
}

int main(int argc, char** argv) {
  if (argc < 3) return 1;
  const uint64_t back = strtoull(argv[1], NULL, 16);
  const char* how = argv[2];
  static const struct timespec kShort = {0, 20000000};
  signal(SIGUSR1, come_back);
  if (strcmp(how, "handled") == 0) signal(SIGSEGV, end);
  if (strcmp(how, "answered") == 0) enter(back, SYS_getpid, 0, 0, 0);
  if (strcmp(how, "unknown") == 0) enter(back, 9999, 0, 0, 0);
  if (strcmp(how, "sleeps") == 0) {
    pthread_t thread;
    pthread_create(&thread, NULL, compute, NULL);
    enter(back, SYS_nanosleep, (long)&kShort, 0, 0);
  }
  if (strcmp(how, "signal") == 0) enter(back, SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
  enter(back, SYS_sched_yield, 0, 0, 0);
  return 1;
}
