/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read_files FOLDER: reads every file two levels below FOLDER to its end, the way search tools do
 * (list, open, read until empty, close), and prints how many files and bytes that was.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static long files, bytes;

static int read_file(int folder, const char* name) {
  static char buffer[16384];
  ssize_t n;
  int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return perror(name), 1;
  while ((n = read(fd, buffer, sizeof buffer)) > 0) bytes += n;
  files++;
  return close(fd) != 0 || n < 0;
}

static int read_folder(int parent, const char* name, int levels) {
  int failed = 0;
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* folder = fd < 0 ? NULL : fdopendir(fd);
  struct dirent* entry;
  if (folder == NULL) return perror(name), 1;
  while (!failed && (entry = readdir(folder)) != NULL) {
    if (entry->d_name[0] == '.') continue;
    failed = levels > 0 ? read_folder(fd, entry->d_name, levels - 1) : read_file(fd, entry->d_name);
  }
  return closedir(folder) != 0 || failed;
}

int main(int argc, char** argv) {
  if (argc != 2 || read_folder(AT_FDCWD, argv[1], 1) != 0) return 1;
  printf("%ld files, %ld bytes\n", files, bytes);
  return 0;
}
