/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A handler that uses every vector register, the x87 stack and its control words leaves those of
 * the interrupted program as they were: at a system call, at a fault, and between any two
 * instructions.
 */
#define _GNU_SOURCE
#include <fenv.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "step.h"

static volatile sig_atomic_t seen;
static uint8_t in[16 * 16] __attribute__((aligned(16)));
static uint8_t out[16 * 16] __attribute__((aligned(16)));
static char* page;

#define EACH ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
#define ALL_XMM                                                                            \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

static void trample(int signal) {
  __asm__ volatile(EACH "pcmpeqd %%xmm\\r, %%xmm\\r\n.endr\n fninit\n fldpi\n fldl2e"
                   :
                   :
                   : ALL_XMM);
  const uint32_t rounding = 0x7f80;
  __asm__ volatile("ldmxcsr %0" : : "m"(rounding));
  if (signal == SIGSEGV) mprotect(page, 4096, PROT_READ | PROT_WRITE);
  seen++;
}

static int same(void) {
  for (unsigned i = 0; i < sizeof in; i++)
    if (in[i] != out[i]) return 0;
  return 1;
}

static int at_a_call(void) {
  const long pid = getpid(), tid = syscall(SYS_gettid);
  __asm__ volatile(EACH
                   "movdqa 16*\\r(%[in]), %%xmm\\r\n.endr\n"
                   "mov $234, %%eax\n syscall\n" EACH "movdqa %%xmm\\r, 16*\\r(%[out])\n.endr\n"
                   :
                   : [in] "r"(in), [out] "r"(out), "D"(pid), "S"(tid), "d"((long)SIGUSR1)
                   : "rax", "rcx", "r11", "memory", ALL_XMM);
  return same();
}

static int at_a_fault(void) {
  mprotect(page, 4096, PROT_READ);
  __asm__ volatile(EACH
                   "movdqa 16*\\r(%[in]), %%xmm\\r\n.endr\n"
                   "movb $1, (%[page])\n" EACH "movdqa %%xmm\\r, 16*\\r(%[out])\n.endr\n"
                   :
                   : [in] "r"(in), [out] "r"(out), [page] "r"(page)
                   : "memory", ALL_XMM);
  return same();
}

/* Keeps the values in registers for a few milliseconds, in which a timer comes. */
static int between_instructions(void) {
  __asm__ volatile(EACH
                   "movdqa 16*\\r(%[in]), %%xmm\\r\n.endr\n"
                   "mov %[seen], %%eax\n"
                   "mov $4000000000, %%rcx\n"
                   "1: cmp %[seen], %%eax\n jne 2f\n sub $1, %%rcx\n jnz 1b\n 2:\n" EACH
                   "movdqa %%xmm\\r, 16*\\r(%[out])\n.endr\n"
                   :
                   : [in] "r"(in), [out] "r"(out), [seen] "m"(seen)
                   : "rax", "rcx", "cc", "memory", ALL_XMM);
  return same();
}

int main(void) {
  struct sigaction action = {0};
  action.sa_handler = trample;
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGALRM, &action, NULL);
  for (unsigned i = 0; i < sizeof in; i++) in[i] = (uint8_t)(i * 37 + 11);
  page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  fesetround(FE_UPWARD);
  volatile long double third = 1.0L;
  third /= 3;
  int ok = 1;
  for (int i = 0; i < 50; i++) ok &= at_a_call();
  step("kept at a call", ok && seen == 50);
  for (int i = 0; i < 50; i++) ok &= at_a_fault();
  step("kept at a fault", ok && seen == 100);
  step("rounding kept", fegetround() == FE_UPWARD);
  volatile long double again = 1.0L;
  again /= 3;
  step("x87 kept", third == again);
  struct itimerval interval = {{0, 5000}, {0, 5000}};
  step("timer", setitimer(ITIMER_REAL, &interval, NULL) == 0);
  for (int i = 0; i < 10; i++) ok &= between_instructions();
  step("kept between instructions", ok && seen >= 110);
  interval.it_interval.tv_usec = interval.it_value.tv_usec = 0;
  setitimer(ITIMER_REAL, &interval, NULL);
  volatile double sum = 0;
  for (int i = 1; i <= 1000; i++) sum = sum + sqrt(i);
  printf("%.6f\n", sum);
  return failed_steps;
}
