/* SPDX-License-Identifier: Apache-2.0 */
/* Threads come and go: results, detaching, exit from below, thread-local data, 64 at once. */
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "step.h"

enum { kMany = 64 };

static _Thread_local int counter = 7;
static _Thread_local char zeroes[5000];
static sem_t done;
static pthread_key_t key;
static int destroyed;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int initialised;

static void* twice(void* argument) { return (void*)((intptr_t)argument * 2); }

static void leave(void* result) { pthread_exit(result); }

static void* leave_from_below(void* argument) {
  leave(argument);
  return NULL;
}

static void* post(void* argument) {
  sem_post(&done);
  return argument;
}

static void* count_locally(void* argument) {
  const int start = counter;
  for (int i = 0; i < 1000; i++) counter += (int)(intptr_t)argument;
  for (int i = 0; i < (int)sizeof zeroes; i++)
    if (zeroes[i] != 0) return NULL;
  memset(zeroes, (int)(intptr_t)argument, sizeof zeroes);
  return (void*)(intptr_t)(start == 7 ? counter : -1);
}

static void destroy(void* value) { __atomic_fetch_add(&destroyed, *(int*)value, __ATOMIC_SEQ_CST); }

static void* set_key(void* argument) {
  static _Thread_local int value;
  value = (int)(intptr_t)argument;
  if (pthread_getspecific(key) != NULL) return (void*)1;
  pthread_setspecific(key, &value);
  return pthread_getspecific(key) == &value ? NULL : (void*)2;
}

static void initialise(void) { __atomic_fetch_add(&initialised, 1, __ATOMIC_SEQ_CST); }

static void* call_once(void* argument) {
  pthread_once(&once, initialise);
  return argument;
}

static void* own_id(void* argument) {
  *(long*)argument = syscall(SYS_gettid);
  return (void*)(intptr_t)(getpid() == *(long*)argument);
}

static void* deep(void* argument) {
  volatile char frame[2 << 20];
  for (size_t at = 0; at < sizeof frame; at += 1024) frame[at] = 1;
  return (void*)(intptr_t)(frame[1024] + (argument != NULL));
}

static void* start_another(void* argument) {
  pthread_t inner;
  void* result = NULL;
  if (pthread_create(&inner, NULL, twice, argument) != 0) return NULL;
  pthread_join(inner, &result);
  return result;
}

/* Starts kMany threads of `body`, joins them, and gives the sum of what they return. */
static long run_many(void* (*body)(void*)) {
  pthread_t threads[kMany];
  long sum = 0;
  int started = 0;
  while (started < kMany &&
         pthread_create(&threads[started], NULL, body, (void*)(intptr_t)(started + 1)) == 0)
    started++;
  for (int i = 0; i < started; i++) {
    void* result = NULL;
    pthread_join(threads[i], &result);
    sum += (intptr_t)result;
  }
  return started == kMany ? sum : -1;
}

static void attributes(void) {
  pthread_attr_t attribute;
  pthread_t thread;
  void* result = NULL;
  pthread_attr_init(&attribute);
  pthread_attr_setstacksize(&attribute, 4 << 20);
  int ok = pthread_create(&thread, &attribute, deep, NULL) == 0;
  if (ok) pthread_join(thread, &result);
  step("stack of 4 MiB", ok && (intptr_t)result == 1);

  sem_init(&done, 0, 0);
  pthread_attr_setstacksize(&attribute, 64 << 10);
  pthread_attr_setdetachstate(&attribute, PTHREAD_CREATE_DETACHED);
  ok = pthread_create(&thread, &attribute, post, NULL) == 0;
  step("created detached", ok && sem_wait(&done) == 0);
  ok = pthread_create(&thread, NULL, post, NULL) == 0;
  step("detached later", ok && pthread_detach(thread) == 0 && sem_wait(&done) == 0);
  pthread_attr_destroy(&attribute);
}

int main(void) {
  pthread_t thread;
  void* result = NULL;
  long id = 0;
  step("create", pthread_create(&thread, NULL, twice, (void*)21) == 0);
  step("join", pthread_join(thread, &result) == 0 && (intptr_t)result == 42);
  pthread_create(&thread, NULL, leave_from_below, (void*)5);
  step("exit from below", pthread_join(thread, &result) == 0 && (intptr_t)result == 5);
  pthread_create(&thread, NULL, own_id, &id);
  step("own id", pthread_join(thread, &result) == 0 && result == NULL && id > 0 && id != getpid());
  pthread_create(&thread, NULL, start_another, (void*)50);
  step("a thread of a thread", pthread_join(thread, &result) == 0 && (intptr_t)result == 100);
  attributes();

  equal("64 threads", run_many(twice), 64L * 65);
  equal("thread-local data", run_many(count_locally), 64L * 7 + 1000L * 64 * 65 / 2);
  step("the first thread's own", counter == 7 && zeroes[0] == 0);
  pthread_key_create(&key, destroy);
  equal("keys", run_many(set_key), 0);
  equal("their destructors", destroyed, 64 * 65 / 2);
  equal("once", run_many(call_once), 64 * 65 / 2);
  equal("only once", initialised, 1);
  for (int round = 0; round < 20; round++)
    if (run_many(twice) != 64L * 65) failed_steps++;
  step("1280 more", failed_steps == 0);
  return failed_steps;
}
