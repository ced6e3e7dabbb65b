/* SPDX-License-Identifier: Apache-2.0 */
/* Prints 16 random bytes from getrandom and from /dev/urandom, or why there are none. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static int show(const char* name, const unsigned char* bytes, ssize_t n) {
  printf("%s ", name);
  if (n != 16) return printf("%s\n", strerror(errno)), 1;
  for (int i = 0; i < 16; i++) printf("%02x", bytes[i]);
  puts("");
  return 0;
}

int main(void) {
  unsigned char bytes[16];
  int failed = show("getrandom", bytes, getrandom(bytes, sizeof bytes, 0));
  int fd = open("/dev/urandom", O_RDONLY);
  failed += show("urandom", bytes, fd < 0 ? -1 : read(fd, bytes, sizeof bytes));
  return failed;
}
