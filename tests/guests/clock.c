/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the clocks: realtime, monotonic, gettimeofday and time, each in its own unit. */
#include <stdio.h>
#include <sys/time.h>
#include <time.h>

int main(void) {
  struct timespec real, monotonic;
  struct timeval day;
  if (clock_gettime(CLOCK_REALTIME, &real) != 0) return 1;
  if (clock_gettime(CLOCK_MONOTONIC, &monotonic) != 0) return 2;
  if (gettimeofday(&day, NULL) != 0) return 3;
  printf("realtime %lld.%09ld\n", (long long)real.tv_sec, real.tv_nsec);
  printf("monotonic %lld.%09ld\n", (long long)monotonic.tv_sec, monotonic.tv_nsec);
  printf("gettimeofday %lld.%06ld\n", (long long)day.tv_sec, (long)day.tv_usec);
  printf("time %lld\n", (long long)time(NULL));
  return 0;
}
