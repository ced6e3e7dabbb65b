/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of calls: a program exports functions by name, then answers calls of its host
 * until none come any more; inside a call it may call what the host granted. C11, x86-64 Linux;
 * link it with libwaxvm_guest.a, which needs nothing but malloc, realloc, free and the mem*
 * functions of any C library. The same program runs under every provider. docs/calls.md shows it;
 * docs/formats/call.md is what goes over the wire.
 *
 * Thread safety: waxvm_call, waxvm_log and waxvm_yield from any thread, one call at a time; the
 * rest from one thread. While the program waits for a call of its host, a waxvm_call of another
 * thread waits as well.
 */
#ifndef WAXVM_GUEST_H_
#define WAXVM_GUEST_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The canonical status codes: how a function fails, and what a granted function may answer. */
enum waxvm_code {
  WAXVM_CODE_OK = 0,
  WAXVM_CODE_CANCELLED = 1,
  WAXVM_CODE_UNKNOWN = 2,
  WAXVM_CODE_INVALID_ARGUMENT = 3,
  WAXVM_CODE_DEADLINE_EXCEEDED = 4,
  WAXVM_CODE_NOT_FOUND = 5,
  WAXVM_CODE_ALREADY_EXISTS = 6,
  WAXVM_CODE_PERMISSION_DENIED = 7,
  WAXVM_CODE_RESOURCE_EXHAUSTED = 8,
  WAXVM_CODE_FAILED_PRECONDITION = 9,
  WAXVM_CODE_ABORTED = 10,
  WAXVM_CODE_OUT_OF_RANGE = 11,
  WAXVM_CODE_UNIMPLEMENTED = 12,
  WAXVM_CODE_INTERNAL = 13,
  WAXVM_CODE_UNAVAILABLE = 14,
  WAXVM_CODE_DATA_LOSS = 15,
  WAXVM_CODE_UNAUTHENTICATED = 16
};

/* Bytes of arguments, and of a result; bytes of an error's message. */
#define WAXVM_MAX_CALL_BYTES ((size_t)15 << 20)
#define WAXVM_MAX_MESSAGE_BYTES ((size_t)64 << 10)

/* Where a function puts its answer; of the library, good until the function returns. */
struct waxvm_reply;

/*
 * A function of this program. `arguments` are good until it returns. Returns WAXVM_CODE_OK, and
 * what it wrote to `reply` is the result; or another code, and that is the error's message.
 */
typedef int (*waxvm_function)(void* context, const void* arguments, size_t bytes,
                              struct waxvm_reply* reply);

/*
 * Offers `function` under `name` (1 to 255 bytes, copied); `context` is handed to it. Returns 0 or
 * a negated errno: -EINVAL for a bad name, -EEXIST for one that is taken, -ENOMEM.
 */
int waxvm_export(const char* name, waxvm_function function, void* context);

/*
 * Answers calls until the host has no more. Returns 0 then, or a negated errno: -ENOTCONN, the
 * program was started to run and not for calls; -ENOSYS, no host is there; -EBUSY inside a call.
 */
int waxvm_serve_calls(void);

/*
 * Appends to the answer. Returns WAXVM_CODE_OK or WAXVM_CODE_RESOURCE_EXHAUSTED (over
 * WAXVM_MAX_CALL_BYTES, or no memory); then the call fails with that, whatever is returned.
 */
int waxvm_reply_write(struct waxvm_reply* reply, const void* data, size_t bytes);

/* Makes `message` (terminated, UTF-8) the whole answer and returns `code`, to be returned. */
int waxvm_reply_error(struct waxvm_reply* reply, int code, const char* message);

/* What a granted function answered. Starts as {0}; its memory is used again by the next call. */
struct waxvm_answer {
  unsigned char* data;
  size_t bytes;
  size_t capacity;
};
void waxvm_answer_free(struct waxvm_answer* answer);

/*
 * Calls a function that the host granted. Returns WAXVM_CODE_OK with the reply in `answer`; a code,
 * with the error's message there; or a negated errno: -ENOSYS, no host is there; -E2BIG, a request
 * over 16 MiB; -ENOMEM; -EMSGSIZE, the function did its work, but no memory holds its reply.
 */
int waxvm_call(const char* name, const void* request, size_t bytes, struct waxvm_answer* answer);

/* Writes one line to standard error; a newline is added where it lacks one. */
void waxvm_log(const char* text, size_t bytes);

/* Lets other threads run. */
void waxvm_yield(void);

#ifdef __cplusplus
}
#endif

#endif /* WAXVM_GUEST_H_ */
