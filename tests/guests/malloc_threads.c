/* SPDX-License-Identifier: Apache-2.0 */
/*
 * malloc_threads [THREADS [ROUNDS]]: threads that allocate batches of blocks, write to them, and
 * hand them around: what one allocated the next one checks and frees. Mostly small blocks, some of
 * tens of kilobytes, and now and then one that the allocator maps by itself.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kMaxThreads = 64, kBlocks = 256 };

struct batch {
  unsigned char* block[kBlocks];
  size_t bytes[kBlocks];
};

/* One place for a batch between a thread and the next one. */
struct slot {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  struct batch* batch;
};

static struct slot slots[kMaxThreads];
static int threads = 4, rounds = 400;

static size_t draw(uint64_t* state) {
  *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
  const uint64_t kind = *state % 1000;
  if (kind == 0) return 200000;
  if (kind < 20) return 8192 + (*state >> 20) % 32768;
  return 16 + (*state >> 20) % 1024;
}

static struct batch* fill(uint64_t* state) {
  struct batch* batch = malloc(sizeof *batch);
  for (int i = 0; batch != NULL && i < kBlocks; i++) {
    const size_t bytes = draw(state);
    batch->bytes[i] = bytes;
    batch->block[i] = malloc(bytes);
    if (batch->block[i] == NULL) abort();
    batch->block[i][0] = batch->block[i][bytes - 1] = (unsigned char)(bytes & 0xff);
  }
  return batch;
}

static void drop(struct batch* batch) {
  for (int i = 0; i < kBlocks; i++) {
    const size_t bytes = batch->bytes[i];
    if (batch->block[i][0] != (bytes & 0xff) || batch->block[i][bytes - 1] != (bytes & 0xff))
      abort();
    free(batch->block[i]);
  }
  free(batch);
}

static void put(struct slot* slot, struct batch* batch) {
  pthread_mutex_lock(&slot->lock);
  while (slot->batch != NULL) pthread_cond_wait(&slot->changed, &slot->lock);
  slot->batch = batch;
  pthread_cond_broadcast(&slot->changed);
  pthread_mutex_unlock(&slot->lock);
}

static struct batch* take(struct slot* slot) {
  pthread_mutex_lock(&slot->lock);
  while (slot->batch == NULL) pthread_cond_wait(&slot->changed, &slot->lock);
  struct batch* batch = slot->batch;
  slot->batch = NULL;
  pthread_cond_broadcast(&slot->changed);
  pthread_mutex_unlock(&slot->lock);
  return batch;
}

static void* work(void* argument) {
  const int self = (int)(intptr_t)argument;
  uint64_t state = 88172645463325252u + (uint64_t)self;
  for (int round = 0; round < rounds; round++) {
    struct batch* batch = fill(&state);
    if (batch == NULL) abort();
    put(&slots[self], batch);
    drop(take(&slots[(self + 1) % threads]));
  }
  return NULL;
}

int main(int argc, char** argv) {
  pthread_t id[kMaxThreads];
  if (argc > 1) threads = atoi(argv[1]);
  if (argc > 2) rounds = atoi(argv[2]);
  if (threads < 1 || threads > kMaxThreads) return 2;
  for (int i = 0; i < threads; i++) {
    pthread_mutex_init(&slots[i].lock, NULL);
    pthread_cond_init(&slots[i].changed, NULL);
  }
  for (int i = 0; i < threads; i++) {
    const int error = pthread_create(&id[i], NULL, work, (void*)(intptr_t)i);
    if (error != 0) return fprintf(stderr, "thread %d: %s\n", i, strerror(error)), 1;
  }
  for (int i = 0; i < threads; i++) pthread_join(id[i], NULL);
  printf("%d threads, %d batches each\n", threads, rounds);
  return 0;
}
