/* SPDX-License-Identifier: Apache-2.0 */
/*
 * carry_run HOW TEXT: looks in every place that a program has for what an earlier run left there,
 * writes to standard output which had something, and then its arguments, its environment variable
 * WHO, its standard input, and AT_RANDOM. It leaves TEXT everywhere and ends as HOW says: "return",
 * "twice" after looking once more at what it has left itself,
 * "exit" in the middle of everything, "threads" while others run, "sleepers" while others wait,
 * "group" from another thread, "fault", "spin", "abort".
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

enum { kBytes = 64, kPages = 20, kThreads = 4 };

static char in_bss[kBytes];
static char in_data[kBytes] = "x";
static _Thread_local char in_tls[kBytes];
static unsigned char pages[kPages * 4096];
static int lock_pipe[2];
static volatile int* volatile nowhere = (volatile int*)0x10;

static void handler(int number) { (void)number; }

static void note(const char* place, const char* what) { printf("%s:%.40s ", place, what); }

/* Where a run has had mappings of its own: nothing is there, or it is zero. */
static void look_at_memory(void) {
  char* const fixed = (char*)0x10000000;
  void* got = mmap(fixed, 65536, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (got != fixed)
    note("mapping", "taken");
  else if (fixed[100] != 0)
    note("mapping", fixed + 100);
  char* heap = malloc(100000);
  if (heap != NULL)
    for (int i = 0; i < 100000; ++i)
      if (heap[i] != 0 && strncmp(heap + i, "carried", 7) == 0) note("heap", heap + i);
  char below[16384];
  volatile char* stack = below;
  for (unsigned i = 0; i + 8 < sizeof below; ++i)
    if (stack[i] == 'c' && memcmp(below + i, "carried", 7) == 0) {
      note("stack", "something");
      break;
    }
  free(heap);
}

static void look(void) {
  char text[kBytes] = {0};
  struct sigaction action;
  struct itimerval timer;
  stack_t stack;
  sigset_t mask;
  long vector;
  __asm__ volatile("movq %%xmm15, %0" : "=r"(vector));
  if (vector == 0x5ec7e7) note("xmm15", "set");
  if (in_bss[0] != 0) note("bss", in_bss);
  if (strcmp(in_data, "x") != 0) note("data", in_data);
  if (in_tls[0] != 0) note("tls", in_tls);
  for (int i = 0; i < kPages; ++i)
    if (pages[i * 4096 + 100] != 0) note("page", "written");
  look_at_memory();
  if (getenv("CARRIED") != NULL) note("environment", getenv("CARRIED"));
  int file = open("/tmp/carried", O_RDONLY);
  if (file >= 0) {
    if (read(file, text, sizeof text - 1) < 0) strcpy(text, "?");
    note("file", text);
  } else if (open("/", O_RDONLY) != 3) {
    note("descriptor", "below");
  }
  if (access("/tmp/socket", F_OK) == 0) note("socket", "there");
  for (int fd = 4; fd < 64; ++fd)
    if (fcntl(fd, F_GETFD) >= 0) note("descriptor", "open");
  if (getcwd(text, sizeof text) != NULL && strcmp(text, "/tmp") == 0) note("folder", text);
  if (umask(022) == 0123) note("umask", "0123");
  sigaction(SIGUSR1, NULL, &action);
  if (action.sa_handler != SIG_DFL) note("handler", "set");
  sigprocmask(SIG_BLOCK, NULL, &mask);
  if (sigismember(&mask, SIGUSR2)) note("signal mask", "set");
  sigpending(&mask);
  if (sigismember(&mask, SIGUSR2)) note("signal", "pending");
  if (getitimer(ITIMER_REAL, &timer) == 0 && timer.it_interval.tv_sec != 0) note("timer", "set");
  if (sigaltstack(NULL, &stack) == 0 && !(stack.ss_flags & SS_DISABLE)) note("sigaltstack", "set");
  if (getpid() != gettid()) note("thread", "not the first");
  if (access("/proc/self/task/3", F_OK) == 0) note("thread", "another");
}

static __attribute__((noinline)) void carry_below(void) {
  char below[16384];
  for (unsigned i = 0; i + 8 < sizeof below; i += 64) strcpy(below + i, "carried");
  __asm__ volatile("" : : "r"(below) : "memory");
}

static void carry(const char* what) {
  long vector = 0x5ec7e7;
  sigset_t mask;
  stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
  struct itimerval timer = {{1000, 0}, {1000, 0}};
  strncpy(in_bss, what, kBytes - 1);
  strncpy(in_data, what, kBytes - 1);
  strncpy(in_tls, what, kBytes - 1);
  char* heap = malloc(100000);
  for (int i = 0; heap != NULL && i < 99000; i += 64) strcpy(heap + i, "carried");
  strncpy((char*)0x10000000 + 100, what, kBytes - 1);
  for (int i = 0; i < kPages; ++i) pages[i * 4096 + 100] = 1;
  setenv("CARRIED", what, 1);
  int file = open("/tmp/carried", O_CREAT | O_TRUNC | O_WRONLY, 0600);
  if (file < 0 || write(file, what, strlen(what)) < 0) in_bss[0] = '?';
  int ends[2];
  if (pipe(ends) == 0) dup2(ends[0], 40);
  if (mknod("/tmp/socket", S_IFIFO | 0600, 0) != 0) in_bss[0] = '?';
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0) dup2(ends[0], 41);
  if (chdir("/tmp") != 0) in_bss[0] = '?';
  umask(0123);
  signal(SIGUSR1, handler);
  sigemptyset(&mask);
  sigaddset(&mask, SIGUSR2);
  sigprocmask(SIG_BLOCK, &mask, NULL);
  raise(SIGUSR2);
  carry_below();
  setitimer(ITIMER_REAL, &timer, NULL);
  sigaltstack(&stack, NULL);
  __asm__ volatile("movq %0, %%xmm15" : : "r"(vector) : "xmm15");
}

static void* run_on(void* unused) {
  for (volatile unsigned long i = 0;; ++i) {
  }
  return unused;
}

static void* wait_on(void* unused) {
  char byte;
  if (read(lock_pipe[0], &byte, 1) == 1) return unused;
  return NULL;
}

static void* leave(void* unused) {
  exit(7);
  return unused;
}

static void start(void* (*function)(void*), int count) {
  for (int i = 0; i < count; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, function, NULL) != 0) exit(101);
  }
}

int main(int argc, char** argv) {
  char input[256] = {0};
  if (argc != 3) return 100;
  look();
  if (read(0, input, sizeof input - 1) < 0) return 102;
  printf("| %s %s %s %s ", argv[1], argv[2], getenv("WHO") != NULL ? getenv("WHO") : "-", input);
  const unsigned char* random = (const unsigned char*)getauxval(AT_RANDOM);
  for (int i = 0; i < 16; ++i) printf("%02x", random[i]);
  printf("\n");
  fflush(stdout);
  carry(argv[2]);
  if (strcmp(argv[1], "twice") == 0) {
    look();
    fflush(stdout);
  }
  if (strcmp(argv[1], "exit") == 0) _exit(5);
  if (strcmp(argv[1], "fault") == 0) *nowhere = 1;
  if (strcmp(argv[1], "abort") == 0) abort();
  if (strcmp(argv[1], "spin") == 0) run_on(NULL);
  if (strcmp(argv[1], "threads") == 0) {
    start(run_on, kThreads);
    usleep(1000);
    _exit(6);
  }
  if (strcmp(argv[1], "sleepers") == 0) {
    if (pipe(lock_pipe) != 0) return 103;
    start(wait_on, kThreads);
    usleep(1000);
    return 8;
  }
  if (strcmp(argv[1], "group") == 0) {
    start(run_on, 2);
    start(leave, 1);
    run_on(NULL);
  }
  return 0;
}
