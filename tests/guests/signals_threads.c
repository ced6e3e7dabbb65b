/* SPDX-License-Identifier: Apache-2.0 */
/* Signals and threads: masks of their own, one that waits for all, handlers on the thread meant. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "step.h"

enum { kThreads = 8 };

static pthread_t threads[kThreads];
static sem_t ready;
static _Thread_local volatile sig_atomic_t mine;
static volatile long handled_by;
static volatile int stop;

static void note(int signal) {
  mine += signal;
  handled_by = syscall(SYS_gettid);
}

static void* wait_for_own(void* rounds) {
  sigset_t old, all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &old);
  sem_post(&ready);
  while (mine < SIGUSR1 * (int)(intptr_t)rounds) sigsuspend(&old);
  return (void*)(intptr_t)(mine == SIGUSR1 * (int)(intptr_t)rounds);
}

static void* spin_until_told(void* unused) {
  sem_post(&ready);
  while (mine == 0) {
  }
  return unused;
}

static void* take_all(void* unused) {
  sigset_t set;
  siginfo_t info;
  long sum = 0;
  (void)unused;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGHUP);
  sem_post(&ready);
  for (int signal = 0; signal != SIGHUP;) {
    signal = sigwaitinfo(&set, &info);
    sum += signal;
    sem_post(&ready);
  }
  return (void*)sum;
}

static void* open_to_all(void* id) {
  sigset_t none;
  sigemptyset(&none);
  *(long*)id = syscall(SYS_gettid);
  pthread_sigmask(SIG_SETMASK, &none, NULL);
  sem_post(&ready);
  while (!stop) sleep_milliseconds(1);
  return NULL;
}

int main(void) {
  struct sigaction action = {0};
  pthread_t thread;
  void* result = NULL;
  action.sa_handler = note;
  sigaction(SIGUSR1, &action, NULL);
  sem_init(&ready, 0, 0);

  for (int i = 0; i < kThreads; i++) pthread_create(&threads[i], NULL, wait_for_own, (void*)1);
  for (int i = 0; i < kThreads; i++) sem_wait(&ready);
  for (int i = 0; i < kThreads; i++) step("to one thread", pthread_kill(threads[i], SIGUSR1) == 0);
  int ok = 1;
  for (int i = 0; i < kThreads; i++) {
    pthread_join(threads[i], &result);
    ok &= (intptr_t)result == 1;
  }
  step("each got its own", ok && mine == 0);
  pthread_create(&thread, NULL, spin_until_told, NULL);
  sem_wait(&ready);
  pthread_kill(thread, SIGUSR1);
  step("a spinning thread", pthread_join(thread, NULL) == 0);

  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, NULL);
  pthread_create(&thread, NULL, take_all, NULL);
  sem_wait(&ready);
  for (int i = 0; i < 5; i++) {
    kill(getpid(), SIGTERM);
    sem_wait(&ready);
  }
  kill(getpid(), SIGHUP);
  pthread_join(thread, &result);
  equal("a thread takes all", (intptr_t)result, 5 * SIGTERM + SIGHUP);

  long id = 0;
  pthread_create(&thread, NULL, open_to_all, &id);
  sem_wait(&ready);
  kill(getpid(), SIGUSR1);
  for (int i = 0; i < 2000 && handled_by != id; i++) sleep_milliseconds(1);
  step("the one that lets it in", handled_by == id);
  stop = 1;
  pthread_join(thread, NULL);
  kill(getpid(), SIGUSR1);
  sigset_t pending;
  sigpending(&pending);
  step("waits for the process", sigismember(&pending, SIGUSR1));
  sigemptyset(&all);
  pthread_sigmask(SIG_SETMASK, &all, NULL);
  step("and comes", mine == SIGUSR1);
  /* A thread's death by a signal is everybody's. */
  signal(SIGUSR2, SIG_DFL);
  stop = 0;
  pthread_create(&thread, NULL, open_to_all, &id);
  sem_wait(&ready);
  pthread_kill(thread, SIGUSR2);
  sleep_milliseconds(20000);
  return 1;
}
