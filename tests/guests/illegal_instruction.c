/* SPDX-License-Identifier: Apache-2.0 */
/* Executes an undefined instruction. */
int main(void) {
  __asm__ volatile("ud2");
  return 0;
}
