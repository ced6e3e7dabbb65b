/* SPDX-License-Identifier: Apache-2.0 */
/*
 * waxvm for C and everything that can call C: run an untrusted Linux program isolated, with
 * nothing but what it is granted. C11, no other header needed. Beside it, of the same library:
 * waxvm_c_session.h (start a program once, call its functions), waxvm_c_pool.h (a fresh state for
 * every call) and waxvm_c_value.h (typed values).
 *
 *   waxvm_error error = WAXVM_ERROR_INIT;
 *   waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
 *   options.memory_bytes = 64u << 20;
 *   waxvm_supervisor *host = NULL;
 *   waxvm_result *result = NULL;
 *   if (waxvm_supervisor_open(WAXVM_PROVIDER_MICROVM, &host, &error) ||
 *       waxvm_run_file(host, path, &options, &result, &error))
 *     fprintf(stderr, "waxvm: %s\n", error.message);
 *   waxvm_result_close(result);
 *   waxvm_supervisor_close(host);
 *
 * Rules that hold for every function:
 * - It returns WAXVM_OK (0) or a status code; whatever the program did (exit code, fault, limit)
 *   is in the result, not in the status. No C++ exception leaves it.
 * - A pointer it needs and does not get is WAXVM_INVALID_ARGUMENT. `error` may be NULL. An output
 *   handle is set to NULL when the call fails. Closing NULL does nothing.
 * - Strings are terminated, copied before the call returns, and not inherited by the program
 *   unless their field says so.
 * - Functions and structures are only ever added to. A structure starts with its size, set by its
 *   INIT macro, and grows at its end; a field that an older library does not know must be 0.
 * - A callback must return: it must not throw, longjmp or end its thread past the library, and a
 *   thread must not be cancelled inside of it.
 * - In a forked child process sessions and pools of the parent can be closed, which frees nothing;
 *   every call gives WAXVM_FAILED_PRECONDITION. What the child opens itself works.
 */
#ifndef WAXVM_C_H_
#define WAXVM_C_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WAXVM_API __attribute__((visibility("default")))

/* Status codes. */
typedef int32_t waxvm_status;
#define WAXVM_OK 0
#define WAXVM_CANCELLED 1 /* the supervisor, the run or the call was stopped */
#define WAXVM_UNKNOWN 2
#define WAXVM_INVALID_ARGUMENT 3 /* message: what, its value and what is allowed */
#define WAXVM_DEADLINE_EXCEEDED 4
#define WAXVM_NOT_FOUND 5 /* the program, a function of it or a granted path does not exist */
#define WAXVM_ALREADY_EXISTS 6
#define WAXVM_PERMISSION_DENIED 7
#define WAXVM_RESOURCE_EXHAUSTED 8 /* the host is out of something */
#define WAXVM_FAILED_PRECONDITION 9
#define WAXVM_ABORTED 10 /* a called program faulted, ended or broke the format of calls */
#define WAXVM_OUT_OF_RANGE 11
#define WAXVM_UNIMPLEMENTED 12
#define WAXVM_INTERNAL 13
#define WAXVM_UNAVAILABLE 14 /* the provider does not work here; message: why, remedy */
#define WAXVM_DATA_LOSS 15   /* an image is damaged, truncated or has another digest */
#define WAXVM_UNAUTHENTICATED 16

/* Why a call failed. Filled when it does, set to WAXVM_OK and "" when it does not. */
typedef struct waxvm_error {
  size_t struct_size;
  waxvm_status code;
  char message[1020]; /* cut where it is longer; always terminated */
} waxvm_error;
#define WAXVM_ERROR_INIT                 \
  {                                      \
    sizeof(waxvm_error), WAXVM_OK, { 0 } \
  }

/* Bytes that the library gives away. Immutable. Thread safety: any. */
typedef struct waxvm_bytes waxvm_bytes;
/* Terminated, with their number in `byte_count` where that is not NULL; NULL and 0 for NULL. */
WAXVM_API const char* waxvm_bytes_data(const waxvm_bytes* bytes, size_t* byte_count);
WAXVM_API void waxvm_bytes_close(waxvm_bytes* bytes);

/* "0.1.0". */
WAXVM_API const char* waxvm_version(void);

/* Ways to isolate. */
typedef int32_t waxvm_provider;
#define WAXVM_PROVIDER_PROCESS 1 /* the host kernel's namespaces and filters */
#define WAXVM_PROVIDER_MICROVM 2 /* a virtual machine; no host system call is reachable */

/* WAXVM_OK, or WAXVM_UNAVAILABLE with the exact reason and the remedy. Thread safety: any. */
WAXVM_API waxvm_status waxvm_provider_available(waxvm_provider provider, waxvm_error* error);

/*
 * Programs: immutable executables, to run once or a thousand times.
 * Thread safety: a program may be used from any number of threads; close it after the last use.
 */
typedef struct waxvm_program waxvm_program;

/* Reads a whole static or dynamic ELF64 x86-64 executable; later changes of the file do not
 * matter. `name` is the default argv[0]. */
WAXVM_API waxvm_status waxvm_program_open_file(const char* path, waxvm_program** program,
                                               waxvm_error* error);
WAXVM_API waxvm_status waxvm_program_open_bytes(const void* bytes, size_t byte_count,
                                                const char* name, waxvm_program** program,
                                                waxvm_error* error);
WAXVM_API void waxvm_program_close(waxvm_program* program);

/*
 * Root images: read-only file systems from one file or folder, shared by all runs that are granted
 * one. They are copied and verified when they are opened. `digest` is "sha256:…" or NULL: any.
 * Thread safety: an image may be used from any number of threads; close it after the last use.
 */
typedef struct waxvm_image waxvm_image;

/* A tar archive, plain or packed with gzip or zstd. */
WAXVM_API waxvm_status waxvm_image_open_tar(const char* path, const char* digest,
                                            waxvm_image** image, waxvm_error* error);
WAXVM_API waxvm_status waxvm_image_open_erofs(const char* path, const char* digest,
                                              waxvm_image** image, waxvm_error* error);
/* An OCI image layout folder; `reference` NULL: its only image for linux/amd64. */
WAXVM_API waxvm_status waxvm_image_open_oci(const char* folder, const char* reference,
                                            waxvm_image** image, waxvm_error* error);
/* Layers on top of each other, the lowest first. */
WAXVM_API waxvm_status waxvm_image_open_stack(const waxvm_image* const* layers, size_t layer_count,
                                              waxvm_image** image, waxvm_error* error);
WAXVM_API void waxvm_image_close(waxvm_image* image);
/* The executable at `path` of the image; its name is `path`. */
WAXVM_API waxvm_status waxvm_program_open_image(const waxvm_image* image, const char* path,
                                                waxvm_program** program, waxvm_error* error);

/*
 * Grants: what a run may touch. Whatever is not granted does not exist inside.
 * Thread safety: add from one thread; a finished object may be used by any number of runs at once.
 */
typedef struct waxvm_grants waxvm_grants;

/* The call that a host function serves, and its answer. Valid until the callback returns. */
typedef struct waxvm_call waxvm_call;

/*
 * A function of the host. Returns WAXVM_OK, or a status that reaches the guest as the call's
 * error; what waxvm_call_reply was given is the reply, or the error's message. Runs on the thread
 * that called waxvm_run, for several runs at once where several have the grant.
 */
typedef waxvm_status (*waxvm_function)(void* user_data, waxvm_call* call, const void* request,
                                       size_t request_bytes);
/* Frees what a `user_data` points to; called once, from whichever thread lets go of it last. */
typedef void (*waxvm_free)(void* user_data);

WAXVM_API waxvm_status waxvm_grants_open(waxvm_grants** grants, waxvm_error* error);
WAXVM_API void waxvm_grants_close(waxvm_grants* grants);
/* The host's clocks. Without them a program sees a fixed time. */
WAXVM_API waxvm_status waxvm_grants_add_clock(waxvm_grants* grants, waxvm_error* error);
/* The host's random numbers. Without them reads fail. */
WAXVM_API waxvm_status waxvm_grants_add_random(waxvm_grants* grants, waxvm_error* error);
/* The host folder or regular file `host_path`, seen as the absolute path `guest_path`; writable
 * where `writable` is not 0. */
WAXVM_API waxvm_status waxvm_grants_add_files(waxvm_grants* grants, const char* host_path,
                                              const char* guest_path, int writable,
                                              waxvm_error* error);
/* The image as the root directory, with a writable layer of the run's own on top (microVM). */
WAXVM_API waxvm_status waxvm_grants_add_image(waxvm_grants* grants, const waxvm_image* image,
                                              waxvm_error* error);
/* `function` under `name` (1 to 255 bytes). `free_user_data` may be NULL; it is called even when
 * this fails. */
WAXVM_API waxvm_status waxvm_grants_add_function(waxvm_grants* grants, const char* name,
                                                 waxvm_function function, void* user_data,
                                                 waxvm_free free_user_data, waxvm_error* error);

/* Sets the reply to a copy of these bytes. */
WAXVM_API waxvm_status waxvm_call_reply(waxvm_call* call, const void* bytes, size_t byte_count);
/* waxvm_run_options.label of the calling run. */
WAXVM_API const char* waxvm_call_label(const waxvm_call* call);
/* Not 0 once the run was stopped or ran out of wall time: a slow function should return. */
WAXVM_API int waxvm_call_stop_requested(const waxvm_call* call);

/*
 * A stop ends whatever was given it, now and later: runs, sessions, calls. It stays requested.
 * Thread safety: any, a callback of the library included; not in a signal handler. It may be closed
 * while it is in use: then nobody can request it any more.
 */
typedef struct waxvm_stop waxvm_stop;

WAXVM_API waxvm_status waxvm_stop_open(waxvm_stop** stop, waxvm_error* error);
WAXVM_API void waxvm_stop_request(waxvm_stop* stop);
WAXVM_API int waxvm_stop_requested(const waxvm_stop* stop);
WAXVM_API void waxvm_stop_close(waxvm_stop* stop);

/* What a program wants to touch. */
#define WAXVM_RESOURCE_CLOCK 0
#define WAXVM_RESOURCE_RANDOM 1
#define WAXVM_RESOURCE_FILE 2          /* name: the absolute path inside */
#define WAXVM_RESOURCE_HOST_FUNCTION 3 /* name: the function's */

/* One access that the grants allow. Valid until the callback returns. */
typedef struct waxvm_access {
  size_t struct_size;
  int resource; /* a WAXVM_RESOURCE_; others may come, to be refused by who does not know them */
  int write;    /* not 0: it would change a file */
  const char* name; /* terminated */
  size_t name_bytes;
  const char* label; /* waxvm_run_options.label */
} waxvm_access;

/* Decides about an access: WAXVM_OK allows it, anything else refuses it (EACCES inside, and an
 * entry in the report). Runs on the thread that runs the program, for several at once where several
 * have it. The process provider asks for host functions only. */
typedef waxvm_status (*waxvm_authorizer)(void* user_data, const waxvm_access* access);

/*
 * Running.
 */
#define WAXVM_STREAM_OUTPUT 0
#define WAXVM_STREAM_ERROR 1
/* Takes what a program writes, in order, on the thread that called waxvm_run. Anything but 0 ends
 * the run with WAXVM_CANCELLED. */
typedef int (*waxvm_output)(void* user_data, int stream, const void* bytes, size_t byte_count);

/* A limit that is set to this is a bound of 0: none at all. Memory, wall and CPU time refuse it. */
#define WAXVM_LIMIT_ZERO UINT64_MAX

/* How to run. In a limit 0 means the library's default; a limit that is set is enforced, or the
 * run is refused with WAXVM_INVALID_ARGUMENT. */
typedef struct waxvm_run_options {
  size_t struct_size;
  uint64_t memory_bytes; /* what the program touches and what the host holds for it */
  uint64_t wall_time_ns;
  uint64_t cpu_time_ns;
  uint64_t output_bytes; /* standard output and error together */
  uint64_t open_files;   /* at once, the three standard streams included */
  uint64_t processes;    /* threads and processes alive at once, the first included */
  uint64_t host_calls;
  const char* argument_zero;    /* NULL: the program's name */
  const char* const* arguments; /* after argv[0] */
  size_t argument_count;
  const char* const* environment; /* "NAME=value"; the whole of it, nothing is inherited */
  size_t environment_count;
  const void* input; /* standard input as bytes; ignored where input_fd is set */
  size_t input_bytes;
  int input_fd;               /* a descriptor to read standard input from; -1: none */
  int reserved;               /* 0 */
  const waxvm_grants* grants; /* NULL: nothing is granted */
  waxvm_output output;        /* NULL: the output is collected in the result */
  void* output_user_data;
  const char* label;           /* a name for this run; NULL: "" */
  const waxvm_stop* stop;      /* ends the run from another thread; NULL: nothing does */
  waxvm_authorizer authorizer; /* NULL: the grants alone decide */
  void* authorizer_user_data;
  uint64_t
      fuel; /* instructions; WAXVM_INVALID_ARGUMENT or _UNIMPLEMENTED where nothing counts them */
} waxvm_run_options;
#define WAXVM_RUN_OPTIONS_INIT                                                                    \
  {                                                                                               \
    sizeof(waxvm_run_options), 0, 0, 0, 0, 0, 0, 0, NULL, NULL, 0, NULL, 0, NULL, 0, -1, 0, NULL, \
        NULL, NULL, NULL, NULL, NULL, NULL, 0                                                     \
  }

/*
 * A supervisor runs any number of programs under one provider.
 * Thread safety: everything but waxvm_supervisor_close may be called from any thread at once.
 */
typedef struct waxvm_supervisor waxvm_supervisor;
typedef struct waxvm_result waxvm_result;

/* Never takes a weaker provider than the one asked for: WAXVM_UNAVAILABLE says why not. */
WAXVM_API waxvm_status waxvm_supervisor_open(waxvm_provider provider, waxvm_supervisor** supervisor,
                                             waxvm_error* error);
/* Ends all current runs (WAXVM_OUTCOME_STOPPED) and calls (WAXVM_CANCELLED), those of sessions,
 * clones and pools that began here included, and refuses later ones (WAXVM_CANCELLED). */
WAXVM_API void waxvm_supervisor_stop(waxvm_supervisor* supervisor);
/* Stops as above, waits for the runs and frees the supervisor. No call on it may follow. Sessions
 * and pools need not be closed before. */
WAXVM_API void waxvm_supervisor_close(waxvm_supervisor* supervisor);

/* Runs a program to its end on the calling thread. Blocks. `options` may be NULL. */
WAXVM_API waxvm_status waxvm_run(waxvm_supervisor* supervisor, const waxvm_program* program,
                                 const waxvm_run_options* options, waxvm_result** result,
                                 waxvm_error* error);
/* The same for a file that is run once. */
WAXVM_API waxvm_status waxvm_run_file(waxvm_supervisor* supervisor, const char* path,
                                      const waxvm_run_options* options, waxvm_result** result,
                                      waxvm_error* error);

/*
 * Results: immutable. What an accessor returns is the result's and valid until it is closed.
 * Thread safety: any. A NULL result gives -1, NULL or 0 bytes.
 */
#define WAXVM_OUTCOME_EXITED 0
#define WAXVM_OUTCOME_FAULT 1
#define WAXVM_OUTCOME_LIMIT 2
#define WAXVM_OUTCOME_STOPPED 3

WAXVM_API int waxvm_result_outcome(const waxvm_result* result);
/* The program's own; 128 + signal for a fault, 124 for a limit, 143 when stopped. */
WAXVM_API int waxvm_result_exit_code(const waxvm_result* result);
/* "memory", "wall", "cpu", "output", "open_files", "processes", "host_calls", "fuel"; NULL: none.
 */
WAXVM_API const char* waxvm_result_limit(const waxvm_result* result);
/* "segmentation", "illegal_instruction", … as in the report; NULL: none. */
WAXVM_API const char* waxvm_result_fault(const waxvm_result* result);
/* What was collected, terminated, with its length in `byte_count` where that is not NULL. */
WAXVM_API const char* waxvm_result_output(const waxvm_result* result, size_t* byte_count);
WAXVM_API const char* waxvm_result_error_output(const waxvm_result* result, size_t* byte_count);
/* The whole report as one JSON object. */
WAXVM_API const char* waxvm_result_report_json(const waxvm_result* result);
WAXVM_API void waxvm_result_close(waxvm_result* result);

#ifdef __cplusplus
}
#endif

#endif /* WAXVM_C_H_ */
