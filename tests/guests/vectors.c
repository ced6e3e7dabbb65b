/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two threads compute in all vector registers, upper halves included, and never leave the processor
 * of their own accord, while signals interrupt them whose handler overwrites those registers. Says
 * "skipped: …" where the processor has no such registers.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>

#include "step.h"

enum { kRegisters = 16, kBytes = 32, kRounds = 20000, kSignals = 20 };

#define EACH_REGISTER ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
#define ALL_REGISTERS                                                                      \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

struct bank {
  uint8_t bytes[kRegisters][kBytes];
} __attribute__((aligned(32)));

struct worker {
  pthread_t thread;
  int id;
  int with_avx2;
  int signals;
  long batches;
  long wrong;
};

static __thread struct worker* self;
static int stop;

static int usable(void) {
  unsigned a, b, c, d, low, high;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX)) return 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & 6) != 6) return 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2) ? 2 : 1;
}

static void overwrite(int signal) {
  (void)signal;
  static const struct bank kOnes = {{[0 ... kRegisters - 1] = {[0 ... kBytes - 1] = 0xff}}};
  __asm__ volatile(EACH_REGISTER "vmovdqa 32*\\r(%0), %%ymm\\r\n.endr\n"
                   :
                   : "r"(&kOnes)
                   : "memory", ALL_REGISTERS);
  __atomic_fetch_add(&self->signals, 1, __ATOMIC_SEQ_CST);
}

/* Loads `in`, spins, adds register 14 to register 15 on every round, stores to `out`. */
static void spin_avx2(const struct bank* in, struct bank* out) {
  long rounds = kRounds;
  __asm__ volatile(EACH_REGISTER
                   "vmovdqa 32*\\r(%[in]), %%ymm\\r\n.endr\n"
                   "1: vpaddd %%ymm14, %%ymm15, %%ymm15\n"
                   "dec %[rounds]\n jnz 1b\n" EACH_REGISTER
                   "vmovdqa %%ymm\\r, 32*\\r(%[out])\n.endr\n"
                   : [rounds] "+r"(rounds)
                   : [in] "r"(in), [out] "r"(out)
                   : "cc", "memory", ALL_REGISTERS);
}

static void spin_avx(const struct bank* in, struct bank* out) {
  long rounds = kRounds;
  __asm__ volatile(EACH_REGISTER
                   "vmovdqa 32*\\r(%[in]), %%ymm\\r\n.endr\n"
                   "1: dec %[rounds]\n jnz 1b\n" EACH_REGISTER
                   "vmovdqa %%ymm\\r, 32*\\r(%[out])\n.endr\n"
                   : [rounds] "+r"(rounds)
                   : [in] "r"(in), [out] "r"(out)
                   : "cc", "memory", ALL_REGISTERS);
}

static long differing(const struct bank* in, const struct bank* out, int with_avx2) {
  struct bank expected = *in;
  uint32_t sum[kBytes / 4], step_by[kBytes / 4];
  memcpy(sum, expected.bytes[15], kBytes);
  memcpy(step_by, expected.bytes[14], kBytes);
  for (int i = 0; with_avx2 && i < kBytes / 4; i++) sum[i] += kRounds * step_by[i];
  memcpy(expected.bytes[15], sum, kBytes);
  return memcmp(&expected, out, sizeof expected) != 0;
}

static void* work(void* argument) {
  struct worker* worker = self = argument;
  struct bank in, out;
  while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
    uint8_t* byte = &in.bytes[0][0];
    for (int i = 0; i < (int)sizeof in; i++)
      byte[i] = (uint8_t)(i * 37 + worker->id * 101 + worker->batches);
    memset(&out, 0, sizeof out);
    (worker->with_avx2 ? spin_avx2 : spin_avx)(&in, &out);
    worker->wrong += differing(&in, &out, worker->with_avx2);
    __atomic_fetch_add(&worker->batches, 1, __ATOMIC_SEQ_CST);
  }
  return NULL;
}

int main(void) {
  const int level = usable();
  if (level == 0) return puts("skipped: this processor has no AVX"), 0;
  struct worker workers[2] = {{.id = 1, .with_avx2 = level == 2},
                              {.id = 2, .with_avx2 = level == 2}};
  struct sigaction action = {.sa_handler = overwrite, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &action, NULL);
  for (int i = 0; i < 2; i++) pthread_create(&workers[i].thread, NULL, work, &workers[i]);
  for (int i = 0; i < 2; i++)
    while (__atomic_load_n(&workers[i].batches, __ATOMIC_SEQ_CST) == 0) sleep_milliseconds(1);
  for (int round = 0; round < 5000; round++) {
    int missing = 0;
    for (int i = 0; i < 2; i++) {
      if (__atomic_load_n(&workers[i].signals, __ATOMIC_SEQ_CST) >= kSignals) continue;
      missing = 1;
      pthread_kill(workers[i].thread, SIGUSR1);
    }
    if (!missing) break;
    sleep_milliseconds(2);
  }
  __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
  puts(level == 2 ? "with AVX2" : "with AVX");
  for (int i = 0; i < 2; i++) {
    pthread_join(workers[i].thread, NULL);
    step("interrupted often", workers[i].signals >= kSignals && workers[i].batches > 0);
    equal("batches in which a register changed", workers[i].wrong, 0);
  }
  return failed_steps;
}
