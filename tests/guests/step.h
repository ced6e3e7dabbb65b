/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For guests that check many small things: each prints one line, "NAME: ok" or what went wrong, and
 * main returns `failed_steps`. The output is the same on every Linux, so that a native run and an
 * isolated one can be compared byte for byte.
 */
#ifndef WAXVM_TESTS_GUESTS_STEP_H_
#define WAXVM_TESTS_GUESTS_STEP_H_

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int failed_steps;

/* errno is kept, so that a caller may look at it afterwards. */
static inline void step(const char* name, int ok) {
  const int error = errno;
  if (ok)
    printf("%s: ok\n", name);
  else
    printf("%s: FAILED (errno %d, %s)\n", name, error, strerror(error));
  fflush(stdout);
  if (!ok) failed_steps++;
  errno = error;
}

/* A call that must fail with one errno. */
static inline void refused(const char* name, long result, int error) {
  const int seen = result == -1 ? errno : 0;
  if (seen != error) printf("(result %ld, errno %d instead of %d) ", result, seen, error);
  step(name, seen == error);
}

/* A number that must be this one. */
static inline void equal(const char* name, long value, long expected) {
  if (value != expected) printf("(%ld instead of %ld) ", value, expected);
  step(name, value == expected);
}

static inline struct timespec milliseconds(long count) {
  struct timespec time = {count / 1000, count % 1000 * 1000000};
  return time;
}

static inline void sleep_milliseconds(long count) {
  struct timespec time = milliseconds(count);
  while (nanosleep(&time, &time) != 0 && errno == EINTR) {
  }
}

/* Now on that clock, in milliseconds. */
static inline long now_milliseconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline struct timespec in_milliseconds(clockid_t clock, long count) {
  struct timespec then;
  clock_gettime(clock, &then);
  then.tv_sec += count / 1000;
  then.tv_nsec += count % 1000 * 1000000;
  if (then.tv_nsec >= 1000000000) then.tv_sec++, then.tv_nsec -= 1000000000;
  return then;
}

#endif /* WAXVM_TESTS_GUESTS_STEP_H_ */
