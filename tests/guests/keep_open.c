/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep_open: as keeper, it asks the host for its next command again and again ("next", with what
 * the last one gave), but what it keeps is the kernel's: threads that sleep, files, pipes, sockets,
 * timers. A command is a letter and a number; capital letters make something, small ones look.
 *   T n  starts a thread that waits on a condition     t n  gives it n; its sum, kept in its TLS
 *   R n  starts a thread that reads a pipe             r n  writes n to it; what the thread saw
 *   Z n  starts a thread that counts, every 2 ms       z n  waits until n more; 1
 *   C n  starts a thread that only counts              c n  waits until it has gone on; 1
 *   H n  a thread holds a robust mutex, one waits      h n  lets both go on; 1 when it was had
 *   P n  writes n bytes into a pipe                    p n  reads at most n; how many
 *   E n  adds n to an eventfd                          e n  reads it
 *   F n  appends n bytes to an open file of /tmp       f n  its size times 1000 plus the offset
 *   U n  removes its name                              u n  its links
 *   B n  makes n directories, files and links          b n  how many of their names are right
 *   M n  writes n into a shared mapping of a memfd     m n  what mapping and file have
 *   S n  sends n bytes and an eventfd over a socket    s n  receives; bytes plus what the eventfd
 * has X n  connects to a socket with a name              x n  accepts it and reads one byte I n  a
 * timerfd for n ms                            i n  waits for it; 1 N n  a timer that sends signals
 * every n ms         n n  waits for n of them; 1 L n  watches eventfd and pipe, edges too l n  how
 * many events there are D n  changes to a directory of its own             d n  length of its path
 *   G n  blocks a signal and sends it                  g n  1 while it waits; then takes it
 *   K n  locks a part of the file                      k n  1 where another open file sees it
 *   O n  duplicates the file's descriptor              o n  the offset seen there
 *   Y n  an open directory, read up to the second name y n  the names that are left
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "waxvm/abi/host_call.h"

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

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long given, answers, answer;
static __thread long sum;

static void* add(void* unused) {
  pthread_mutex_lock(&mutex);
  for (long seen = 0;;) {
    while (given == seen) pthread_cond_wait(&changed, &mutex);
    sum += given - seen;
    seen = given;
    answer = sum;
    ++answers;
    pthread_cond_broadcast(&changed);
  }
  return unused;
}

static int to_reader[2], from_reader[2];
static void* relay(void* unused) {
  long value;
  while (read(to_reader[0], &value, sizeof value) == sizeof value)
    if (write(from_reader[1], &value, sizeof value) < 0) break;
  return unused;
}

static volatile long ticks, rounds;
static void* tick(void* unused) {
  for (;;) {
    const struct timespec two = {.tv_nsec = 2000000};
    nanosleep(&two, NULL);
    ++ticks;
  }
  return unused;
}
static void* spin(void* unused) {
  for (;;) ++rounds;
  return unused;
}

static pthread_mutex_t robust;
static volatile int let_go, was_had, holds;
static void* hold(void* unused) {
  pthread_mutex_lock(&robust);
  holds = 1;
  while (!let_go) usleep(1000);
  return unused; /* with the mutex */
}
static void* want(void* unused) {
  if (pthread_mutex_lock(&robust) == EOWNERDEAD) was_had = 1;
  return unused;
}

static volatile sig_atomic_t signals;
static void count(int signal) { (void)signal, ++signals; }

static int start(void* (*body)(void*)) {
  pthread_t thread;
  return pthread_create(&thread, NULL, body, NULL);
}

static int pipe_ends[2], events = -1, file = -1, copy = -1, memory = -1, pair[2], listener = -1;
static int timer = -1, watcher = -1;
static long* mapped;
static DIR* directory;

static void need_file(void) {
  if (file < 0) file = open("/tmp/kept", O_CREAT | O_RDWR | O_APPEND, 0640);
}
static void need_pipe(void) {
  if (pipe_ends[1] == 0 && pipe(pipe_ends) == 0) fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK);
}
static void need_events(void) {
  if (events < 0) events = eventfd(0, EFD_NONBLOCK);
}

static long build_names(long n) {
  char name[64], other[64];
  umask(0);
  for (long i = 0; i < n; ++i) {
    snprintf(name, sizeof name, "/tmp/d%ld", i);
    if (mkdir(name, 0700 + (mode_t)(i % 7)) != 0) return -1;
    snprintf(name, sizeof name, "/tmp/d%ld/f", i);
    const int fd = open(name, O_CREAT | O_WRONLY, 0600);
    if (pwrite(fd, &i, sizeof i, i * 8192) != sizeof i || close(fd) != 0) return -1;
    snprintf(other, sizeof other, "/tmp/hard%ld", i);
    if (link(name, other) != 0) return -1;
    snprintf(other, sizeof other, "/tmp/soft%ld", i);
    if (symlink(name, other) != 0) return -1;
  }
  return n;
}
static long check_names(long n) {
  long right = 0;
  for (long i = 0; i < n; ++i) {
    char name[64];
    struct stat status, hard;
    long value = -1;
    snprintf(name, sizeof name, "/tmp/d%ld", i);
    if (stat(name, &status) == 0 && (status.st_mode & 07777) == 0700 + (mode_t)(i % 7)) ++right;
    snprintf(name, sizeof name, "/tmp/soft%ld", i);
    const int fd = open(name, O_RDONLY);
    if (fd >= 0 && pread(fd, &value, sizeof value, i * 8192) == sizeof value && value == i) ++right;
    snprintf(name, sizeof name, "/tmp/hard%ld", i);
    if (fd >= 0 && fstat(fd, &status) == 0 && stat(name, &hard) == 0 &&
        status.st_ino == hard.st_ino && hard.st_nlink == 2)
      ++right;
    close(fd);
  }
  return right;
}

static long send_message(long n) {
  char bytes[256] = {0}, control[CMSG_SPACE(sizeof(int))] = {0};
  struct iovec piece = {bytes, (size_t)n};
  struct msghdr message = {
      .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (pair[0] == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0) return -1;
  const int carried = eventfd(7, 0);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof carried);
  memcpy(CMSG_DATA(header), &carried, sizeof carried);
  const long sent = sendmsg(pair[0], &message, 0);
  close(carried);
  return sent;
}
static long receive_message(void) {
  char bytes[256], control[CMSG_SPACE(sizeof(int))];
  struct iovec piece = {bytes, sizeof bytes};
  struct msghdr message = {
      .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  uint64_t value = 0;
  int carried = -1;
  const long got = recvmsg(pair[1], &message, MSG_DONTWAIT);
  if (got < 0) return -errno;
  memcpy(&carried, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof carried);
  if (read(carried, &value, sizeof value) != sizeof value) return -2;
  close(carried);
  return got + (long)value;
}

static long obey(char letter, long n) {
  switch (letter) {
    case 'T':
      return start(add);
    case 't': {
      pthread_mutex_lock(&mutex);
      const long before = answers;
      given += n;
      pthread_cond_broadcast(&changed);
      while (answers == before) pthread_cond_wait(&changed, &mutex);
      const long result = answer;
      pthread_mutex_unlock(&mutex);
      return result;
    }
    case 'R':
      if (pipe(to_reader) != 0 || pipe(from_reader) != 0) return -1;
      return start(relay);
    case 'r': {
      long value = n;
      if (write(to_reader[1], &value, sizeof value) != sizeof value) return -1;
      return read(from_reader[0], &value, sizeof value) == sizeof value ? value : -2;
    }
    case 'Z':
      return start(tick);
    case 'z':
      for (const long before = ticks; ticks < before + n;) usleep(1000);
      return 1;
    case 'C':
      return start(spin);
    case 'c':
      for (const long before = rounds; rounds == before;) sched_yield();
      return 1;
    case 'H': {
      pthread_mutexattr_t attributes;
      pthread_mutexattr_init(&attributes);
      pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
      pthread_mutex_init(&robust, &attributes);
      if (start(hold) != 0) return -1;
      while (!holds) usleep(1000);
      if (start(want) != 0) return -1;
      usleep(5000);
      return 0;
    }
    case 'h':
      let_go = 1;
      for (int i = 0; i < 5000 && !was_had; ++i) usleep(1000);
      return was_had;
    case 'P': {
      static char bytes[4096];
      need_pipe();
      return write(pipe_ends[1], bytes, (size_t)n);
    }
    case 'p': {
      static char bytes[4096];
      need_pipe();
      const long got = read(pipe_ends[0], bytes, (size_t)n);
      return got < 0 ? -errno : got;
    }
    case 'E': {
      const uint64_t value = (uint64_t)n;
      need_events();
      return write(events, &value, sizeof value);
    }
    case 'e': {
      uint64_t value;
      need_events();
      return read(events, &value, sizeof value) == sizeof value ? (long)value : -errno;
    }
    case 'F': {
      static char bytes[4096];
      need_file();
      return write(file, bytes, (size_t)n);
    }
    case 'f': {
      struct stat status;
      need_file();
      fstat(file, &status);
      return status.st_size * 1000 + lseek(file, 0, SEEK_CUR);
    }
    case 'U':
      return unlink("/tmp/kept");
    case 'u': {
      struct stat status;
      return fstat(file, &status) == 0 ? (long)status.st_nlink : -1;
    }
    case 'B':
      return build_names(n);
    case 'b':
      return check_names(n);
    case 'M':
      if (memory < 0) {
        memory = memfd_create("kept", 0);
        if (ftruncate(memory, 8192) != 0) return -1;
        mapped = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
      }
      *mapped = n;
      return 0;
    case 'm': {
      long value = -1;
      if (pread(memory, &value, sizeof value, 0) != sizeof value) return -1;
      return value == *mapped ? value : -2;
    }
    case 'S':
      return send_message(n);
    case 's':
      return receive_message();
    case 'X': {
      const struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "/tmp/socket"};
      listener = socket(AF_UNIX, SOCK_STREAM, 0);
      if (bind(listener, (const void*)&name, sizeof name) != 0 || listen(listener, 4) != 0)
        return -1;
      const int client = socket(AF_UNIX, SOCK_STREAM, 0);
      if (connect(client, (const void*)&name, sizeof name) != 0) return -2;
      return write(client, "k", 1);
    }
    case 'x': {
      char byte = 0;
      const int accepted = accept(listener, NULL, NULL);
      if (read(accepted, &byte, 1) != 1) return -1;
      close(accepted);
      const struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "/tmp/socket"};
      const int client = socket(AF_UNIX, SOCK_STREAM, 0);
      if (connect(client, (const void*)&name, sizeof name) != 0) return -2;
      close(client);
      return byte;
    }
    case 'I': {
      const struct itimerspec set = {.it_value = {n / 1000, n % 1000 * 1000000}};
      if (timer < 0) timer = timerfd_create(CLOCK_MONOTONIC, 0);
      return timerfd_settime(timer, 0, &set, NULL);
    }
    case 'i': {
      uint64_t expired;
      return read(timer, &expired, sizeof expired) == sizeof expired ? (long)expired : -1;
    }
    case 'N': {
      struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
      const struct itimerspec set = {.it_value = {0, n * 1000000}, .it_interval = {0, n * 1000000}};
      timer_t made;
      signal(SIGUSR1, count);
      if (timer_create(CLOCK_MONOTONIC, &event, &made) != 0) return -1;
      return timer_settime(made, 0, &set, NULL);
    }
    case 'n':
      for (const long before = signals; signals < before + n;) usleep(1000);
      return 1;
    case 'L': {
      struct epoll_event event = {.events = EPOLLIN, .data = {.u64 = 1}};
      need_pipe();
      need_events();
      watcher = epoll_create1(0);
      if (epoll_ctl(watcher, EPOLL_CTL_ADD, events, &event) != 0) return -1;
      event.events = EPOLLIN | EPOLLET;
      return epoll_ctl(watcher, EPOLL_CTL_ADD, pipe_ends[0], &event);
    }
    case 'l': {
      struct epoll_event ready[4];
      return epoll_wait(watcher, ready, 4, 0);
    }
    case 'D':
      return mkdir("/tmp/deep", 0755) + mkdir("/tmp/deep/er", 0755) + chdir("/tmp/deep/er");
    case 'd': {
      char path[256];
      return getcwd(path, sizeof path) != NULL ? (long)strlen(path) : -1;
    }
    case 'G': {
      sigset_t set;
      sigemptyset(&set);
      sigaddset(&set, SIGUSR2);
      sigprocmask(SIG_BLOCK, &set, NULL);
      return raise(SIGUSR2); /* to this thread: others do not block it */
    }
    case 'g': {
      sigset_t set;
      const struct timespec now = {0, 0};
      sigemptyset(&set);
      sigaddset(&set, SIGUSR2);
      return sigtimedwait(&set, NULL, &now) == SIGUSR2;
    }
    case 'K': {
      struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = n};
      need_file();
      return fcntl(file, F_OFD_SETLK, &lock);
    }
    case 'k': {
      struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = n, .l_len = 1};
      const int other = open("/tmp/kept", O_RDWR);
      if (fcntl(other, F_OFD_GETLK, &lock) != 0) return -1;
      close(other);
      return lock.l_type == F_WRLCK;
    }
    case 'O':
      need_file();
      copy = dup(file);
      return copy < 0;
    case 'o':
      return lseek(copy, 0, SEEK_CUR);
    case 'Y':
      directory = opendir("/tmp");
      return readdir(directory) != NULL && readdir(directory) != NULL ? 0 : -1;
    case 'y': {
      long left = 0;
      while (readdir(directory) != NULL) ++left;
      return left;
    }
  }
  return -1;
}

int main(void) {
  static char command[64];
  static char result[64];
  strcpy(result, "ready");
  for (;;) {
    const long got = call("next", result, strlen(result), command, sizeof command - 1);
    if (got < 1) return 3;
    command[got] = 0;
    snprintf(result, sizeof result, "%ld", obey(command[0], atol(command + 1)));
  }
}
