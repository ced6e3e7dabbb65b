/* SPDX-License-Identifier: Apache-2.0 */
/* signalfd: signals read as records, waited for with poll and epoll, from another thread too. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "step.h"

static pthread_t first;

static void* send_late(void* unused) {
  sleep_milliseconds(20);
  kill(getpid(), SIGUSR2);
  return unused;
}

int main(void) {
  struct signalfd_siginfo record[3];
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = 5};
  pthread_t thread;
  sigset_t set;
  first = pthread_self();
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGUSR2);
  sigaddset(&set, SIGRTMIN + 1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  const int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  step("signalfd", fd >= 0);
  refused("nothing yet", read(fd, record, sizeof record), EAGAIN);
  kill(getpid(), SIGUSR1);
  equal("one record", read(fd, record, sizeof record), sizeof record[0]);
  step("its fields", record[0].ssi_signo == SIGUSR1 && record[0].ssi_code == SI_USER &&
                         record[0].ssi_pid == (unsigned)getpid());
  union sigval value = {.sival_int = 321};
  sigqueue(getpid(), SIGRTMIN + 1, value);
  sigqueue(getpid(), SIGRTMIN + 1, value);
  kill(getpid(), SIGUSR2);
  equal("three records", read(fd, record, sizeof record), sizeof record);
  step("lowest first", record[0].ssi_signo == SIGUSR2 && record[2].ssi_int == 321);
  refused("too short", read(fd, record, 10), EINVAL);
  struct pollfd poll_fd = {fd, POLLIN, 0};
  equal("quiet", poll(&poll_fd, 1, 0), 0);
  pthread_create(&thread, NULL, send_late, NULL);
  equal("poll", poll(&poll_fd, 1, 10000), 1);
  pthread_join(thread, NULL);
  const int epoll = epoll_create1(0);
  step("epoll", epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 &&
                    epoll_wait(epoll, &event, 1, 10000) == 1 && event.data.u32 == 5);
  equal("read", read(fd, record, sizeof record), sizeof record[0]);
  sigdelset(&set, SIGUSR1);
  equal("another set", signalfd(fd, &set, 0), fd);
  raise(SIGUSR1);
  refused("not in it", read(fd, record, sizeof record), EAGAIN);
  const int blocking = signalfd(-1, &set, 0);
  pthread_create(&thread, NULL, send_late, NULL);
  equal("waits", read(blocking, record, sizeof record), sizeof record[0]);
  pthread_join(thread, NULL);
  return failed_steps;
}
