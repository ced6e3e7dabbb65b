/* SPDX-License-Identifier: Apache-2.0 */
/* How threads end: cancelled at a wait or asynchronously, with clean-up; a robust mutex left
 * behind. */
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "step.h"

static sem_t ready;
static sem_t never;
static int cleaned;
static int pipe_ends[2];
static pthread_mutex_t robust;

static void clean(void* amount) { cleaned += (int)(intptr_t)amount; }

static void* wait_for_ever(void* unused) {
  pthread_cleanup_push(clean, (void*)1);
  pthread_cleanup_push(clean, (void*)10);
  sem_post(&ready);
  sem_wait(&never);
  pthread_cleanup_pop(0);
  pthread_cleanup_pop(0);
  return unused;
}

static void* read_for_ever(void* unused) {
  char byte;
  pthread_cleanup_push(clean, (void*)100);
  sem_post(&ready);
  while (read(pipe_ends[0], &byte, 1) == 1) {
  }
  pthread_cleanup_pop(0);
  return unused;
}

static void* spin_for_ever(void* unused) {
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
  sem_post(&ready);
  for (volatile int spin = 1; spin;) {
  }
  return unused;
}

static void* refuse_for_a_while(void* unused) {
  int old;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
  sem_post(&ready);
  sleep_milliseconds(30);
  cleaned += 1000;
  pthread_setcancelstate(old, NULL);
  pthread_testcancel();
  cleaned += 100000;
  return unused;
}

static void* die_with_mutex(void* unused) {
  pthread_mutex_lock(&robust);
  return unused;
}

static void* leave_after(void* first) {
  void* result = NULL;
  step("joined the first thread", pthread_join(*(pthread_t*)first, &result) == 0);
  step("its result", (intptr_t)result == 77);
  fflush(stdout);
  _exit(failed_steps);
}

static int cancelled(void* (*body)(void*)) {
  pthread_t thread;
  void* result = NULL;
  if (pthread_create(&thread, NULL, body, NULL) != 0) return 0;
  sem_wait(&ready);
  pthread_cancel(thread);
  pthread_join(thread, &result);
  return result == PTHREAD_CANCELED;
}

static void robust_mutex(void) {
  pthread_mutexattr_t attribute;
  pthread_t thread;
  pthread_mutexattr_init(&attribute);
  pthread_mutexattr_setrobust(&attribute, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&robust, &attribute);
  pthread_create(&thread, NULL, die_with_mutex, NULL);
  pthread_join(thread, NULL);
  step("owner died", pthread_mutex_lock(&robust) == EOWNERDEAD);
  step("made consistent", pthread_mutex_consistent(&robust) == 0);
  step("unlocked", pthread_mutex_unlock(&robust) == 0);
  pthread_create(&thread, NULL, die_with_mutex, NULL);
  pthread_join(thread, NULL);
  step("died again", pthread_mutex_trylock(&robust) == EOWNERDEAD);
  step("left inconsistent", pthread_mutex_unlock(&robust) == 0);
  step("lost for good", pthread_mutex_lock(&robust) == ENOTRECOVERABLE);
}

int main(void) {
  static pthread_t self;
  pthread_t last;
  self = pthread_self();
  sem_init(&ready, 0, 0);
  sem_init(&never, 0, 0);
  if (pipe(pipe_ends) != 0) return 1;
  step("cancelled in a wait", cancelled(wait_for_ever));
  equal("cleaned up", cleaned, 11);
  step("cancelled in a read", cancelled(read_for_ever));
  equal("cleaned up again", cleaned, 111);
  step("cancelled while running", cancelled(spin_for_ever));
  step("cancelled when it lets itself be", cancelled(refuse_for_a_while));
  equal("not before", cleaned, 1111);
  robust_mutex();
  /* The process goes on without its first thread, and ends with the last. */
  step("last thread", pthread_create(&last, NULL, leave_after, &self) == 0);
  pthread_exit((void*)77);
}
