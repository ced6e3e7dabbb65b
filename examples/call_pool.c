/* SPDX-License-Identifier: Apache-2.0 */
/* call_pool GUEST: two threads call a guest, each call in a fresh clone of it. The guest's side is
 * examples/call_function_guest.c. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "waxvm_c_pool.h"

static void* call_often(void* pool) {
  static const char word[] = "desserts";
  size_t good = 0;
  for (int i = 0; i < 1000; ++i) {
    waxvm_call_options options = WAXVM_CALL_OPTIONS_INIT;
    waxvm_bytes* result = NULL;
    options.wall_time_ns = 1000000000;
    if (waxvm_pool_call(pool, "reverse", word, strlen(word), &options, &result, NULL) == WAXVM_OK)
      good += strcmp(waxvm_bytes_data(result, NULL), "stressed") == 0;
    waxvm_bytes_close(result);
  }
  return (void*)good;
}

int main(int argc, char** argv) {
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
  waxvm_supervisor* host = NULL;
  waxvm_program* program = NULL;
  waxvm_session* session = NULL;
  waxvm_snapshot* snapshot = NULL;
  waxvm_pool* pool = NULL;
  options.wall_time_ns = 5000000000; /* until it is ready */
  if (waxvm_supervisor_open(WAXVM_PROVIDER_MICROVM, &host, &error) ||
      waxvm_program_open_file(argv[argc - 1], &program, &error) ||
      waxvm_session_open(host, program, &options, &session, &error) ||
      waxvm_session_snapshot(session, &snapshot, &error) ||
      waxvm_pool_open(snapshot, NULL, &pool, &error))
    return fprintf(stderr, "waxvm: %s\n", error.message), 1;
  pthread_t threads[2];
  size_t good = 0;
  for (int i = 0; i < 2; ++i)
    if (pthread_create(&threads[i], NULL, call_often, pool) != 0) return 1;
  for (int i = 0; i < 2; ++i) {
    void* returned;
    pthread_join(threads[i], &returned);
    good += (size_t)returned;
  }
  printf("%zu of 2000 calls answered\n", good);
  waxvm_pool_close(pool);
  waxvm_snapshot_close(snapshot);
  waxvm_session_close(session);
  waxvm_program_close(program);
  waxvm_supervisor_close(host);
  return 0;
}
