/* SPDX-License-Identifier: Apache-2.0 */
/* Uses the processor without end and makes no system call. */
int main(void) {
  for (volatile unsigned long n = 0;; n++) {
  }
}
