/* SPDX-License-Identifier: Apache-2.0 */
/* privileged INSTRUCTION: tries one that only a kernel may execute; exits with 0 if it could. */
#include <stdint.h>
#include <string.h>

#define TRY(name, code)                                         \
  if (strcmp(how, name) == 0) {                                 \
    __asm__ volatile(code : : : "memory", "rax", "rcx", "rdx"); \
    return 0;                                                   \
  }

int main(int argc, char** argv) {
  const char* how = argc > 1 ? argv[1] : "hlt";
  static char table[16];
  TRY("hlt", "hlt")
  TRY("cli", "cli")
  TRY("in", "in $0x60, %%al")
  TRY("out", "out %%al, $0x80")
  TRY("out_all", "mov $0xffff, %%edx\n out %%eax, %%dx")
  TRY("read_cr3", "mov %%cr3, %%rax")
  TRY("write_cr3", "xor %%eax, %%eax\n mov %%rax, %%cr3")
  TRY("write_cr0", "xor %%eax, %%eax\n mov %%rax, %%cr0")
  TRY("rdmsr", "mov $0xc0000082, %%ecx\n rdmsr")
  TRY("wrmsr", "mov $0xc0000082, %%ecx\n xor %%eax, %%eax\n xor %%edx, %%edx\n wrmsr")
  TRY("swapgs", "swapgs")
  TRY("invlpg", "invlpg (%%rsp)")
  TRY("sysret", "xor %%ecx, %%ecx\n sysretq")
  TRY("int80", "int $0x80")
  TRY("int2", "int $2")
  TRY("int14", "int $14")
  if (strcmp(how, "lidt") == 0) {
    __asm__ volatile("lidt %0" : : "m"(table));
    return 0;
  }
  return 99;
}
