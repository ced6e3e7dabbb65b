/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs of Unix sockets inside one program: streams, datagrams, packets, descriptors passed along.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "step.h"

static int pair[2];

static void* echo(void* unused) {
  char block[1000];
  for (ssize_t once; (once = read(pair[1], block, sizeof block)) > 0;)
    for (ssize_t at = 0; at < once;) at += write(pair[1], block + at, (size_t)(once - at));
  shutdown(pair[1], SHUT_WR);
  return unused;
}

static void streams(void) {
  char block[100];
  long total = 0;
  pthread_t thread;
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return step("stream", 0);
  pthread_create(&thread, NULL, echo, NULL);
  for (int i = 0; i < 200; i++) {
    memset(block, i, sizeof block);
    if (send(pair[0], block, sizeof block, 0) != sizeof block) break;
    if (recv(pair[0], block, sizeof block, MSG_WAITALL) != sizeof block || block[99] != (char)i)
      break;
    total += sizeof block;
  }
  equal("there and back", total, 20000);
  shutdown(pair[0], SHUT_WR);
  equal("the end", recv(pair[0], block, 1, 0), 0);
  pthread_join(thread, NULL);
  refused("after shutdown", send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
  close(pair[1]);
  close(pair[0]);
}

static void stream_details(void) {
  char block[100];
  int there = 0;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) return;
  step("flags", fcntl(pair[0], F_GETFD) == FD_CLOEXEC && (fcntl(pair[0], F_GETFL) & O_NONBLOCK));
  refused("empty", recv(pair[0], block, 1, 0), EAGAIN);
  step("peek", write(pair[1], "hello", 5) == 5 && recv(pair[0], block, 3, MSG_PEEK) == 3);
  step("count", ioctl(pair[0], FIONREAD, &there) == 0 && there == 5);
  step("still there", recv(pair[0], block, sizeof block, 0) == 5 && memcmp(block, "hello", 5) == 0);
  struct pollfd poll_end = {pair[0], POLLIN | POLLOUT | POLLRDHUP, 0};
  step("poll", poll(&poll_end, 1, 0) == 1 && poll_end.revents == POLLOUT);
  close(pair[1]);
  step("peer gone",
       poll(&poll_end, 1, 0) == 1 && poll_end.revents == (POLLIN | POLLOUT | POLLHUP | POLLRDHUP));
  equal("read", read(pair[0], block, 1), 0);
  refused("write", send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
  close(pair[0]);
}

static void packets(int type, const char* name) {
  char block[100];
  struct iovec part = {block, 3};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  puts(name);
  if (socketpair(AF_UNIX, type, 0, pair) != 0) return step("socketpair", 0);
  step("three messages", send(pair[0], "first", 5, 0) == 5 && send(pair[0], "second", 6, 0) == 6 &&
                             send(pair[0], "", 0, 0) == 0);
  equal("whole", recv(pair[1], block, sizeof block, 0), 5);
  equal("cut short", recvmsg(pair[1], &message, 0), 3);
  step("and says so", (message.msg_flags & MSG_TRUNC) != 0);
  equal("empty", recv(pair[1], block, sizeof block, MSG_DONTWAIT), 0);
  refused("no more", recv(pair[1], block, sizeof block, MSG_DONTWAIT), EAGAIN);
  send(pair[0], "longer", 6, 0);
  equal("true length", recv(pair[1], block, 2, MSG_TRUNC), 6);
  int kind = 0;
  socklen_t size = sizeof kind;
  step("type", getsockopt(pair[0], SOL_SOCKET, SO_TYPE, &kind, &size) == 0 && kind == type);
  close(pair[0]);
  close(pair[1]);
}

/* Sends `fd` with one byte. */
static ssize_t send_descriptor(int fd) {
  char byte = 'd', control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec part = {&byte, 1};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return sendmsg(pair[0], &message, 0);
}

static int receive_descriptor(void) {
  int fd = -1;
  char byte, control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec part = {&byte, 1};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  if (recvmsg(pair[1], &message, MSG_CMSG_CLOEXEC) != 1) return -1;
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == NULL || header->cmsg_type != SCM_RIGHTS) return -1;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

static void descriptors(void) {
  int ends[2];
  char block[8];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 || pipe(ends) != 0) return;
  equal("descriptor sent", send_descriptor(ends[0]), 1);
  close(ends[0]);
  const int received = receive_descriptor();
  step("received", received >= 0 && (fcntl(received, F_GETFD) & FD_CLOEXEC));
  step("is the pipe", write(ends[1], "pipe", 4) == 4 && read(received, block, 8) == 4);
  close(ends[1]);
  equal("closed by the writer", read(received, block, 8), 0);
  refused("no descriptor", send_descriptor(900), EBADF);
  close(received);
  close(pair[0]);
  close(pair[1]);
}

static void names(void) {
  struct sockaddr_un address;
  socklen_t size = sizeof address;
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return;
  step("no name", getsockname(pair[0], (struct sockaddr*)&address, &size) == 0 &&
                      address.sun_family == AF_UNIX && size == 2);
  size = sizeof address;
  step("nor the peer", getpeername(pair[0], (struct sockaddr*)&address, &size) == 0 && size == 2);
  refused("other families", socketpair(AF_INET, SOCK_STREAM, 0, pair), EOPNOTSUPP);
  refused("no such type", socketpair(AF_UNIX, 77, 0, pair), EINVAL);
  refused("not a socket", send(1, "x", 1, 0), ENOTSOCK);
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  streams();
  stream_details();
  packets(SOCK_DGRAM, "datagrams:");
  packets(SOCK_SEQPACKET, "packets:");
  descriptors();
  names();
  return failed_steps;
}
