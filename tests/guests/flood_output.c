/* SPDX-License-Identifier: Apache-2.0 */
/* Writes to standard output without end. */
#include <string.h>
#include <unistd.h>

int main(void) {
  static char line[65536];
  memset(line, 'x', sizeof line);
  while (write(1, line, sizeof line) >= 0) {
  }
  return 1;
}
