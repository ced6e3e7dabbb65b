/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that runs where no host is: it is told so. */
#include <waxvm/guest.h>

static int nothing(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  (void)context, (void)arguments, (void)bytes, (void)reply;
  return WAXVM_CODE_OK;
}

int main(void) {
  if (waxvm_export("nothing", nothing, NULL) != 0) return 1;
  return waxvm_serve_calls() == -38 /* ENOSYS */ ? 0 : 1;
}
