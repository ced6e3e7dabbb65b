/* SPDX-License-Identifier: Apache-2.0 */
/* Functions chosen when the program is loaded (IFUNC), its own and those of the C library. */
#include <string.h>

#include "step.h"

typedef int (*function)(int);

static int twice(int value) { return value * 2; }

__attribute__((used)) static function choose(void) { return twice; }

int chosen(int value) __attribute__((ifunc("choose")));
static int (*volatile pointer)(int) = chosen;

int main(void) {
  char block[1000], copy[1000];
  equal("called", chosen(21), 42);
  equal("through a pointer", pointer(4), 8);
  for (int size = 0; size < 1000; size += 37) {
    memset(block, size, sizeof block);
    memcpy(copy, block, (size_t)size);
    if (memcmp(copy, block, (size_t)size) != 0) step("memcpy", 0);
    block[size] = 0;
    if (size % 256 != 0 && strlen(block) != (size_t)size) step("strlen", 0);
  }
  step("the C library's", failed_steps == 0);
  return failed_steps;
}
