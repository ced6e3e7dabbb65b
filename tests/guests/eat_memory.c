/* SPDX-License-Identifier: Apache-2.0 */
/* eat_memory [heap|map|file]: takes and touches memory without end; exits with 3 when refused. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { kChunk = 1 << 20 };

int main(int argc, char** argv) {
  static char zeros[kChunk];
  const char* how = argc > 1 ? argv[1] : "heap";
  int fd = open("/tmp/eaten", O_CREAT | O_WRONLY, 0600);
  for (;;) {
    if (strcmp(how, "file") == 0) {
      if (write(fd, zeros, kChunk) <= 0) return 3;
      continue;
    }
    char* at = strcmp(how, "map") == 0
                   ? mmap(0, kChunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                   : malloc(kChunk);
    if (at == NULL || at == MAP_FAILED) return 3;
    memset(at, 1, kChunk);
  }
}
