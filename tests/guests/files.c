/* SPDX-License-Identifier: Apache-2.0 */
/*
 * files [FOLDER]: creates, writes, renames, reads back, lists and removes files in FOLDER (/tmp).
 * Prints each step with "ok" or the error; exits with the number of failed steps.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int failed;

static void step(const char* name, int ok) {
  printf("%s: %s\n", name, ok ? "ok" : strerror(errno));
  if (!ok) failed++;
}

int main(int argc, char** argv) {
  char first[256], second[256], text[16] = {0};
  const char* folder = argc > 1 ? argv[1] : "/tmp";
  struct stat st;
  int seen = 0;
  snprintf(first, sizeof first, "%s/first", folder);
  snprintf(second, sizeof second, "%s/second", folder);

  int fd = open(first, O_CREAT | O_EXCL | O_RDWR, 0600);
  step("create", fd >= 0);
  step("write", write(fd, "hello files", 11) == 11);
  step("seek", lseek(fd, 6, SEEK_SET) == 6);
  step("read", read(fd, text, sizeof text) == 5 && strcmp(text, "files") == 0);
  close(fd);
  step("rename", rename(first, second) == 0);
  step("stat", stat(second, &st) == 0 && st.st_size == 11 && S_ISREG(st.st_mode));
  DIR* dir = opendir(folder);
  step("opendir", dir != NULL);
  for (struct dirent* entry; dir != NULL && (entry = readdir(dir)) != NULL;)
    if (strcmp(entry->d_name, "second") == 0) seen++;
  if (dir != NULL) closedir(dir);
  step("list", seen == 1);
  step("unlink", unlink(second) == 0);
  step("gone", stat(second, &st) != 0 && errno == ENOENT);
  return failed;
}
