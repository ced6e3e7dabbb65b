/* SPDX-License-Identifier: Apache-2.0 */
/* call_bench: the functions whose calls benchmarks/pool_call_bench.cc measures. */
#include <stdlib.h>
#include <string.h>

#include "waxvm/guest.h"

enum { kPages = 1024, kPageBytes = 4096 };
static unsigned char pages[kPages * kPageBytes];

static int noop(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  (void)context, (void)arguments, (void)bytes, (void)reply;
  return WAXVM_CODE_OK;
}

static long number(const void* arguments, size_t bytes) {
  char text[16] = {0};
  memcpy(text, arguments, bytes < sizeof text ? bytes : sizeof text - 1);
  return atol(text);
}

/* Writes to so many pages. */
static int dirty(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  const long count = number(arguments, bytes);
  (void)context, (void)reply;
  for (long i = 0; i < count && i < kPages; ++i) ++pages[i * kPageBytes];
  return WAXVM_CODE_OK;
}

/* Calls the host's "noop" so often. */
static int host(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  const long count = number(arguments, bytes);
  struct waxvm_answer answer = {0};
  int code = WAXVM_CODE_OK;
  (void)context, (void)reply;
  for (long i = 0; i < count && code == WAXVM_CODE_OK; ++i)
    code = waxvm_call("noop", NULL, 0, &answer);
  waxvm_answer_free(&answer);
  return code;
}

/* Writes to so many bytes of new memory, and keeps them instead of those that it had. */
static int hold(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  static char* volatile held;
  const size_t size = (size_t)number(arguments, bytes);
  (void)context, (void)reply;
  free(held);
  held = size != 0 ? malloc(size) : NULL;
  if (size == 0) return WAXVM_CODE_OK;
  if (held == NULL) return WAXVM_CODE_RESOURCE_EXHAUSTED;
  memset(held, 1, size);
  return WAXVM_CODE_OK;
}

int main(void) {
  memset(pages, 1, sizeof pages);
  if (waxvm_export("noop", noop, NULL) != 0 || waxvm_export("dirty", dirty, NULL) != 0 ||
      waxvm_export("host", host, NULL) != 0 || waxvm_export("hold", hold, NULL) != 0)
    return 1;
  return waxvm_serve_calls() == 0 ? 0 : 2;
}
