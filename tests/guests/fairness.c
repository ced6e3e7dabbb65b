/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that never wait do not keep others from running: two that spin until the other has moved,
 * a sleeper beside spinners, and a spinner that is told to stop by a timer's thread.
 */
#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

#include "step.h"

static volatile int stop;
static volatile long progress[8];
static volatile int ball;

/* Passes a ball without ever leaving the processor by itself. */
static void* play(void* id) {
  for (int i = 0; i < 20; i++) {
    while (ball != (int)(intptr_t)id && !stop) {
    }
    ball = 1 - ball;
  }
  return NULL;
}

static void* spin(void* id) {
  while (!stop) progress[(intptr_t)id]++;
  return NULL;
}

static void* sleep_often(void* unused) {
  for (int i = 0; i < 10; i++) sleep_milliseconds(2);
  return unused;
}

int main(void) {
  pthread_t threads[8], sleeper;
  pthread_create(&threads[0], NULL, play, (void*)0);
  pthread_create(&threads[1], NULL, play, (void*)1);
  pthread_join(threads[0], NULL);
  pthread_join(threads[1], NULL);
  step("a ball between two spinning threads", ball == 0);

  int started = 0;
  while (started < 4 &&
         pthread_create(&threads[started], NULL, spin, (void*)(intptr_t)started) == 0)
    started++;
  equal("four spinning threads", started, 4);
  step("a sleeper beside them",
       pthread_create(&sleeper, NULL, sleep_often, NULL) == 0 && pthread_join(sleeper, NULL) == 0);
  /* The first thread waits too; then everyone must have had a turn within a generous second. */
  for (int i = 0; i < 50; i++) {
    sleep_milliseconds(20);
    if (progress[0] > 0 && progress[1] > 0 && progress[2] > 0 && progress[3] > 0) break;
  }
  for (int i = 0; i < 4; i++) step("progress", progress[i] > 0);
  stop = 1;
  for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
  step("all stopped", 1);
  return failed_steps;
}
