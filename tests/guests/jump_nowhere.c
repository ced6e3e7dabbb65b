/* SPDX-License-Identifier: Apache-2.0 */
/* jump_nowhere [high|noncanonical|stack]: continues where there is no code. */
#include <stdint.h>
#include <string.h>

int main(int argc, char** argv) {
  static const uint64_t kLow = 0x123456789000, kHigh = 0xffffffff81000000;
  const char* how = argc > 1 ? argv[1] : "low";
  unsigned char code[16] = {0x90, 0xc3};
  uint64_t target = kLow;
  if (strcmp(how, "high") == 0) target = kHigh;
  if (strcmp(how, "noncanonical") == 0) target = 0x8000000000000000;
  if (strcmp(how, "stack") == 0) target = (uint64_t)(uintptr_t)code;
  __asm__ volatile("jmp *%0" : : "r"(target), "m"(code));
  return 0;
}
