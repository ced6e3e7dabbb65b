/* SPDX-License-Identifier: Apache-2.0 */
/* Copies standard input to standard output. */
#include <unistd.h>

int main(void) {
  char buffer[4096];
  ssize_t n;
  while ((n = read(0, buffer, sizeof buffer)) > 0) {
    for (ssize_t at = 0; at < n;) {
      ssize_t written = write(1, buffer + at, (size_t)(n - at));
      if (written < 0) return 2;
      at += written;
    }
  }
  return n == 0 ? 0 : 1;
}
