/* SPDX-License-Identifier: Apache-2.0 */
/* Waits without end and uses no processor time. */
#include <time.h>

int main(void) {
  const struct timespec hour = {.tv_sec = 3600};
  for (;;) nanosleep(&hour, 0);
}
