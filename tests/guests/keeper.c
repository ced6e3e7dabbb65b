/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper: asks the host for its next command again and again ("next", with what the last one gave),
 * and keeps what it is told in every place a program has. A command is a letter and a number:
 *   a N  adds N to a counter, gives the counter     d N  writes to N pages
 *   x N  puts N into a vector register; 0: gives it  h N  allocates N bytes and fills them
 *   f N  makes the file /tmp/kept; 0: is it there?   s 0  how many handlers there are; 1: one more
 *   r 0  eight random bytes                          o N  opens N pipes
 *   p N  maps N pages anew, gives 1 if they were 0   t 0  the time in nanoseconds
 *   k N  puts N into the register of protection keys (some of those that harm nobody here) and
 *        gives what was there; a fault where the machine has none
 *   u N  writes to N pages that nothing has touched, gives what was in the first
 *   c 0  creates a timer that does not run
 *   z 0  writes through the null pointer             w 0  spins for ever
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "waxvm/abi/host_call.h"

enum { kPages = 1024 };
static unsigned char pages[kPages * 4096] = {1};
static long counter;
static unsigned char untouched[64 * 4096];

static long call(const char* name, const void* request, size_t bytes, char* reply, size_t room) {
  struct waxvm_host_call c = {
      .version = WAXVM_HOST_CALL_VERSION,
      .name_bytes = (uint32_t)strlen(name),
      .name = (uint64_t)(uintptr_t)name,
      .request = (uint64_t)(uintptr_t)request,
      .request_bytes = bytes,
      .reply = (uint64_t)(uintptr_t)reply,
      .reply_capacity = room,
  };
  if (waxvm_host_call(&c) != 0 || c.status != 0) return -1;
  return (long)(c.reply_bytes < room ? c.reply_bytes : room);
}

static void handler(int signal) { (void)signal; }

static long obey(char letter, long n) {
  long result = 0;
  switch (letter) {
    case 'a':
      return counter += n;
    case 'd':
      for (long i = 0; i < n && i < kPages; ++i) ++pages[i * 4096 + 8];
      return pages[8];
    case 'x':
      if (n != 0) __asm__ volatile("movq %0, %%xmm15" : : "r"(n));
      __asm__ volatile("movq %%xmm15, %0" : "=r"(result));
      return result;
    case 'h': {
      char* memory = malloc((size_t)n);
      if (memory == NULL) return -1;
      memset(memory, 1, (size_t)n);
      return 0;
    }
    case 'f':
      if (n == 0) return access("/tmp/kept", F_OK) == 0;
      return close(open("/tmp/kept", O_CREAT | O_WRONLY, 0600));
    case 's': {
      struct sigaction action;
      if (n == 1) signal(SIGUSR1, handler);
      sigaction(SIGUSR1, NULL, &action);
      return action.sa_handler == handler;
    }
    case 'r':
      return getrandom(&result, sizeof result, 0) == sizeof result ? result : -1;
    case 'o': {
      int ends[2];
      for (long i = 0; i < n; ++i)
        if (pipe(ends) != 0) return -1;
      return dup(0);
    }
    case 'p': {
      unsigned char* memory =
          mmap(NULL, (size_t)n * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory == MAP_FAILED) return -1;
      for (long i = 0; i < n * 4096; ++i)
        if (memory[i] != 0) return 0;
      memset(memory, 0xa5, (size_t)n * 4096);
      return 1;
    }
    case 't': {
      struct timespec now;
      clock_gettime(CLOCK_MONOTONIC, &now);
      return now.tv_sec * 1000000000L + now.tv_nsec;
    }
    case 'k': {
      unsigned before, rest;
      __asm__ volatile(".byte 0x0f, 0x01, 0xee" : "=a"(before), "=d"(rest) : "c"(0));
      __asm__ volatile(".byte 0x0f, 0x01, 0xef" : : "a"((unsigned)n << 4), "c"(0), "d"(0));
      return before >> 4;
    }
    case 'u':
      result = untouched[5000];
      for (long i = 1; i <= n && i < 64; ++i) untouched[i * 4096 + 904] = 7;
      return result;
    case 'c': {
      timer_t timer;
      return timer_create(CLOCK_MONOTONIC, NULL, &timer);
    }
    case 'z':
      *(volatile int*)NULL = 1;
      return 0;
    case 'w':
      for (;;) __asm__ volatile("");
  }
  return -1;
}

int main(void) {
  static char command[64];
  static char result[64];
  memset(pages, 1, sizeof pages);
  strcpy(result, "ready");
  for (;;) {
    const long got = call("next", result, strlen(result), command, sizeof command - 1);
    if (got < 1) return 3;
    command[got] = 0;
    snprintf(result, sizeof result, "%ld", obey(command[0], atol(command + 1)));
  }
}
