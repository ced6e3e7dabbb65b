/* SPDX-License-Identifier: Apache-2.0 */
/*
 * play_calls FOLDER: makes the system calls that standard input lists and prints what each gave.
 *
 * One call a line: its name and arguments, separated by blanks. `dN` is one of 8 descriptors, `mN`
 * one of 4 mappings, a path is relative and `-` is the empty one, numbers are in C's notation.
 * `sequence N` closes everything and goes on in the new folder FOLDER/N/w/w. What is printed is the
 * same on every Linux: no addresses, no descriptor's number, no inode, no time. At the end of a
 * sequence its folder is listed with the contents of all files.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { kDescriptors = 8, kMappings = 4, kBuffer = 1 << 17, kWords = 10, kPage = 4096 };

struct mapping {
  char* start;
  size_t size;
};

static int descriptors[kDescriptors];
static struct mapping mappings[kMappings];
static unsigned char buffer[kBuffer];
static char* word[kWords];
static uintptr_t next_place; /* where the next mapping goes */
static char folder[512];
static char start[600];
static int probe[2]; /* a pipe through which mappings are read and written without a fault */

static long number(int at) { return word[at] == NULL ? 0 : strtol(word[at], NULL, 0); }

static int slot(int at, int count) {
  return word[at] == NULL ? 0 : (int)((unsigned)atoi(word[at] + 1) % (unsigned)count);
}
static int* descriptor(int at) { return &descriptors[slot(at, kDescriptors)]; }
static struct mapping* mapping(int at) { return &mappings[slot(at, kMappings)]; }
static const char* path(int at) {
  return word[at] == NULL || strcmp(word[at], "-") == 0 ? "" : word[at];
}
static size_t length(int at) {
  const long value = number(at);
  return value < 0 || value > kBuffer ? kBuffer : (size_t)value;
}

/* Bytes that tell where they were written from. */
static void fill(size_t size, long seed) {
  for (size_t i = 0; i < size; i++)
    buffer[i] = (unsigned char)(seed * 31 + (long)(i * 7 + i / 251));
}

static void show_bytes(const unsigned char* bytes, long size) {
  uint64_t hash = 14695981039346656037u;
  for (long i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
  printf(" [%016llx", (unsigned long long)hash);
  for (long i = 0; i < size && i < 8; i++) printf(" %02x", bytes[i]);
  printf("]");
}

static long show(long result) {
  if (result < 0)
    printf(" = E%d", errno);
  else
    printf(" = %ld", result);
  return result;
}

/* The result is a descriptor: it goes into its slot, and what was there is closed. */
static void keep(int at, int fd) {
  show(fd < 0 ? -1 : 0);
  if (fd < 0) return;
  if (*descriptor(at) >= 0) close(*descriptor(at));
  *descriptor(at) = fd;
}

static void show_status(int result, const struct stat* status) {
  if (show(result) < 0) return;
  printf(" mode %o", status->st_mode);
  if (S_ISREG(status->st_mode))
    printf(" size %lld links %d", (long long)status->st_size, (int)status->st_nlink);
  if (S_ISLNK(status->st_mode)) printf(" size %lld", (long long)status->st_size);
  if (S_ISREG(status->st_mode) && status->st_mtim.tv_sec < 1000000)
    printf(" modified %lld", (long long)status->st_mtim.tv_sec);
}

/* Files and their names. */
static void call_open(void) { keep(1, open(path(2), (int)number(3), (mode_t)number(4))); }
static void call_openat(void) {
  keep(1, openat(*descriptor(2), path(3), (int)number(4), (mode_t)number(5)));
}
static void call_close(void) {
  show(close(*descriptor(1)));
  *descriptor(1) = -1;
}
static void call_stat(void) {
  struct stat status;
  show_status(stat(path(1), &status), &status);
}
static void call_lstat(void) {
  struct stat status;
  show_status(lstat(path(1), &status), &status);
}
static void call_fstat(void) {
  struct stat status;
  show_status(fstat(*descriptor(1), &status), &status);
}
static void call_fstatat(void) {
  struct stat status;
  show_status(fstatat(*descriptor(1), path(2), &status, (int)number(3)), &status);
}
static void call_mkdir(void) { show(mkdir(path(1), (mode_t)number(2))); }
static void call_mkdirat(void) { show(mkdirat(*descriptor(1), path(2), (mode_t)number(3))); }
static void call_rmdir(void) { show(rmdir(path(1))); }
static void call_unlink(void) { show(unlink(path(1))); }
static void call_unlinkat(void) { show(unlinkat(*descriptor(1), path(2), (int)number(3))); }
static void call_rename(void) { show(rename(path(1), path(2))); }
static void call_renameat2(void) {
  show(syscall(SYS_renameat2, *descriptor(1), path(2), *descriptor(3), path(4), number(5)));
}
static void call_link(void) { show(link(path(1), path(2))); }
static void call_linkat(void) {
  show(linkat(*descriptor(1), path(2), *descriptor(3), path(4), (int)number(5)));
}
static void call_symlink(void) { show(symlink(path(1), path(2))); }
static void call_readlink(void) {
  const long size = show(readlink(path(1), (char*)buffer, length(2)));
  if (size > 0) printf(" %.*s", (int)size, (char*)buffer);
}
static void call_chmod(void) { show(chmod(path(1), (mode_t)number(2))); }
static void call_fchmod(void) { show(fchmod(*descriptor(1), (mode_t)number(2))); }
static void call_access(void) { show(access(path(1), (int)number(2))); }
static void call_umask(void) { printf(" = %o", umask((mode_t)number(1) & 0777)); }
static void call_utimens(void) {
  struct timespec times[2] = {{number(2), 0}, {number(2), 0}};
  show(utimensat(AT_FDCWD, path(1), times, (int)number(3)));
}
static void call_truncate(void) { show(truncate(path(1), number(2))); }
static void call_chdir(void) { show(chdir(path(1))); }
static void call_fchdir(void) { show(fchdir(*descriptor(1))); }

static int by_name(const void* one, const void* two) { return strcmp(one, two); }

static void call_getdents(void) {
  static char names[64][40];
  int count = 0;
  struct dirent64* entry;
  lseek(*descriptor(1), 0, SEEK_SET);
  long size;
  while ((size = syscall(SYS_getdents64, *descriptor(1), buffer, 4096)) > 0)
    for (long at = 0; at < size && count < 64; at += entry->d_reclen) {
      entry = (struct dirent64*)(void*)(buffer + at);
      snprintf(names[count++], sizeof names[0], "%.30s:%d", entry->d_name, entry->d_type);
    }
  show(size);
  qsort(names, (size_t)count, sizeof names[0], by_name);
  for (int i = 0; i < count; i++) printf(" %s", names[i]);
}

/* Contents. */
static void call_read(void) {
  const long size = show(read(*descriptor(1), buffer, length(2)));
  show_bytes(buffer, size);
}
static void call_pread(void) {
  const long size = show(pread(*descriptor(1), buffer, length(2), number(3)));
  show_bytes(buffer, size);
}
static void call_write(void) {
  fill(length(2), number(3));
  show(write(*descriptor(1), buffer, length(2)));
}
static void call_pwrite(void) {
  fill(length(2), number(4));
  show(pwrite(*descriptor(1), buffer, length(2), number(3)));
}
static void call_readv(void) {
  struct iovec parts[3] = {{buffer, length(2) / 2}, {buffer, 0}, {buffer + 65536, length(3) / 2}};
  memset(buffer, 0, sizeof buffer);
  show(readv(*descriptor(1), parts, 3));
  show_bytes(buffer, kBuffer);
}
static void call_writev(void) {
  fill(kBuffer, number(4));
  struct iovec parts[3] = {{buffer, length(2) / 2}, {buffer, 0}, {buffer + 65536, length(3) / 2}};
  show(writev(*descriptor(1), parts, 3));
}
/* Where a directory ends is a matter of its file system. */
static void call_lseek(void) {
  struct stat status;
  const int whence = (int)number(3);
  if (whence >= SEEK_END && fstat(*descriptor(1), &status) == 0 && S_ISDIR(status.st_mode)) return;
  show(lseek(*descriptor(1), number(2), whence));
}
static void call_ftruncate(void) { show(ftruncate(*descriptor(1), number(2))); }
static void call_fallocate(void) {
  show(fallocate(*descriptor(1), (int)number(2), number(3), number(4)));
}
/* Bytes that a file is given of itself and that are written over before they are read: Linux hands
   its page cache's own pages on, so that what comes out depends on the instructions with which the
   processor copies. */
static int overruns_itself(int to, int from, off_t at, size_t bytes) {
  struct stat in, out;
  if (fstat(to, &out) != 0 || fstat(from, &in) != 0 || !S_ISREG(in.st_mode)) return 0;
  const off_t start = at < 0 ? lseek(from, 0, SEEK_CUR) : at;
  const off_t target = lseek(to, 0, SEEK_CUR);
  return in.st_dev == out.st_dev && in.st_ino == out.st_ino && target > start &&
         target < start + (off_t)bytes;
}
static void call_sendfile(void) {
  off_t at = number(3);
  if (overruns_itself(*descriptor(1), *descriptor(2), at, length(4))) return;
  show(sendfile(*descriptor(1), *descriptor(2), at < 0 ? NULL : &at, length(4)));
  printf(" at %lld", (long long)at);
}
static void call_copy_file_range(void) {
  off_t in = number(3), out = number(4);
  show(copy_file_range(*descriptor(1), in < 0 ? NULL : &in, *descriptor(2), out < 0 ? NULL : &out,
                       length(5), 0));
  printf(" at %lld %lld", (long long)in, (long long)out);
}
static void call_fsync(void) { show(fsync(*descriptor(1))); }
static void call_flock(void) { show(flock(*descriptor(1), (int)number(2) | LOCK_NB)); }
static void call_lock(void) {
  struct flock range = {.l_type = (short)number(2), .l_start = number(3), .l_len = number(4)};
  show(fcntl(*descriptor(1), F_OFD_SETLK, &range));
}

/* Descriptors. */
static void call_dup(void) { keep(2, dup(*descriptor(1))); }
static void call_dup3(void) {
  const int fd = *descriptor(2);
  if (fd < 0) return keep(2, fcntl(*descriptor(1), F_DUPFD_CLOEXEC, 30));
  show(dup3(*descriptor(1), fd, (int)number(3)) >= 0 ? 0 : -1);
}
static void call_getfd(void) { show(fcntl(*descriptor(1), F_GETFD)); }
static void call_setfd(void) { show(fcntl(*descriptor(1), F_SETFD, (int)number(2))); }
static void call_getfl(void) { show(fcntl(*descriptor(1), F_GETFL)); }
/* Never blocking: nobody is there who could end a wait. */
static void call_setfl(void) { show(fcntl(*descriptor(1), F_SETFL, number(2) | O_NONBLOCK)); }
static void call_pending(void) {
  int count = -1;
  show(ioctl(*descriptor(1), FIONREAD, &count));
  printf(" %d", count);
}
static void keep_pair(int result, const int* pair) {
  if (result != 0) return (void)show(result);
  keep(1, pair[0]);
  keep(2, pair[1]);
}
static void call_pipe(void) {
  int pair[2];
  keep_pair(pipe2(pair, (int)number(3) | O_NONBLOCK), pair);
}
static void call_socketpair(void) {
  int pair[2];
  keep_pair(socketpair(AF_UNIX, (int)number(3) | SOCK_NONBLOCK, 0, pair), pair);
}
static void call_send(void) {
  fill(length(2), number(3));
  show(send(*descriptor(1), buffer, length(2), MSG_NOSIGNAL | (int)number(4)));
}
static void call_recv(void) {
  const long size = show(recv(*descriptor(1), buffer, length(2), MSG_DONTWAIT | (int)number(3)));
  show_bytes(buffer, size > (long)length(2) ? (long)length(2) : size);
}
static void call_shutdown(void) { show(shutdown(*descriptor(1), (int)number(2))); }
static void call_eventfd(void) {
  keep(1, eventfd((unsigned)number(2), (int)number(3) | EFD_NONBLOCK));
}
static void call_add(void) {
  const uint64_t value = (uint64_t)number(2);
  show(write(*descriptor(1), &value, 8));
}
static void call_memfd(void) { keep(1, memfd_create("memory", (unsigned)number(2))); }
static void call_poll(void) {
  struct pollfd fds[2] = {{*descriptor(1), (short)number(3), 0},
                          {*descriptor(2), (short)number(3), 0}};
  show(poll(fds, 2, 0));
  printf(" %x %x", (unsigned)fds[0].revents, (unsigned)fds[1].revents);
}
static void call_epoll(void) { keep(1, epoll_create1(0)); }
static void call_epoll_ctl(void) {
  struct epoll_event event = {.events = (uint32_t)number(4),
                              .data.u32 = (uint32_t)slot(3, kDescriptors)};
  show(epoll_ctl(*descriptor(1), (int)number(2), *descriptor(3), &event));
}
static void call_epoll_wait(void) {
  struct epoll_event events[8];
  const long count = show(epoll_wait(*descriptor(1), events, 8, 0));
  for (uint32_t id = 0; id < kDescriptors; id++)
    for (long i = 0; i < count; i++)
      if (events[i].data.u32 == id) printf(" d%u:%x", id, events[i].events);
}

/* Memory. */
static void call_mmap(void) {
  struct mapping* to = mapping(1);
  const int flags = (int)number(5);
  const int fd = (flags & MAP_ANONYMOUS) != 0 ? -1 : *descriptor(2);
  /* Far from everything else: what lies behind a mapping is nobody's. */
  char* hint = (char*)(uintptr_t)(0x100000000000 + next_place++ % 256 * 0x1000000);
  char* at = mmap(hint, (size_t)number(3), (int)number(4), flags, fd, number(6));
  show(at == MAP_FAILED ? -1 : 0);
  if (at == MAP_FAILED) return;
  if (to->start != NULL) munmap(to->start, to->size);
  to->start = at;
  to->size = (size_t)number(3);
}
/* An address inside a mapping, also beyond its end, or one that is nobody's. */
static char* place(int at, int offset) {
  char* from = mapping(at)->start;
  return from == NULL ? (char*)(uintptr_t)0x10000000 : from + number(offset);
}
static void call_munmap(void) {
  if (mapping(1)->start == NULL) return;
  show(munmap(place(1, 2), (size_t)number(3)));
}
static void call_mprotect(void) { show(syscall(SYS_mprotect, place(1, 2), number(3), number(4))); }
static void call_madvise(void) { show(madvise(place(1, 2), (size_t)number(3), (int)number(4))); }
static void call_msync(void) { show(msync(place(1, 2), (size_t)number(3), (int)number(4))); }
static void call_mremap(void) {
  struct mapping* of = mapping(1);
  if (of->start == NULL) return;
  char* at = mremap(of->start, of->size, (size_t)number(2), MREMAP_MAYMOVE);
  show(at == MAP_FAILED ? -1 : 0);
  if (at == MAP_FAILED) return;
  of->start = at;
  of->size = (size_t)number(2);
}
/* Within one page, so that a refusal is never half of one. */
static size_t in_page(const char* at, int word_at) {
  const size_t left = kPage - (uintptr_t)at % kPage;
  return length(word_at) < left ? length(word_at) : left;
}
static void call_look(void) {
  char* at = place(1, 2);
  const long size = show(write(probe[1], at, in_page(at, 3)));
  if (size > 0 && read(probe[0], buffer, (size_t)size) == size) show_bytes(buffer, size);
}
static void call_put(void) {
  char* at = place(1, 2);
  const size_t size = in_page(at, 3);
  fill(size, number(4));
  if (size == 0 || write(probe[1], buffer, size) != (ssize_t)size) return;
  show(read(probe[0], at, size));
  while (read(probe[0], buffer, kBuffer) > 0) {
  }
}
static void call_futex(void) {
  struct timespec time = {0, 1000000};
  const int op = (int)number(2);
  show(syscall(SYS_futex, place(1, 3), op, number(4),
               (op & 127) == 3 || (op & 127) == 4 ? (void*)1 : (void*)&time, place(1, 5),
               number(6)));
}

struct call {
  const char* name;
  void (*make)(void);
};
#define CALL(name) \
  { #name, call_##name }
static const struct call kCalls[] = {CALL(open),      CALL(openat),
                                     CALL(close),     CALL(stat),
                                     CALL(lstat),     CALL(fstat),
                                     CALL(fstatat),   CALL(mkdir),
                                     CALL(mkdirat),   CALL(rmdir),
                                     CALL(unlink),    CALL(unlinkat),
                                     CALL(rename),    CALL(renameat2),
                                     CALL(link),      CALL(linkat),
                                     CALL(symlink),   CALL(readlink),
                                     CALL(chmod),     CALL(fchmod),
                                     CALL(access),    CALL(umask),
                                     CALL(utimens),   CALL(truncate),
                                     CALL(chdir),     CALL(fchdir),
                                     CALL(getdents),  CALL(read),
                                     CALL(pread),     CALL(write),
                                     CALL(pwrite),    CALL(readv),
                                     CALL(writev),    CALL(lseek),
                                     CALL(ftruncate), CALL(fallocate),
                                     CALL(sendfile),  CALL(copy_file_range),
                                     CALL(fsync),     CALL(flock),
                                     CALL(lock),      CALL(dup),
                                     CALL(dup3),      CALL(getfd),
                                     CALL(setfd),     CALL(getfl),
                                     CALL(setfl),     CALL(pending),
                                     CALL(pipe),      CALL(socketpair),
                                     CALL(send),      CALL(recv),
                                     CALL(shutdown),  CALL(eventfd),
                                     CALL(add),       CALL(memfd),
                                     CALL(poll),      CALL(epoll),
                                     CALL(epoll_ctl), CALL(epoll_wait),
                                     CALL(mmap),      CALL(munmap),
                                     CALL(mprotect),  CALL(madvise),
                                     CALL(msync),     CALL(mremap),
                                     CALL(look),      CALL(put),
                                     CALL(futex)};

/* What a sequence leaves: every name below the working folder, with modes and contents. */
static void list(const char* name, int depth) {
  struct stat status;
  if (depth > 20 || lstat(name, &status) != 0) return;
  printf("  %s", name);
  show_status(0, &status);
  if (S_ISREG(status.st_mode)) {
    chmod(name, 0600);
    const int fd = open(name, O_RDONLY);
    long size = 0;
    for (ssize_t once; (once = read(fd, buffer, kBuffer)) > 0; size += once)
      show_bytes(buffer, once);
    close(fd);
  }
  printf("\n");
  if (!S_ISDIR(status.st_mode)) return;
  chmod(name, 0700);
  struct dirent** entries;
  const int count = scandir(name, &entries, NULL, alphasort);
  for (int i = 0; i < count; i++) {
    char inner[1024];
    snprintf(inner, sizeof inner, "%s/%s", name, entries[i]->d_name);
    if (strcmp(entries[i]->d_name, ".") != 0 && strcmp(entries[i]->d_name, "..") != 0)
      list(inner, depth + 1);
    free(entries[i]);
  }
  if (count >= 0) free(entries);
}

static void end_sequence(void) {
  for (int i = 0; i < kDescriptors; i++) {
    if (descriptors[i] >= 0) close(descriptors[i]);
    descriptors[i] = -1;
  }
  for (int i = 0; i < kMappings; i++) {
    if (mappings[i].start != NULL) munmap(mappings[i].start, mappings[i].size);
    mappings[i].start = NULL;
  }
  next_place = 0;
  umask(022);
  if (start[0] != 0 && chdir(start) == 0) list(".", 0);
}

static void begin_sequence(void) {
  printf(" %ld", number(1));
  snprintf(start, sizeof start, "%s/%ld", folder, number(1));
  int ok = mkdir(start, 0755) == 0 && chdir(start) == 0;
  for (int i = 0; i < 2; i++) ok = ok && mkdir("w", 0755) == 0 && chdir("w") == 0;
  strcat(start, "/w/w");
  if (!ok) printf(" no folder: %s", strerror(errno));
}

static void make_call(void) {
  if (strcmp(word[0], "sequence") == 0) end_sequence();
  printf("%s", word[0]);
  if (strcmp(word[0], "sequence") == 0) begin_sequence();
  for (size_t i = 0; i < sizeof kCalls / sizeof kCalls[0]; i++)
    if (strcmp(kCalls[i].name, word[0]) == 0) kCalls[i].make();
  printf("\n");
}

int main(int argc, char** argv) {
  char line[512];
  static char output[1 << 16];
  snprintf(folder, sizeof folder, "%s", argc > 1 ? argv[1] : "/tmp");
  setvbuf(stdout, output, _IOFBF, sizeof output);
  signal(SIGPIPE, SIG_IGN);
  for (int i = 0; i < kDescriptors; i++) descriptors[i] = -1;
  if (pipe2(probe, O_NONBLOCK) != 0) return 99;
  while (fgets(line, sizeof line, stdin) != NULL) {
    int words = 0;
    memset(word, 0, sizeof word);
    for (char* at = strtok(line, " \n"); at != NULL && words < kWords; at = strtok(NULL, " \n"))
      word[words++] = at;
    if (words > 0) make_call();
  }
  end_sequence();
  return 0;
}
