/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compute [ROUNDS]: integer, memory and floating-point work and a checksum at the end; two system
 * calls in all, so that its time is the processor's. About 0.3 s with the default.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { kWords = 1 << 16 };
static uint64_t table[kWords];

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? atoi(argv[1]) : 2600;
  uint64_t state = 88172645463325252u, sum = 0;
  double x = 0.5;
  for (int round = 0; round < rounds; round++) {
    for (int i = 0; i < kWords; i++) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      table[state & (kWords - 1)] += state;
      sum = sum * 6364136223846793005u + table[i];
      x = 3.75 * x * (1 - x);
    }
  }
  printf("%016llx %.6f\n", (unsigned long long)sum, x);
  return 0;
}
