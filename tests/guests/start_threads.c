/* SPDX-License-Identifier: Apache-2.0 */
/* Starts threads that stay, until one is refused; prints how many it got and whether by EAGAIN. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static void* stay(void* unused) {
  while (pause() == -1 || unused == NULL) {
  }
  return unused;
}

int main(void) {
  int count = 0, error = 0;
  pthread_attr_t small;
  pthread_t id;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 64 * 1024);
  while (count < 10000 && (error = pthread_create(&id, &small, stay, NULL)) == 0) count++;
  printf("%d %s\n", count, error == EAGAIN ? "EAGAIN" : "other");
  fflush(stdout);
  _exit(error == EAGAIN ? 0 : 1);
}
