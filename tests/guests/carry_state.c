/* SPDX-License-Identifier: Apache-2.0 */
/*
 * carry_state: "visit" looks in every place that a program has for what an earlier call left there,
 * says which had something, and leaves its arguments in all of them. "fault", "leave" and "spin"
 * leave them too, and then fault, exit and never return.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "waxvm/guest.h"

enum { kBytes = 64, kPages = 20 };

static char in_bss[kBytes];
static char in_data[kBytes] = "x";
static _Thread_local char in_tls[kBytes];
static char* in_heap;
static char* in_mapping;
static unsigned char pages[kPages * 4096];
static volatile int* volatile nowhere = (volatile int*)0x10;

static void handler(int number) { (void)number; }

static void note(struct waxvm_reply* reply, const char* place, const char* what) {
  char text[160];
  int bytes = snprintf(text, sizeof text, "%s:%.40s ", place, what);
  waxvm_reply_write(reply, text, (size_t)bytes);
}

static void look(struct waxvm_reply* reply) {
  char text[kBytes] = {0};
  struct sigaction action;
  sigset_t mask;
  long vector;
  int file;
  __asm__ volatile("movq %%xmm15, %0" : "=r"(vector));
  if (vector == 0x5ec7e7) note(reply, "xmm15", "set");
  if (in_bss[0] != 0) note(reply, "bss", in_bss);
  if (strcmp(in_data, "x") != 0) note(reply, "data", in_data);
  if (in_tls[0] != 0) note(reply, "tls", in_tls);
  if (in_heap != NULL) note(reply, "heap", in_heap);
  if (in_mapping != NULL) note(reply, "mapping", in_mapping);
  for (int i = 0; i < kPages; ++i)
    if (pages[i * 4096 + 100] != 0) note(reply, "page", "written");
  if (getenv("CARRIED") != NULL) note(reply, "environment", getenv("CARRIED"));
  file = open("/tmp/carried", O_RDONLY);
  if (file >= 0) {
    if (read(file, text, sizeof text - 1) < 0) strcpy(text, "?");
    note(reply, "file", text);
    close(file);
  }
  if (fcntl(40, F_GETFD) >= 0) note(reply, "descriptor", "open");
  if (getcwd(text, sizeof text) != NULL && strcmp(text, "/tmp") == 0) note(reply, "folder", text);
  if (umask(022) == 0123) note(reply, "umask", "0123");
  sigaction(SIGUSR1, NULL, &action);
  if (action.sa_handler == handler) note(reply, "handler", "set");
  sigprocmask(SIG_BLOCK, NULL, &mask);
  if (sigismember(&mask, SIGUSR2)) note(reply, "signal mask", "set");
  sigpending(&mask);
  if (sigismember(&mask, SIGUSR2)) note(reply, "signal", "pending");
}

static void keep(char* where, const void* what, size_t bytes) {
  memcpy(where, what, bytes < kBytes ? bytes : kBytes - 1);
}

static void carry(const void* arguments, size_t bytes) {
  long vector = 0x5ec7e7;
  sigset_t mask;
  int ends[2];
  int file;
  keep(in_bss, arguments, bytes);
  keep(in_data, arguments, bytes);
  keep(in_tls, arguments, bytes);
  in_heap = calloc(1, kBytes);
  if (in_heap != NULL) keep(in_heap, arguments, bytes);
  in_mapping = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (in_mapping != MAP_FAILED) keep(in_mapping, arguments, bytes);
  for (int i = 0; i < kPages; ++i) pages[i * 4096 + 100] = 1;
  setenv("CARRIED", in_bss, 1);
  file = open("/tmp/carried", O_CREAT | O_TRUNC | O_WRONLY, 0600);
  if (write(file, arguments, bytes) < 0) in_bss[0] = '?';
  if (pipe(ends) == 0) dup2(ends[0], 40);
  if (chdir("/tmp") != 0) in_bss[0] = '?';
  umask(0123);
  signal(SIGUSR1, handler);
  sigemptyset(&mask);
  sigaddset(&mask, SIGUSR2);
  sigprocmask(SIG_BLOCK, &mask, NULL);
  raise(SIGUSR2);
  __asm__ volatile("movq %0, %%xmm15" : : "r"(vector) : "xmm15");
}

static int visit(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  (void)context;
  look(reply);
  carry(arguments, bytes);
  return WAXVM_CODE_OK;
}

static int fault(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  (void)context, (void)reply;
  carry(arguments, bytes);
  *nowhere = 1;
  return WAXVM_CODE_OK;
}

static int leave(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  (void)context, (void)reply;
  carry(arguments, bytes);
  _exit(9);
}

static int spin(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  (void)context, (void)reply;
  carry(arguments, bytes);
  while (nowhere != NULL) {
  }
  return WAXVM_CODE_OK;
}

static int noop(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  (void)context, (void)arguments, (void)bytes, (void)reply;
  return WAXVM_CODE_OK;
}

int main(void) {
  if (waxvm_export("visit", visit, NULL) != 0 || waxvm_export("fault", fault, NULL) != 0 ||
      waxvm_export("leave", leave, NULL) != 0 || waxvm_export("spin", spin, NULL) != 0 ||
      waxvm_export("noop", noop, NULL) != 0)
    return 100;
  return waxvm_serve_calls() == 0 ? 0 : 5;
}
