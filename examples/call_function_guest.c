/* SPDX-License-Identifier: Apache-2.0 */
/* Two functions for a host to call; examples/call_function.cc calls them. */
#include "waxvm/guest.h"

static int reverse(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  const char* text = arguments;
  (void)context;
  for (size_t i = bytes; i > 0; --i) waxvm_reply_write(reply, &text[i - 1], 1);
  return WAXVM_CODE_OK;
}

/* Asks the host for the title that goes with the name. */
static int greet(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  static struct waxvm_answer title;
  (void)context;
  if (waxvm_call("title", arguments, bytes, &title) != WAXVM_CODE_OK)
    return waxvm_reply_error(reply, WAXVM_CODE_UNAVAILABLE, "the host has no titles");
  waxvm_reply_write(reply, "hello ", 6);
  return waxvm_reply_write(reply, title.data, title.bytes);
}

int main(void) {
  if (waxvm_export("reverse", reverse, NULL) != 0) return 1;
  if (waxvm_export("greet", greet, NULL) != 0) return 1;
  return waxvm_serve_calls() == 0 ? 0 : 1;
}
