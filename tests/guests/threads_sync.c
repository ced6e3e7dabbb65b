/* SPDX-License-Identifier: Apache-2.0 */
/* What threads wait on: mutexes, conditions, read-write locks, barriers, semaphores, spin locks. */
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <unistd.h>

#include "step.h"

enum { kThreads = 8, kRounds = 20000 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_spinlock_t spinlock;
static sem_t semaphore;
static long total;
static int turn;
static int serial;

static void run(void* (*body)(void*)) {
  pthread_t threads[kThreads];
  for (intptr_t i = 0; i < kThreads; i++)
    if (pthread_create(&threads[i], NULL, body, (void*)i) != 0) step("create", 0);
  for (int i = 0; i < kThreads; i++) pthread_join(threads[i], NULL);
}

static void* add_under_mutex(void* unused) {
  for (int i = 0; i < kRounds; i++) {
    pthread_mutex_lock(&mutex);
    total++;
    pthread_mutex_unlock(&mutex);
  }
  return unused;
}

static void* add_under_spinlock(void* unused) {
  for (int i = 0; i < 1000; i++) {
    pthread_spin_lock(&spinlock);
    total++;
    pthread_spin_unlock(&spinlock);
  }
  return unused;
}

static void* take_turns(void* id) {
  for (int i = 0; i < 50; i++) {
    pthread_mutex_lock(&mutex);
    while (turn != (int)(intptr_t)id) pthread_cond_wait(&condition, &mutex);
    total = total * 31 % 1000003 + turn;
    turn = (turn + 1) % kThreads;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
  }
  return NULL;
}

static void* read_and_write(void* id) {
  for (int i = 0; i < 500; i++) {
    if ((i + (intptr_t)id) % 4 == 0) {
      pthread_rwlock_wrlock(&rwlock);
      total += 2;
    } else {
      pthread_rwlock_rdlock(&rwlock);
      if (total % 2 != 0) serial = -1000;
    }
    pthread_rwlock_unlock(&rwlock);
  }
  return NULL;
}

static void* meet(void* unused) {
  for (int i = 0; i < 50; i++) {
    __atomic_fetch_add(&total, 1, __ATOMIC_SEQ_CST);
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
      __atomic_fetch_add(&serial, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&total, __ATOMIC_SEQ_CST) < (i + 1) * kThreads) serial = -1000;
    pthread_barrier_wait(&barrier);
  }
  return unused;
}

static void* post_semaphore(void* unused) {
  for (int i = 0; i < 100; i++) sem_post(&semaphore);
  return unused;
}

static void* hold(void* unused) {
  pthread_mutex_lock(&mutex);
  sem_post(&semaphore);
  sleep_milliseconds(60);
  pthread_mutex_unlock(&mutex);
  return unused;
}

static void kinds_of_mutex(void) {
  pthread_mutexattr_t attribute;
  pthread_mutex_t kind;
  pthread_mutexattr_init(&attribute);
  pthread_mutexattr_settype(&attribute, PTHREAD_MUTEX_RECURSIVE);
  pthread_mutex_init(&kind, &attribute);
  step("recursive", pthread_mutex_lock(&kind) == 0 && pthread_mutex_lock(&kind) == 0 &&
                        pthread_mutex_unlock(&kind) == 0 && pthread_mutex_unlock(&kind) == 0 &&
                        pthread_mutex_unlock(&kind) == EPERM);
  pthread_mutex_destroy(&kind);
  pthread_mutexattr_settype(&attribute, PTHREAD_MUTEX_ERRORCHECK);
  pthread_mutex_init(&kind, &attribute);
  step("error checking", pthread_mutex_lock(&kind) == 0 && pthread_mutex_lock(&kind) == EDEADLK &&
                             pthread_mutex_unlock(&kind) == 0);
  pthread_mutex_destroy(&kind);
}

static void timeouts(void) {
  pthread_t thread;
  struct timespec soon;
  sem_init(&semaphore, 0, 0);
  pthread_create(&thread, NULL, hold, NULL);
  sem_wait(&semaphore);
  step("trylock held", pthread_mutex_trylock(&mutex) == EBUSY);
  soon = in_milliseconds(CLOCK_REALTIME, 10);
  step("timedlock too early", pthread_mutex_timedlock(&mutex, &soon) == ETIMEDOUT);
  soon = in_milliseconds(CLOCK_REALTIME, 20000);
  step("timedlock in time", pthread_mutex_timedlock(&mutex, &soon) == 0);
  const long start = now_milliseconds(CLOCK_MONOTONIC);
  soon = in_milliseconds(CLOCK_REALTIME, 30);
  step("condition times out", pthread_cond_timedwait(&condition, &mutex, &soon) == ETIMEDOUT);
  step("after 30 ms", now_milliseconds(CLOCK_MONOTONIC) - start >= 29);
  pthread_mutex_unlock(&mutex);
  pthread_join(thread, NULL);
  soon = in_milliseconds(CLOCK_REALTIME, 10);
  refused("semaphore times out", sem_timedwait(&semaphore, &soon), ETIMEDOUT);
  soon = in_milliseconds(CLOCK_REALTIME, -1000);
  refused("a time gone by", sem_timedwait(&semaphore, &soon), ETIMEDOUT);
  refused("nothing there", sem_trywait(&semaphore), EAGAIN);

  pthread_condattr_t attribute;
  pthread_cond_t monotonic;
  pthread_condattr_init(&attribute);
  pthread_condattr_setclock(&attribute, CLOCK_MONOTONIC);
  pthread_cond_init(&monotonic, &attribute);
  pthread_mutex_lock(&mutex);
  soon = in_milliseconds(CLOCK_MONOTONIC, 10);
  step("monotonic condition", pthread_cond_timedwait(&monotonic, &mutex, &soon) == ETIMEDOUT);
  pthread_mutex_unlock(&mutex);
}

int main(void) {
  run(add_under_mutex);
  equal("mutex", total, (long)kThreads * kRounds);
  total = 0;
  pthread_spin_init(&spinlock, PTHREAD_PROCESS_PRIVATE);
  run(add_under_spinlock);
  equal("spin lock", total, kThreads * 1000L);
  total = 0;
  run(take_turns);
  long expected = 0;
  for (int i = 0; i < 50 * kThreads; i++) expected = expected * 31 % 1000003 + i % kThreads;
  equal("condition", total, expected);
  total = 0;
  run(read_and_write);
  equal("read-write lock", total, kThreads * 500L / 4 * 2);
  equal("readers saw whole writes", serial, 0);
  total = 0;
  pthread_barrier_init(&barrier, NULL, kThreads);
  run(meet);
  equal("barrier", total, kThreads * 50L);
  equal("one of them is told", serial, 50);
  sem_init(&semaphore, 0, 0);
  run(post_semaphore);
  for (int i = 0; i < kThreads * 100; i++) sem_wait(&semaphore);
  refused("semaphore", sem_trywait(&semaphore), EAGAIN);
  kinds_of_mutex();
  timeouts();
  return failed_steps;
}
