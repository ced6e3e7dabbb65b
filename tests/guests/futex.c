/* SPDX-License-Identifier: Apache-2.0 */
/* The futex call itself, by number: every operation, its results, its timeouts and its errors. */
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "step.h"

/* The kernel's numbers; musl comes without its headers. */
enum {
  FUTEX_WAIT = 0,
  FUTEX_WAKE = 1,
  FUTEX_PRIVATE = 128,
  FUTEX_CLOCK_REALTIME = 256,
  FUTEX_WAIT_PRIVATE = FUTEX_WAIT | FUTEX_PRIVATE,
  FUTEX_WAKE_PRIVATE = FUTEX_WAKE | FUTEX_PRIVATE,
  FUTEX_REQUEUE_PRIVATE = 3 | FUTEX_PRIVATE,
  FUTEX_CMP_REQUEUE_PRIVATE = 4 | FUTEX_PRIVATE,
  FUTEX_WAKE_OP_PRIVATE = 5 | FUTEX_PRIVATE,
  FUTEX_WAIT_BITSET_PRIVATE = 9 | FUTEX_PRIVATE,
  FUTEX_WAKE_BITSET_PRIVATE = 10 | FUTEX_PRIVATE
};
enum { kSet, kAdd, kOr, kAndNot, kXor };
enum { kEqual, kNotEqual, kLess, kLessOrEqual, kGreater };
#define FUTEX_OP(op, argument, compare, against) \
  ((uint32_t)((op) << 28 | (compare) << 24 | (argument) << 12 | (against)))

static uint32_t word;
static uint32_t other;
static int awake;
static int failed_waits;

static long futex(uint32_t* at, int op, uint32_t value, const void* timeout, uint32_t* at2,
                  uint32_t value3) {
  return syscall(SYS_futex, at, op, value, timeout, at2, value3);
}

/* The fourth argument as a number, for the operations that take a second count. */
static const void* count(long number) { return (const void*)number; }

static void* wait_on_word(void* mask) {
  const uint32_t bits = (uint32_t)(uintptr_t)mask;
  long result;
  do {
    result = bits == 0 ? futex(&word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0)
                       : futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, bits);
  } while (result != 0 && errno == EINTR);
  if (result != 0) __atomic_fetch_add(&failed_waits, 1, __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&awake, 1, __ATOMIC_SEQ_CST);
  return NULL;
}

static void start(pthread_t* threads, int number, uintptr_t mask) {
  awake = 0;
  for (int i = 0; i < number; i++) pthread_create(&threads[i], NULL, wait_on_word, (void*)mask);
}

static void settle(int expected) {
  for (int i = 0; i < 2000 && __atomic_load_n(&awake, __ATOMIC_SEQ_CST) < expected; i++)
    sleep_milliseconds(1);
}

/* Wakes until `number` threads have been woken in all; a thread may not wait yet when we look. */
static int wake_all(uint32_t* at, int number) {
  int woken = 0;
  for (int i = 0; i < 2000 && woken < number; i++) {
    woken += (int)futex(at, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    sleep_milliseconds(1);
  }
  return woken;
}

static void join(pthread_t* threads, int number) {
  for (int i = 0; i < number; i++) pthread_join(threads[i], NULL);
}

static void waiting_and_waking(void) {
  pthread_t threads[8];
  equal("nobody waits", futex(&word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 0);
  refused("another value", futex(&word, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0), EAGAIN);
  start(threads, 1, 0);
  equal("one waits", wake_all(&word, 1), 1);
  join(threads, 1);
  start(threads, 8, 0);
  sleep_milliseconds(50);
  int woken = (int)futex(&word, FUTEX_WAKE_PRIVATE, 3, NULL, NULL, 0);
  equal("three of eight", woken, 3);
  settle(3);
  equal("no more than three", awake, 3);
  equal("the other five", wake_all(&word, 5), 5);
  join(threads, 8);
  start(threads, 2, 0);
  equal("without the private flag", futex(&other, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
  equal("both", wake_all(&word, 2), 2);
  join(threads, 2);
  equal("every wait ended well", failed_waits, 0);
}

static void masks(void) {
  pthread_t threads[4];
  start(threads, 2, 1);
  awake = 0;
  pthread_create(&threads[2], NULL, wait_on_word, (void*)4);
  sleep_milliseconds(50);
  equal("no such bit", futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 2), 0);
  equal("bit 4", futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 6), 1);
  equal("any bit", futex(&word, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 2);
  join(threads, 3);
  refused("no bits to wait for", futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, 0), EINVAL);
  refused("no bits to wake", futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 1, NULL, NULL, 0), EINVAL);
}

static void requeueing(void) {
  pthread_t threads[6];
  start(threads, 6, 0);
  sleep_milliseconds(50);
  refused("requeue of another value",
          futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, count(INT_MAX), &other, 99), EAGAIN);
  equal("one woken, two moved", futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, count(2), &other, 0), 3);
  settle(1);
  equal("the moved ones", futex(&other, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 2);
  equal("none woken, one moved", futex(&word, FUTEX_REQUEUE_PRIVATE, 0, count(1), &other, 0), 1);
  const long moved = futex(&other, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0);
  equal("that one", moved, 1);
  equal("the rest", wake_all(&word, 2), 2);
  join(threads, 6);
}

static void wake_op(void) {
  pthread_t threads[2];
  start(threads, 2, 0);
  sleep_milliseconds(50);
  other = 5;
  /* other += 7, and waiters of `other` too where it was 5. */
  equal("wake and add",
        futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, count(1), &other, FUTEX_OP(kAdd, 7, kEqual, 5)), 1);
  equal("added", other, 12);
  equal("set",
        futex(&other, FUTEX_WAKE_OP_PRIVATE, 0, count(1), &other, FUTEX_OP(kSet, 3, kGreater, 100)),
        0);
  equal("is set", other, 3);
  futex(&other, FUTEX_WAKE_OP_PRIVATE, 0, count(0), &other, FUTEX_OP(kOr, 12, kLess, 0));
  equal("or", other, 15);
  futex(&other, FUTEX_WAKE_OP_PRIVATE, 0, count(0), &other, FUTEX_OP(kAndNot, 3, kLess, 0));
  equal("and not", other, 12);
  futex(&other, FUTEX_WAKE_OP_PRIVATE, 0, count(0), &other, FUTEX_OP(kXor, 5, kLess, 0));
  equal("xor", other, 9);
  other = 0;
  equal("the second waiter", wake_all(&word, 1), 1);
  join(threads, 2);
}

static void timeouts(void) {
  struct timespec time = milliseconds(20);
  long start_time = now_milliseconds(CLOCK_MONOTONIC);
  refused("relative", futex(&word, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0), ETIMEDOUT);
  step("took 20 ms", now_milliseconds(CLOCK_MONOTONIC) - start_time >= 20);
  time = in_milliseconds(CLOCK_MONOTONIC, 20);
  refused("absolute", futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, &time, NULL, ~0u), ETIMEDOUT);
  time = in_milliseconds(CLOCK_REALTIME, 20);
  refused("absolute real time",
          futex(&word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &time, NULL, ~0u),
          ETIMEDOUT);
  time = milliseconds(0);
  refused("no time", futex(&word, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0), ETIMEDOUT);
  refused("long ago", futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, &time, NULL, ~0u), ETIMEDOUT);
  time.tv_nsec = 1000000000;
  refused("a second of nanoseconds", futex(&word, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0), EINVAL);
  time.tv_nsec = 0;
  time.tv_sec = -1;
  refused("negative", futex(&word, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0), EINVAL);
}

static void errors(void) {
  char* page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  refused("not aligned", futex((uint32_t*)((char*)&word + 1), FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0),
          EINVAL);
  refused("not readable", futex((uint32_t*)page, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), EFAULT);
  munmap(page, 4096);
  refused("not mapped", futex((uint32_t*)page, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), EFAULT);
  refused("timeout not mapped", futex(&word, FUTEX_WAIT_PRIVATE, 0, page, NULL, 0), EFAULT);
  refused("no such operation", futex(&word, 77, 0, NULL, NULL, 0), ENOSYS);
  refused("negative count to move",
          futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, count(-1), &other, 0), EINVAL);
}

int main(void) {
  waiting_and_waking();
  masks();
  requeueing();
  wake_op();
  timeouts();
  errors();
  return failed_steps;
}
