/* SPDX-License-Identifier: Apache-2.0 */
/* Opens descriptors until one is refused; prints how many it got and whether it was EMFILE. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

int main(void) {
  int count = 0;
  while (count < 100000 && open("/dev/null", O_RDONLY) >= 0) count++;
  printf("%d %s\n", count, errno == EMFILE ? "EMFILE" : "other");
  return errno == EMFILE ? 0 : 1;
}
