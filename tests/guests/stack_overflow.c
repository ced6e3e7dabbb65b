/* SPDX-License-Identifier: Apache-2.0 */
/* Recurses without end. */
#include <string.h>

static volatile int depth;

static int recurse(int n) {
  if (n < 0) return depth;
  char frame[4096];
  memset(frame, n, sizeof frame);
  depth++;
  return recurse(n + 1) + frame[n & 4095];
}

int main(void) { return recurse(0); }
