/* SPDX-License-Identifier: Apache-2.0 */
/* Divides by zero. */
int main(void) {
  __asm__ volatile("xor %%edx, %%edx\n mov $1, %%eax\n xor %%ecx, %%ecx\n div %%ecx"
                   :
                   :
                   : "rax", "rcx", "rdx");
  return 0;
}
