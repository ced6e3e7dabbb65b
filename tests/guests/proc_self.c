/* SPDX-License-Identifier: Apache-2.0 */
/* /proc as programs read it about themselves, and the devices that are always there. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "step.h"

static char text[1 << 20];

/* The whole file, as a string. */
static ssize_t read_all(const char* name) {
  const int fd = open(name, O_RDONLY);
  size_t size = 0;
  if (fd < 0) return -1;
  for (ssize_t once; (once = read(fd, text + size, sizeof text - 1 - size)) > 0;)
    size += (size_t)once;
  close(fd);
  text[size] = 0;
  return (ssize_t)size;
}

static int has_line(const char* start) {
  for (const char* at = text; (at = strstr(at, start)) != NULL; at++)
    if (at == text || at[-1] == '\n') return 1;
  return 0;
}

static void own_names(const char* self) {
  char link[4096] = {0};
  struct stat one, two;
  step("cmdline", read_all("/proc/self/cmdline") > 0 && strcmp(text, self) == 0);
  const char* name = strrchr(self, '/') != NULL ? strrchr(self, '/') + 1 : self;
  const ssize_t size = readlink("/proc/self/exe", link, sizeof link - 1);
  step("exe", size > 0 && strcmp(strrchr(link, '/') + 1, name) == 0);
  char comm[17] = {0};
  strncpy(comm, name, 15);
  strcat(comm, "\n");
  step("comm", read_all("/proc/self/comm") > 0 && strcmp(text, comm) == 0);
  step("cwd", readlink("/proc/self/cwd", link, sizeof link - 1) > 0 && link[0] == '/');
  step("root", (memset(link, 0, sizeof link), readlink("/proc/self/root", link, 100) == 1) &&
                   link[0] == '/');
  snprintf(link, sizeof link, "/proc/%d/status", getpid());
  step("by number", stat(link, &one) == 0 && S_ISREG(one.st_mode));
  step("self is a link", lstat("/proc/self", &one) == 0 && S_ISLNK(one.st_mode));
  const int fd = open("/proc/self/exe", O_RDONLY);
  char magic[4] = {0};
  step("exe is the program",
       fd >= 0 && read(fd, magic, 4) == 4 && memcmp(magic, "\177ELF", 4) == 0);
  close(fd);
  step("status", stat("/proc/self/status", &two) == 0);
}

static void own_state(void) {
  char pattern[64];
  snprintf(pattern, sizeof pattern, "Pid:\t%d\n", getpid());
  step("status", read_all("/proc/self/status") > 0 && has_line(pattern));
  step("one thread", has_line("Threads:\t1\n"));
  step("its memory", has_line("VmRSS:") && has_line("VmSize:"));
  step("signals", has_line("SigBlk:") && has_line("SigCgt:"));
  snprintf(pattern, sizeof pattern, "%d (", getpid());
  step("stat", read_all("/proc/self/stat") > 0 && has_line(pattern));
  int fields = 0;
  for (const char* at = strrchr(text, ')'); at != NULL && *at != 0; at++) fields += *at == ' ';
  equal("its fields", fields, 50);
  long pages = 0;
  step("statm", read_all("/proc/self/statm") > 0 && (pages = atol(text)) > 0);
  step("limits", read_all("/proc/self/limits") <= 0 || has_line("Max open files"));
}

static void own_memory(void) {
  char pattern[64];
  volatile char here = 1;
  unsigned long low, high;
  char rights[8];
  char* page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int stack = 0, code = 0, data = 0;
  step("maps", read_all("/proc/self/maps") > 0);
  for (char* line = text; line != NULL && *line != 0;) {
    char* next = strchr(line, '\n');
    if (next != NULL) *next++ = 0;
    if (sscanf(line, "%lx-%lx %7s", &low, &high, rights) == 3) {
      if ((uintptr_t)&here >= low && (uintptr_t)&here < high)
        stack = strcmp(rights, "rw-p") == 0 && strstr(line, "[stack]") != NULL;
      if ((uintptr_t)own_memory >= low && (uintptr_t)own_memory < high)
        code = strcmp(rights, "r-xp") == 0 && strchr(line, '/') != NULL;
      if ((uintptr_t)page >= low && (uintptr_t)page < high) data = strcmp(rights, "r--p") == 0;
    }
    line = next;
  }
  step("stack in it", stack);
  step("code in it", code);
  step("a mapping in it", data);
  snprintf(pattern, sizeof pattern, "/proc/%d/maps", getpid());
  step("by number", read_all(pattern) > 0);
}

static void own_descriptors(void) {
  char link[64] = {0}, name[64];
  int ends[2], seen = 0;
  if (pipe(ends) != 0) return;
  snprintf(name, sizeof name, "/proc/self/fd/%d", ends[0]);
  step("a pipe's name",
       readlink(name, link, sizeof link - 1) > 0 && strncmp(link, "pipe:[", 6) == 0);
  DIR* dir = opendir("/proc/self/fd");
  for (struct dirent* entry; dir != NULL && (entry = readdir(dir)) != NULL;)
    if (atoi(entry->d_name) == ends[0] || atoi(entry->d_name) == ends[1]) seen++;
  equal("both listed", seen, 2);
  if (dir != NULL) closedir(dir);
  const int again = open("/proc/self/fd/1", O_WRONLY);
  step("opened again", again < 0 || (fcntl(again, F_GETFL) & O_ACCMODE) == O_WRONLY);
  close(again);
  snprintf(name, sizeof name, "/proc/self/fdinfo/%d", ends[1]);
  step("fdinfo", read_all(name) <= 0 || has_line("flags:"));
}

static void* listed(void* number) {
  int seen = 0;
  DIR* dir = opendir("/proc/self/task");
  for (struct dirent* entry; dir != NULL && (entry = readdir(dir)) != NULL;)
    seen += entry->d_name[0] != '.';
  if (dir != NULL) closedir(dir);
  *(int*)number = seen;
  return NULL;
}

static void machine(void) {
  step("meminfo", read_all("/proc/meminfo") > 0 && has_line("MemTotal:") && has_line("MemFree:") &&
                      has_line("MemAvailable:"));
  step("cpuinfo",
       read_all("/proc/cpuinfo") > 0 && has_line("processor\t: 0\n") && has_line("flags\t\t:"));
  step("uptime", read_all("/proc/uptime") > 0 && strtod(text, NULL) > 0);
  step("stat", read_all("/proc/stat") <= 0 || has_line("cpu "));
  step("filesystems", read_all("/proc/filesystems") <= 0 || strchr(text, '\t') != NULL);
  step("overcommit", read_all("/proc/sys/vm/overcommit_memory") <= 0 || text[1] == '\n');
  refused("no such process", open("/proc/4000000/status", O_RDONLY), ENOENT);
  refused("not made", open("/proc/self/new", O_CREAT | O_WRONLY, 0600), ENOENT);
}

static void devices(void) {
  char block[4096];
  struct stat status;
  memset(block, 1, sizeof block);
  int fd = open("/dev/zero", O_RDWR);
  step("zero", fd >= 0 && read(fd, block, sizeof block) == sizeof block && block[4095] == 0 &&
                   write(fd, block, 10) == 10);
  close(fd);
  fd = open("/dev/null", O_RDWR);
  step("null", fd >= 0 && read(fd, block, 10) == 0 && write(fd, block, 10) == 10);
  step("its number",
       fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3));
  struct pollfd poll_fd = {fd, POLLIN | POLLOUT, 0};
  step("always ready", poll(&poll_fd, 1, 0) == 1 && poll_fd.revents == (POLLIN | POLLOUT));
  close(fd);
  fd = open("/dev/full", O_RDWR);
  step("full", fd >= 0 && read(fd, block, 10) == 10);
  refused("is full", write(fd, block, 10), ENOSPC);
  close(fd);
  fd = open("/dev/urandom", O_RDONLY);
  memset(block, 0, sizeof block);
  int nonzero = 0;
  if (read(fd, block, sizeof block) == sizeof block)
    for (int i = 0; i < 4096; i++) nonzero += block[i] != 0;
  step("urandom", nonzero > 3800);
  close(fd);
  refused("no terminal", open("/dev/tty", O_RDWR), ENXIO);
  step("not a terminal", isatty(0) == 0);
}

int main(int argc, char** argv) {
  pthread_t thread;
  int number = 0;
  (void)argc;
  own_names(argv[0]);
  own_state();
  own_memory();
  own_descriptors();
  pthread_create(&thread, NULL, listed, &number);
  pthread_join(thread, NULL);
  equal("threads listed", number, 2);
  machine();
  devices();
  return failed_steps;
}
