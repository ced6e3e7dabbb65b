/* SPDX-License-Identifier: Apache-2.0 */
/* Every kind of timer: interval timers, POSIX timers by signal and by thread, timerfd, alarm. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "step.h"

static volatile sig_atomic_t seen;
static volatile sig_atomic_t value;
static volatile long handled_by;

static void count(int signal, siginfo_t* info, void* context) {
  (void)context;
  seen++;
  value = info->si_code == SI_TIMER ? info->si_value.sival_int : -signal;
  handled_by = syscall(SYS_gettid);
}

/* Waits until `number` have been seen, at most 10 s. */
static int came(int number) {
  for (int i = 0; i < 10000 && seen < number; i++) sleep_milliseconds(1);
  return seen >= number;
}

static void interval_timer(void) {
  struct itimerval timer = {{0, 0}, {0, 300000}}, old;
  seen = 0;
  step("setitimer", setitimer(ITIMER_REAL, &timer, NULL) == 0);
  step("time left", getitimer(ITIMER_REAL, &old) == 0 && old.it_value.tv_sec == 0 &&
                        old.it_value.tv_usec > 0 && old.it_value.tv_usec <= 300000);
  step("once", came(1) && value == -SIGALRM);
  timer.it_interval.tv_usec = 2000;
  timer.it_value.tv_usec = 2000;
  setitimer(ITIMER_REAL, &timer, NULL);
  step("again and again", came(6));
  timer.it_value.tv_usec = 0;
  step("stopped", setitimer(ITIMER_REAL, &timer, &old) == 0 && old.it_interval.tv_usec == 2000);
  timer.it_value.tv_usec = 1000000;
  refused("a second of microseconds", setitimer(ITIMER_REAL, &timer, NULL), EINVAL);
  refused("no such timer", setitimer(7, &old, NULL), EINVAL);
  seen = 0;
  timer.it_interval.tv_usec = 0;
  timer.it_value.tv_usec = 10000;
  setitimer(ITIMER_VIRTUAL, &timer, NULL);
  while (seen == 0) {
  }
  step("time spent in the program", value == -SIGVTALRM);
  seen = 0;
  setitimer(ITIMER_PROF, &timer, NULL);
  while (seen == 0) {
  }
  step("time spent for it", value == -SIGPROF);
}

static void alarms(void) {
  equal("no alarm before", alarm(100), 0);
  const unsigned left = alarm(0);
  step("alarm taken back", left == 100 || left == 99);
  seen = 0;
  alarm(1);
  refused("pause", pause(), EINTR);
  step("alarm", seen == 1 && value == -SIGALRM);
}

static void posix_timers(void) {
  struct sigevent event = {0};
  struct itimerspec time = {{0, 0}, {0, 20000000}}, left;
  timer_t timer, by_thread;
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGRTMIN + 3;
  event.sigev_value.sival_int = 99;
  seen = 0;
  step("timer_create", timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
  step("not armed", timer_gettime(timer, &left) == 0 && left.it_value.tv_nsec == 0);
  step("timer_settime", timer_settime(timer, 0, &time, NULL) == 0);
  step("armed", timer_gettime(timer, &left) == 0 && left.it_value.tv_nsec > 0);
  step("its value", came(1) && value == 99);
  time.it_value = in_milliseconds(CLOCK_MONOTONIC, 20);
  seen = 0;
  timer_settime(timer, TIMER_ABSTIME, &time, NULL);
  step("absolute", came(1));
  time.it_value = milliseconds(1);
  time.it_interval = milliseconds(1);
  timer_settime(timer, 0, &time, NULL);
  step("repeating", came(6));
  /* What comes while it is blocked is one signal and a count. */
  sigset_t block;
  sigemptyset(&block);
  sigaddset(&block, SIGRTMIN + 3);
  sigprocmask(SIG_BLOCK, &block, NULL);
  sleep_milliseconds(50);
  siginfo_t info;
  step("overrun", sigwaitinfo(&block, &info) == SIGRTMIN + 3 && info.si_overrun > 10 &&
                      timer_getoverrun(timer) == info.si_overrun);
  step("timer_delete", timer_delete(timer) == 0);
  struct timespec none = {0, 0};
  sigtimedwait(&block, NULL, &none);
  sigprocmask(SIG_UNBLOCK, &block, NULL);
  refused("deleted", syscall(SYS_timer_delete, 12345), EINVAL);

  struct sigevent thread_event = {0};
  thread_event.sigev_notify = 4; /* SIGEV_THREAD_ID */
  thread_event.sigev_signo = SIGRTMIN + 4;
  thread_event.sigev_value.sival_int = 5;
  int tid = (int)syscall(SYS_gettid);
  memcpy((char*)&thread_event + 16, &tid, sizeof tid); /* the kernel's place for it */
  int kernel_id = -1;
  seen = 0;
  handled_by = 0;
  step("to one thread", syscall(SYS_timer_create, CLOCK_MONOTONIC, &thread_event, &kernel_id) == 0);
  time.it_interval.tv_nsec = 0;
  time.it_value = milliseconds(5);
  step("set", syscall(SYS_timer_settime, kernel_id, 0, &time, NULL) == 0);
  step("handled there", came(1) && handled_by == tid && value == 5);
  step("deleted by number", syscall(SYS_timer_delete, kernel_id) == 0);
  refused("no such clock", timer_create(77, &event, &by_thread), EINVAL);
}

static void timer_descriptors(void) {
  struct itimerspec time = {{0, 0}, {0, 20000000}}, left;
  uint64_t expired = 0;
  const int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  step("timerfd_create", fd >= 0);
  refused("nothing yet", read(fd, &expired, 8), EAGAIN);
  step("timerfd_settime", timerfd_settime(fd, 0, &time, NULL) == 0);
  step("timerfd_gettime", timerfd_gettime(fd, &left) == 0 && left.it_value.tv_nsec > 0 &&
                              left.it_interval.tv_nsec == 0);
  struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
  step("poll", poll(&poll_fd, 1, 10000) == 1 && poll_fd.revents == POLLIN);
  step("one expiry", read(fd, &expired, 8) == 8 && expired == 1);
  refused("read once", read(fd, &expired, 8), EAGAIN);
  time.it_interval.tv_nsec = 1000000;
  timerfd_settime(fd, 0, &time, NULL);
  sleep_milliseconds(60);
  step("many", read(fd, &expired, 8) == 8 && expired > 20);
  refused("too short", read(fd, &expired, 4), EINVAL);
  time.it_value = in_milliseconds(CLOCK_MONOTONIC, -1000);
  time.it_interval.tv_nsec = 0;
  timerfd_settime(fd, TFD_TIMER_ABSTIME, &time, NULL);
  step("a time gone by", poll(&poll_fd, 1, 10000) == 1 && read(fd, &expired, 8) == 8);
  refused("no such clock", timerfd_create(77, 0), EINVAL);
  close(fd);
  const int blocking = timerfd_create(CLOCK_REALTIME, 0);
  time.it_value = milliseconds(10);
  timerfd_settime(blocking, 0, &time, NULL);
  step("waited for", read(blocking, &expired, 8) == 8 && expired == 1);
  close(blocking);
}

int main(void) {
  struct sigaction action = {0};
  action.sa_sigaction = count;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGALRM, &action, NULL);
  sigaction(SIGVTALRM, &action, NULL);
  sigaction(SIGPROF, &action, NULL);
  sigaction(SIGRTMIN + 3, &action, NULL);
  sigaction(SIGRTMIN + 4, &action, NULL);
  interval_timer();
  alarms();
  posix_timers();
  timer_descriptors();
  return failed_steps;
}
