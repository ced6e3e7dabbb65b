/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps values in all vector registers over many system calls; they must come back unharmed. */
#include <cpuid.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Fills the 16 registers from `in`, makes one system call, stores them to `out`. */
#define EACH_REGISTER ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
#define ROUND(move, bank)                                                                        \
  __asm__ volatile(EACH_REGISTER move " 32*\\r(%[in]), %%" bank                                  \
                                      "\\r\n.endr\n"                                             \
                                      "mov %[number], %%eax\n syscall\n" EACH_REGISTER move      \
                                      " %%" bank "\\r, 32*\\r(%[out])\n.endr\n"                  \
                   :                                                                             \
                   : [in] "r"(in), [out] "r"(out), [number] "i"(SYS_getppid)                     \
                   : "rax", "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4",      \
                     "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", \
                     "xmm14", "xmm15")

static uint8_t in[16 * 32] __attribute__((aligned(32)));
static uint8_t out[16 * 32] __attribute__((aligned(32)));

static int avx_usable(void) {
  unsigned a, b, c, d, low, high;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX)) return 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & 6) == 6;
}

int main(void) {
  const int avx = avx_usable();
  for (int round = 0; round < 200; round++) {
    for (int i = 0; i < (int)sizeof in; i++) in[i] = (uint8_t)(i * 31 + round);
    if (avx)
      ROUND("vmovdqu", "ymm");
    else
      ROUND("movdqu", "xmm");
    for (int i = 0; i < (int)sizeof in; i++) {
      if (!avx && i % 32 >= 16) continue;
      if (out[i] != in[i]) return printf("round %d: byte %d changed\n", round, i), 1;
    }
  }
  puts(avx ? "avx kept" : "sse kept");
  return 0;
}
