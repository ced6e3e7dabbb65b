/* SPDX-License-Identifier: Apache-2.0 */
/* Waits that a signal ends or that go on after it; what is written into a pipe nobody reads. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "step.h"

static volatile sig_atomic_t seen;
static pthread_t first;
static int ends[2];

static void count(int signal) { seen += signal != 0; }

static void install(int signal, int flags) {
  struct sigaction action = {0};
  action.sa_handler = count;
  action.sa_flags = flags;
  sigaction(signal, &action, NULL);
}

/* Two signals, and then what the other side may be waiting for. */
static void* disturb(void* byte) {
  for (int i = 0; i < 2; i++) {
    sleep_milliseconds(25);
    pthread_kill(first, SIGUSR1);
  }
  sleep_milliseconds(25);
  if (byte != NULL && write(ends[1], byte, 1) != 1) step("write", 0);
  return NULL;
}

static pthread_t start(void* byte) {
  pthread_t thread;
  seen = 0;
  pthread_create(&thread, NULL, disturb, byte);
  return thread;
}

static void reads(void) {
  char byte = 0;
  install(SIGUSR1, SA_RESTART);
  pthread_t thread = start("a");
  step("read goes on", read(ends[0], &byte, 1) == 1 && byte == 'a');
  step("after two signals", seen == 2);
  pthread_join(thread, NULL);
  install(SIGUSR1, 0);
  thread = start("b");
  refused("read is ended", read(ends[0], &byte, 1), EINTR);
  while (read(ends[0], &byte, 1) != 1) {
  }
  step("and can be repeated", byte == 'b' && seen == 2);
  pthread_join(thread, NULL);
}

static void sleeps(void) {
  struct timespec time = milliseconds(60000), left = {0, 0};
  install(SIGUSR1, SA_RESTART);
  pthread_t thread = start(NULL);
  refused("nanosleep is ended", nanosleep(&time, &left), EINTR);
  step("time left", left.tv_sec >= 40 && left.tv_sec < 60);
  pthread_join(thread, NULL);
  thread = start(NULL);
  time = in_milliseconds(CLOCK_MONOTONIC, 150);
  int ended = 0;
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR) ended++;
  step("absolute sleep", ended == 2);
  pthread_join(thread, NULL);
}

static void polls(void) {
  struct pollfd poll_end = {.fd = ends[0], .events = POLLIN};
  struct epoll_event event = {.events = EPOLLIN};
  fd_set set;
  sigset_t none;
  install(SIGUSR1, SA_RESTART);
  pthread_t thread = start(NULL);
  refused("poll is ended, restart or not", poll(&poll_end, 1, 60000), EINTR);
  pthread_join(thread, NULL);
  thread = start(NULL);
  FD_ZERO(&set);
  FD_SET(ends[0], &set);
  refused("select is ended", select(ends[0] + 1, &set, NULL, NULL, NULL), EINTR);
  pthread_join(thread, NULL);
  const int epoll = epoll_create1(0);
  epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event);
  thread = start(NULL);
  refused("epoll_wait is ended", epoll_wait(epoll, &event, 1, 60000), EINTR);
  pthread_join(thread, NULL);
  /* Blocked outside, let in by the wait itself. */
  sigemptyset(&none);
  sigset_t block = none;
  sigaddset(&block, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &block, NULL);
  seen = 0;
  pthread_kill(pthread_self(), SIGUSR1);
  refused("ppoll lets it in", ppoll(&poll_end, 1, NULL, &none), EINTR);
  step("once", seen == 1);
  pthread_kill(pthread_self(), SIGUSR1);
  refused("epoll_pwait too", epoll_pwait(epoll, &event, 1, 60000, &none), EINTR);
  pthread_kill(pthread_self(), SIGUSR1);
  FD_SET(ends[0], &set);
  refused("pselect too", pselect(ends[0] + 1, &set, NULL, NULL, NULL, &none), EINTR);
  step("three", seen == 3);
  pthread_sigmask(SIG_UNBLOCK, &block, NULL);
  close(epoll);
}

static void futexes(void) {
  static uint32_t word;
  static sem_t semaphore;
  install(SIGUSR1, 0);
  pthread_t thread = start(NULL);
  refused("futex wait is ended", syscall(SYS_futex, &word, 0, 0, NULL, NULL, 0), EINTR);
  pthread_join(thread, NULL);
  sem_init(&semaphore, 0, 0);
  install(SIGUSR1, SA_RESTART);
  thread = start(NULL);
  struct timespec time = in_milliseconds(CLOCK_REALTIME, 150);
  int result;
  while ((result = sem_timedwait(&semaphore, &time)) != 0 && errno == EINTR) {
  }
  refused("semaphore goes on", result, ETIMEDOUT);
  step("both seen", seen == 2);
  pthread_join(thread, NULL);
}

static void broken_pipe(void) {
  int pair[2];
  install(SIGPIPE, 0);
  if (pipe(pair) != 0) return;
  close(pair[0]);
  seen = 0;
  refused("nobody reads", write(pair[1], "x", 1), EPIPE);
  step("SIGPIPE", seen == 1);
  signal(SIGPIPE, SIG_IGN);
  refused("ignored", write(pair[1], "x", 1), EPIPE);
  close(pair[1]);
  if (pipe2(pair, O_NONBLOCK) != 0) return;
  char block[4096] = {0};
  long written = 0, once;
  while ((once = write(pair[1], block, sizeof block)) > 0) written += once;
  equal("a pipe holds", written, 65536);
  refused("and no more", write(pair[1], block, 1), EAGAIN);
}

int main(void) {
  first = pthread_self();
  if (pipe(ends) != 0) return 1;
  reads();
  sleeps();
  polls();
  futexes();
  broken_pipe();
  return failed_steps;
}
