/* SPDX-License-Identifier: Apache-2.0 */
/* segv [read|write|exec]: touches an address that is not mapped. */
#include <string.h>

static volatile int* volatile nowhere = (volatile int*)0x10;

int main(int argc, char** argv) {
  const char* how = argc > 1 ? argv[1] : "write";
  if (strcmp(how, "read") == 0) return *nowhere;
  if (strcmp(how, "exec") == 0) ((void (*)(void))nowhere)();
  *nowhere = 1;
  return 0;
}
