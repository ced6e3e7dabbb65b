/* SPDX-License-Identifier: Apache-2.0 */
/* probe VERB [ARGUMENTS]: looks at one corner of the world inside and prints what it finds. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "waxvm/abi/host_call.h"

static int report(const char* what, int ok) {
  printf("%s: %s\n", what, ok ? "ok" : strerror(errno));
  return ok ? 0 : 1;
}

/* cat PATH…: contents, or the error, of each. */
static int cat(int count, char** paths) {
  int failed = 0;
  for (int i = 0; i < count; i++) {
    char text[4096];
    ssize_t n = -1;
    int fd = open(paths[i], O_RDONLY | O_NONBLOCK);
    if (fd >= 0) n = read(fd, text, sizeof text);
    if (n < 0)
      failed += report(paths[i], 0);
    else
      printf("%s: %.*s\n", paths[i], (int)n, text);
    if (fd >= 0) close(fd);
  }
  return failed;
}

static int put(const char* path, const char* text) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  return report(path, fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static int list(const char* path) {
  DIR* folder = opendir(path);
  if (folder == NULL) return report(path, 0);
  for (struct dirent* entry; (entry = readdir(folder)) != NULL;)
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
      printf("%s\n", entry->d_name);
  closedir(folder);
  return 0;
}

/* streams: text on both streams, each in order. */
static int streams(void) {
  for (int i = 0; i < 1000; i++) {
    char line[32];
    int n = snprintf(line, sizeof line, "%d\n", i);
    if (write(1 + i % 2, line, (size_t)n) != n) return 1;
  }
  return 0;
}

/* descriptors: what is open, but for the host-call socket. */
static int descriptors(void) {
  for (int fd = 0; fd < 4096; fd++)
    if (fd != WAXVM_HOST_CALL_FD && fcntl(fd, F_GETFD) >= 0) printf("%d\n", fd);
  return 0;
}

/* signals: what is blocked or ignored when a program starts. */
static int signals(void) {
  sigset_t blocked;
  int found = 0;
  sigprocmask(SIG_SETMASK, NULL, &blocked);
  for (int number = 1; number < 32; number++) {
    struct sigaction action;
    if (sigismember(&blocked, number) == 1) found++, printf("%d is blocked\n", number);
    if (sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
      found++, printf("%d is ignored\n", number);
  }
  return found;
}

/* connect PORT PATH: to a TCP port of the loopback interface and to a Unix socket. */
static int connect_out(int port, const char* path) {
  struct sockaddr_in ip = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  struct sockaddr_un local = {.sun_family = AF_UNIX};
  ip.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  strncpy(local.sun_path, path, sizeof local.sun_path - 1);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  report("tcp", fd >= 0 && connect(fd, (struct sockaddr*)&ip, sizeof ip) == 0);
  fd = socket(AF_UNIX, SOCK_STREAM, 0);
  report("unix", fd >= 0 && connect(fd, (struct sockaddr*)&local, sizeof local) == 0);
  return 0;
}

/* call NAME REQUEST_BYTES TIMES [CAPACITY]: host calls; prints status and reply of the last. */
static int call(const char* name, size_t bytes, int times, size_t capacity) {
  char *request = malloc(bytes + 1), *reply = malloc(capacity + 1);
  if (request == NULL || reply == NULL) return 3;
  memset(request, 'r', bytes);
  struct waxvm_host_call host_call;
  for (int i = 0; i < times; i++) {
    host_call = (struct waxvm_host_call){.version = WAXVM_HOST_CALL_VERSION,
                                         .name_bytes = (uint32_t)strlen(name),
                                         .name = (uint64_t)(uintptr_t)name,
                                         .request = (uint64_t)(uintptr_t)request,
                                         .request_bytes = bytes,
                                         .reply = (uint64_t)(uintptr_t)reply,
                                         .reply_capacity = capacity};
    long error = waxvm_host_call(&host_call);
    if (error != 0) return printf("error %ld\n", error), 2;
  }
  size_t shown = host_call.reply_bytes < capacity ? host_call.reply_bytes : capacity;
  if (shown > 64) shown = 64;
  printf("%u %llu %.*s\n", host_call.status, (unsigned long long)host_call.reply_bytes, (int)shown,
         reply);
  return 0;
}

/* hex NAME [REQUEST]: a host call; prints its status and its reply in hexadecimal digits. */
static int call_hex(const char* name, const char* request) {
  static unsigned char reply[4096];
  struct waxvm_host_call host_call = {.version = WAXVM_HOST_CALL_VERSION,
                                      .name_bytes = (uint32_t)strlen(name),
                                      .name = (uint64_t)(uintptr_t)name,
                                      .request = (uint64_t)(uintptr_t)request,
                                      .request_bytes = strlen(request),
                                      .reply = (uint64_t)(uintptr_t)reply,
                                      .reply_capacity = sizeof reply};
  long error = waxvm_host_call(&host_call);
  if (error != 0) return printf("error %ld\n", error), 2;
  printf("%u ", host_call.status);
  for (size_t i = 0; i < host_call.reply_bytes && i < sizeof reply; i++) printf("%02x", reply[i]);
  printf("\n");
  return 0;
}

int main(int argc, char** argv) {
  const char* verb = argc > 1 ? argv[1] : "";
  if (strcmp(verb, "exit") == 0 && argc == 3) return atoi(argv[2]);
  if (strcmp(verb, "cat") == 0) return cat(argc - 2, argv + 2);
  if (strcmp(verb, "put") == 0 && argc == 4) return put(argv[2], argv[3]);
  if (strcmp(verb, "list") == 0 && argc == 3) return list(argv[2]);
  if (strcmp(verb, "mkdir") == 0 && argc == 3) return report(verb, mkdir(argv[2], 0777) == 0);
  if (strcmp(verb, "remove") == 0 && argc == 3) return report(verb, unlink(argv[2]) == 0);
  if (strcmp(verb, "rename") == 0 && argc == 4) return report(verb, rename(argv[2], argv[3]) == 0);
  if (strcmp(verb, "chmod") == 0 && argc == 3) return report(verb, chmod(argv[2], 0600) == 0);
  /* link TARGET PATH: makes a symbolic link and reads through it. */
  if (strcmp(verb, "link") == 0 && argc == 4)
    return report(verb, symlink(argv[2], argv[3]) == 0) + cat(1, argv + 3);
  if (strcmp(verb, "streams") == 0) return streams();
  if (strcmp(verb, "descriptors") == 0) return descriptors();
  if (strcmp(verb, "signals") == 0) return signals();
  if (strcmp(verb, "connect") == 0 && argc == 4) return connect_out(atoi(argv[2]), argv[3]);
  if (strcmp(verb, "call") == 0 && argc >= 5)
    return call(argv[2], (size_t)atol(argv[3]), atoi(argv[4]),
                argc > 5 ? (size_t)atol(argv[5]) : 4096);
  if (strcmp(verb, "hex") == 0 && argc >= 3) return call_hex(argv[2], argc > 3 ? argv[3] : "");
  /* unknown NUMBER: a system call that nobody offers. */
  if (strcmp(verb, "unknown") == 0 && argc == 3)
    return printf("%s\n", syscall(atol(argv[2]), 0, 0, 0) < 0 ? strerror(errno) : "served"), 0;
  return 99;
}
