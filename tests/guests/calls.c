/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calls KIND COUNT: makes COUNT calls of one kind and nothing else. getpid is the bare system call;
 * clock_gettime is the C library's, as programs call it; read_devzero reads one byte.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int getpids(long count) {
  for (; count > 0; count--)
    if (syscall(SYS_getpid) <= 0) return 1;
  return 0;
}

static int clock_gettimes(long count) {
  struct timespec now;
  for (; count > 0; count--)
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) return 1;
  return 0;
}

static int read_devzeros(long count) {
  char byte;
  int zero = open("/dev/zero", O_RDONLY);
  for (; count > 0; count--)
    if (read(zero, &byte, 1) != 1) return 1;
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const long count = atol(argv[2]);
  if (strcmp(argv[1], "getpid") == 0) return getpids(count);
  if (strcmp(argv[1], "clock_gettime") == 0) return clock_gettimes(count);
  if (strcmp(argv[1], "read_devzero") == 0) return read_devzeros(count);
  return 2;
}
