/* SPDX-License-Identifier: Apache-2.0 */
/*
 * files_names [FOLDER]: everything about names: the *at calls, links, renaming, listing, modes,
 * working folders. Some of it stays behind for the caller to compare.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "step.h"

static int folder;

static int rename2(const char* from, const char* to, unsigned flags) {
  return (int)syscall(SYS_renameat2, folder, from, folder, to, flags);
}

static int make(const char* name, const char* text, int flags, mode_t mode) {
  const int fd = openat(folder, name, O_CREAT | O_WRONLY | flags, mode);
  if (fd < 0) return -1;
  const int ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
  return close(fd) == 0 && ok ? 0 : -1;
}

static int holds(const char* name, const char* text) {
  char block[64] = {0};
  const int fd = openat(folder, name, O_RDONLY);
  if (fd < 0) return 0;
  const ssize_t size = read(fd, block, sizeof block - 1);
  close(fd);
  return size == (ssize_t)strlen(text) && strcmp(block, text) == 0;
}

static mode_t mode_of(const char* name) {
  struct stat status;
  return fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 ? status.st_mode : 0;
}

static nlink_t links_of(const char* name) {
  struct stat status;
  return fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 ? status.st_nlink : 0;
}

static void opening(void) {
  umask(027);
  step("create", make("plain", "plain", O_EXCL, 0666) == 0 && mode_of("plain") == 0100640);
  refused("exclusive", openat(folder, "plain", O_CREAT | O_EXCL | O_WRONLY, 0600), EEXIST);
  step("mkdirat", mkdirat(folder, "dir", 0777) == 0 && mode_of("dir") == 0040750);
  refused("again", mkdirat(folder, "dir", 0777), EEXIST);
  refused("a folder is not written", openat(folder, "dir", O_WRONLY), EISDIR);
  refused("a file is not listed", openat(folder, "plain", O_RDONLY | O_DIRECTORY), ENOTDIR);
  refused("a file has no names", openat(folder, "plain/x", O_RDONLY), ENOTDIR);
  refused("nothing there", openat(folder, "none", O_RDONLY), ENOENT);
  refused("nothing below it", openat(folder, "none/x", O_CREAT | O_WRONLY, 0600), ENOENT);
  refused("no name", openat(folder, "", O_RDONLY), ENOENT);
  refused("not a folder", openat(1, "x", O_RDONLY), ENOTDIR);
  refused("not open", openat(900, "x", O_RDONLY), EBADF);
  char longest[300];
  memset(longest, 'n', sizeof longest);
  longest[255] = 0;
  step("255 letters", make(longest, "", O_EXCL, 0600) == 0 && unlinkat(folder, longest, 0) == 0);
  longest[255] = 'n';
  longest[256] = 0;
  refused("256 letters", openat(folder, longest, O_RDONLY), ENAMETOOLONG);
  const int fd = openat(folder, "plain", O_PATH);
  char byte;
  refused("O_PATH is not read", read(fd, &byte, 1), EBADF);
  close(fd);
  umask(022);
}

static void linking(void) {
  char text[64] = {0};
  step("symlinkat", symlinkat("plain", folder, "soft") == 0 && holds("soft", "plain"));
  equal("readlinkat", readlinkat(folder, "soft", text, sizeof text), 5);
  equal("cut short", readlinkat(folder, "soft", text, 3), 3);
  refused("not a link", readlinkat(folder, "plain", text, sizeof text), EINVAL);
  refused("not followed", openat(folder, "soft", O_RDONLY | O_NOFOLLOW), ELOOP);
  refused("exists though dangling", openat(folder, "soft", O_CREAT | O_EXCL | O_WRONLY, 0600),
          EEXIST);
  symlinkat("loop", folder, "loop");
  refused("in circles", openat(folder, "loop", O_RDONLY), ELOOP);
  symlinkat("made", folder, "dangling");
  step("made through a link", make("dangling", "made", 0, 0600) == 0 && holds("made", "made"));
  step("linkat", linkat(folder, "plain", folder, "hard", 0) == 0 && links_of("plain") == 2);
  step("of the link itself",
       linkat(folder, "soft", folder, "soft2", 0) == 0 && S_ISLNK(mode_of("soft2")));
  step("or where it leads",
       linkat(folder, "soft", folder, "hard2", AT_SYMLINK_FOLLOW) == 0 && links_of("plain") == 3);
  refused("there already", linkat(folder, "plain", folder, "hard", 0), EEXIST);
  refused("no folder", linkat(folder, "dir", folder, "dir2", 0), EPERM);
  step("one name less", unlinkat(folder, "hard2", 0) == 0 && links_of("plain") == 2);
  refused("unlink of a folder", unlinkat(folder, "dir", 0), EISDIR);
  refused("rmdir of a file", unlinkat(folder, "plain", AT_REMOVEDIR), ENOTDIR);
}

static void renaming(void) {
  make("a", "a", 0, 0600);
  make("b", "b", 0, 0600);
  step("over another", renameat(folder, "a", folder, "b") == 0 && holds("b", "a"));
  refused("gone", renameat(folder, "a", folder, "c"), ENOENT);
  make("c", "c", 0, 0600);
  refused("no replace", rename2("b", "c", 1), EEXIST);
  step("exchange", rename2("b", "c", 2) == 0 && holds("b", "c") && holds("c", "a"));
  step("exchange with a folder", rename2("b", "dir", 2) == 0 && holds("dir", "c") &&
                                     S_ISDIR(mode_of("b")) && rename2("b", "dir", 2) == 0);
  refused("exchange with nothing", rename2("b", "nothing", 2), ENOENT);
  refused("both flags", rename2("b", "c", 3), EINVAL);
  mkdirat(folder, "dir/inner", 0700);
  refused("into itself", renameat(folder, "dir", folder, "dir/inner/x"), EINVAL);
  refused("a file over a folder", renameat(folder, "b", folder, "dir"), EISDIR);
  refused("a folder over a file", renameat(folder, "dir", folder, "b"), ENOTDIR);
  mkdirat(folder, "full", 0700);
  make("full/x", "x", 0, 0600);
  refused("over a full folder", renameat(folder, "dir/inner", folder, "full"), ENOTEMPTY);
  refused("rmdir of a full one", unlinkat(folder, "full", AT_REMOVEDIR), ENOTEMPTY);
  mkdirat(folder, "empty", 0700);
  step("over an empty one",
       renameat(folder, "full", folder, "empty") == 0 && holds("empty/x", "x"));
  step("two names of one file",
       renameat(folder, "hard", folder, "plain") == 0 && links_of("hard") == 2);
  refused("dot", renameat(folder, "dir/.", folder, "other"), EBUSY);
}

static int compare(const void* a, const void* b) { return strcmp(a, b); }

static void listing(void) {
  static char names[1100][16];
  int count = 0;
  mkdirat(folder, "many", 0700);
  for (int i = 0; i < 1000; i++) {
    char name[32];
    snprintf(name, sizeof name, "many/file%04d", i);
    if (make(name, "", O_EXCL, 0600) != 0) break;
    count++;
  }
  equal("a thousand files", count, 1000);
  const int fd = openat(folder, "many", O_RDONLY | O_DIRECTORY);
  DIR* dir = fdopendir(fd);
  count = 0;
  for (struct dirent* entry; (entry = readdir(dir)) != NULL && count < 1100;)
    snprintf(names[count++], sizeof names[0], "%.15s", entry->d_name);
  qsort(names, (size_t)count, sizeof names[0], compare);
  equal("are listed", count, 1002);
  step("by their names", strcmp(names[0], ".") == 0 && strcmp(names[1], "..") == 0 &&
                             strcmp(names[2], "file0000") == 0 &&
                             strcmp(names[1001], "file0999") == 0);
  rewinddir(dir);
  count = 0;
  for (struct dirent* entry; (entry = readdir(dir)) != NULL;)
    if (entry->d_name[0] == 'f' && entry->d_type == DT_REG)
      count += unlinkat(fd, entry->d_name, 0) == 0;
  equal("removed while listing", count, 1000);
  closedir(dir);
  step("empty", unlinkat(folder, "many", AT_REMOVEDIR) == 0);
  char tiny[8];
  const int again = openat(folder, ".", O_RDONLY | O_DIRECTORY);
  refused("no room for an entry", syscall(SYS_getdents64, again, tiny, sizeof tiny), EINVAL);
  close(again);
}

static void modes(void) {
  step("fchmodat", fchmodat(folder, "b", 0751, 0) == 0 && mode_of("b") == 0100751);
  const int fd = openat(folder, "b", O_RDONLY);
  step("fchmod", fchmod(fd, 0640) == 0 && mode_of("b") == 0100640);
  step("access", faccessat(folder, "b", R_OK | W_OK, 0) == 0);
  refused("not to run", faccessat(folder, "b", X_OK, 0), EACCES);
  refused("nor there", faccessat(folder, "none", F_OK, 0), ENOENT);
  struct timespec times[2] = {{1000, 5}, {2000, 7}};
  struct stat status;
  step("utimensat", utimensat(folder, "b", times, 0) == 0 && fstat(fd, &status) == 0 &&
                        status.st_atim.tv_sec == 1000 && status.st_mtim.tv_sec == 2000 &&
                        status.st_mtim.tv_nsec == 7);
  times[0].tv_nsec = UTIME_OMIT;
  times[1].tv_sec = 3000;
  step("one of them", futimens(fd, times) == 0 && fstat(fd, &status) == 0 &&
                          status.st_atim.tv_sec == 1000 && status.st_mtim.tv_sec == 3000);
  struct timespec link_times[2] = {{4000, 0}, {5000, 0}};
  step("of a link", utimensat(folder, "soft", link_times, AT_SYMLINK_NOFOLLOW) == 0 &&
                        fstatat(folder, "soft", &status, AT_SYMLINK_NOFOLLOW) == 0 &&
                        status.st_mtim.tv_sec == 5000);
  times[1].tv_nsec = 1000000000;
  refused("too many nanoseconds", utimensat(folder, "b", times, 0), EINVAL);
  close(fd);
}

static void working_folders(const char* name) {
  char start[512], now[512];
  if (chdir(name) != 0 || getcwd(start, sizeof start) == NULL) return step("chdir", 0);
  step("deeper", chdir("dir/inner") == 0 && getcwd(now, sizeof now) != NULL &&
                     strncmp(now, start, strlen(start)) == 0 &&
                     strcmp(now + strlen(start), "/dir/inner") == 0);
  step("up", chdir("..") == 0 && access("inner", F_OK) == 0);
  step("back", fchdir(folder) == 0 && access("dir/inner", F_OK) == 0);
  refused("too small", (long)getcwd(now, 3) == 0 ? -1 : 0, ERANGE);
  refused("not into a file", chdir("b"), ENOTDIR);
  refused("not into nothing", chdir("none"), ENOENT);
  mkdir("lost", 0700);
  chdir("lost");
  unlinkat(folder, "lost", AT_REMOVEDIR);
  refused("lost", openat(AT_FDCWD, "x", O_CREAT | O_WRONLY, 0600), ENOENT);
  step("but not for good", chdir(start) == 0);
}

int main(int argc, char** argv) {
  const char* name = argc > 1 ? argv[1] : "/tmp";
  folder = open(name, O_RDONLY | O_DIRECTORY);
  if (folder < 0) return 99;
  opening();
  linking();
  renaming();
  listing();
  modes();
  working_folders(name);
  return failed_steps;
}
