/* SPDX-License-Identifier: Apache-2.0 */
/* Priority-inheriting locks: the futex calls by number, and the C library's mutexes on top of them.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "step.h"

/* The kernel's numbers; musl comes without its headers. */
enum {
  FUTEX_PRIVATE = 128,
  FUTEX_LOCK_PI = 6 | FUTEX_PRIVATE,
  FUTEX_UNLOCK_PI = 7 | FUTEX_PRIVATE,
  FUTEX_TRYLOCK_PI = 8 | FUTEX_PRIVATE,
  FUTEX_LOCK_PI2 = 13 | FUTEX_PRIVATE
};
static const uint32_t kOwner = 0x3fffffff;
static const uint32_t kOwnerDied = 0x40000000;
static const uint32_t kWaiters = 0x80000000;

static uint32_t word;
static uint32_t other;

static long futex(uint32_t* at, int op, const struct timespec* timeout) {
  return syscall(SYS_futex, at, op, 0, timeout, NULL, 0);
}
static long lock(uint32_t* at) { return futex(at, FUTEX_LOCK_PI, NULL); }
static long try_lock(uint32_t* at) { return futex(at, FUTEX_TRYLOCK_PI, NULL); }
static long unlock(uint32_t* at) { return futex(at, FUTEX_UNLOCK_PI, NULL); }
static uint32_t own(void) { return (uint32_t)syscall(SYS_gettid); }
static uint32_t owner_of(const uint32_t* at) {
  return __atomic_load_n(at, __ATOMIC_SEQ_CST) & kOwner;
}

/* A waiter marks the word before it sleeps. */
static int somebody_waits(const uint32_t* at) {
  for (int i = 0; i < 5000; i++) {
    if ((__atomic_load_n(at, __ATOMIC_SEQ_CST) & kWaiters) != 0) return 1;
    sleep_milliseconds(1);
  }
  return 0;
}

static void alone(void) {
  equal("lock", lock(&word), 0);
  step("the word holds the thread", word == own());
  refused("lock again", lock(&word), EDEADLK);
  refused("try to lock again", try_lock(&word), EDEADLK);
  equal("unlock", unlock(&word), 0);
  equal("the word is free", word, 0);
  refused("unlock again", unlock(&word), EPERM);
  equal("try", try_lock(&word), 0);
  step("it holds the thread", word == own());
  equal("unlock what was tried", unlock(&word), 0);
  word = kOwnerDied;
  equal("lock what a dead one left", lock(&word), 0);
  step("which is still told", word == (own() | kOwnerDied));
  equal("unlock it", unlock(&word), 0);
  equal("and that is forgotten", word, 0);
  word = kOwner;
  refused("an owner that is none", lock(&word), ESRCH);
  refused("not to be tried either", try_lock(&word), ESRCH);
  word = 0;
  char* bytes = (char*)&word;
  refused("not aligned", lock((uint32_t*)(bytes + 1)), EINVAL);
  refused("nowhere", lock((uint32_t*)0x1000), EFAULT);
  refused("unlock nowhere", unlock((uint32_t*)0x1000), EFAULT);
  uint32_t* constant = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  refused("a word that cannot be written", lock(constant), EFAULT);
}

static void* hold_until_told(void* told) {
  lock(&word);
  while (__atomic_load_n((int*)told, __ATOMIC_SEQ_CST) == 0) sleep_milliseconds(1);
  return (void*)unlock(&word);
}

static void of_another(void) {
  int told = 0;
  pthread_t holder;
  void* result;
  pthread_create(&holder, NULL, hold_until_told, &told);
  while (owner_of(&word) == 0) sleep_milliseconds(1);
  refused("try what another holds", try_lock(&word), EAGAIN);
  refused("unlock what another holds", unlock(&word), EPERM);
  struct timespec when = in_milliseconds(CLOCK_REALTIME, 30);
  refused("a timeout", futex(&word, FUTEX_LOCK_PI, &when), ETIMEDOUT);
  step("not before it is over",
       now_milliseconds(CLOCK_REALTIME) >= when.tv_sec * 1000 + when.tv_nsec / 1000000);
  when = in_milliseconds(CLOCK_MONOTONIC, 30);
  refused("a timeout by the other clock", futex(&word, FUTEX_LOCK_PI2, &when), ETIMEDOUT);
  when = milliseconds(1);
  refused("long over", futex(&word, FUTEX_LOCK_PI, &when), ETIMEDOUT);
  when.tv_nsec = 1000000000;
  refused("a time that is none", futex(&word, FUTEX_LOCK_PI, &when), EINVAL);
  __atomic_store_n(&told, 1, __ATOMIC_SEQ_CST);
  pthread_join(holder, &result);
  equal("its own unlock", (long)result, 0);
  equal("free again", word, 0);
}

enum { kWaitersHere = 4 };
static int order[kWaitersHere];
static int number_done;
static int number_asking;

static void* wait_in_line(void* id) {
  __atomic_fetch_add(&number_asking, 1, __ATOMIC_SEQ_CST);
  const long locked = lock(&word);
  if (locked != 0 || owner_of(&word) != own()) return (void*)1;
  order[number_done++] = (int)(intptr_t)id;
  sleep_milliseconds(1);
  return (void*)unlock(&word);
}

static void in_line(void) {
  pthread_t threads[kWaitersHere];
  int ok = 1;
  lock(&word);
  for (intptr_t i = 0; i < kWaitersHere; i++) {
    pthread_create(&threads[i], NULL, wait_in_line, (void*)i);
    while (__atomic_load_n(&number_asking, __ATOMIC_SEQ_CST) != i + 1) sleep_milliseconds(1);
    sleep_milliseconds(30);
  }
  step("a waiter is told in the word", word == (own() | kWaiters));
  equal("unlock with waiters", unlock(&word), 0);
  step("the lock is handed over", owner_of(&word) != own());
  for (int i = 0; i < kWaitersHere; i++) {
    void* result;
    pthread_join(threads[i], &result);
    ok &= result == NULL;
  }
  step("each had it once", ok && number_done == kWaitersHere);
  printf("in the order %d %d %d %d\n", order[0], order[1], order[2], order[3]);
  step("nobody has it now", owner_of(&word) == 0);
}

static void* die_holding(void* unused) {
  (void)unused;
  lock(&other);
  somebody_waits(&other);
  sleep_milliseconds(20);
  return NULL;
}

static void owner_death(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, die_holding, NULL);
  while (owner_of(&other) == 0) sleep_milliseconds(1);
  const struct timespec when = in_milliseconds(CLOCK_REALTIME, 20000);
  equal("lock of one who dies", futex(&other, FUTEX_LOCK_PI, &when), 0);
  step("who is told to be dead", (other & ~kWaiters) == (own() | kOwnerDied));
  equal("unlock after a death", unlock(&other), 0);
  step("free after a death", owner_of(&other) == 0);
  pthread_join(thread, NULL);
}

static void* lock_crosswise(void* unused) {
  (void)unused;
  lock(&other);
  somebody_waits(&other);
  const struct timespec when = in_milliseconds(CLOCK_REALTIME, 3000);
  const long result = futex(&word, FUTEX_LOCK_PI, &when);
  const int error = errno;
  if (result == 0) unlock(&word);
  unlock(&other);
  return (void*)(intptr_t)(result == 0 ? 0 : error);
}

static void deadlock(void) {
  pthread_t thread;
  void* result;
  word = other = 0;
  lock(&word);
  pthread_create(&thread, NULL, lock_crosswise, NULL);
  while (owner_of(&other) == 0) sleep_milliseconds(1);
  equal("the one who asked first", lock(&other), 0);
  unlock(&other);
  unlock(&word);
  pthread_join(thread, &result);
  equal("a circle is seen", (intptr_t)result, EDEADLK);
}

static pthread_mutex_t mutex;
static long counter;

static void make_mutex(int robust) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  equal("inheriting", pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT), 0);
  if (robust) pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  equal("a mutex", pthread_mutex_init(&mutex, &attributes), 0);
}

static void* count_up(void* rounds) {
  for (intptr_t i = 0; i < (intptr_t)rounds; i++) {
    pthread_mutex_lock(&mutex);
    counter++;
    if (i % 64 == 0) sched_yield();
    pthread_mutex_unlock(&mutex);
  }
  return NULL;
}

static void* leave_locked(void* unused) {
  (void)unused;
  pthread_mutex_lock(&mutex);
  return NULL;
}

static void mutexes(void) {
  pthread_t threads[4];
  make_mutex(0);
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, count_up, (void*)1000);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  equal("counted under a mutex", counter, 4000);
  pthread_mutex_destroy(&mutex);
  make_mutex(1);
  pthread_create(&threads[0], NULL, leave_locked, NULL);
  pthread_join(threads[0], NULL);
  equal("its owner died", pthread_mutex_lock(&mutex), EOWNERDEAD);
  equal("made consistent", pthread_mutex_consistent(&mutex), 0);
  equal("unlocked", pthread_mutex_unlock(&mutex), 0);
  equal("locked again", pthread_mutex_lock(&mutex), 0);
  pthread_mutex_unlock(&mutex);
  pthread_create(&threads[0], NULL, leave_locked, NULL);
  pthread_join(threads[0], NULL);
  equal("died again", pthread_mutex_trylock(&mutex), EOWNERDEAD);
  pthread_mutex_unlock(&mutex);
  equal("given up", pthread_mutex_lock(&mutex), ENOTRECOVERABLE);
}

int main(void) {
  alone();
  of_another();
  in_line();
  owner_death();
  deadlock();
  mutexes();
  return failed_steps;
}
