/* SPDX-License-Identifier: Apache-2.0 */
/*
 * write_page_tables [FIRST]: stores to every page where a monitor may have left its tables or its
 * entry code: the first MiB but for its own image, the top of the lower half, the upper half. Each
 * store that is let through is printed; without a handler the first one that faults ends the run.
 * FIRST is the address (hexadecimal) to begin with, so that a caller can try them one by one.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static void store(uint64_t address) {
  printf("store to %llx\n", (unsigned long long)address);
  fflush(stdout);
  *(volatile uint64_t*)(uintptr_t)address = 0x0000000000000067;
  printf("let through\n");
  fflush(stdout);
}

int main(int argc, char** argv) {
  if (argc > 1) store(strtoull(argv[1], NULL, 16));
  for (uint64_t at = 0; at < 0x10000; at += 0x1000) store(at);
  for (uint64_t at = 0x7ffffffff000; at > 0x7fffffff0000; at -= 0x1000) store(at);
  for (uint64_t at = 0xffff800000000000; at < 0xffff800000100000; at += 0x1000) store(at);
  for (uint64_t at = 0xfffffffffffff000; at > 0xffffffffff000000; at -= 0x1000) store(at);
  return 0;
}
