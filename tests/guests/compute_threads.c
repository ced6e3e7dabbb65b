/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compute_threads [THREADS [ROUNDS]]: the work of compute.c, ROUNDS shared out among threads that
 * never wait for one another. With more threads than processors its time is the processor's and
 * that of whoever takes turns between the threads.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kMaxThreads = 64, kWords = 1 << 12 };

struct work {
  uint64_t table[kWords];
  uint64_t sum;
  double x;
  int rounds;
};
static struct work works[kMaxThreads];

static void* compute(void* argument) {
  struct work* work = argument;
  uint64_t state = 88172645463325252u;
  work->x = 0.5;
  for (int round = 0; round < work->rounds; round++) {
    for (int i = 0; i < kWords; i++) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      work->table[state & (kWords - 1)] += state;
      work->sum = work->sum * 6364136223846793005u + work->table[i];
      work->x = 3.75 * work->x * (1 - work->x);
    }
  }
  return NULL;
}

int main(int argc, char** argv) {
  const int threads = argc > 1 ? atoi(argv[1]) : 4;
  const int rounds = argc > 2 ? atoi(argv[2]) : 48000;
  pthread_t id[kMaxThreads];
  uint64_t sum = 0;
  if (threads < 1 || threads > kMaxThreads) return 2;
  for (int i = 0; i < threads; i++) {
    works[i].rounds = rounds / threads;
    const int error = pthread_create(&id[i], NULL, compute, &works[i]);
    if (error != 0) return fprintf(stderr, "thread %d: %s\n", i, strerror(error)), 1;
  }
  for (int i = 0; i < threads; i++) {
    pthread_join(id[i], NULL);
    sum += works[i].sum;
  }
  printf("%016llx\n", (unsigned long long)sum);
  return 0;
}
