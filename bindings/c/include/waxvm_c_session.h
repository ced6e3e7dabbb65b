/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls into a program that was started once, for C. The rules of waxvm_c.h hold; docs/calls.md
 * shows the program's side and says which status means what.
 *
 *   waxvm_session *session = NULL;
 *   waxvm_bytes *result = NULL;
 *   if (waxvm_session_open(host, program, &options, &session, &error) ||
 *       waxvm_session_call(session, "reverse", "desserts", 8, NULL, &result, &error))
 *     fprintf(stderr, "waxvm: %s\n", error.message);
 *   else
 *     puts(waxvm_bytes_data(result, NULL));
 *   waxvm_bytes_close(result);
 *   waxvm_session_close(session);
 */
#ifndef WAXVM_C_SESSION_H_
#define WAXVM_C_SESSION_H_

#include "waxvm_c.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of arguments, and of a result. */
#define WAXVM_MOST_CALL_BYTES ((size_t)15 << 20)

/* How to make one call. In a time 0 means no limit. */
typedef struct waxvm_call_options {
  size_t struct_size;
  uint64_t wall_time_ns;
  uint64_t cpu_time_ns;
  const waxvm_stop* stop; /* cancels the call from another thread; NULL: nothing does */
  uint64_t fuel;          /* instructions; 0: no limit. WAXVM_UNIMPLEMENTED where nothing counts */
} waxvm_call_options;
#define WAXVM_CALL_OPTIONS_INIT \
  { sizeof(waxvm_call_options), 0, 0, NULL, 0 }

/* Memory that the host has in place for a program now. */
typedef struct waxvm_memory {
  size_t struct_size;
  uint64_t resident_bytes; /* shared with a snapshot, or its own */
  uint64_t private_bytes;  /* its own */
} waxvm_memory;
#define WAXVM_MEMORY_INIT \
  { sizeof(waxvm_memory), 0, 0 }

/*
 * A session is a program that waits for calls. Thread safety: it belongs to the thread that opened
 * it, a clone to the thread of its first call: call, reset and snapshot from another give
 * WAXVM_FAILED_PRECONDITION. waxvm_session_stop and waxvm_session_close work from any thread at any
 * time, the rest from any while no other uses the session.
 */
typedef struct waxvm_session waxvm_session;

/* Starts a program and runs it until it waits for its first call. The time limits of `options`
 * bound that alone (set one: a program may never be ready), all others the whole session. WAXVM_OK;
 * WAXVM_FAILED_PRECONDITION for a program that ended, faulted, met a limit or broke the format
 * before it was ready; the rest as waxvm_run. Blocks. */
WAXVM_API waxvm_status waxvm_session_open(waxvm_supervisor* supervisor,
                                          const waxvm_program* program,
                                          const waxvm_run_options* options, waxvm_session** session,
                                          waxvm_error* error);

/*
 * Calls a function that the program exports. Host functions that it calls run on this thread,
 * inside; they cannot use the same session. `options` may be NULL. Blocks.
 * The session goes on after: the code and message that the function itself gave; WAXVM_NOT_FOUND,
 * no such function; WAXVM_INVALID_ARGUMENT; WAXVM_CANCELLED, the stop was requested before.
 * It is poisoned by: WAXVM_DEADLINE_EXCEEDED, WAXVM_RESOURCE_EXHAUSTED, a limit; WAXVM_CANCELLED,
 * stopped; WAXVM_ABORTED, the program faulted, ended or broke the format. waxvm_session_health
 * tells which it was, and every later call gets WAXVM_FAILED_PRECONDITION.
 */
WAXVM_API waxvm_status waxvm_session_call(waxvm_session* session, const char* function,
                                          const void* arguments, size_t argument_bytes,
                                          const waxvm_call_options* options, waxvm_bytes** result,
                                          waxvm_error* error);

/* Ends the current call, or the next one, soon. */
WAXVM_API void waxvm_session_stop(waxvm_session* session);
/* WAXVM_OK, or why no call is possible any more. */
WAXVM_API waxvm_status waxvm_session_health(const waxvm_session* session, waxvm_error* error);
/* Puts a clone back to its snapshot. WAXVM_FAILED_PRECONDITION for what is no clone or is poisoned.
 */
WAXVM_API waxvm_status waxvm_session_reset(waxvm_session* session, waxvm_error* error);
/* What was used and refused since the start or the last reset, as one JSON object. */
WAXVM_API waxvm_status waxvm_session_report_json(const waxvm_session* session, waxvm_bytes** report,
                                                 waxvm_error* error);
/* WAXVM_UNIMPLEMENTED where it cannot be told. */
WAXVM_API waxvm_status waxvm_session_memory(const waxvm_session* session, waxvm_memory* memory,
                                            waxvm_error* error);
/* What the program wrote to WAXVM_STREAM_OUTPUT or _ERROR and was collected, taken away by this. */
WAXVM_API waxvm_status waxvm_session_take_output(waxvm_session* session, int stream,
                                                 waxvm_bytes** output, waxvm_error* error);
/* Ends the program. A call that runs meanwhile, on another thread or around this one, ends with
 * WAXVM_CANCELLED, and the session is gone when that has returned; none may begin any more. */
WAXVM_API void waxvm_session_close(waxvm_session* session);

/*
 * A snapshot is a program at one moment. Clones of it share its memory until they write to it.
 * Thread safety: any; close it after the last use. Clones and pools keep what they need of it.
 */
typedef struct waxvm_snapshot waxvm_snapshot;

/* The program as it waits now. WAXVM_UNIMPLEMENTED where the provider has no snapshots;
 * WAXVM_FAILED_PRECONDITION with the name of what cannot be kept. */
WAXVM_API waxvm_status waxvm_session_snapshot(waxvm_session* session, waxvm_snapshot** snapshot,
                                              waxvm_error* error);
/* Loads any program, for a dynamic one its interpreter as well, and takes it before its first
 * instruction, for waxvm_session_run and waxvm_pool_run. `options` has what all runs have in
 * common: grants, memory, stop, authorizer; and what a run has that does not say otherwise:
 * argument_zero, the other limits, output, label. WAXVM_INVALID_ARGUMENT also for arguments,
 * environment and input, which are those of each run; the rest as waxvm_session_snapshot and
 * waxvm_run. */
WAXVM_API waxvm_status waxvm_snapshot_open_start(waxvm_supervisor* supervisor,
                                                 const waxvm_program* program,
                                                 const waxvm_run_options* options,
                                                 waxvm_snapshot** snapshot, waxvm_error* error);
/* Runs the program of waxvm_snapshot_open_start from its first instruction to its end in a clone,
 * and puts the clone back to before it: nothing of a run is there in the next. In `options` what is
 * not set is as for waxvm_snapshot_open_start; memory, grants and authorizer cannot be set
 * (WAXVM_INVALID_ARGUMENT). After anything but an exit of the program the session is poisoned.
 * `options` may be NULL. Blocks. */
WAXVM_API waxvm_status waxvm_session_run(waxvm_session* session, const waxvm_run_options* options,
                                         waxvm_result** result, waxvm_error* error);
/* A session that is where the snapshot was taken, with the options that the first session was
 * opened with: grants, label, stop, authorizer and output callback, which are then used from the
 * threads of all clones at once. */
WAXVM_API waxvm_status waxvm_snapshot_clone(const waxvm_snapshot* snapshot, waxvm_session** session,
                                            waxvm_error* error);
/* Puts it into the file at `path`, in the place of what is there, or leaves that as it was, also
 * where the process is killed meanwhile. The file holds the program's memory, secrets included, and
 * only its owner can read it. WAXVM_UNIMPLEMENTED where the provider has no such files. Blocks. */
WAXVM_API waxvm_status waxvm_snapshot_save(const waxvm_snapshot* snapshot, const char* path,
                                           waxvm_error* error);
/* What waxvm_snapshot_save has put there, of the same program, with the grants and limits that
 * `options` give now. WAXVM_NOT_FOUND; WAXVM_INVALID_ARGUMENT for what is no snapshot;
 * WAXVM_DATA_LOSS for one that is damaged; WAXVM_FAILED_PRECONDITION for another version,
 * processor, program, grant or limit. Blocks. */
WAXVM_API waxvm_status waxvm_snapshot_load(waxvm_supervisor* supervisor,
                                           const waxvm_program* program,
                                           const waxvm_run_options* options, const char* path,
                                           waxvm_snapshot** snapshot, waxvm_error* error);
WAXVM_API uint64_t waxvm_snapshot_memory_bytes(const waxvm_snapshot* snapshot);
WAXVM_API void waxvm_snapshot_close(waxvm_snapshot* snapshot);

#ifdef __cplusplus
}
#endif

#endif /* WAXVM_C_SESSION_H_ */
