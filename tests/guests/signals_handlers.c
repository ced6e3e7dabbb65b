/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers and masks: what a handler is told, nesting, order, pending, waiting, and who gets it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "step.h"

static volatile sig_atomic_t seen;
static volatile sig_atomic_t order;
static volatile sig_atomic_t depth;
static volatile sig_atomic_t deepest;
static siginfo_t info;
static sigset_t mask_inside;
static volatile int on_stack;
static char alternate[64 << 10];

static void count(int signal) { seen += signal; }

static void keep(int signal, siginfo_t* told, void* context) {
  info = *told;
  seen = signal;
  on_stack = (char*)&signal >= alternate && (char*)&signal < alternate + sizeof alternate;
  sigprocmask(SIG_BLOCK, NULL, &mask_inside);
  if (context == NULL) seen = -1;
}

static void remember(int signal) { order = order * 100 + signal; }

static void nest(int signal) {
  if (++depth > deepest) deepest = depth;
  if (signal == SIGUSR1) raise(SIGUSR2);
  if (signal == SIGUSR2 && order == 0) raise(SIGUSR1); /* blocked until the outer one returns */
  order = order * 100 + signal;
  depth--;
}

static void install(int signal, void (*handler)(int), int flags) {
  struct sigaction action = {0};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigaction(signal, &action, NULL);
}

static void install_info(int signal, int flags) {
  struct sigaction action = {0};
  action.sa_sigaction = keep;
  action.sa_flags = SA_SIGINFO | flags;
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGTERM);
  sigaction(signal, &action, NULL);
}

static void handlers(void) {
  struct sigaction old;
  install(SIGUSR1, count, 0);
  step("raise", raise(SIGUSR1) == 0 && seen == SIGUSR1);
  step("kill itself", kill(getpid(), SIGUSR1) == 0 && seen == 2 * SIGUSR1);
  step("old action", sigaction(SIGUSR1, NULL, &old) == 0 && old.sa_handler == count);
  install_info(SIGUSR1, 0);
  kill(getpid(), SIGUSR1);
  step("told who", seen == SIGUSR1 && info.si_signo == SIGUSR1 && info.si_code == SI_USER &&
                       info.si_pid == getpid() && info.si_uid == getuid());
  step("mask inside", sigismember(&mask_inside, SIGUSR1) && sigismember(&mask_inside, SIGTERM) &&
                          !sigismember(&mask_inside, SIGUSR2));
  syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
  step("tgkill", info.si_code == SI_TKILL && info.si_pid == getpid());
  union sigval value = {.sival_int = 4711};
  sigqueue(getpid(), SIGUSR1, value);
  step("with a value", info.si_code == SI_QUEUE && info.si_value.sival_int == 4711);
  install(SIGUSR1, count, SA_RESETHAND);
  raise(SIGUSR1);
  sigaction(SIGUSR1, NULL, &old);
  step("only once", old.sa_handler == SIG_DFL);
  signal(SIGUSR1, SIG_IGN);
  step("ignored", raise(SIGUSR1) == 0);
  refused("not for SIGKILL", sigaction(SIGKILL, &old, NULL), EINVAL);
  refused("no signal 65", kill(getpid(), 65), EINVAL);
  step("signal 0", kill(getpid(), 0) == 0);
  refused("no such thread", syscall(SYS_tgkill, getpid(), 4000000, 0), ESRCH);
}

static void alternate_stack(void) {
  stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate}, old;
  install_info(SIGUSR1, SA_ONSTACK);
  raise(SIGUSR1);
  step("no other stack yet", on_stack == 0);
  step("sigaltstack", sigaltstack(&stack, &old) == 0 && (old.ss_flags & SS_DISABLE));
  raise(SIGUSR1);
  step("on the other stack", on_stack == 1);
  install_info(SIGUSR1, 0);
  raise(SIGUSR1);
  step("not without SA_ONSTACK", on_stack == 0);
  stack.ss_size = 100;
  refused("too small", sigaltstack(&stack, NULL), ENOMEM);
  stack.ss_flags = SS_DISABLE;
  step("given back", sigaltstack(&stack, NULL) == 0);
}

static void nesting(void) {
  install(SIGUSR1, nest, 0);
  install(SIGUSR2, nest, 0);
  order = 0;
  raise(SIGUSR1);
  equal("nested", order, (SIGUSR2 * 100 + SIGUSR1) * 10001);
  equal("deepest", deepest, 2);
}

static void masks(void) {
  sigset_t block, old, pending;
  struct timespec time = milliseconds(0);
  siginfo_t told;
  install(SIGUSR1, remember, 0);
  install(SIGUSR2, remember, 0);
  install(SIGRTMIN + 1, remember, 0);
  install(SIGRTMIN + 2, remember, 0);
  sigemptyset(&block);
  sigaddset(&block, SIGUSR1);
  sigaddset(&block, SIGUSR2);
  sigaddset(&block, SIGRTMIN + 1);
  sigaddset(&block, SIGRTMIN + 2);
  step("block", sigprocmask(SIG_BLOCK, &block, &old) == 0 && !sigismember(&old, SIGUSR1));
  order = 0;
  raise(SIGUSR2);
  raise(SIGUSR2);
  raise(SIGUSR1);
  step("nothing yet", order == 0);
  step("pending", sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1) &&
                      sigismember(&pending, SIGUSR2) && !sigismember(&pending, SIGTERM));
  equal("taken", sigtimedwait(&block, &told, &time), SIGUSR1);
  sigdelset(&old, SIGUSR2);
  refused("suspended", sigsuspend(&old), EINTR);
  equal("one of two alike", order, SIGUSR2);
  union sigval value = {.sival_int = 1};
  order = 0;
  sigqueue(getpid(), SIGRTMIN + 2, value);
  value.sival_int = 2;
  sigqueue(getpid(), SIGRTMIN + 1, value);
  value.sival_int = 3;
  sigqueue(getpid(), SIGRTMIN + 1, value);
  step("queued in order", sigwaitinfo(&block, &told) == SIGRTMIN + 1 &&
                              told.si_value.sival_int == 2 &&
                              sigwaitinfo(&block, &told) == SIGRTMIN + 1 &&
                              told.si_value.sival_int == 3 && told.si_code == SI_QUEUE);
  step("then the higher", sigwaitinfo(&block, &told) == SIGRTMIN + 2);
  refused("none left", sigtimedwait(&block, &told, &time), EAGAIN);
  time = milliseconds(20);
  const long start = now_milliseconds(CLOCK_MONOTONIC);
  refused("none came", sigtimedwait(&block, NULL, &time), EAGAIN);
  step("for 20 ms", now_milliseconds(CLOCK_MONOTONIC) - start >= 20);
  sigqueue(getpid(), SIGRTMIN + 1, value);
  sigqueue(getpid(), SIGRTMIN + 1, value);
  raise(SIGUSR1);
  sigprocmask(SIG_UNBLOCK, &block, NULL);
  refused("no such change", sigprocmask(77, &block, NULL), EINVAL);
  signal(SIGUSR1, SIG_DFL);
  sigprocmask(SIG_BLOCK, &block, NULL);
  raise(SIGUSR1);
  signal(SIGUSR1, SIG_IGN);
  sigpending(&pending);
  step("ignoring forgets", !sigismember(&pending, SIGUSR1));
}

int main(void) {
  handlers();
  alternate_stack();
  nesting();
  masks();
  return failed_steps;
}
