/* SPDX-License-Identifier: Apache-2.0 */
/* call_test PROVIDER: sessions, snapshots and pools of the C ABI used well and badly, from C. */
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "waxvm_c_pool.h"
#include "waxvm_c_session.h"

static waxvm_error error = WAXVM_ERROR_INIT; /* of the main thread */

static int contains(const char* text) { return strstr(error.message, text) != NULL; }

static waxvm_session* open_session(waxvm_supervisor* host, const waxvm_run_options* options) {
  waxvm_program* program = NULL;
  waxvm_session* session = NULL;
  CHECK(waxvm_program_open_file(guest("call_functions_musl"), &program, &error) == WAXVM_OK);
  CHECK(waxvm_session_open(host, program, options, &session, &error) == WAXVM_OK);
  CHECK(session != NULL && error.message[0] == '\0');
  waxvm_program_close(program);
  return session;
}

static waxvm_status call(waxvm_session* session, const char* function, const char* arguments,
                         const waxvm_call_options* options) {
  waxvm_bytes* result = NULL;
  const waxvm_status code =
      waxvm_session_call(session, function, arguments, strlen(arguments), options, &result, &error);
  CHECK((code == WAXVM_OK) == (result != NULL));
  waxvm_bytes_close(result);
  return code;
}

static void expect_result(waxvm_session* session, const char* function, const char* arguments,
                          const char* wanted) {
  waxvm_bytes* result = NULL;
  size_t bytes = 0;
  CHECK(waxvm_session_call(session, function, arguments, strlen(arguments), NULL, &result,
                           &error) == WAXVM_OK);
  const char* data = waxvm_bytes_data(result, &bytes);
  CHECK(data != NULL && strcmp(data, wanted) == 0 && bytes == strlen(wanted));
  waxvm_bytes_close(result);
}

static void sleep_ms(long ms) {
  nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static void test_null(waxvm_supervisor* host) {
  waxvm_session* session = (waxvm_session*)&error;
  waxvm_bytes* bytes = (waxvm_bytes*)&error;
  waxvm_snapshot* snapshot = (waxvm_snapshot*)&error;
  waxvm_pool* pool = (waxvm_pool*)&error;
  waxvm_memory memory = WAXVM_MEMORY_INIT;
  waxvm_pool_stats stats = WAXVM_POOL_STATS_INIT;
  waxvm_pool_memory pool_memory = WAXVM_POOL_MEMORY_INIT;
  waxvm_session_close(NULL);
  waxvm_session_stop(NULL);
  waxvm_snapshot_close(NULL);
  waxvm_pool_close(NULL);
  waxvm_pool_trim(NULL);
  CHECK(waxvm_session_open(host, NULL, NULL, &session, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(session == NULL && contains("program is NULL"));
  CHECK(waxvm_session_open(NULL, NULL, NULL, &session, NULL) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_session_open(host, NULL, NULL, NULL, NULL) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_session_call(NULL, "f", NULL, 0, NULL, &bytes, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(bytes == NULL);
  CHECK(waxvm_session_health(NULL, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_session_reset(NULL, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_session_report_json(NULL, &bytes, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_session_memory(NULL, &memory, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_session_take_output(NULL, 0, &bytes, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_session_snapshot(NULL, &snapshot, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(snapshot == NULL && waxvm_snapshot_memory_bytes(NULL) == 0);
  CHECK(waxvm_snapshot_clone(NULL, &session, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_pool_open(NULL, NULL, &pool, &error) == WAXVM_INVALID_ARGUMENT && pool == NULL);
  CHECK(waxvm_pool_call(NULL, "f", NULL, 0, NULL, &bytes, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_pool_get_stats(NULL, &stats, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_pool_measure_memory(NULL, &pool_memory, &error) == WAXVM_INVALID_ARGUMENT);
}

static void test_calls(waxvm_supervisor* host) {
  waxvm_session* session = open_session(host, NULL);
  waxvm_bytes* bytes = NULL;
  expect_result(session, "add", "20 22", "42");
  expect_result(session, "counter", "", "1");
  expect_result(session, "counter", "", "2");
  CHECK(call(session, "fail", "3 not so", NULL) == WAXVM_INVALID_ARGUMENT);
  CHECK(strcmp(error.message, "not so") == 0 && error.code == WAXVM_INVALID_ARGUMENT);
  CHECK(call(session, "nowhere", "", NULL) == WAXVM_NOT_FOUND && contains("nowhere"));
  CHECK(call(session, "", "", NULL) == WAXVM_INVALID_ARGUMENT);
  /* Refused for its length, before a byte is looked at; and no bytes for a length. */
  CHECK(waxvm_session_call(session, "echo", "x", WAXVM_MOST_CALL_BYTES + 1, NULL, &bytes, &error) ==
        WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_session_call(session, "echo", "x", SIZE_MAX, NULL, &bytes, &error) ==
        WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_session_call(session, "echo", NULL, 1, NULL, &bytes, &error) ==
        WAXVM_INVALID_ARGUMENT);
  CHECK(contains("arguments is NULL"));
  CHECK(waxvm_session_call(session, NULL, NULL, 0, NULL, &bytes, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_session_call(session, "noop", NULL, 0, NULL, NULL, &error) == WAXVM_INVALID_ARGUMENT);
  waxvm_call_options options = WAXVM_CALL_OPTIONS_INIT;
  options.struct_size = 8;
  CHECK(call(session, "noop", "", &options) == WAXVM_INVALID_ARGUMENT && contains("struct_size"));
  options = (waxvm_call_options)WAXVM_CALL_OPTIONS_INIT;
  options.wall_time_ns = WAXVM_LIMIT_ZERO;
  CHECK(call(session, "noop", "", &options) == WAXVM_INVALID_ARGUMENT && contains("wall"));
  options.wall_time_ns = options.cpu_time_ns = INT64_MAX;
  CHECK(call(session, "noop", "", &options) == WAXVM_OK);
  CHECK(waxvm_session_health(session, &error) == WAXVM_OK);

  CHECK(waxvm_session_call(session, "write_output", "said", 4, NULL, &bytes, &error) == WAXVM_OK);
  waxvm_bytes_close(bytes);
  CHECK(call(session, "noop", "", NULL) == WAXVM_OK);
  CHECK(waxvm_session_take_output(session, WAXVM_STREAM_OUTPUT, &bytes, &error) == WAXVM_OK);
  CHECK(strcmp(waxvm_bytes_data(bytes, NULL), "said") == 0);
  waxvm_bytes_close(bytes);
  CHECK(waxvm_session_take_output(session, 2, &bytes, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_session_report_json(session, &bytes, &error) == WAXVM_OK);
  CHECK(strstr(waxvm_bytes_data(bytes, NULL), "\"host_calls\": 0") != NULL);
  waxvm_bytes_close(bytes);
  CHECK(waxvm_session_reset(session, &error) != WAXVM_OK); /* it is no clone */

  CHECK(call(session, "fault", "", NULL) == WAXVM_ABORTED && contains("segmentation"));
  CHECK(call(session, "noop", "", NULL) == WAXVM_FAILED_PRECONDITION && contains("segmentation"));
  CHECK(waxvm_session_health(session, &error) == WAXVM_FAILED_PRECONDITION);
  waxvm_session_close(session);
}

struct host_side {
  waxvm_session* session;
  int freed;
};

static waxvm_status call_back(void* user_data, waxvm_call* host_call, const void* request,
                              size_t bytes) {
  struct host_side* self = user_data;
  waxvm_error inner = WAXVM_ERROR_INIT;
  waxvm_bytes* result = NULL;
  const waxvm_status code =
      waxvm_session_call(self->session, "noop", request, bytes, NULL, &result, &inner);
  waxvm_call_reply(host_call, inner.message, strlen(inner.message));
  return code;
}

static waxvm_status close_it(void* user_data, waxvm_call* host_call, const void* request,
                             size_t bytes) {
  struct host_side* self = user_data;
  (void)host_call, (void)request, (void)bytes;
  waxvm_session_close(self->session);
  return WAXVM_OK;
}

static void count_free(void* user_data) { ++((struct host_side*)user_data)->freed; }

static void test_host_functions(waxvm_supervisor* host) {
  struct host_side self = {NULL, 0};
  waxvm_grants* grants = NULL;
  waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
  CHECK(waxvm_grants_open(&grants, &error) == WAXVM_OK);
  CHECK(waxvm_grants_add_function(grants, "back", call_back, &self, count_free, &error) ==
        WAXVM_OK);
  CHECK(waxvm_grants_add_function(grants, "close", close_it, &self, NULL, &error) == WAXVM_OK);
  options.grants = grants;
  self.session = open_session(host, &options);
  waxvm_grants_close(grants);
  CHECK(call(self.session, "call_host", "back x", NULL) == WAXVM_FAILED_PRECONDITION);
  CHECK(contains("the session is in a call"));
  CHECK(call(self.session, "call_host", "nothing", NULL) == WAXVM_PERMISSION_DENIED);
  CHECK(self.freed == 0);
  /* Closed in the middle of its own call: that ends, and the session is gone. */
  CHECK(call(self.session, "call_host", "close", NULL) == WAXVM_CANCELLED);
  CHECK(self.freed == 1);
}

static void* request_soon(void* stop) {
  sleep_ms(50);
  waxvm_stop_request(stop);
  return NULL;
}
static void* close_soon(void* session) {
  sleep_ms(50);
  waxvm_session_close(session);
  return NULL;
}
static void* stop_soon(void* host) {
  sleep_ms(50);
  waxvm_supervisor_stop(host);
  return NULL;
}
static void* call_elsewhere(void* session) {
  waxvm_error own = WAXVM_ERROR_INIT;
  waxvm_bytes* result = NULL;
  CHECK(waxvm_session_call(session, "noop", NULL, 0, NULL, &result, &own) ==
        WAXVM_FAILED_PRECONDITION);
  CHECK(strstr(own.message, "another thread") != NULL);
  return NULL;
}

static void in_thread(void* (*body)(void*), void* argument, pthread_t* thread) {
  CHECK(pthread_create(thread, NULL, body, argument) == 0);
}

static void test_stops(waxvm_supervisor* host) {
  waxvm_call_options options = WAXVM_CALL_OPTIONS_INIT;
  waxvm_run_options run_options = WAXVM_RUN_OPTIONS_INIT;
  waxvm_stop* stop = NULL;
  pthread_t thread;
  waxvm_session* session = open_session(host, NULL);
  in_thread(call_elsewhere, session, &thread);
  pthread_join(thread, NULL);
  options.wall_time_ns = 100000000;
  CHECK(call(session, "spin", "", &options) == WAXVM_DEADLINE_EXCEEDED && contains("wall"));
  waxvm_session_close(session);

  /* By a stop of the call. */
  session = open_session(host, NULL);
  options = (waxvm_call_options)WAXVM_CALL_OPTIONS_INIT;
  CHECK(waxvm_stop_open(&stop, &error) == WAXVM_OK);
  options.stop = stop;
  CHECK(call(session, "noop", "", &options) == WAXVM_OK);
  in_thread(request_soon, stop, &thread);
  CHECK(call(session, "spin", "", &options) == WAXVM_CANCELLED);
  pthread_join(thread, NULL);
  waxvm_session_close(session);
  session = open_session(host, NULL);
  CHECK(call(session, "noop", "", &options) == WAXVM_CANCELLED && contains("before it began"));
  CHECK(waxvm_session_health(session, &error) == WAXVM_OK);
  waxvm_stop_close(stop);

  /* By closing it from another thread. */
  in_thread(close_soon, session, &thread);
  CHECK(call(session, "spin", "", NULL) == WAXVM_CANCELLED);
  pthread_join(thread, NULL);

  /* By the stop that it was opened with, which is closed while it is in use. */
  CHECK(waxvm_stop_open(&stop, &error) == WAXVM_OK);
  run_options.stop = stop;
  session = open_session(host, &run_options);
  in_thread(request_soon, stop, &thread);
  CHECK(call(session, "spin", "", NULL) == WAXVM_CANCELLED);
  pthread_join(thread, NULL);
  waxvm_stop_close(stop);
  waxvm_session_close(session);
}

static void test_never_ready(waxvm_supervisor* host) {
  waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
  waxvm_program* program = NULL;
  waxvm_session* session = NULL;
  options.wall_time_ns = 200000000;
  CHECK(waxvm_program_open_file(guest("spin_musl"), &program, &error) == WAXVM_OK);
  CHECK(waxvm_session_open(host, program, &options, &session, &error) == WAXVM_FAILED_PRECONDITION);
  CHECK(session == NULL && contains("`wall` before it was ready"));
  waxvm_program_close(program);
}

struct caller {
  waxvm_pool* pool;
  int ones, faults;
};

static void* call_often(void* argument) {
  struct caller* self = argument;
  for (int i = 0; i < 100; ++i) {
    waxvm_error own = WAXVM_ERROR_INIT;
    waxvm_bytes* result = NULL;
    const waxvm_status code = waxvm_pool_call(self->pool, i % 25 == 7 ? "fault" : "counter", NULL,
                                              0, NULL, &result, &own);
    if (code == WAXVM_OK) self->ones += strcmp(waxvm_bytes_data(result, NULL), "1") == 0;
    if (code == WAXVM_ABORTED) ++self->faults;
    waxvm_bytes_close(result);
  }
  return NULL;
}

static void test_bad_pools(const waxvm_snapshot* snapshot) {
  waxvm_pool* pool = NULL;
  waxvm_pool_options options = WAXVM_POOL_OPTIONS_INIT;
  options.max_instances = WAXVM_LIMIT_ZERO;
  CHECK(waxvm_pool_open(snapshot, &options, &pool, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(contains("max_instances 0"));
  options = (waxvm_pool_options)WAXVM_POOL_OPTIONS_INIT;
  options.min_ready = 100;
  CHECK(waxvm_pool_open(snapshot, &options, &pool, &error) == WAXVM_INVALID_ARGUMENT);
  options = (waxvm_pool_options)WAXVM_POOL_OPTIONS_INIT;
  options.idle_time_ns = WAXVM_LIMIT_ZERO;
  CHECK(waxvm_pool_open(snapshot, &options, &pool, &error) == WAXVM_INVALID_ARGUMENT);
  options = (waxvm_pool_options)WAXVM_POOL_OPTIONS_INIT;
  options.reserved = 1;
  CHECK(waxvm_pool_open(snapshot, &options, &pool, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(pool == NULL);
}

static void test_pool(const waxvm_snapshot* snapshot) {
  enum { kThreads = 2 };
  waxvm_pool* pool = NULL;
  pthread_t threads[kThreads];
  struct caller callers[kThreads];
  waxvm_pool_options options = WAXVM_POOL_OPTIONS_INIT;
  options.min_ready = 2;
  options.max_instances = 4;
  CHECK(waxvm_pool_open(snapshot, &options, &pool, &error) == WAXVM_OK);
  for (int i = 0; i < kThreads; ++i) {
    callers[i] = (struct caller){pool, 0, 0};
    in_thread(call_often, &callers[i], &threads[i]);
  }
  for (int i = 0; i < kThreads; ++i) {
    pthread_join(threads[i], NULL);
    CHECK(callers[i].ones == 96 && callers[i].faults == 4);
  }
  waxvm_pool_stats stats = WAXVM_POOL_STATS_INIT;
  CHECK(waxvm_pool_get_stats(pool, &stats, &error) == WAXVM_OK);
  CHECK(stats.calls == 200 && stats.replaced == 8 && stats.in_use == 0 && stats.instances <= 4);
  CHECK(stats.struct_size == sizeof stats);
  /* As an older and as a newer caller has it. */
  waxvm_pool_stats old = WAXVM_POOL_STATS_INIT;
  old.struct_size = offsetof(waxvm_pool_stats, calls);
  old.calls = 77;
  CHECK(waxvm_pool_get_stats(pool, &old, &error) == WAXVM_OK && old.calls == 77);
  struct {
    waxvm_pool_stats known;
    uint64_t later;
  } newer = {WAXVM_POOL_STATS_INIT, 5};
  newer.known.struct_size = sizeof newer;
  CHECK(waxvm_pool_get_stats(pool, &newer.known, &error) == WAXVM_OK && newer.later == 0);
  CHECK(newer.known.calls == 200);
  old.struct_size = 0;
  CHECK(waxvm_pool_get_stats(pool, &old, &error) == WAXVM_INVALID_ARGUMENT);

  waxvm_pool_memory memory = WAXVM_POOL_MEMORY_INIT;
  CHECK(waxvm_pool_measure_memory(pool, &memory, &error) == WAXVM_OK);
  CHECK(memory.resident_bytes == memory.shared_bytes + memory.private_bytes);
  waxvm_bytes* result = NULL;
  CHECK(waxvm_pool_call(pool, "ad", NULL, 0, NULL, &result, &error) == WAXVM_NOT_FOUND);
  CHECK(waxvm_pool_call(pool, "echo", "x", SIZE_MAX, NULL, &result, &error) ==
        WAXVM_INVALID_ARGUMENT);
  waxvm_pool_trim(pool);
  waxvm_pool_close(pool);
}

/* A snapshot goes into a file and comes back, for the same program with the same options alone. */
static void test_snapshot_files(waxvm_supervisor* host, const waxvm_snapshot* snapshot) {
  char path[] = "/tmp/waxvm-c-snapshot-XXXXXX";
  waxvm_program* program = NULL;
  waxvm_snapshot* loaded = (waxvm_snapshot*)&error;
  waxvm_session* clone = NULL;
  waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
  const int file = mkstemp(path);
  CHECK(file >= 0 && close(file) == 0);
  CHECK(waxvm_program_open_file(guest("call_functions_musl"), &program, &error) == WAXVM_OK);
  CHECK(waxvm_snapshot_load(host, program, NULL, path, &loaded, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(loaded == NULL && contains(path));
  CHECK(waxvm_snapshot_save(snapshot, path, &error) == WAXVM_OK);
  CHECK(waxvm_snapshot_load(host, program, NULL, path, &loaded, &error) == WAXVM_OK);
  CHECK(waxvm_snapshot_clone(loaded, &clone, &error) == WAXVM_OK);
  expect_result(clone, "counter", "", "2");
  waxvm_session_close(clone);
  waxvm_snapshot_close(loaded);
  options.memory_bytes = 32u << 20;
  CHECK(waxvm_snapshot_load(host, program, &options, path, &loaded, &error) ==
        WAXVM_FAILED_PRECONDITION);
  CHECK(waxvm_snapshot_save(snapshot, "/nowhere/file", &error) == WAXVM_NOT_FOUND);
  CHECK(waxvm_snapshot_save(NULL, path, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(unlink(path) == 0);
  CHECK(waxvm_snapshot_load(host, program, NULL, path, &loaded, &error) == WAXVM_NOT_FOUND);
  waxvm_program_close(program);
}

static void test_snapshots(waxvm_supervisor* host) {
  waxvm_snapshot* snapshot = NULL;
  waxvm_session* clone = NULL;
  waxvm_session* session = open_session(host, NULL);
  expect_result(session, "counter", "", "1");
  const waxvm_status code = waxvm_session_snapshot(session, &snapshot, &error);
  waxvm_session_close(session);
  if (code == WAXVM_UNIMPLEMENTED) {
    printf("no snapshots and pools here: %s\n", error.message);
    return;
  }
  CHECK(code == WAXVM_OK && waxvm_snapshot_memory_bytes(snapshot) > 0);
  CHECK(waxvm_snapshot_clone(snapshot, &clone, &error) == WAXVM_OK);
  expect_result(clone, "counter", "", "2");
  expect_result(clone, "counter", "", "3");
  CHECK(waxvm_session_reset(clone, &error) == WAXVM_OK);
  expect_result(clone, "counter", "", "2");
  waxvm_memory memory = WAXVM_MEMORY_INIT;
  CHECK(waxvm_session_memory(clone, &memory, &error) == WAXVM_OK);
  CHECK(memory.resident_bytes >= memory.private_bytes && memory.private_bytes > 0);
  test_snapshot_files(host, snapshot);
  waxvm_snapshot_close(snapshot);
  expect_result(clone, "counter", "", "3");
  waxvm_session_close(clone);

  session = open_session(host, NULL);
  CHECK(waxvm_session_snapshot(session, &snapshot, &error) == WAXVM_OK);
  waxvm_session_close(session);
  test_bad_pools(snapshot);
  test_pool(snapshot);
  waxvm_snapshot_close(snapshot);
}

static void expect_run(waxvm_pool* pool, const waxvm_run_options* options, const char* output) {
  waxvm_result* result = NULL;
  CHECK(waxvm_pool_run(pool, options, &result, &error) == WAXVM_OK);
  CHECK(waxvm_result_outcome(result) == WAXVM_OUTCOME_EXITED);
  const char* written = waxvm_result_output(result, NULL);
  CHECK(written != NULL && strcmp(written, output) == 0);
  waxvm_result_close(result);
}

/* Whole programs: each run has input and limits of its own, and what all share cannot be changed.
 */
static void test_runs(waxvm_supervisor* host) {
  waxvm_program* program = NULL;
  waxvm_snapshot* start = (waxvm_snapshot*)&error;
  waxvm_pool* pool = NULL;
  waxvm_session* clone = NULL;
  waxvm_result* result = (waxvm_result*)&error;
  waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
  CHECK(waxvm_pool_run(NULL, NULL, &result, &error) == WAXVM_INVALID_ARGUMENT && result == NULL);
  CHECK(waxvm_session_run(NULL, NULL, &result, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(waxvm_snapshot_open_start(host, NULL, NULL, &start, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(start == NULL);

  CHECK(waxvm_program_open_file(guest("cat_stdin_musl"), &program, &error) == WAXVM_OK);
  const waxvm_status code = waxvm_snapshot_open_start(host, program, NULL, &start, &error);
  if (code == WAXVM_UNIMPLEMENTED) {
    printf("no runs from a snapshot here: %s\n", error.message);
    waxvm_program_close(program);
    return;
  }
  CHECK(code == WAXVM_OK);
  waxvm_snapshot* none = NULL;
  options.input = "early";
  options.input_bytes = 5;
  CHECK(waxvm_snapshot_open_start(host, program, &options, &none, &error) ==
            WAXVM_INVALID_ARGUMENT &&
        contains("input"));
  CHECK(waxvm_pool_open(start, NULL, &pool, &error) == WAXVM_OK);
  options.input = "one";
  options.input_bytes = 3;
  expect_run(pool, &options, "one");
  expect_run(pool, NULL, "");
  options.input = "three";
  options.input_bytes = 5;
  expect_run(pool, &options, "three");
  options.memory_bytes = 1u << 20;
  CHECK(waxvm_pool_run(pool, &options, &result, &error) == WAXVM_INVALID_ARGUMENT);
  CHECK(result == NULL && contains("memory_bytes"));
  waxvm_pool_close(pool);

  CHECK(waxvm_snapshot_clone(start, &clone, &error) == WAXVM_OK);
  options.memory_bytes = 0;
  CHECK(waxvm_session_run(clone, &options, &result, &error) == WAXVM_OK);
  CHECK(strcmp(waxvm_result_output(result, NULL), "three") == 0);
  CHECK(strstr(waxvm_result_report_json(result), "\"microvm\"") != NULL);
  waxvm_result_close(result);
  waxvm_session_close(clone);
  waxvm_snapshot_close(start);
  waxvm_program_close(program);

  CHECK(waxvm_program_open_file(guest("spin_musl"), &program, &error) == WAXVM_OK);
  CHECK(waxvm_snapshot_open_start(host, program, NULL, &start, &error) == WAXVM_OK);
  CHECK(waxvm_snapshot_clone(start, &clone, &error) == WAXVM_OK);
  options = (waxvm_run_options)WAXVM_RUN_OPTIONS_INIT;
  options.wall_time_ns = 30u * 1000u * 1000u;
  CHECK(waxvm_session_run(clone, &options, &result, &error) == WAXVM_OK);
  CHECK(waxvm_result_outcome(result) == WAXVM_OUTCOME_LIMIT);
  waxvm_result_close(result);
  CHECK(waxvm_session_health(clone, &error) != WAXVM_OK);
  waxvm_session_close(clone);
  waxvm_snapshot_close(start);
  waxvm_program_close(program);
}

/* Fuel is counted or refused, never ignored. */
static void test_fuel(waxvm_supervisor* host) {
  waxvm_result* result = NULL;
  waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
  options.fuel = 1000000;
  options.wall_time_ns = 10ull * 1000u * 1000u * 1000u;
  const waxvm_status code = waxvm_run_file(host, guest("spin_musl"), &options, &result, &error);
  if (code == WAXVM_OK) {
    CHECK(strcmp(waxvm_result_limit(result), "fuel") == 0);
  } else {
    printf("no fuel here: %s\n", error.message);
    CHECK(code == WAXVM_INVALID_ARGUMENT || code == WAXVM_UNIMPLEMENTED ||
          code == WAXVM_UNAVAILABLE);
    CHECK(result == NULL && contains("fuel"));
  }
  waxvm_result_close(result);
}

/* The supervisor ends what began under it, and what is left can be closed after it. */
static void test_stopped_supervisor(waxvm_provider provider) {
  waxvm_supervisor* host = NULL;
  waxvm_snapshot* snapshot = NULL;
  waxvm_pool* pool = NULL;
  waxvm_bytes* result = NULL;
  waxvm_program* program = NULL;
  pthread_t thread;
  CHECK(waxvm_supervisor_open(provider, &host, &error) == WAXVM_OK);
  waxvm_session* session = open_session(host, NULL);
  waxvm_session* other = open_session(host, NULL);
  if (waxvm_session_snapshot(session, &snapshot, &error) == WAXVM_OK)
    CHECK(waxvm_pool_open(snapshot, NULL, &pool, &error) == WAXVM_OK);
  in_thread(stop_soon, host, &thread);
  CHECK(call(session, "spin", "", NULL) == WAXVM_CANCELLED);
  pthread_join(thread, NULL);
  CHECK(call(other, "noop", "", NULL) == WAXVM_CANCELLED);
  CHECK(waxvm_program_open_file(guest("call_functions_musl"), &program, &error) == WAXVM_OK);
  session = (waxvm_session_close(session), NULL);
  CHECK(waxvm_session_open(host, program, NULL, &session, &error) == WAXVM_CANCELLED);
  CHECK(session == NULL);
  if (pool != NULL)
    CHECK(waxvm_pool_call(pool, "noop", NULL, 0, NULL, &result, &error) == WAXVM_CANCELLED);
  waxvm_supervisor_close(host);
  waxvm_program_close(program);
  waxvm_session_close(other);
  waxvm_snapshot_close(snapshot);
  waxvm_pool_close(pool);
}

int main(int argc, char** argv) {
  const waxvm_provider provider =
      argc > 1 && strcmp(argv[1], "microvm") == 0 ? WAXVM_PROVIDER_MICROVM : WAXVM_PROVIDER_PROCESS;
  waxvm_supervisor* host = NULL;
  if (waxvm_provider_available(provider, &error) == WAXVM_UNAVAILABLE) {
    printf("skipped: %s\n", error.message);
    return 77;
  }
  if (waxvm_supervisor_open(provider, &host, &error) != WAXVM_OK)
    return fprintf(stderr, "waxvm_supervisor_open: %s\n", error.message), 1;
  test_null(host);
  test_calls(host);
  test_host_functions(host);
  test_stops(host);
  test_never_ready(host);
  test_snapshots(host);
  test_runs(host);
  test_fuel(host);
  waxvm_supervisor_close(host);
  test_stopped_supervisor(provider);
  printf("%d failures\n", failures);
  return failures != 0;
}
