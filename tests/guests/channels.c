/* SPDX-License-Identifier: Apache-2.0 */
/* Pipes, eventfd, poll, select and epoll between threads: what one does, the other waits for. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/uio.h>
#include <unistd.h>

#include "step.h"

static int ends[2];
static int event;

static void* write_much(void* unused) {
  char block[10007];
  for (int i = 0; i < 100; i++) {
    memset(block, i, sizeof block);
    for (size_t at = 0; at < sizeof block;) {
      const ssize_t once = write(ends[1], block + at, sizeof block - at);
      if (once < 0) return unused;
      at += (size_t)once;
    }
  }
  close(ends[1]);
  return unused;
}

static void* write_late(void* fd) {
  const uint64_t value = 1;
  sleep_milliseconds(20);
  if (write((int)(intptr_t)fd, &value, 8) != 8) step("late write", 0);
  return NULL;
}

static void* read_late(void* fd) {
  char block[65536];
  sleep_milliseconds(20);
  if (read((int)(intptr_t)fd, block, sizeof block) < 0) step("late read", 0);
  return NULL;
}

static void* close_late(void* fd) {
  sleep_milliseconds(20);
  close((int)(intptr_t)fd);
  return NULL;
}

static pthread_t start(void* (*body)(void*), int fd) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, body, (void*)(intptr_t)fd) != 0) step("create", 0);
  return thread;
}

static void pipes(void) {
  char block[4096];
  long total = 0, sum = 0;
  if (pipe(ends) != 0) return;
  pthread_t thread = start(write_much, 0);
  for (ssize_t once; (once = read(ends[0], block, sizeof block)) > 0; total += once)
    for (ssize_t i = 0; i < once; i++) sum += block[i];
  equal("all bytes", total, 100 * 10007);
  equal("in order", sum, 10007L * 99 * 100 / 2);
  pthread_join(thread, NULL);
  close(ends[0]);
  if (pipe2(ends, O_NONBLOCK) != 0) return;
  int there = -1;
  refused("empty", read(ends[0], block, 1), EAGAIN);
  step("five bytes", write(ends[1], "12345", 5) == 5 && ioctl(ends[0], FIONREAD, &there) == 0);
  equal("are there", there, 5);
  struct iovec parts[2] = {{block, 2}, {block + 2, 10}};
  step("scattered", readv(ends[0], parts, 2) == 5 && memcmp(block, "12345", 5) == 0);
  equal("pipe size", fcntl(ends[1], F_GETPIPE_SZ), 65536);
  close(ends[1]);
  equal("the end", read(ends[0], block, 1), 0);
  close(ends[0]);
}

static void events(void) {
  uint64_t value = 5;
  event = eventfd(3, EFD_NONBLOCK);
  step("eventfd", event >= 0 && write(event, &value, 8) == 8 && read(event, &value, 8) == 8);
  equal("adds up", (long)value, 8);
  refused("nothing left", read(event, &value, 8), EAGAIN);
  value = UINT64_MAX - 1;
  step("full", write(event, &value, 8) == 8);
  value = 1;
  refused("no more", write(event, &value, 8), EAGAIN);
  value = UINT64_MAX;
  refused("not a number of it", write(event, &value, 8), EINVAL);
  refused("too short", write(event, &value, 7), EINVAL);
  close(event);
  event = eventfd(2, EFD_SEMAPHORE);
  step("semaphore", read(event, &value, 8) == 8 && value == 1);
  step("twice", read(event, &value, 8) == 8 && value == 1);
  pthread_t thread = start(write_late, event);
  step("waits for a third", read(event, &value, 8) == 8 && value == 1);
  pthread_join(thread, NULL);
}

static void polls(void) {
  if (pipe(ends) != 0) return;
  struct pollfd fds[3] = {{ends[0], POLLIN, 0}, {ends[1], POLLOUT, 0}, {-1, POLLIN, 0}};
  equal("writable", poll(fds, 3, 0), 1);
  step("that one", fds[0].revents == 0 && fds[1].revents == POLLOUT && fds[2].revents == 0);
  fds[1].fd = 900;
  equal("not open", poll(fds, 2, 0), 1);
  step("is said", fds[1].revents == POLLNVAL);
  fds[1].fd = -1;
  const long begin = now_milliseconds(CLOCK_MONOTONIC);
  equal("nothing within 20 ms", poll(fds, 2, 20), 0);
  step("waited", now_milliseconds(CLOCK_MONOTONIC) - begin >= 20);
  pthread_t thread = start(write_late, ends[1]);
  equal("another thread writes", poll(fds, 1, 10000), 1);
  step("readable", fds[0].revents == POLLIN);
  pthread_join(thread, NULL);
  fd_set reading, writing;
  FD_ZERO(&reading);
  FD_ZERO(&writing);
  FD_SET(ends[0], &reading);
  FD_SET(ends[1], &writing);
  equal("select", select(ends[1] + 1, &reading, &writing, NULL, NULL), 2);
  char block[8];
  if (read(ends[0], block, 8) != 8) step("read", 0);
  struct timeval time = {0, 10000};
  FD_SET(ends[0], &reading);
  equal("select in vain", select(ends[0] + 1, &reading, NULL, NULL, &time), 0);
  step("set is empty", !FD_ISSET(ends[0], &reading));
  thread = start(close_late, ends[1]);
  equal("other end closed", poll(fds, 1, 10000), 1);
  step("hung up", fds[0].revents == POLLHUP);
  pthread_join(thread, NULL);
  close(ends[0]);
}

static int waited(int epoll, struct epoll_event* seen, int timeout) {
  memset(seen, 0, 4 * sizeof *seen);
  return epoll_wait(epoll, seen, 4, timeout);
}

static void epolls(void) {
  struct epoll_event in = {.events = EPOLLIN, .data.u64 = 11}, seen[4];
  char block[65536];
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (pipe2(ends, O_NONBLOCK) != 0) return;
  step("epoll", epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &in) == 0);
  refused("twice", epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &in), EEXIST);
  refused("not there", epoll_ctl(epoll, EPOLL_CTL_MOD, ends[1], &in), ENOENT);
  refused("itself", epoll_ctl(epoll, EPOLL_CTL_ADD, epoll, &in), EINVAL);
  equal("quiet", waited(epoll, seen, 0), 0);
  pthread_t thread = start(write_late, ends[1]);
  equal("woken", waited(epoll, seen, 10000), 1);
  step("with its data", seen[0].events == EPOLLIN && seen[0].data.u64 == 11);
  pthread_join(thread, NULL);
  equal("still", waited(epoll, seen, 0), 1);
  in.events = EPOLLIN | EPOLLET;
  epoll_ctl(epoll, EPOLL_CTL_MOD, ends[0], &in);
  equal("edge once", waited(epoll, seen, 0), 1);
  equal("then none", waited(epoll, seen, 0), 0);
  step("a second write", write(ends[1], "x", 1) == 1);
  equal("a new edge", waited(epoll, seen, 0), 1);
  in.events = EPOLLIN | EPOLLONESHOT;
  epoll_ctl(epoll, EPOLL_CTL_MOD, ends[0], &in);
  equal("one shot", waited(epoll, seen, 0), 1);
  step("a third write", write(ends[1], "x", 1) == 1);
  equal("silent until set again", waited(epoll, seen, 0), 0);
  epoll_ctl(epoll, EPOLL_CTL_MOD, ends[0], &in);
  equal("set again", waited(epoll, seen, 0), 1);
  while (write(ends[1], block, sizeof block) > 0) {
  }
  struct epoll_event out = {.events = EPOLLOUT, .data.u64 = 22};
  epoll_ctl(epoll, EPOLL_CTL_ADD, ends[1], &out);
  equal("full pipe", waited(epoll, seen, 0), 0);
  thread = start(read_late, ends[0]);
  equal("room again", waited(epoll, seen, 10000), 1);
  step("for the writer", seen[0].data.u64 == 22 && seen[0].events == EPOLLOUT);
  pthread_join(thread, NULL);
  step("removed", epoll_ctl(epoll, EPOLL_CTL_DEL, ends[1], NULL) == 0);
  refused("twice removed", epoll_ctl(epoll, EPOLL_CTL_DEL, ends[1], NULL), ENOENT);
  in.events = EPOLLIN;
  epoll_ctl(epoll, EPOLL_CTL_MOD, ends[0], &in);
  close(ends[1]);
  equal("hung up", waited(epoll, seen, 0), 1);
  step("is told unasked", (seen[0].events & EPOLLHUP) != 0);
  close(ends[0]);
  equal("closed is forgotten", waited(epoll, seen, 0), 0);
  close(epoll);
}

int main(void) {
  pipes();
  events();
  polls();
  epolls();
  return failed_steps;
}
